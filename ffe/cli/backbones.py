"""``ffe backbones``."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from ffe.base.text import bytes_text, counted
from ffe.cli.options import json_option
from ffe.cli.show import note, print_json

if TYPE_CHECKING:
    from ffe.backbones.catalog import Backbone


@click.command(short_help="List the backbones: what to choose one by, and whose weights are here.")
@click.argument("word", required=False, default="")
@json_option(help="Print one JSON array.")
def command(word: str, as_json: bool) -> None:
    """List the backbones, with what to choose one by, and whether their weights are on this machine.

    With a WORD, those that have it in their names, of timm too: 'timm:dinov2'
    for those of timm alone.

    Top-1 is the share of ImageNet's photos that the published network is right
    on. GFLOPs are the arithmetic for one picture of the default size; the rate
    is what earlier runs on this machine showed.
    """
    from ffe.backbones.catalog import CATALOG, DEFAULT
    from ffe.backbones.families import FAMILIES, LICENCES
    from ffe.extraction.throughput_log import LEAST_IMAGES, measured

    word = word.lower()  # as all names are
    rows = [_of_catalogue(row) for row in CATALOG.values() if word in row.name]
    others = _of_timm(word) if word else []
    if as_json:
        print_json([*rows, *others])
        return
    if rows:
        click.echo(_catalogue_text(rows))
    if others:
        click.echo(("\n" if rows else "") + _timm_text(others))
    if any(row["images_per_second"] is None for row in (*rows, *others)):
        least = counted(LEAST_IMAGES, "photo")
        note(f"the rate comes from 'ffe extract': it is empty until {least} or more went through here")
    if word:
        return
    from ffe.wording.results import table

    click.echo(f"\n{DEFAULT} is the default. --json has more: least sizes, scaling, where the weights are.\n")
    families = [(one.what, one.beginning, one.example, "yes" if one.installed else "no") for one in FAMILIES]
    click.echo(table(("others", "named by", "such as", "installed"), families))
    click.echo(
        "\n" + fill(f"'ffe backbones timm:WORD' lists those of timm, with their licences. {LICENCES['dinov3-license']}", 100)
    )
    seen = [
        (name, f"{rate:.0f}/s" if rate >= 9.95 else f"{rate:.1f}/s", f"{size[0]}x{size[1]}", str(layout))
        for name, (size, layout, rate) in sorted(measured().items())
        if name not in CATALOG
    ]
    if seen:
        click.echo("\n" + table(("measured here", "rate", "size", "features"), seen, right=(1,)))


def _of_catalogue(row: Backbone) -> dict[str, Any]:
    from ffe.backbones.catalog import DEFAULT
    from ffe.backbones.weights import find_file
    from ffe.images.preprocess import SCALING

    file = find_file(row, (row.size, row.size))
    return {
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
        "family": "keras",
    }


def _of_timm(word: str) -> list[dict[str, Any]]:
    """Return rows with the keys of the catalogue's; what timm does not say without building a model is None."""
    from ffe.backbones.catalog import CATALOG
    from ffe.backbones.families import FAMILIES, TIMM, search_timm
    from ffe.base.text import did_you_mean
    from ffe.errors import BackboneError
    from ffe.extraction.throughput_log import measured

    timm = FAMILIES[0]
    asked = word.startswith(TIMM)
    if not asked and (unlisted := next((one for one in FAMILIES[1:] if word.startswith(one.beginning)), None)) is not None:
        raise BackboneError(
            f"ffe cannot list the backbones of {unlisted.what}; take a name from its own pages, such as {unlisted.example}, and "
            "give it to --backbone."
        )
    found = search_timm(word.removeprefix(TIMM)) if asked or timm.installed else []
    if not found and not any(word in name for name in CATALOG):
        raise BackboneError(
            f"No backbone has '{word}' in its name; 'ffe backbones' lists those of Keras, "
            f"'ffe backbones {TIMM}' those of timm.{did_you_mean(word, CATALOG)}"
        )
    seen, rows = measured() if found else {}, []
    for one in found:
        size, layout, rate = seen.get(one.name, (one.size, None, None))
        rows.append(
            {
                "name": one.name,
                "size": size[0] if size[0] == size[1] else list(size),
                **dict.fromkeys(("min_size", "preprocess", "scaling"), None),
                "licence": one.licence,
                "weights": one.weights,
                "default": False,
                "parameters": None,
                "features": None if layout is None else layout.channels,
                **dict.fromkeys(("weights_bytes", "gflops"), None),
                "images_per_second": rate,
                "imagenet_top1": None,
                "family": timm.what,
            }
        )
    return rows


def _catalogue_text(rows: Sequence[dict[str, Any]]) -> str:
    from ffe.wording.results import table

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
    return table(header, cells, right=(1, 2, 3, 4, 5, 6, 7))


def _timm_text(rows: Sequence[dict[str, Any]]) -> str:
    from ffe.backbones.families import licence_texts
    from ffe.wording.results import table

    cells = [
        (
            row["name"],
            str(row["size"]),
            "" if row["images_per_second"] is None else f"{row['images_per_second']:.1f}/s",
            row["licence"] or "not named",
            "no" if row["weights"] is None else "yes",
        )
        for row in rows
    ]
    text = table(("name", "size", "rate", "licence", "here"), cells, right=(1, 2), columns=None)
    asks = [fill(text, 100) for text in licence_texts(row["licence"] for row in rows)]
    return "\n\n".join([text, *asks])


def _rate(row: Backbone) -> float | None:
    """Return the images a second that an earlier run showed; None = there was none."""
    from ffe.backbones.resolve import make_spec
    from ffe.errors import FfeError
    from ffe.extraction.throughput_log import remembered

    try:
        return remembered(make_spec(row.name, download=False)[0], "auto")[1]
    except (FfeError, OSError):
        return None
