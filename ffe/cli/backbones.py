"""``ffe backbones``."""

from __future__ import annotations

import click

from ffe.cli.output import print_json


@click.command(short_help="List the backbones, and whose weights are on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(as_json: bool) -> None:
    """List the backbones: default size, scaling, licence of the weights, and where they are on this machine."""
    from ffe.backbones.catalog import CATALOG
    from ffe.backbones.weights import find_file
    from ffe.report.text import table

    rows = []
    for row in CATALOG.values():
        file = find_file(row, (row.size, row.size))
        rows.append(
            {
                "name": row.name,
                "size": row.size,
                "min_size": row.min_size,
                "preprocess": row.mode,
                "licence": row.licence,
                "weights": None if file is None else str(file),
            }
        )
    if as_json:
        print_json(rows)
        return
    cells = [
        (r["name"], str(r["size"]), str(r["min_size"]), r["preprocess"], r["licence"], r["weights"] or "not on this machine")
        for r in rows
    ]
    click.echo(table(("name", "size", "least", "scaling", "licence", "weights"), cells, right=(1, 2)))  # type: ignore[arg-type]
