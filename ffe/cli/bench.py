"""``ffe bench``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ffe.backbones.catalog import DEFAULT
from ffe.base.text import counted
from ffe.cli.options import json_option, size_option, weights_option
from ffe.cli.show import note, print_json


@click.command(short_help="Measure how fast this machine extracts, by every way it has.")
@click.argument("source", type=click.Path())
@click.option("--backbone", default=DEFAULT, help="A name that 'ffe backbones' lists.")
@size_option()
@weights_option(help="imagenet, random, or the path of a weights file.")
@click.option("--layer", help="Take the output of this layer, or of several: a,b.  [default: the last]")
@click.option("--photos", type=click.IntRange(20), default=1000, help="Photos to take, at the most.")
@click.option("--slow-photos", type=click.IntRange(1), default=100, help="Photos that the slow way gets.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Measurements of each way.")
@json_option(help="Print the table as JSON.")
def command(source: str, as_json: bool, **options: Any) -> None:
    """Measure every way from the photos of SOURCE to features: one at a time, in batches, float32, int8, decoding alone.

    Ways are measured in turn, so that what else the machine does falls on all
    of them. It takes some minutes, which it says before it begins; nothing is kept.
    """
    from ffe.commands.bench import bench
    from ffe.wording.results import table

    result = bench(source, on_step=note, **options)
    if as_json:
        print_json(asdict(result))
        return
    cells = []
    for row in result.rows:
        rates = ("", "", "")
        if row.images_per_second is not None:
            rates = (f"{row.images_per_second:.1f}", f"{row.slowest:.1f} to {row.fastest:.1f}", f"{row.ratio:.1f}x")
        cells.append((row.way, row.scope, f"{row.seconds:.1f}", *rates))
    height, width = result.size
    click.echo(f"{result.backbone} at {height}x{width}, {counted(result.photos, 'photo')}, median of {result.repeats}\n")
    header = ("way", "what", "seconds", "images/s", "slowest to fastest", "against one at a time")
    click.echo(table(header, cells, right=(2, 3, 4, 5)))
