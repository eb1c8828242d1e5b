"""Progress on standard error, results on standard output."""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ffe.base.text import bytes_text, counted, duration_text
from ffe.cli import INTERRUPTED, REFUSED

if TYPE_CHECKING:
    from ffe.engines.quantize import Fidelity
    from ffe.extraction.estimate import Estimate
    from ffe.extraction.stage_times import Stages
    from ffe.specs import ViewsSpec


def quiet() -> bool:
    """Return whether ``--quiet`` was given: progress and notes are not printed."""
    return not logging.getLogger("ffe").isEnabledFor(logging.INFO)


def note(text: str) -> None:
    """Print what one may do without on standard error, unless ``--quiet`` was given."""
    if not quiet():
        click.echo(text, err=True)


def unused(name: str) -> str:
    """Return the name of a file for the next command: this one, or where that is taken ``model-2.ffe`` and so on."""
    stem, suffix = os.path.splitext(name)
    names = itertools.chain([name], (f"{stem}-{number}{suffix}" for number in itertools.count(2)))
    return next(one for one in names if not os.path.lexists(one))


def print_json(value: Any) -> None:
    """Print one JSON object on one line; bytes of names that are not UTF-8 as ``\\udce9``, so that they can be read back."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    click.echo(text.encode("utf-8", "backslashreplace").decode())  # of a lone surrogate this is just what JSON writes


def show_comparison(result: Any, text: Callable[[Any], str], report: str | None, *, as_json: bool, more: str = "") -> None:
    """Print what a comparison of several ways came to, and leave with the code for an interruption, or for no result.

    ``result``: a ``CompareResult`` or ``BakeoffResult``; ``text``: makes text of its JSON; ``more``: a note on it.
    """
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(text(result.to_json()))
    if more:
        note(more)
    if report is not None:
        note(f"the page is in '{report}'")
    if result.interrupted:
        click.echo("ffe: interrupted; what was computed is kept for the same command", err=True)
        sys.exit(INTERRUPTED)
    if not result.best:
        sys.exit(REFUSED)


def stages_text(stages: Stages) -> str:
    """Return ``all threads: read 0.2 s, decode 4.1 s, backbone 9.8 s, write 0.4 s; limited by the backbone``."""
    work = {"read": "reading files", "decode": "decoding", "backbone": "the backbone", "write": "writing"}
    seconds = ", ".join(f"{name} {getattr(stages, name):.1f} s" for name in work)
    shares = ""
    if stages.shares is not None:
        backbone, decode = stages.shares
        shares = f"; of the processor's time the backbone took {backbone:.0%}, decoding {decode:.0%}"
    return f"all threads: {seconds}{shares}; limited by {work[stages.limit]}"


def estimate_text(estimate: Estimate) -> list[str]:
    """Return what a run will take, in two lines: images and time, and disk."""
    images = [f"{estimate.compute:,} to compute", f"{estimate.copied:,} copied from the file"]
    if estimate.dropped:
        images.append(f"{counted(estimate.dropped, 'view')} in it not asked for any more: thrown away")
    if estimate.check:
        images.append(f"{estimate.check:,} to compare with it by content")
    if estimate.unfinished:
        images.append(f"{estimate.unfinished:,} in an unfinished run")
    images.append(f"{estimate.skipped:,} skipped so far")
    time = "time unknown until the first batches" if estimate.seconds is None else f"about {duration_text(estimate.seconds)}"
    disk = "size unknown until the backbone is loaded"
    if estimate.file_bytes is not None and estimate.needed_bytes is not None:
        needed = f"needs {bytes_text(estimate.needed_bytes)} while it is made" if estimate.needed_bytes else "nothing to write"
        disk = f"{bytes_text(estimate.file_bytes)}, {needed}"
    files = counted(estimate.images, "file") + (f" and {counted(estimate.views, 'view')}" if estimate.views else "")
    return [
        f"{files}: {', '.join(images)}" + (f"; {time}" if estimate.compute else ""),
        f"{estimate.output}: {disk}; {bytes_text(estimate.free_bytes)} free",
    ]


def rows_text(rows: int, images: int, views: ViewsSpec | None) -> str:
    """Return ``1800 rows``, or ``9000 rows: 1800 images, of which those that train have 4 views each``."""
    if views is None:
        return counted(rows, "row")
    each = f"{counted(views.count, 'view')} each"
    which = " with" if rows == images * (1 + views.count) else ", of which those that train have"
    return f"{counted(rows, 'row')}: {counted(images, 'image')}{which} {each}"


def fidelity_text(fidelity: Fidelity) -> str:
    """Return what int8 changed, in one line."""
    cosines = f"cosine {fidelity.mean_cosine:.4f} on average, {fidelity.worst_cosine:.4f} at worst"
    text = f"int8 against float32 on {counted(fidelity.images, 'held-back image')}: {cosines}"
    int8, float32 = fidelity.int8_accuracy, fidelity.float32_accuracy
    if int8 is None or float32 is None:
        return text
    return f"{text}; a linear head is right on {int8:.1%} with int8, {float32:.1%} with float32"
