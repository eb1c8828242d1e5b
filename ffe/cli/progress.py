"""Progress displays on standard error: live on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

import click

from ffe.base.text import counted, duration_text
from ffe.cli.show import estimate_text, note, quiet, stages_text

if TYPE_CHECKING:
    from ffe.extraction.estimate import Estimate
    from ffe.extraction.stage_times import Progress
    from ffe.tuning.search import SearchProgress

PLAIN_SECONDS = 10.0
_SHOWN_TRIALS = 10
_SHOWN_NODES = 8


class Display:
    """What is shown while something runs; outside of a terminal and with ``--quiet`` nothing is live."""

    def __init__(self) -> None:
        self._live: Any = None
        self._task: Any = None
        self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def on_terminal(self) -> bool:
        """Whether there may be a live display."""
        return sys.stderr.isatty() and not quiet()

    def due(self, *, last: bool = False) -> bool:
        """Return whether it is time for another line: after ten seconds, and for the last one."""
        if not last and time.monotonic() - self._printed_at < PLAIN_SECONDS:
            return False
        self._printed_at = time.monotonic()
        return True

    def show(self, done: int, total: int, text: str, *, keep: bool = False) -> None:
        """Show a bar, how many of how many, and a text; with the last it ends, and what follows may show another."""
        if self._live is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
            self._live = Progress(*columns, console=Console(stderr=True), transient=not keep)
            self._task = self._live.add_task("", total=total, text=text)
            self._live.start()
        self._live.update(self._task, completed=done, total=total, text=text)
        if done == total:
            self.stop()

    def count(self, what: str, done: int, total: int) -> None:
        """Show how many of how many are done: a bar on a terminal, elsewhere a line now and then."""
        if self.on_terminal:
            self.show(done, total, what)
        elif self.due():
            note(f"{done}/{total} {what}")

    def stop(self) -> None:
        """End what is live."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class ExtractProgress(Display):
    """Shows how far an extraction is."""

    def __init__(self) -> None:
        super().__init__()
        self._announced: list[str] = []

    def announce(self, estimate: Estimate) -> None:
        """Print what a run will take; of a second time, what is new."""
        lines = estimate_text(estimate)
        for line in lines:
            if line not in self._announced and not quiet():
                print(line, file=sys.stderr)  # above the bar, if it is there already
        self._announced = lines

    def __call__(self, progress: Progress) -> None:
        """Take in one step."""
        if quiet():
            return
        last = progress.done == progress.total
        rate = f"{progress.rate:.1f} images/s" if progress.rate else "none to compute"
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        left = f", {duration_text(progress.remaining)} left"
        if len(progress.nodes) > 1:
            each = [f"{node} {each:.1f}" for node, each in sorted(progress.nodes.items())]
            more = f" and {len(each) - _SHOWN_NODES:,} more" if len(each) > _SHOWN_NODES else ""
            rate += f" ({', '.join(each[:_SHOWN_NODES])}{more})"
        if self.on_terminal:
            text = f"{rate}{skipped}{left} ({stages_text(progress.stages)})"
            self.show(progress.done, progress.total, text, keep=True)
        elif self.due(last=last):
            stages = f" ({stages_text(progress.stages)})" if progress.rate else ""
            click.echo(f"{progress.done}/{progress.total} images, {rate}{skipped}{'' if last else left}{stages}", err=True)


class TrialsProgress(Display):
    """Shows a search as a leaderboard that changes."""

    def __init__(self) -> None:
        super().__init__()
        self._last: SearchProgress | None = None
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self.on_terminal:
            from rich.console import Console
            from rich.live import Live

            # redrawn four times a second, so that the clock runs while trials do; what is printed meanwhile stands above it
            console = Console(stderr=True)
            self._live = Live(
                console=console, transient=True, redirect_stdout=False, refresh_per_second=4, get_renderable=self._drawn
            )
            self._live.start()
        return self

    def __call__(self, progress: SearchProgress) -> None:
        """Take in one batch of trials."""
        self._last = progress
        if self._live is not None:
            self._live.refresh()
        elif self.due(last=progress.done == progress.total):
            note(self._line(progress))

    def _left(self, progress: SearchProgress) -> str:
        if progress.total is not None and progress.done >= progress.total:
            return ""
        if progress.budget is not None:
            left = max(0.0, progress.budget - progress.elapsed)
        elif progress.total is None:
            return ""
        else:
            left = progress.elapsed / progress.done * (progress.total - progress.done)
        return f", about {duration_text(left)} left"

    def _line(self, progress: SearchProgress) -> str:
        from ffe.wording.results import highest_text

        done = "" if progress.total in (None, progress.done) else f"{progress.done} of "
        trials = counted(progress.total or progress.done, "trial")
        best = progress.trials[0]
        return f"{done}{trials}, {highest_text(progress.metric, best.score, best.head)}{self._left(progress)}"

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
        noun = "trial" if (progress.total or progress.done) == 1 else "trials"
        shown = Table("", "head", METRIC_NAMES[progress.metric], "parameters")
        for rank, trial in enumerate(progress.trials[:_SHOWN_TRIALS], start=1):
            shown.add_row(str(rank), trial.head, score_text(trial.score, progress.metric), parameters_text(trial.parameters))
        note = "which one is chosen is settled at the end: a difference counts only where it is more than chance"
        return Group(Text(f"{progress.done}{total} {noun}, {elapsed}{self._left(progress)}"), shown, Text(note))


class TrialNotes(Display):
    """Says now and then how far a search is."""

    def __call__(self, progress: SearchProgress) -> None:
        """Take in one batch of trials."""
        from ffe.wording.results import highest_text

        if self.due(last=progress.done == progress.total):
            best = progress.trials[0]
            note(f"{counted(progress.done, 'trial')}, {highest_text(progress.metric, best.score, best.head)}")
