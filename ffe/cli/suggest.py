"""``ffe suggest``."""

from __future__ import annotations

from typing import Any

import click

from ffe.base.text import counted, plain, share_text
from ffe.cli.options import engine_option, images_options, json_option, output_option, refuse_swapped, weights_option
from ffe.cli.progress import ExtractProgress
from ffe.cli.show import note, print_json

_SHOWN = 10


@click.command(short_help="Choose which photos to label next.")
@click.argument("model", type=click.Path())
@click.argument("photos", metavar="FEATURES|SOURCE", type=click.Path())
@output_option(help="The list to write, a CSV to fill in.")
@click.option("-n", "--count", type=click.IntRange(1), default=50, help="Photos to choose.")
@click.option("--by", type=click.Choice(("margin", "entropy")), default="margin", help="How unsure an answer is told.")
@click.option("--overwrite", is_flag=True, help="Replace a list of ffe that is there.")
@weights_option(help="Where the backbone's weights are, for a model without its backbone.")
@engine_option()
@images_options
@json_option(help="Print what was chosen as JSON.")
def command(model: str, photos: str, output: str, as_json: bool, **options: Any) -> None:
    """Choose the photos without a label that MODEL would learn most from: those it is least sure of, and no two alike.

    The list has a column to fill in, 'label', and what the model guesses beside
    it; 'ffe extract' takes it. Photos that the model knows are left out, and of
    equal ones all but one.
    """
    from ffe.commands.suggest import suggest

    refuse_swapped(model, (photos,), "suggest")
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
    for image in result.images[:_SHOWN]:
        click.echo(f"  {plain(image.path)}: {plain(image.guess, 40)}? {share_text(image.probability)}")
    if (more := len(result.images) - _SHOWN) > 0:
        click.echo(f"  and {more:,} more")
    note(f"Next: fill in the column 'label', then ffe extract {output} -o labelled.h5 --like features.h5")
