"""``ffe tune``."""

from __future__ import annotations

from typing import Any

import click

from ffe.base.text import counted, duration_text, quoted_argument
from ffe.cli import options as shared
from ffe.cli.progress import TrialsProgress
from ffe.cli.show import print_json, quiet

_FEW = 20  # test images

# those of train too
shared_options = shared.together(
    shared.overwrite_option,
    click.option("--folds", type=click.IntRange(2), help="Parts for cross-validation.  [default: 5, fewer for small classes]"),
    *(
        click.option(
            f"--{name}",
            type=click.Path(),
            multiple=True,
            callback=shared.feature_files,
            help=f"A feature file of {what} rows; with several FEATURES, one for each.",
        )
        for name, what in (("valid", "validation"), ("test", "test"))
    ),
    shared.test_fraction_option,
    shared.class_weights_option,
    click.option(
        "--refit",
        type=click.Choice(("train", "all")),
        default="train",
        help="What the model is fitted on: the rows that train, or after the test all, those of the test too.",
    ),
    click.option(
        "--reject", type=shared.Share(0, 1, max_open=True), default=0.0, help="Answer 'not sure' below this probability."
    ),
    shared.report_option(),
    shared.anonymous_option,
    shared.seed_option,
    click.option(
        "--views",
        type=click.Choice(("all", "epoch", "none")),
        help="Of a file with views, what trains: all rows of an image, in dense heads one drawn for each epoch, "
        "or none but the plain one.  [default: all]",
    ),
    shared.weights_option(help="Where the backbone's weights are: imagenet, or a path."),
    click.option(
        "--with-backbone/--without-backbone",
        default=True,
        help="Put the backbone into the model file, so that it predicts anywhere.",
    ),
    shared.json_option(),
)


def print_result(result: Any, output: str, report: str | None, as_json: bool) -> None:
    """Print what a search or a training came to: the winner, its score, and what to do next."""
    from ffe.wording import results as text

    if as_json:
        print_json(result.to_json())
        return
    winner, trials = result.leaderboard[0], len(result.leaderboard)
    before = f", {result.known} of them from the run before" if result.known else ""
    chosen = f"chosen of {counted(trials, 'trial')}{before}, " if trials > 1 else ""
    score = f"validation {text.METRIC_NAMES[result.metric]} {text.score_text(winner.score, result.metric)}"
    lines = [f"{result.head.name}: {chosen}{score} ({result.validation})"]
    lines += [f"  {line}" for line in text.parameters_lines(result.head.parameters)]
    if choice := text.choice_text([trial.to_json() for trial in result.leaderboard], result.metric):
        lines.append(f"  {choice}")
    leaking = result.leak.test_leaking if result.leak is not None else 0
    which = f", {leaking} of them with copies elsewhere" if leaking else " not seen before"
    test = result.evaluation.to_json()
    led = ("balanced_accuracy", "accuracy") if result.metric == "balanced_accuracy" else ("accuracy",)
    scores = [f"{text.METRIC_NAMES[name]} {test[name]:.4f}{text.interval_text(test['intervals'].get(name))}" for name in led]
    few = "; so few tell little" if test["n"] < _FEW else ""
    lines.append(f"Test on {counted(test['n'], 'image')}{which}: {', '.join(scores)}{few}")
    if never := text.never_right_text(test):
        lines.append(never)
    if result.apart:
        lines.append(result.apart)
    if result.answered is not None:
        lines.append(text.answered_text(result.answered.to_json()))
    model = quoted_argument(output)
    lines.append(f"{output}: written in {duration_text(result.seconds)}; 'ffe info {model}' shows all scores and trials")
    if report is not None:
        lines.append(f"{report}: the report, with all scores and the mistakes")
    if not quiet():
        lines.append(f"Next: ffe predict {model} PHOTO")
    click.echo("\n".join(lines))


@click.command(short_help="Search over heads on stored features; write the one chosen as a model.")
@click.argument("features", metavar="FEATURES...", nargs=-1, required=True, type=click.Path())
@shared.output_option()
@click.option("--heads", default="auto", help="auto = all, or some of svm,logistic,dense,forest.")
@click.option(
    "--trials",
    type=click.IntRange(1),
    help="Parameter sets tried of each head: 4 of two heads are 8 trials.  [default: what suits each]",
)
@shared.budget_option(help="Time for the search: 60s, 5m, 1h.  [default: by trials]")
@click.option(
    "--oracle",
    type=click.Choice(("bayesian", "hyperband", "random")),
    default="bayesian",
    help="Which of KerasTuner's oracles proposes parameters.",
)
@click.option(
    "--metric",
    type=click.Choice(("auto", "accuracy", "balanced_accuracy", "log_loss")),
    default="auto",
    help="What the search aims at; auto: balanced accuracy where classes are weighted, else accuracy.",
)
@shared.settings_option(help="A parameter that is not searched.")
@click.option("--executions", type=click.IntRange(1), default=1, help="Trainings of each set, for dense and forest.")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=50, help="Longest training of a dense head.")
@click.option(
    "--ensemble",
    type=click.Choice(("auto", *map(str, range(11)))),
    metavar="auto|NUMBER",
    default="0",
    callback=lambda ctx, option, value: value if value == "auto" else int(value),
    help="Average up to so many trials, where that wins; auto = 4.",
)
@shared_options
def command(features: tuple[str, ...], output: str, heads: str, as_json: bool, **options: Any) -> None:
    """Search over heads on FEATURES, refit the one chosen on all training rows, test it once, write a model.

    Several feature files of the same photos, of other backbones, sizes or
    layers, are joined: heads look at all of them, or at one, and the model
    holds the backbones that its head looks at.

    The splits of the file are used, or those of --valid and --test; otherwise a
    share is held out for the test, and trials are scored by cross-validation on
    the rest. Images that belong together stand on one side. Interrupted, the
    same command goes on where it stopped.
    """
    from ffe.commands.tune import tune

    shared.refuse_model(features, output, "tune")
    names: Any = "auto" if heads.strip() == "auto" else [name.strip() for name in heads.split(",") if name.strip()]
    shared.check_heads("--heads", () if names == "auto" else names)
    with TrialsProgress() as view:
        result = tune(features, output, heads=names, on_progress=view, **options)
    print_result(result, output, options["report"], as_json)
