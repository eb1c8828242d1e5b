"""``ffe similar``."""

from __future__ import annotations

from typing import Any

import click

from ffe.base.text import plain
from ffe.cli import UrlOrPath
from ffe.cli.options import engine_option, json_option, weights_option
from ffe.cli.show import note, print_json


@click.command(short_help="Find the photos that look most like one.")
@click.argument("features", type=click.Path())
@click.argument("image", metavar="[PHOTO]", required=False, type=UrlOrPath())
@click.option("--row", type=click.IntRange(0), metavar="N", help="Instead of a photo, a row of the file, from 0 on.")
@click.option("-n", "--count", type=click.IntRange(1), default=10, help="Photos to find.")
@click.option("--sheet", type=click.Path(), metavar="PICTURE", help="Draw them, such as on similar.png.")
@weights_option(help="Where the backbone's weights are; see 'ffe extract --help'.")
@engine_option()
@json_option(help="Print what was found as JSON.")
def command(features: str, image: str | None, as_json: bool, **options: Any) -> None:
    """Find the photos of a feature file that look most like PHOTO, or like one of its rows.

    They are compared by the cosine of their features, from -1 to 1: 1 is the
    same picture to the backbone. All rows are compared, so no nearer one is
    missed. Views are left out.
    """
    from ffe.commands.similar import similar

    found = similar(features, image, **options)
    if as_json:
        print_json(found.to_json())
        return
    wide = max([5, *(len(plain(one.label or "", 40)) for one in found.images)])
    click.echo(f"cosine  {'class':{wide}}  {'row':>7}  photo")
    for one in found.images:
        same = "  (the same file)" if one.same else ""
        click.echo(f"{one.similarity:6.3f}  {plain(one.label or '-', 40):{wide}}  {one.row:7}  {plain(one.path)}{same}")
    if found.sheet is not None:
        note(f"the picture is in '{found.sheet}'")
