"""``ffe backbones``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ffe.base.text import bytes_text
from ffe.cli.options import json_option
from ffe.cli.show import print_json

if TYPE_CHECKING:
    from ffe.backbones.catalog import Backbone


@click.command(short_help="List the backbones: what to choose one by, and whose weights are here.")
@json_option(help="Print one JSON array.")
def command(as_json: bool) -> None:
    """List the backbones, with what to choose one by, and whether their weights are on this machine.

    Top-1 is the share of ImageNet's photos that the published network is right
    on. GFLOPs are the arithmetic for one picture of the default size; the rate
    is what earlier runs on this machine showed.
    """
    from ffe.backbones.catalog import CATALOG, DEFAULT
    from ffe.backbones.weights import find_file
    from ffe.images.preprocess import SCALING
    from ffe.wording.results import table

    rows: list[dict[str, Any]] = []
    for row in CATALOG.values():
        file = find_file(row, (row.size, row.size))
        rows.append(
            {
                "name": row.name,
                "size": row.size,
                "min_size": row.min_size,
                "preprocess": row.mode,
                "scaling": SCALING[row.mode],
                "licence": row.licence,
                "weights": None if file is None else str(file),
                "default": row.name == DEFAULT,
                "parameters": row.parameters,
                "features": row.channels,
                "weights_bytes": row.weights_bytes,
                "gflops": row.gflops,
                "images_per_second": None if file is None else _rate(row),
                "imagenet_top1": row.top1,
            }
        )
    if as_json:
        print_json(rows)
        return

    cells = [
        (
            row["name"],
            f"{row['imagenet_top1']:.1f} %",
            f"{row['gflops']:.1f}",
            "" if row["images_per_second"] is None else f"{row['images_per_second']:.0f}/s",
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['features']:,}",
            bytes_text(row["weights_bytes"]),
            str(row["size"]),
            row["licence"],
            "no" if row["weights"] is None else "yes",
        )
        for row in rows
    ]
    header = ("name", "top-1", "GFLOPs", "rate", "params", "features", "weights", "size", "licence", "here")
    click.echo(table(header, cells, right=(1, 2, 3, 4, 5, 6, 7)))
    click.echo(f"\n{DEFAULT} is the default. --json has more: least sizes, scaling, where the weights are.")


def _rate(row: Backbone) -> float | None:
    """Return the images a second that an earlier run showed; None = there was none."""
    from ffe.backbones.resolve import make_spec
    from ffe.errors import FfeError
    from ffe.extraction.throughput_log import remembered

    try:
        return remembered(make_spec(row.name, download=False)[0], "auto")[1]
    except (FfeError, OSError):
        return None
