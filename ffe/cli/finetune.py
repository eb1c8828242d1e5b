"""``ffe finetune``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ffe.cli.limits import limit_options
from ffe.cli.output import WORKERS_HELP, EpochView, ExtractProgress, duration_text, print_json
from ffe.cli.tune import time_budget


def _words(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Turn ``6,19`` into ("6", "19")."""
    return tuple(part.strip() for part in value.split(","))


def _numbers(kind: type[int] | type[float], example: str) -> Callable[..., tuple[Any, ...]]:
    def parse(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(f"'{value}' is no list of numbers; write, for example, {example}.") from None

    return parse


def augment_changes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Turn ``flip,rotate=15`` into an AugmentSpec; ``none`` into None."""
    if value is None or value == "none":
        return None
    from ffe.images.augment_text import parse_augment

    return parse_augment(value)


def epochs_option(default: str) -> Callable[[Any], Any]:
    """Return ``--epochs``."""
    return click.option(
        "--epochs",
        default=default,
        show_default=True,
        metavar="N[,N...]",
        callback=_numbers(int, "--epochs 15 or --epochs 15,15"),
        help="Most epochs, of each stage or of all.",
    )


def training_options(optimizer: str, batch_size: int, patience: int) -> Callable[[Any], Any]:
    """Return what adds the options that ``finetune`` and ``scratch`` have in common."""
    options = (
        click.option(
            "--learning-rate",
            default="1e-4",
            show_default=True,
            metavar="RATE[,RATE...]",
            callback=_numbers(float, "--learning-rate 1e-4 or --learning-rate 1e-4,1e-5"),
            help="Where each stage begins.",
        ),
        click.option(
            "--schedule",
            type=click.Choice(("constant", "exponential", "cosine")),
            default="constant",
            show_default=True,
            help="How the learning rate goes on; exponential: times exp(-0.1) in each epoch after the first --hold.",
        ),
        click.option(
            "--hold",
            type=click.IntRange(0, 10_000),
            default=10,
            show_default=True,
            help="Epochs before an exponential schedule falls.",
        ),
        click.option(
            "--optimizer",
            type=click.Choice(("adam", "rmsprop")),
            default=optimizer,
            show_default=True,
            help="How steps are taken; it begins anew in each stage.",
        ),
        click.option(
            "--weight-decay",
            type=click.FloatRange(0, 10),
            default=0.0,
            show_default=True,
            help="Share of the learning rate by which kernels shrink in a step.",
        ),
        click.option(
            "--batch-size", type=click.IntRange(1, 4096), default=batch_size, show_default=True, help="Images in a step."
        ),
        click.option(
            "--patience",
            type=click.IntRange(0, 10_000),
            default=patience,
            show_default=True,
            help="End a stage after so many epochs without a better validation loss; 0 = never.",
        ),
        click.option(
            "--class-weights",
            type=click.Choice(("auto", "balanced", "none")),
            default="auto",
            show_default=True,
            help="auto: balanced where the rarest class has under half its share.",
        ),
        click.option(
            "--valid-fraction",
            type=click.FloatRange(0.01, 0.5),
            default=0.2,
            show_default=True,
            help="Share of the training images that validate, where no split is given.",
        ),
        click.option("--budget", callback=time_budget, metavar="TIME", help="End after 60s, 5m or 1h, with the best so far."),
        click.option(
            "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Start of every random choice."
        ),
        click.option("--workers", type=click.IntRange(1), help=WORKERS_HELP),
        limit_options,
        click.option("--report", type=click.Path(), help="Write a page (.html) with scores, mistakes and charts."),
        click.option("--tensorboard", type=click.Path(), help="Write logs for TensorBoard into this folder."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def print_trained(result: Any, report: str | None, as_json: bool) -> None:
    """Print what a training came to."""
    from ffe.report.text import calibration_text, comparison_text, evaluation_text, history_text

    if as_json:
        print_json(result.to_json())
        return
    record = result.to_json()
    click.echo(history_text(record["history"]) + "\n")
    best = "before the first epoch" if not result.best.epoch else f"of stage {result.best.stage}, epoch {result.best.epoch}"
    click.echo(f"The weights {best} are kept (*): the least validation loss, on {result.rows['valid']} images.")
    if result.comparison is not None:
        click.echo(f"Before and after: {comparison_text(record['comparison'], 'the fine-tuned model', 'the model before')}")
    click.echo(f"Probabilities: {calibration_text(record['calibration'])}\n")
    click.echo(f"Trained on {result.rows['train']} images\n")
    click.echo("Test, on images not seen before: " + evaluation_text(record["evaluation"]["test"]) + "\n")
    if report is not None:
        click.echo(f"{report}: the report")
    click.echo(f"{result.output}: written in {duration_text(result.seconds)}")


@click.command(short_help="Train a model's backbone further, stage by stage.")
@click.argument("source", type=click.Path())
@click.option("--from", "model", required=True, type=click.Path(), help="The model file (.ffe) to start from.")
@click.option("-o", "--output", required=True, type=click.Path(), help="The model file (.ffe) to write.")
@click.option(
    "--unfreeze",
    required=True,
    callback=_words,
    metavar="N[,N...]",
    help="What learns in each stage: layers from the end of the backbone, the name of a layer or block, or all; 0 = the head.",
)
@epochs_option("15")
@click.option("--dropout", type=click.FloatRange(0, 0.95), help="Before the last layer.  [default: the head's own, or 0.2]")
@click.option(
    "--train-batchnorm", "batchnorm", is_flag=True, help="Let batch normalisations learn too, and use each batch's statistics."
)
@click.option(
    "--augment", callback=augment_changes, metavar="CHANGES", help="Change images in every epoch: flip,rotate=15,zoom ..."
)
@click.option("--cache", type=click.Path(), help="Folder for activations.  [default: beside the output]")
@click.option("--keep-cache", is_flag=True, help="Leave the activations there for the next run.")
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    help="Where the backbone's weights are, if the model lacks them.",
)
@click.option("--engine", default="auto", show_default=True, help="What runs the frozen part: auto, keras or openvino.")
@training_options("adam", 32, 5)
def command(source: str, output: str, model: str, as_json: bool, **options: Any) -> None:
    """Train the model of --from further on the images of SOURCE, its backbone included, and write a new one.

    The head of the model is the start. Each stage unfreezes more layers; what
    stays frozen is computed once, and every epoch trains only the part above
    it. The images that tested the model test here too.
    """
    from ffe.workflows.finetuning import finetune

    with ExtractProgress() as progress, EpochView() as view:
        result = finetune(source, output, model=model, progress=progress, **view.callbacks, **options)
    print_trained(result, options["report"], as_json)
