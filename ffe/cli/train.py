"""``ffe train``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli.options import check_heads, output_option, refuse_model, settings_option
from ffe.cli.tune import print_result, shared_options


@click.command(short_help="Fit one head with given parameters, without a search.")
@click.argument("features", metavar="FEATURES...", nargs=-1, required=True, type=click.Path())
@output_option()
@click.option("--head", required=True, help="dense, svm, forest or logistic.")
@settings_option(help="A parameter of the head.")
@shared_options
def command(features: tuple[str, ...], output: str, head: str, settings: dict[str, str], as_json: bool, **options: Any) -> None:
    """Fit one head on FEATURES with the parameters of --set, test it once, write a model."""
    from ffe.commands.tune import train

    check_heads("--head", [head])
    refuse_model(features, output, "train")
    result = train(features, output, head=head, settings=settings, **options)
    print_result(result, output, options["report"], as_json)
