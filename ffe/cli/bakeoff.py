"""``ffe bakeoff``."""

from __future__ import annotations

import sys
from typing import Any

import click

from ffe.cli import DONE_BUT_SKIPPED, UrlOrPath
from ffe.cli import options as shared
from ffe.cli.progress import ExtractProgress, TrialNotes
from ffe.cli.show import show_comparison


@click.command(short_help="Find which backbone to take for one's photos.")
@click.argument("source", type=UrlOrPath())
@click.option("--backbones", required=True, metavar="NAME[,NAME...]", help="Two or more, as 'ffe extract --backbone' takes them.")
@shared.output_option(
    required=False,
    help="The folder for features and models; made if missing.  [default: the source's name, and -bakeoff]",
)
@click.option(
    "--seconds",
    "--budget",
    "seconds",
    callback=shared.time_budget,
    default="300",
    metavar="TIME",
    help="Time for everything, such as 300, 10m or 1h.",
)
@click.option("--trials", type=click.IntRange(1), default=16, help="Trials of each head in a search, at the most.")
@click.option("--weights", type=click.Choice(("imagenet", "random")), default="imagenet", help="random: untrained, for tests.")
@shared.test_fraction_option
@shared.seed_option
@shared.decode_options
@shared.report_option(help="Write a page (.html) with the table, and the frontier of accuracy over rate.")
@shared.json_option()
def command(source: str, output: str | None, as_json: bool, **options: Any) -> None:
    """Try several backbones on the labelled images of SOURCE, and say which one to take.

    All have the same images, the same test images, the same search, and the
    same time for it. Features and models stay in the folder: the same command
    once more computes nothing, and another backbone only its own. Ctrl-C ends
    it with the backbones that are done. Leaves with code 1 if one has no result.
    """
    from ffe.commands.bakeoff import bakeoff
    from ffe.wording.bakeoff_text import bakeoff_text

    with ExtractProgress() as progress:
        result = bakeoff(source, output, progress=progress, on_trials=TrialNotes(), **options)
    model = f"its model: {result.backbone(result.take).model}" if result.take else ""
    show_comparison(result, bakeoff_text, options["report"], as_json=as_json, more=model)
    if any(one.reason for one in result.backbones):
        sys.exit(DONE_BUT_SKIPPED)
