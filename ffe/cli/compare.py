"""``ffe compare``."""

from __future__ import annotations

from typing import Any

import click

from ffe.backbones.catalog import DEFAULT
from ffe.cli import UrlOrPath
from ffe.cli import options as shared
from ffe.cli.progress import ExtractProgress, TrialNotes
from ffe.cli.show import show_comparison
from ffe.cli.training import EpochProgress
from ffe.images.augment_text import COMPARE

ROADS_HELP = """\b
The roads, which --roads chooses among:
  frozen         frozen features, and a search over heads: extract, tune
  views          the same with augmented views: extract --views, tune
  finetuning     staged fine-tuning from cached activations: finetune
  head-only      the head alone, with augmentation in the loop: finetune --unfreeze 0
  scratch        the small convnet from scratch, with augmentation: scratch
  scratch-plain  the one before it, without: scratch --plain

"""


@click.command(short_help="Compare ways to a classifier on the same photos.", epilog=ROADS_HELP + shared.AUGMENT_HELP)
@click.argument("source", type=UrlOrPath())
@shared.output_option(help="The folder for models and features; made if missing.")
@click.option(
    "--roads", default="", show_default=False, metavar="NAME[,NAME...]", help="Which to compare; see below.  [default: all]"
)
@click.option("--backbone", help=f"A name that 'ffe backbones' lists.  [default: that of OUTPUT, or {DEFAULT}]")
@shared.size_option()
@shared.weights_option(help="Of the backbone: imagenet, random (untrained), or the path of a weights file.")
@shared.budget_option(
    help="Time for everything, 5m or 1h: each road has an equal share of what is left at its turn.  [default: as it takes]"
)
@click.option("--seconds", type=float, hidden=True)  # the name of --budget in the first version
@click.option("--trials", type=click.IntRange(1), help="Trials of each head in a search.  [default: what suits, or fits]")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="Most epochs of a training or stage.  [default: what fits]")
@click.option(
    "--unfreeze",
    default="",
    show_default=False,
    metavar="N[,N...]",
    help="Stages of fine-tuning, as for 'ffe finetune'.  [default: the last 22 %, then 43 % of the layers]",
)
@click.option("--views", type=click.IntRange(1, 1000), default=4, help="Of each training image.")
@click.option("--augment", default=COMPARE, help="How images change for views and head-only; see below.")
@shared.test_fraction_option
@shared.valid_fraction_option
@shared.seed_option
@shared.decode_options
@shared.report_option(help="Write a page (.html) with the table, the curves and the photos that differ.")
@shared.json_option()
def command(source: str, output: str, as_json: bool, budget: float | None, **options: Any) -> None:
    """Go several roads from the labelled images of SOURCE to a classifier, and compare what they come to.

    All of them learn from the same images, choose by the same and are tested
    on the same. Features and activations stay in the folder, so that a second
    comparison is quick. Ctrl-C ends it with the roads that are done.
    """
    from ffe.commands.compare import compare
    from ffe.wording.compare_text import compare_text

    if budget is not None and options["seconds"] is not None:
        raise click.UsageError("--seconds is the earlier name of --budget; give one of them.")
    options["seconds"] = budget if options["seconds"] is None else options["seconds"]
    with ExtractProgress() as progress, EpochProgress() as view:
        result = compare(source, output, progress=progress, on_trials=TrialNotes(), **view.callbacks, **options)
    show_comparison(result, compare_text, options["report"], as_json=as_json)
