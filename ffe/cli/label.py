"""``ffe label``."""

from __future__ import annotations

import click

from ffe.cli.limit_options import limit_options
from ffe.cli.options import BATCH_SIZE_HELP, WORKERS_HELP
from ffe.cli.predict import answer, batch_of, null_option
from ffe.images.limits import Truncated


@click.command(short_help="Say what is on any photos, without a model of your own.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER|-...")
@null_option
@click.option("--top", type=click.IntRange(1, 1000), default=5, show_default=True, help="Classes to name for each image.")
@click.option("--engine", default="auto", show_default=True, help="What runs the backbone: auto, keras or openvino.")
@click.option("--batch-size", type=click.IntRange(1), help=BATCH_SIZE_HELP)
@click.option("--workers", type=click.IntRange(1), help=WORKERS_HELP)
@limit_options
@click.option("--strict", is_flag=True, help="Leave with code 1 if an image could not be read.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: path, label, sure, probabilities, error.")
def command(
    images: tuple[str, ...],
    null: bool,
    top: int,
    engine: str,
    batch_size: int | None,
    workers: int | None,
    max_pixels: int,
    max_bytes: int,
    truncated: Truncated,
    strict: bool,
    as_json: bool,
) -> None:
    """Say which of ImageNet's 1,000 classes are on images: files, whole folders, or - for standard input.

    It asks EfficientNet-Lite0, which comes with ffe. Classes of your own need a
    model of your own: see 'ffe extract' and 'ffe tune'.
    """
    from ffe.commands.label import Labeller

    labeller = Labeller(
        top=top,
        engine=engine,
        batch_size=batch_size or batch_of(images),
        workers=workers,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        truncated=truncated,
    )
    answer(labeller, images, null=null, top=top, strict=strict, as_json=as_json)
