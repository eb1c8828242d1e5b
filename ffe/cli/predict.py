"""``ffe predict``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffe.base.file_access import HDF5_FILE, first_bytes, kind_of_ours
from ffe.base.text import few, near_file, plain, quoted
from ffe.base.urls import is_url
from ffe.cli import DONE_BUT_SKIPPED
from ffe.cli.options import AUGMENT_HELP, json_option, predict_options, refuse_swapped, strict_option, together
from ffe.cli.show import print_json
from ffe.cli.stdin import LONGEST_LINE, PEEK_BYTES, is_image, listed_paths
from ffe.errors import SourceError

if TYPE_CHECKING:
    from ffe.images.image_handle import ImageHandle
    from ffe.predictor import Prediction, Predictor
    from ffe.report.predictions_csv import Answers

_FEW = 8
_ARCHIVES = (".tar", ".zip", ".parquet")

# those of label too
images_arguments = together(
    click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER|ARCHIVE|-..."),
    click.option(
        "-0", "--null", is_flag=True, help="Paths on standard input end with a zero byte, as 'find -print0' writes them."
    ),
)
answer_options = together(
    strict_option(), json_option(help="Print one JSON object a line: path, label, sure, probabilities, error.")
)


def prediction_text(prediction: Prediction, top: int = 3) -> str:
    """Return ``photo.jpg: cat 98.2%, dog 1.8%``, or ``photo.jpg: not sure (cat 54.0%, dog 46.0%)``."""
    best = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:top]
    answer = ", ".join(f"{name} {surety(share)}" for name, share in best)
    return plain(f"{prediction.path}: {answer if prediction.sure else f'not sure ({answer})'}", LONGEST_LINE)


def surety(probability: float) -> str:
    """Return ``98.2%``; never 0 or 100, for no model is that sure."""
    return ">99.9%" if probability > 0.999 else "<0.1%" if probability < 0.001 else f"{probability:.1%}"


def _paths(images: tuple[str, ...], listed: Iterator[str], left_out: list[tuple[str, str]]) -> Iterator[str | ImageHandle]:
    """Yield image paths: those named, those in folders, those listed on standard input; note what in folders is no file."""
    from ffe.images.archive_sources import images_of, is_archive
    from ffe.images.file_names import on_disk
    from ffe.images.folder_walk import list_files
    from ffe.images.url_source import objects_below

    for image in images:
        if image == "-":
            yield from listed
        elif is_url(image) and not is_archive(image):
            objects, others = objects_below(image)
            left_out += others
            yield from objects
        elif is_archive(image) and (is_url(image) or os.path.isfile(image)):
            members, others = images_of(image if is_url(image) else Path(image))
            left_out += others
            yield from members
        elif (folder := on_disk(Path(image))).is_dir():
            files, others = list_files(folder)
            left_out += [(str(folder / path), why) for path, why in others]
            yield from map(str, files)
        else:
            yield image


def check_images(model: str, images: tuple[str, ...], command: str) -> None:
    """Refuse arguments that name no images."""
    if "" in images:
        raise click.UsageError("The path of an image is empty; name a file or folder (is a variable unset?).")
    refuse_swapped(model, images, command)
    refuse_tables(images, f"ffe {command} {model}", f"ffe evaluate {model} {images[0]}")


def refuse_tables(images: tuple[str, ...], command: str, evaluate: str | None = None) -> None:
    """Refuse lists, features and models where images are wanted, if there is nothing else: say which ``command`` takes them."""
    if not all(kinds := [_table(image) for image in images]):
        return
    if kinds[0] == "list":
        instead = f"for paths with one on each line write '{command} - < paths.txt'"
        instead += "" if evaluate is None else f", and for a CSV with labels '{evaluate}'"
    elif kinds[0] == HDF5_FILE:
        instead = "give the photos that it was made of" + ("" if evaluate is None else f", or write '{evaluate}'")
    else:
        instead = "give photos"
    raise click.UsageError(f"'{images[0]}' is a {kinds[0]}, not a picture; {instead}.")


def _table(image: str) -> str:
    """Return ``list``, ``HDF5_FILE`` or ``model file`` of what is one by name and first bytes; empty for all others."""
    ending = os.path.splitext(image)[1].lower()
    if ending in {".h5", ".hdf5", ".ffe"}:
        return kind_of_ours(Path(image))
    with contextlib.suppress(OSError):
        if ending in {".csv", ".tsv", ".txt"} and not is_image(first_bytes(Path(image), PEEK_BYTES)):
            return "list"
    return ""


def named_pictures(
    images: tuple[str, ...], null: bool, max_bytes: int, left_out: list[tuple[str, str]]
) -> Iterator[str | ImageHandle | bytes]:
    """Yield the paths of images, or the content of one on standard input; ``left_out`` takes what in folders is no file."""
    stdin = sys.stdin.buffer
    if null and "-" not in images:
        raise click.UsageError("-0 says how a list on standard input is written; name - among the images.")
    if images.count("-") > 1:
        raise click.UsageError("Standard input can be read once only; name - once among the images.")
    head = stdin.read(PEEK_BYTES) if "-" in images else b""
    if null or not is_image(head):
        yield from _paths(images, listed_paths(head, stdin, null=null), left_out)
        return
    for image in images:
        if image == "-":
            yield head + stdin.read(max_bytes)
        else:
            yield from _paths((image,), iter(()), left_out)


def _predictions(predictor: Predictor, images: tuple[str, ...], *, null: bool) -> Iterator[Prediction]:
    from ffe.predictor import Prediction

    left_out: list[tuple[str, str]] = []
    yield from predictor.predict(named_pictures(images, null, predictor.limits.bytes, left_out))
    for path, why in left_out:
        yield Prediction(path, None, False, {}, why)


@click.command(short_help="Say what is on images.", epilog=AUGMENT_HELP)
@click.argument("model", type=click.Path())
@images_arguments
@click.option("--top", type=click.IntRange(1), default=3, help="Classes to show for each image.")
@predict_options
@click.option("--csv", "table", type=click.Path(), help="Write a CSV too: path, label, sure, error, probabilities.")
@answer_options
def command(
    model: str, images: tuple[str, ...], null: bool, top: int, table: str | None, strict: bool, as_json: bool, **options: Any
) -> None:
    """Say what is on images: files, whole folders and archives, or - for standard input.

    Standard input is one image, or a list of paths with one on each line (UTF-8,
    or UTF-16 with its mark); its first bytes tell which. Names that are not UTF-8
    are predicted too: in --json their bytes are written as \\udc80 to \\udcff,
    which os.fsencode turns back.
    """
    from ffe.predictor import Predictor
    from ffe.report.predictions_csv import Answers, check_answers

    check_images(model, images, "predict")
    place = None if table is None else check_answers(table)
    options["batch_size"] = options["batch_size"] or batch_of(images, 1 + options["tta"])
    predictor = Predictor(model, **options)
    answers = None if place is None else Answers(place, predictor.class_names, "error")
    answer(predictor, images, null, top, strict, as_json, answers)


def batch_of(images: tuple[str, ...], views: int = 1) -> int | None:
    """Return the batch for a few files, which then need not wait for more; None where there may be many."""
    many = len(images) >= _FEW or any(image == "-" or os.path.isdir(image) or _holds_several(image) for image in images)
    return None if many else len(images) * views


def _holds_several(image: str) -> bool:
    return is_url(image) or image.endswith(_ARCHIVES)


def answer(
    predictor: Predictor,
    images: tuple[str, ...],
    null: bool,
    top: int,
    strict: bool,
    as_json: bool,
    answers: Answers | None = None,
) -> None:
    """Print what a predictor says of images, and leave with the code that suits it; ``answers`` takes it in too."""
    failed: set[bool] = set()
    for prediction in _predictions(predictor, images, null=null):
        failed.add(prediction.error is not None)
        if answers is not None:
            said = list(prediction.probabilities.values())
            answers.add(prediction.path, prediction.label, prediction.sure, prediction.error, said)
        if as_json:
            print_json(prediction.to_json())
        elif prediction.error is None:
            click.echo(prediction_text(prediction, top))
        if prediction.error is not None:
            say_unread(prediction.path, prediction.error)
    if answers is not None:
        answers.write()
    leave(failed, images, strict)


def say_unread(path: str, error: str) -> None:
    """Print why an image could not be read on standard error."""
    click.echo(plain(f"{path}: cannot be read: {error}", LONGEST_LINE), err=True)


def _is_there(image: str) -> bool:
    pattern = "{" in image  # of archives, which are there where it is taken
    return image == "-" or pattern or is_url(image) or any(map(os.path.lexists, (image, image.partition("#")[0])))


def leave(failed: set[bool], images: tuple[str, ...], strict: bool) -> None:
    """Leave with the code that suits what became of the images: ``failed`` holds, of any of them, whether it was unreadable."""
    if not failed and images == ("-",):
        raise SourceError("Standard input is empty; send one image to it, or a list of paths with one on each line.")
    if not failed:
        raise SourceError(f"There are no images in {few(quoted(map(plain, images)))}; give photos, or a folder that holds some.")
    if all(failed):
        if not any(map(_is_there, images)):
            if len(images) == 1:
                raise SourceError(f"There is no file or folder '{plain(images[0])}'; check the path.{near_file(images[0])}")
            raise SourceError(f"{few(quoted(map(plain, images)))} are not there; check the paths.")
        raise SourceError("No image could be read; give JPEG, PNG or other picture files.")
    if any(failed) and strict:
        sys.exit(DONE_BUT_SKIPPED)
