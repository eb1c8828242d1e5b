"""``ffe label``."""

from __future__ import annotations

from typing import Any

import click

from ffe.cli.options import engine_option, images_options
from ffe.cli.predict import answer, answer_options, batch_of, images_arguments, refuse_tables


@click.command(short_help="Say what is on any photos, without a model of your own.")
@images_arguments
@click.option("--top", type=click.IntRange(1, 1000), default=5, help="Classes to name for each image.")
@engine_option()
@images_options
@answer_options
def command(images: tuple[str, ...], null: bool, top: int, strict: bool, as_json: bool, **options: Any) -> None:
    """Say which of ImageNet's 1,000 classes are on images: files, whole folders, or - for standard input.

    It asks EfficientNet-Lite0, which comes with ffe. Classes of your own need a
    model of your own: see 'ffe extract' and 'ffe tune'.
    """
    from ffe.commands.label import Labeller

    refuse_tables(images, "ffe label")
    options["batch_size"] = options["batch_size"] or batch_of(images)
    answer(Labeller(top=top, **options), images, null, top, strict, as_json)
