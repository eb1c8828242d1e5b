"""Progress on standard error, results on standard output."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from ffe.base.text import counted

if TYPE_CHECKING:
    from ffe.engines.quantize import Fidelity
    from ffe.extraction.estimate import Estimate
    from ffe.extraction.incremental import Changes
    from ffe.extraction.progress import Progress, Stages
    from ffe.specs import ViewsSpec
    from ffe.tuning.search import SearchProgress

BATCH_SIZE_HELP = "Images in one call of the backbone.  [default: what suits the engine]"
REJECT_HELP = "Answer 'not sure' below this probability; 0 = always answer.  [default: what the model was tuned with]"
WORKERS_HELP = "Threads that decode images.  [default: one per core, more where files come slowly]"

TTA_HELP = "Ask about so many views of each image too, and average the answers."
TTA_AUGMENT_HELP = "How the views of --tta differ; see below.  [default: as those that the model was made from]"
AUGMENT_HELP = """\b
--augment takes these, separated by commas, such as flip,zoom=0.8-1.2,rotate=15:
  flip, vflip         mirror left to right, or upside down, every other view
  zoom[=0.5-1]        show this share of the sides, 0.1 to 10; 0.2 means 0.8-1.2;
                        half of the sides is what a preview calls zoom ×2.00
  crop[=0.08-1]       show this share of the area, cut out anywhere,
    ratio=0.75-1.33     with a width to height in this range
  rotate[=15]         turn by up to so many degrees either way, at most 180
  shift[=0.2]         move by up to this share of the sides
  shear[=10]          slant by up to so many degrees either way, at most 60
  fill=nearest        beyond the edge: nearest, reflect, constant (black), wrap
  brightness[=0.8-1]  multiply by; 0.2 means 0.8-1.2
  contrast[=0.8-1.2]  spread around the mean by
  normalize           give each channel the mean and deviation of ImageNet
  seed=0              another seed, other views

\b
In the articles, zoom,brightness trains on dogs and cats, and the check grid is
zoom,rotate,brightness=0.5-1.5; the ImageDataGenerator of the small convnet is
flip,rotate=40,shift=0.2,shear=0.2,zoom=0.2 (a shear of a fifth of a degree).
"""

PLAIN_SECONDS = 10.0


def quiet() -> bool:
    """Return whether ``--quiet`` was given: progress and notes are not printed."""
    return not logging.getLogger("ffe").isEnabledFor(logging.INFO)


def note(text: str) -> None:
    """Print what one may do without on standard error, unless ``--quiet`` was given."""
    if not quiet():
        click.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print one JSON object on one line; bytes of names that are not UTF-8 as ``\\udce9``, so that they can be read back."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    click.echo(text.encode("utf-8", "backslashreplace").decode())  # of a lone surrogate this is just what JSON writes


def duration_text(seconds: float) -> str:
    """Return ``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def stages_text(stages: Stages) -> str:
    """Return ``all threads: read 0.2 s, decode 4.1 s, backbone 9.8 s, write 0.4 s; limited by the backbone``."""
    seconds = ", ".join(f"{name} {getattr(stages, name):.1f} s" for name in ("read", "decode", "backbone", "write"))
    limit = {"read": "reading files", "decode": "decoding", "backbone": "the backbone", "write": "writing"}[stages.limit]
    shares = ""
    if stages.shares is not None:
        backbone, decode = stages.shares
        shares = f"; of the processor's time the backbone took {backbone:.0%}, decoding {decode:.0%}"
    return f"all threads: {seconds}{shares}; limited by {limit}"


def estimate_text(estimate: Estimate) -> list[str]:
    """Return what a run will take, in two lines: images and time, and disk."""
    from ffe.base.system import bytes_text

    images = [f"{estimate.compute:,} to compute", f"{estimate.copied:,} copied from the file"]
    if estimate.dropped:
        images.append(f"{counted(estimate.dropped, 'view')} in it not asked for any more: thrown away")
    if estimate.check:
        images.append(f"{estimate.check:,} to compare with it by content")
    if estimate.unfinished:
        images.append(f"{estimate.unfinished:,} in an unfinished run")
    images.append(f"{estimate.skipped:,} skipped so far")
    time = "time unknown until the first batches" if estimate.seconds is None else f"about {duration_text(estimate.seconds)}"
    free = f"{bytes_text(estimate.free_bytes)} free"
    if estimate.file_bytes is None or estimate.needed_bytes is None:
        disk = "size unknown until the backbone is loaded"
    elif estimate.needed_bytes == 0:
        disk = f"{bytes_text(estimate.file_bytes)}, nothing to write"
    else:
        disk = f"{bytes_text(estimate.file_bytes)}, needs {bytes_text(estimate.needed_bytes)} while it is made"
    files = counted(estimate.images, "file") + (f" and {counted(estimate.views, 'view')}" if estimate.views else "")
    return [
        f"{files}: {', '.join(images)}" + (f"; {time}" if estimate.compute else ""),
        f"{estimate.output}: {disk}; {free}",
    ]


def rows_text(rows: int, images: int, views: ViewsSpec | None) -> str:
    """Return ``1800 rows``, or ``9000 rows: 1800 images, of which those that train have 4 views each``."""
    if views is None:
        return counted(rows, "row")
    each = f"{views.count} view{'s' if views.count > 1 else ''} each"
    which = " with" if rows == images * (1 + views.count) else ", of which those that train have"
    return f"{counted(rows, 'row')}: {counted(images, 'image')}{which} {each}"


