"""``ffe doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ffe.base.text import counted
from ffe.cli.options import json_option
from ffe.cli.show import note, print_json

if TYPE_CHECKING:
    from ffe.commands.doctor import EngineCheck, Expected


def _state(engine: EngineCheck) -> str:
    return "works" if engine.works else "DOES NOT WORK" if engine.installed else "not installed"


def _engine(row: Expected) -> str:
    return f"{row.engine}, batches of {row.batch_size}"


@click.command(short_help="Show this machine, the engines that work on it, and what to expect.")
@json_option(help="Print everything as JSON.")
def command(as_json: bool) -> None:
    """Show the machine, the engines that work, where weights and models are kept, and how fast extraction may be.

    Decoding is measured on a drawn picture, and every backbone in the cache of
    converted models is run, for about a second each.
    """
    from ffe.commands.doctor import checkup
    from ffe.engines.factory import int8_text
    from ffe.wording.results import facts_text, table

    found = checkup(note)
    if as_json:
        print_json(asdict(found))
        return
    cores = counted(found.cores, "core")
    memory = f"{found.free_memory_bytes / 2**30:.1f} GiB of {found.memory_bytes / 2**30:.1f} GiB free"
    rows = [
        ("ffe", f"{found.ffe}, Python {found.python}"),
        ("machine", f"{found.processor}, {cores}, {memory}"),
        ("system", found.system),
        ("GPU", "a GPU and its driver are there" if found.gpu_device else "none found"),
        ("int8", int8_text(found.vnni)),
        ("libraries", ", ".join(f"{name} {version or 'missing'}" for name, version in found.libraries.items())),
        *((f"engine {one.name}", f"{_state(one)}: {one.detail}") for one in found.engines),
        ("weights", "looked for in " + ", then ".join(found.weights_folders)),
        ("", "found: " + (", ".join(found.weights_found) or "none")),
        ("models", f"{found.cached_models} in {found.cache}, {found.cache_bytes / 2**20:.0f} MiB"),
        ("decode", ", ".join(f"{how} {rate:.0f} images/s per core" for how, rate in found.decode_rates.items())),
    ]
    click.echo(facts_text(rows))
    if not found.expected:
        click.echo("\nNo backbone is in the cache yet; after the first 'ffe extract' this says what to expect of it.")
        return
    click.echo(f"\nWhat to expect, in images a second ({cores} at work, photos of 500x375, exact decoding):\n")
    # a backbone may be in the cache more than once, with other weights; it runs as fast
    distinct = {(row.backbone, f"{row.size[0]}x{row.size[1]}", row.precision): row for row in found.expected}
    cells = [
        (*which, *(f"{rate:.0f}" for rate in (row.backbone_rate, row.decode_rate, row.rate)), row.limit, _engine(row))
        for which, row in distinct.items()
    ]
    click.echo(table(("backbone", "size", "precision", "alone", "decode", "together", "limit", "engine"), cells, right=(3, 4, 5)))
