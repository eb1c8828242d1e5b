"""``ffe evaluate``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli.output import ExtractProgress, print_json


@click.command(short_help="Score a model on a feature file, or on a folder of labelled images.")
@click.argument("model", type=click.Path())
@click.argument("data", metavar="FEATURES|SOURCE", type=click.Path())
@click.option("--unseen", is_flag=True, help="Leave out images that the model was fitted or chosen on.")
@click.option(
    "--weights", default="imagenet", show_default=True, help="Where the backbone's weights are, for a model without its backbone."
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images in one call of the backbone.")
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images.  [default: one per core]")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(model: str, data: str, as_json: bool, **options: Any) -> None:
    """Score MODEL on a feature file of the same spec, or on a folder or CSV of labelled images."""
    from ffe.report import evaluation_text
    from ffe.workflows import evaluate

    with ExtractProgress() as progress:
        result = evaluate(model, data, progress=progress, **options)
    if result.skipped:
        click.echo(f"{result.skipped} images were left out: no label, or not readable", err=True)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(evaluation_text(result.evaluation.to_json()))
