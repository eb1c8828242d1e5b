"""``ffe finetune``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli import UrlOrPath
from ffe.cli.options import Share, engine_option, output_option, weights_option
from ffe.cli.progress import ExtractProgress
from ffe.cli.training import EpochProgress, print_trained, training_options


@click.command(short_help="Train a model's backbone further, stage by stage.")
@click.argument("source", type=UrlOrPath())
@click.option("--from", "model", required=True, type=click.Path(), help="The model file (.ffe) to start from.")
@output_option()
@click.option(
    "--unfreeze",
    required=True,
    metavar="N[,N...]",
    help="What learns in each stage: layers from the end of the backbone, the name of a layer or block, or all; 0 = the head.",
)
@click.option("--epochs", default="15", metavar="N[,N...]", help="Most epochs, of each stage or of all.")
@click.option("--dropout", type=Share(0, 0.95), help="Before the last layer.  [default: the head's own, or 0.2]")
@click.option(
    "--train-batchnorm", "batchnorm", is_flag=True, help="Let batch normalisations learn too, and use each batch's statistics."
)
@click.option("--augment", metavar="CHANGES", help="Change images in every epoch: flip,rotate=15,zoom ...")
@click.option(
    "--views",
    type=click.IntRange(0, 1000),
    default=0,
    help="Views of each training image, computed once, that take turns; 0 = with --augment, images change anew in each epoch.",
)
@click.option("--cache", type=click.Path(), help="Folder for activations.  [default: beside the output]")
@click.option("--keep-cache", is_flag=True, help="Leave the activations there for the next run.")
@weights_option(help="Where the backbone's weights are, if the model lacks them.")
@engine_option(help="What runs the frozen part: auto, keras or openvino.")
@training_options("adam", 32, 5, stages=True)
def command(source: str, output: str, model: str, as_json: bool, **options: Any) -> None:
    """Train the model of --from further on the images of SOURCE, its backbone included, and write a new one.

    The head of the model is the start. Each stage unfreezes more layers; what
    stays frozen is computed once, and every epoch trains only the part above
    it. The images that tested the model test here too.
    """
    from ffe.commands.finetune import finetune

    with ExtractProgress() as progress, EpochProgress() as view:
        result = finetune(source, output, model=model, progress=progress, **view.callbacks, **options)
    print_trained(result, options["report"], as_json)
