"""``ffe export``."""

from __future__ import annotations

import click

from ffe.base.text import bytes_text, counted
from ffe.cli.options import json_option, output_option
from ffe.cli.show import print_json


@click.command(short_help="Write features for other programs: pandas, NumPy, PyTorch, spreadsheets.")
@click.argument("file", metavar="FEATURES", type=click.Path())
@output_option(help="The file to write.")
@click.option("--format", help="parquet, npz, csv or torch (.safetensors).  [default: as the ending of -o says]")
@click.option("--overwrite", is_flag=True, help="Replace a table of ffe that is there.")
@json_option()
def command(file: str, output: str, as_json: bool, **options: object) -> None:
    """Write features, labels, paths and splits of a feature file as a table.

    'ffe tune', 'train' and 'evaluate' take Parquet and npz back. Every row is
    checked on the way, and memory stays flat.
    """
    from ffe.commands.export import export

    done = export(file, output, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(done.to_json())
        return
    rows = f"{counted(done.rows, 'row')} of {counted(done.dims, 'feature')}"
    click.echo(f"{output}: {rows}, {done.format}, {bytes_text(done.bytes)}")
    if done.about is not None:
        click.echo(f"{done.about}: how the features were made")
