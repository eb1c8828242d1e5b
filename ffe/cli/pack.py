"""``ffe pack``."""

from __future__ import annotations

import click

from ffe.base.text import bytes_text, counted
from ffe.cli.options import compress_option, json_option, output_option, overwrite_option
from ffe.cli.show import print_json


@click.command(short_help="Make one feature file of several; add checksums, or compress.")
@click.argument("files", metavar="FEATURES...", nargs=-1, required=True, type=click.Path())
@output_option(help="The feature file to write.")
@click.option("--virtual", is_flag=True, help="Leave the features where they are, and refer to them by relative paths.")
@compress_option
@overwrite_option
@json_option()
def command(files: tuple[str, ...], output: str, as_json: bool, **options: object) -> None:
    """Make one feature file of several that were extracted with the same options.

    Rows of one image are kept once, and classes are matched by name. With one
    file it adds checksums to a file of an earlier version, compresses it, or
    makes one file of a virtual one. Every row is checked on the way.
    """
    from ffe.commands.pack import pack

    summary = pack(files, output, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(summary.to_json())
        return
    twice = f", {counted(summary.duplicates, 'duplicate row')} left out" if summary.duplicates else ""
    how = "virtual: keep the files beside it" if summary.virtual else f"compression {summary.compression}"
    rows = f"{counted(summary.rows, 'row')} of {counted(summary.files, 'file')}{twice}"
    click.echo(f"{output}: {rows}, {bytes_text(summary.bytes)}, {how}")
