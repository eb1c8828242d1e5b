"""``ffe tune``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli.output import TrialProgress, duration_text, print_json

HEADS = "dense,svm,forest,logistic"


def shared_options(command: Any) -> Any:
    """Add the options that ``tune`` and ``train`` have in common."""
    options = (
        click.option("--test", type=click.Path(), help="A feature file of test rows."),
        click.option(
            "--test-fraction",
            type=click.FloatRange(0, 0.5, min_open=True),
            default=0.2,
            show_default=True,
            help="Share held out for the test where no split is given.",
        ),
        click.option(
            "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Start of every random choice."
        ),
        click.option(
            "--weights", default="imagenet", show_default=True, help="Where the backbone's weights are: imagenet, or a path."
        ),
        click.option(
            "--with-backbone/--without-backbone",
            default=True,
            show_default=True,
            help="Put the backbone into the model file, so that it predicts anywhere.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def print_result(result: Any, output: str, as_json: bool) -> None:
    """Print what a search or a training came to."""
    from ffe.report.text import evaluation_text, leaderboard_text, parameters_text

    if as_json:
        print_json(result.to_json())
        return
    if result.leaderboard:
        click.echo(f"Validation accuracy: {result.validation}\n")
        click.echo(leaderboard_text([trial.to_json() for trial in result.leaderboard]))
        click.echo(
            f"The best of {len(result.leaderboard)} trials (--json has all). Spread: deviation over the folds; "
            "fit: seconds of one fit; size: of the head alone.\n"
        )
    click.echo(
        f"{result.head.name} ({parameters_text(result.head.parameters)}), fitted on {result.rows['train']} training rows\n"
    )
    click.echo("Test, on images not seen before: " + evaluation_text(result.evaluation.to_json()) + "\n")
    click.echo(f"{output}: written in {duration_text(result.seconds)}")


@click.command(short_help="Search over heads on stored features; write the best as a model.")
@click.argument("features", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="The model file (.ffe) to write.")
@click.option("--heads", default=HEADS, show_default=True, help="Which heads to search, with commas between them.")
@click.option("--trials", type=click.IntRange(1), default=8, show_default=True, help="Parameter sets tried for each head.")
@click.option(
    "--executions", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each set, for dense and forest."
)
@click.option("--epochs", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Longest training of a dense head.")
@click.option("--folds", type=click.IntRange(2), help="Parts for cross-validation.  [default: 5, fewer for small classes]")
@click.option("--valid", type=click.Path(), help="A feature file of validation rows.")
@shared_options
def command(features: str, output: str, heads: str, as_json: bool, **options: Any) -> None:
    """Search over heads on FEATURES, refit the best on all training rows, test it once, write a model.

    The splits of the file are used, or those of --valid and --test; otherwise a
    stratified share is held out for the test, and trials are scored by
    cross-validation on the rest.
    """
    from ffe.workflows import tune

    names = [name.strip() for name in heads.split(",") if name.strip()]
    result = tune(features, output, heads=names, on_trial=TrialProgress(), **options)
    print_result(result, output, as_json)
