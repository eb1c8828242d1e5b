"""``ffe preview``."""

from __future__ import annotations

from typing import Any

import click

from ffe.base.text import counted
from ffe.cli import UrlOrPath
from ffe.cli.options import AUGMENT_HELP, json_option, output_option, size_option
from ffe.cli.show import print_json


@click.command(short_help="Draw photos beside their augmented views, before you use those.", epilog=AUGMENT_HELP)
@click.argument("source", metavar="IMAGE|SOURCE", type=UrlOrPath())
@output_option(help="The picture to write, such as grid.png.")
@click.option("--augment", required=True, help="The changes; see below.")
@size_option(help="Input side in pixels, or HEIGHTxWIDTH.  [default: 224]")
@click.option("--views", type=click.IntRange(1, 199), help="Views of each picture.  [default: 19 of one, 7 of each class]")
@click.option("--image", help="One picture of SOURCE: its path in it, or its number, from 1 on.")
@json_option(help="Print what was drawn as JSON.")
def command(source: str, output: str, size: int | tuple[int, int] | None, as_json: bool, **options: Any) -> None:
    """Draw photos beside their augmented views: mirrored, enlarged, turned, lit otherwise.

    Of one IMAGE, it and 19 views of it. Of a SOURCE (see 'ffe extract --help'),
    the first picture of each class and 7 views in a row. Each view is captioned
    with what was drawn for it. Views depend on the content of a picture alone:
    they are the same every time.
    """
    from ffe.commands.preview import preview

    result = preview(source, output, size=size or 224, **options)
    if as_json:
        print_json(result.to_json())
        return
    one = len(result.rows) == 1
    what = f"'{result.rows[0].path}'" if one else counted(len(result.rows), "picture")
    click.echo(f"{result.output}: {what} and {counted(len(result.rows[0].views), 'view')}{'' if one else ' of each'}")
