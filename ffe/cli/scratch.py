"""``ffe scratch``."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from ffe.cli import UrlOrPath
from ffe.cli.options import output_option, size_option, test_fraction_option
from ffe.cli.training import EpochProgress, print_trained, training_options
from ffe.images.augment_text import SCRATCH


@click.command(short_help="Train a small network from scratch, without pretrained weights.")
@click.argument("source", type=UrlOrPath())
@output_option()
@size_option(help="Input side in pixels, or HEIGHTxWIDTH.  [default: 150]")
@click.option("--epochs", default="30", metavar="N", help="Most epochs.")
@click.option("--augment", default=SCRATCH, metavar="CHANGES", help="How images change in every epoch; none = they do not.")
@click.option("--plain", is_flag=True, help="Neither dropout nor changing images.")
@test_fraction_option
@training_options("rmsprop", 20, 0, stages=False)
def command(source: str, output: str, as_json: bool, **options: Any) -> None:
    """Train a small convolutional network on the labelled images of SOURCE alone, and write a model.

    Four convolutions and a dense layer of 512 units, with dropout. It needs no
    pretrained weights, and more images and time than a head on a backbone.
    """
    from ffe.commands.scratch import scratch

    if options["plain"] and click.get_current_context().get_parameter_source("augment") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--plain is without changing images, so it does not go with --augment; leave one of them out.")
    options["size"] = options["size"] or 150
    with EpochProgress() as view:
        result = scratch(source, output, **view.callbacks, **options)
    print_trained(result, options["report"], as_json)