def changes_text(changes: Changes) -> str:
    """Return ``10,000 unchanged, 3 new, 1 changed, 2 removed, 1 renamed``."""
    counts = ("unchanged", "new", "changed", "removed", "renamed")
    return ", ".join(f"{getattr(changes, name):,} {name}" for name in counts)


def fidelity_text(fidelity: Fidelity) -> str:
    """Return what int8 changed, in one line."""
    text = (
        f"int8 against float32 on {counted(fidelity.images, 'held-back image')}: "
        f"cosine {fidelity.mean_cosine:.4f} on average, {fidelity.worst_cosine:.4f} at worst"
    )
    if fidelity.int8_accuracy is None or fidelity.float32_accuracy is None:
        return text
    return (
        f"{text}; a linear head is right on {fidelity.int8_accuracy:.1%} with int8, {fidelity.float32_accuracy:.1%} with float32"
    )


class ExtractProgress:
    """Shows how far an extraction is: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._printed_at = time.monotonic()
        self._announced: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def announce(self, estimate: Estimate) -> None:
        """Print what a run will take; of a second time, what is new."""
        if quiet():
            return
        lines = estimate_text(estimate)
        for line in lines:
            if line not in self._announced:
                print(line, file=sys.stderr)  # above the bar, if it is there already
        self._announced = lines

    def __call__(self, progress: Progress) -> None:
        """Take in one step."""
        if quiet():
            return
        rate = f"{progress.rate:.1f} images/s" if progress.rate else "none to compute"
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        if sys.stderr.isatty():
            if self._bar is None:
                from rich.console import Console
                from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
                from rich.progress import Progress as Bar

                columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
                self._bar = Bar(*columns, console=Console(stderr=True))
                self._bar.start()
                self._task = self._bar.add_task("", total=progress.total, text="")
            text = f"{rate}{skipped}, {duration_text(progress.remaining)} left ({stages_text(progress.stages)})"
            self._bar.update(self._task, completed=progress.done, text=text)
            if progress.done == progress.total:
                self._bar.stop()
                self._bar = None  # what follows may extract once more
        elif time.monotonic() - self._printed_at >= PLAIN_SECONDS or progress.done == progress.total:
            self._printed_at = time.monotonic()
            left = f", {duration_text(progress.remaining)} left" if progress.done < progress.total else ""
            stages = f" ({stages_text(progress.stages)})" if progress.rate else ""
            click.echo(f"{progress.done}/{progress.total} images, {rate}{skipped}{left}{stages}", err=True)


class CountProgress:
    """Shows how many of how many are done: a bar on a terminal, a line every ten seconds elsewhere.

    Args:
        what: what is counted.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not quiet():
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._bar.add_task(self._what, total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Take in one step."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif time.monotonic() - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = time.monotonic()
            note(f"{done}/{total} {self._what}")


class SearchView:
    """Shows a search: a leaderboard that changes on a terminal, a line every ten seconds elsewhere.

    Args:
        metric: what the search aims at.
    """

    _SHOWN = 10

    def __init__(self, metric: str = "accuracy") -> None:
        self._metric = metric
        self._live: Any = None
        self._last: SearchProgress | None = None
        self._started = self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not quiet():
            from rich.console import Console
            from rich.live import Live

            # redrawn four times a second, so that the clock runs while trials do; what is printed meanwhile stands above it
            self._live = Live(
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                refresh_per_second=4,
                get_renderable=self._drawn,
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: SearchProgress) -> None:
        """Take in one batch of trials."""
        self._last = progress
        if self._live is None:
            self._print(progress)
        else:
            self._live.refresh()

    def _left(self, progress: SearchProgress) -> str:
        if progress.budget is not None:
            return f"about {duration_text(max(0.0, progress.budget - progress.elapsed))} left"
        if progress.total is None or progress.done >= progress.total:
            return ""
        return f"about {duration_text(progress.elapsed / progress.done * (progress.total - progress.done))} left"

    def _print(self, progress: SearchProgress) -> None:
        from ffe.report.words import counted
        from ffe.wording.results import METRIC_NAMES, score_text

        if progress.done != progress.total and time.monotonic() - self._printed_at < PLAIN_SECONDS:
            return
        self._printed_at = time.monotonic()
        done = "" if progress.total in (None, progress.done) else f"{progress.done} of "
        done += counted(progress.total or progress.done, "trial")
        best, left = progress.trials[0], self._left(progress)
        score = f"{METRIC_NAMES[self._metric]} {score_text(best.score, self._metric)}"
        note(f"{done}, the best: {best.head}, validation {score}{f', {left}' if left else ''}")

    def _drawn(self) -> Any:
        """Return the leaderboard as it is, or before the first trials how long that takes."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from ffe.wording.results import METRIC_NAMES, parameters_text, score_text

        progress, elapsed = self._last, duration_text(time.monotonic() - self._started)
        if progress is None:
            return Text(f"the first trials are on their way, {elapsed}")
        total = "" if progress.total is None else f" of {progress.total}"
        left = self._left(progress)
        noun = "trial" if (progress.total or progress.done) == 1 else "trials"
        title = f"{progress.done}{total} {noun}, {elapsed}" + (f", {left}" if left else "")
        shown = Table("", "head", METRIC_NAMES[self._metric], "parameters")
        for rank, trial in enumerate(progress.trials[: self._SHOWN], start=1):
            shown.add_row(str(rank), trial.head, score_text(trial.score, self._metric), parameters_text(trial.parameters))
        return Group(Text(title), shown)
