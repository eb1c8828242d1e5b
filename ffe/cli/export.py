"""``ffe export``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from ffe.base.text import bytes_text, counted
from ffe.cli import UrlOrPath
from ffe.cli.options import json_option, output_option, refuse_picture
from ffe.cli.progress import Display
from ffe.cli.show import print_json

if TYPE_CHECKING:
    from ffe.commands.export_features import FeatureExport
    from ffe.commands.export_model import ModelExport


@click.command(short_help="Write a model or features for other programs.")
@click.argument("file", metavar="MODEL|FEATURES", type=click.Path())
@output_option(help="The file to write; for savedmodel and coreml a folder.")
@click.option(
    "--format",
    help="Of a model onnx, tflite, keras, savedmodel, openvino or coreml; of features parquet, npz, csv or torch "
    "(.safetensors).  [default: as the ending of -o says]",
)
@click.option("--precision", default="float32", show_default=True, help="Of a model: float32, float16 or int8.")
@click.option("--image", is_flag=True, help="The model takes one photo of any size, and resizes it as Pillow does.")
@click.option("--check", metavar="FOLDER", type=UrlOrPath(), help="Photos to compare answers on, up to 50; needed for int8.")
@click.option("--overwrite", is_flag=True, help="Replace an export of ffe that is there.")
@json_option()
def command(file: str, output: str, as_json: bool, **options: object) -> None:
    """Write a model for other programs, or the features of a feature file as a table.

    A model becomes one graph from pixels to calibrated probabilities. The file is
    opened by its own runtime, and kept only if it answers as the model does. Its
    card lies beside it, with the lines of code that prepare a photo.

    Tables hold features, labels, paths and splits. 'ffe tune', 'train' and
    'evaluate' take Parquet and npz back.
    """
    from ffe.commands.export import export
    from ffe.commands.export_model import ModelExport

    refuse_picture(file, "export")
    with Display() as display:
        progress = partial(display.count, "rows written")
        done = export(file, output, progress=progress, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(done.to_json())
    elif isinstance(done, ModelExport):
        _say_model(done)
    else:
        _say_features(done)


def _say_model(done: ModelExport) -> None:
    photos = ", takes photos of any size" if done.image else ""
    click.echo(f"{done.output}: {done.format}, {done.precision}{photos}, {bytes_text(done.bytes)}")
    for sentence in done.proof.sentences():
        click.echo(sentence)
    click.echo(f"{done.card}: what it takes and gives, and how to prepare photos")


def _say_features(done: FeatureExport) -> None:
    rows = f"{counted(done.rows, 'row')} of {counted(done.dims, 'feature')}"
    click.echo(f"{done.output}: {rows}, {done.format}, {bytes_text(done.bytes)}")
    if done.about is not None:
        click.echo(f"{done.about}: how the features were made")
