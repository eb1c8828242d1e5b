"""``ffe evaluate``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli.limits import limit_options
from ffe.cli.options import Share, refuse_swapped
from ffe.cli.output import (
    AUGMENT_HELP,
    BATCH_SIZE_HELP,
    REJECT_HELP,
    TTA_AUGMENT_HELP,
    TTA_HELP,
    WORKERS_HELP,
    ExtractProgress,
    print_json,
)


@click.command(short_help="Score a model on a feature file, or on a folder of labelled images.", epilog=AUGMENT_HELP)
@click.argument("model", type=click.Path())
@click.argument("data", metavar="FEATURES|SOURCE", type=click.Path())
@click.option("--unseen", is_flag=True, help="Leave out images that the model was fitted or chosen on.")
@click.option("--tta", type=click.IntRange(0, 1000), default=0, metavar="VIEWS", help=TTA_HELP)
@click.option("--augment", help=TTA_AUGMENT_HELP)
@click.option("--reject", type=Share(0, 1, max_open=True), help=REJECT_HELP)
@click.option(
    "--weights", default="imagenet", show_default=True, help="Where the backbone's weights are, for a model without its backbone."
)
@click.option("--engine", default="auto", show_default=True, help="What runs the backbone: auto, keras or openvino.")
@click.option("--batch-size", type=click.IntRange(1), help=BATCH_SIZE_HELP)
@click.option("--workers", type=click.IntRange(1), help=WORKERS_HELP)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(model: str, data: str, as_json: bool, **options: Any) -> None:
    """Score MODEL on a feature file of the same spec, or on a folder or CSV of labelled images."""
    from ffe.report.text import answered_text, evaluation_text
    from ffe.workflows import evaluate

    refuse_swapped(model, (data,), "evaluate")
    with ExtractProgress() as progress:
        result = evaluate(model, data, progress=progress, **options)
    if result.skipped:
        click.echo(f"{result.skipped} images were left out: no label, or not readable", err=True)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(evaluation_text(result.evaluation.to_json()))
        if result.answered.threshold:
            click.echo("\n" + answered_text(result.answered.to_json()))
