"""``ffe tune``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli.options import (
    Share,
    class_weights_option,
    feature_file,
    refuse_model,
    seed_option,
    test_fraction_option,
    time_budget,
)
from ffe.cli.output import SearchView, duration_text, print_json

_FEW = 20  # test images


def parse_settings(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Turn ``NAME=VALUE`` options into a dict."""
    settings = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{value}' is not NAME=VALUE; write, for example, --set C=10.")
        settings[name.strip()] = text.strip()
    return settings


def shared_options(command: Any) -> Any:
    """Add the options that ``tune`` and ``train`` have in common."""
    options = (
        click.option(
            "--folds", type=click.IntRange(2), help="Parts for cross-validation.  [default: 5, fewer for small classes]"
        ),
        click.option("--valid", type=click.Path(), callback=feature_file, help="A feature file of validation rows."),
        click.option("--test", type=click.Path(), callback=feature_file, help="A feature file of test rows."),
        test_fraction_option,
        class_weights_option,
        click.option(
            "--reject",
            type=Share(0, 1, max_open=True),
            default=0.0,
            show_default=True,
            help="Answer 'not sure' below this probability.",
        ),
        click.option(
            "--report", type=click.Path(), help="Write a page (.html) with scores, pictures of the mistakes, and charts."
        ),
        seed_option,
        click.option(
            "--views",
            type=click.Choice(("all", "epoch", "none")),
            help="Of a file with views, what trains: all rows of an image, in dense heads one drawn for each epoch, "
            "or none but the plain one.  [default: all]",
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


def print_result(result: Any, output: str, report: str | None, as_json: bool, metric: str = "accuracy") -> None:
    """Print what a search, which aimed at the metric, or a training came to."""
    from ffe.report.text import (
        answered_text,
        calibration_text,
        comparison_text,
        evaluation_text,
        leaderboard_text,
        parameters_text,
    )
    from ffe.workflows.reporting import leak_text

    if as_json:
        print_json(result.to_json())
        return
    click.echo(f"Validation: {result.validation}\n")
    click.echo(leaderboard_text([trial.to_json() for trial in result.leaderboard], metric=metric))
    if len(result.leaderboard) > 1:
        before = f", {result.known} of them from the run before" if result.known else ""
        click.echo(
            f"The best of {len(result.leaderboard)} trials{before} (--json has all). "
            "Spread: deviation over the folds; fit: one fit; size: the head alone."
        )
    lines = []
    if result.comparison is not None:
        lines.append(f"Best two heads: {comparison_text(result.comparison.to_json(), *result.rivals)}")
    if (leak := leak_text(result)) is not None:
        lines.append(f"Together: {leak}")
    lines.append(f"Probabilities: {calibration_text(result.calibration.to_json())}")
    click.echo("\n" + "\n".join(lines))
    name = f"{result.head.name} ({parameters_text(result.head.parameters)})"
    rows = f"{result.rows['train']} training rows"
    if result.views is not None:
        rows = f"{result.rows['train']} training images; views: {result.views.text()}"
    click.echo(f"\n{name}, fitted on {rows}\n")
    seen = result.leak.test_leaking if result.leak is not None else 0
    which = f"on the given test rows, {seen} of them with copies elsewhere" if seen else "on images not seen before"
    click.echo(f"Test, {which}: " + evaluation_text(result.evaluation.to_json()) + "\n")
    if result.evaluation.n < _FEW:
        click.echo(f"{result.evaluation.n} test images are few: scores of so few tell little.\n")
    if result.answered is not None:
        click.echo(answered_text(result.answered.to_json()) + "\n")
    if report is not None:
        click.echo(f"{report}: the report")
    click.echo(f"{output}: written in {duration_text(result.seconds)}")


@click.command(short_help="Search over heads on stored features; write the best as a model.")
@click.argument("features", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="The model file (.ffe) to write.")
@click.option("--heads", default="auto", show_default=True, help="auto = all, or some of svm,logistic,dense,forest.")
@click.option("--trials", type=click.IntRange(1), help="Parameter sets tried for each head.  [default: what suits each]")
@click.option("--budget", callback=time_budget, metavar="TIME", help="Time for the search: 60s, 5m, 1h.  [default: by trials]")
@click.option(
    "--oracle",
    type=click.Choice(("bayesian", "hyperband", "random")),
    default="bayesian",
    show_default=True,
    help="Which of KerasTuner's oracles proposes parameters.",
)
@click.option(
    "--metric",
    type=click.Choice(("accuracy", "balanced_accuracy", "log_loss")),
    default="accuracy",
    show_default=True,
    help="What the search aims at.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", callback=parse_settings, help="A parameter that is not searched."
)
@click.option(
    "--executions", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each set, for dense and forest."
)
@click.option("--epochs", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Longest training of a dense head.")
@click.option(
    "--ensemble", type=click.IntRange(0, 10), default=0, show_default=True, help="Average up to so many heads, where that wins."
)
@shared_options
def command(features: str, output: str, heads: str, as_json: bool, **options: Any) -> None:
    """Search over heads on FEATURES, refit the best on all training rows, test it once, write a model.

    The splits of the file are used, or those of --valid and --test; otherwise a
    share is held out for the test, and trials are scored by cross-validation on
    the rest. Images that belong together stand on one side. Interrupted, the
    same command goes on where it stopped.
    """
    from ffe.workflows import tune

    refuse_model(features, output, "tune")
    names: Any = "auto" if heads.strip() == "auto" else [name.strip() for name in heads.split(",") if name.strip()]
    with SearchView(options["metric"]) as view:
        result = tune(features, output, heads=names, on_progress=view, **options)
    print_result(result, output, options["report"], as_json, options["metric"])
