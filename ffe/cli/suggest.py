"""``ffe suggest``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from ffe.base.text import counted, plain, quoted_argument, share_text
from ffe.cli import UrlOrPath
from ffe.cli.options import engine_option, images_options, json_option, output_option, refuse_swapped, weights_option
from ffe.cli.progress import ExtractProgress
from ffe.cli.show import note, print_json, unused

_SHOWN = 10


@click.command(short_help="Choose which photos to label next.")
@click.argument("model", type=click.Path())
@click.argument("photos", metavar="FEATURES|SOURCE", type=UrlOrPath())
@output_option(help="The list to write, a CSV to fill in.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="Photos to choose.  [default: 50]")
@click.option("--by", type=click.Choice(("margin", "entropy")), help="How unsure an answer is told.  [default: margin]")
@click.option("--wrong", is_flag=True, help="Of labelled photos, list those first whose label is probably wrong.")
@click.option("--overwrite", is_flag=True, help="Replace a list of ffe that is there.")
@weights_option(help="Where the backbone's weights are, for a model without its backbone.")
@engine_option()
@images_options
@json_option(help="Print what was chosen as JSON.")
def command(model: str, photos: str, output: str, wrong: bool, as_json: bool, **options: Any) -> None:
    """Choose the photos without a label that MODEL would learn most from: those it is least sure of, and no two alike.

    The list has a column to fill in, 'label', and what the model guesses beside
    it; 'ffe extract' takes it. Photos that the model knows are left out, and of
    equal ones all but one.

    With --wrong it lists all photos of a labelled set, to be corrected, those
    first whose label is probably wrong. Where the model was fitted on some, its
    head is fitted anew without each, which needs their feature file.
    """
    refuse_swapped(model, (photos,), "suggest")
    chosen = {name: options.pop(name) for name in ("count", "by")}
    asked = {name: value for name, value in chosen.items() if value is not None}
    if wrong:
        if asked:
            raise click.UsageError("-n and --by choose photos to label; with --wrong all are listed, so leave them out.")
        _wrong(model, photos, output, as_json, options)
    else:
        _next(model, photos, output, as_json, {**asked, **options})


def _next(model: str, photos: str, output: str, as_json: bool, options: dict[str, Any]) -> None:
    from ffe.commands.suggest import suggest

    with ExtractProgress() as progress:
        result = suggest(model, photos, output, progress=progress, **options)
    if as_json:
        print_json(result.to_json())
        return
    left_out = [
        f"{count:,} {what}"
        for count, what in ((result.known, "known"), (result.labelled, "labelled"), (result.copies, "equal to another"))
        if count
    ]
    out = f" ({', '.join(left_out)}: left out)" if left_out else ""
    click.echo(f"{output}: {counted(len(result.images), 'photo')} of {result.considered:,} to label next{out}")
    _say(f"  {plain(one.path)}: {plain(one.guess, 40)}? {share_text(one.probability)}" for one in result.images)
    extract = f"ffe extract {quoted_argument(output)} -o {unused('labelled.h5')} --backbone {quoted_argument(model)}"
    note(f"Next: fill in the column 'label', then {extract}")


def _wrong(model: str, photos: str, output: str, as_json: bool, options: dict[str, Any]) -> None:
    from ffe.commands.suggest_wrong import wrong_labels

    with ExtractProgress() as progress:
        result = wrong_labels(model, photos, output, progress=progress, **options)
    if as_json:
        print_json(result.to_json())
        return
    labels = counted(len(result.images), "label is", "labels are")
    click.echo(f"{output}: {labels} probably wrong, of {counted(result.photos, 'photo')}")
    _say(
        f"  {plain(one.path)}: {plain(one.label, 40)}, rather {plain(one.guess, 40)} ({share_text(one.probability_guess)})"
        for one in result.images
    )
    if result.images:
        note("Next: correct the column 'label' of the first rows, then give the list to ffe extract")


def _say(lines: Iterable[str]) -> None:
    """Print the first lines, and how many more there are."""
    said = list(lines)
    for line in [*said[:_SHOWN], *([f"  and {len(said) - _SHOWN:,} more"] if len(said) > _SHOWN else [])]:
        click.echo(line)
