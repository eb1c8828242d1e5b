"""``ffe cache``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffe.base.text import bytes_text
from ffe.cli.options import json_option
from ffe.cli.show import print_json

if TYPE_CHECKING:
    from ffe.commands.cache import CacheEntry

_KINDS = ("models", "compiled", "runs", "facts", "engines", "digests", "trials", "activations")


@click.command(short_help="Show what is kept to save time, and how large it is; remove it.")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--clear",
    type=click.Choice(("all", *_KINDS)),
    is_flag=False,
    flag_value="all",
    metavar="[KIND]",
    help=f"Remove it: all, or one of {', '.join(_KINDS)}.",
)
@json_option(help="Print one JSON object.")
def command(folders: tuple[Path, ...], clear: str | None, as_json: bool) -> None:
    """Show what is kept to save time: what, how many files, how large, and where.

    Everything but Keras's weights is ffe's own, and is made again when it is
    needed. Finished trials and activations lie beside the outputs that they
    were made for: FOLDERS says where to look for those.  [default: here]
    """
    from ffe.commands import cache

    places = folders or (Path(),)
    if clear is None:
        found = cache.list_cached(places)
        print_json({"kept": [asdict(each) for each in found]}) if as_json else _print(found)
        return
    gone = cache.clear_cached(None if clear == "all" else clear, places)
    if as_json:
        print_json({"cleared": [asdict(each) for each in gone]})
    elif gone:
        click.echo("Removed:\n")
        _print(gone)
    else:
        click.echo("There was nothing to remove.")


def _print(found: list[CacheEntry]) -> None:
    from ffe.wording.results import table

    cells = [(each.kind, each.what, f"{each.files:,}", bytes_text(each.bytes), each.where) for each in found]
    # a path is never broken, so that it can be copied
    click.echo(table(("kind", "what", "files", "size", "where"), cells, right=(2, 3), columns=None))
