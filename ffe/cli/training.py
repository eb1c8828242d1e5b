"""What ``ffe finetune`` and ``ffe scratch`` have in common: options, progress, and what they print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ffe.base.text import counted, duration_text
from ffe.cli import INTERRUPTED
from ffe.cli import options as shared
from ffe.cli.progress import Display
from ffe.cli.show import note, print_json

if TYPE_CHECKING:
    from ffe.finetuning.epochs import Epoch
    from ffe.finetuning.trainer import Step


def training_options(optimizer: str, batch_size: int, patience: int, *, stages: bool) -> Callable[[Any], Any]:
    """Return what adds the options that ``finetune`` and ``scratch`` have in common, of one training or of several stages."""
    return shared.together(
        shared.overwrite_option,
        click.option(
            "--learning-rate",
            default="1e-4",
            metavar="RATE[,RATE...]" if stages else "RATE",
            help="Where each stage begins." if stages else "Where it begins.",
        ),
        click.option(
            "--schedule",
            type=click.Choice(("constant", "exponential", "cosine")),
            default="constant",
            help="How the learning rate changes; exponential: times exp(-0.1) in each epoch after the first --hold.",
        ),
        click.option(
            "--hold", type=click.IntRange(0, 10_000), help="Epochs before an exponential schedule falls.  [default: 10]"
        ),
        click.option(
            "--optimizer",
            type=click.Choice(("adam", "rmsprop")),
            default=optimizer,
            help="How steps are taken" + ("; it begins anew in each stage." if stages else "."),
        ),
        click.option(
            "--weight-decay",
            type=click.FloatRange(0, 10),
            default=0.0,
            help="Share of the learning rate by which kernels shrink in a step.",
        ),
        click.option("--batch-size", type=click.IntRange(1, 4096), default=batch_size, help="Images in a step."),
        click.option(
            "--patience",
            type=click.IntRange(0, 10_000),
            default=patience,
            help=f"End {'a stage' if stages else 'it'} after so many epochs without a better validation loss; 0 = never.",
        ),
        shared.class_weights_option,
        shared.valid_fraction_option,
        shared.budget_option(
            help="Stop learning after about 60s, 5m or 1h; not what comes before the first step. The best so far is kept."
        ),
        shared.seed_option,
        shared.decode_options,
        shared.report_option(help="Write a page (.html) with scores, mistakes and charts."),
        shared.anonymous_option,
        click.option("--tensorboard", type=click.Path(), help="Write logs for TensorBoard into this folder."),
        shared.json_option(),
    )


def print_trained(result: Any, report: str | None, as_json: bool) -> None:
    """Print what a training came to, and leave with the code of an interrupted command where it was."""
    record = result.to_json()
    if as_json:
        print_json(record)
    else:
        _print_text(result, record, report)
    if result.interrupted:
        click.echo(f"ffe: interrupted; the best weights until then are in '{result.output}'", err=True)
        sys.exit(INTERRUPTED)


def _print_text(result: Any, record: dict[str, Any], report: str | None) -> None:
    from ffe.wording.results import calibration_text, comparison_text, evaluation_text, history_text, kept_text

    click.echo(history_text(record["history"]) + "\n")
    if result.ended_early is not None:
        click.echo(f"{result.ended_early[0].upper()}{result.ended_early[1:]}.")
    click.echo(kept_text(result.best.to_json(), result.rows["valid"], unchanged=result.unchanged))
    if result.comparison is not None:
        click.echo(f"Before and after: {comparison_text(record['comparison'], 'the fine-tuned model', 'the model before')}")
    if result.unchanged:
        click.echo()
    else:
        click.echo(f"Probabilities: {calibration_text(record['calibration'])}\n")
        click.echo(f"Trained on {counted(result.rows['train'], 'image')}\n")
    click.echo("Test, on images not seen before: " + evaluation_text(record["evaluation"]["test"]) + "\n")
    if report is not None:
        click.echo(f"{report}: the report")
    click.echo(f"{result.output}: written in {duration_text(result.seconds)}")


class EpochProgress(Display):
    """Shows a training: a line for each epoch, and on a terminal how far the running one is."""

    def __init__(self) -> None:
        super().__init__()
        decoded = partial(self.count, "images decoded")
        self.callbacks: dict[str, Any] = {"on_decoded": decoded, "on_epoch": self._epoch, "on_step": self._step}

    def _epoch(self, epoch: Epoch) -> None:
        self.stop()
        valid = f"validation loss {epoch.valid_loss:.4f}, accuracy {epoch.valid_accuracy:.4f}{' (best)' if epoch.best else ''}"
        if epoch.loss is None or epoch.accuracy is None or epoch.learning_rate is None:
            note(f"before: {valid}")
            return
        note(
            f"stage {epoch.stage}, epoch {epoch.epoch}: loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}; {valid}; "
            f"rate {epoch.learning_rate:.3g}, {epoch.seconds:.1f} s"
        )

    def _step(self, step: Step) -> None:
        if self.on_terminal:
            self.show(step.done, step.total, f"steps of stage {step.stage}, epoch {step.epoch}")
