"""Progress displays on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from ffe.base.text import duration_text
from ffe.cli.show import estimate_text, note, quiet, stages_text

if TYPE_CHECKING:
    from ffe.extraction.estimate import Estimate
    from ffe.extraction.stage_times import Progress
    from ffe.tuning.search import SearchProgress


PLAIN_SECONDS = 10.0


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
        from ffe.base.text import counted
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
