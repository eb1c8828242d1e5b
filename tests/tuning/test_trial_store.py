"""A search that was interrupted, or had less time, computes what is missing, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.specs import SearchSpec
from ffe.tuning import search as searching
from ffe.tuning.problem import Outcome, Problem
from ffe.tuning.search import SearchProgress, search
from ffe.tuning.trial import Trial
from ffe.tuning.trial_store import TrialStore

from .fake_evaluators import FakeEvaluators

SPEC = SearchSpec(("svm", "logistic", "dense"), trials=40, executions=2, epochs=20)
TRIALS = 120


class _InterruptedError(Exception):
    pass


def _plain(trials: Sequence[Trial]) -> list[Any]:
    """Return all of the trials but when they were finished."""
    return [(dataclasses.replace(trial, finished=0.0), trial.probabilities.tolist(), str(dict(trial.curves))) for trial in trials]


def _interrupted(problem: Problem, folder: Path, after: int, digest: str = "rows") -> None:
    calls = 0

    def stop(progress: SearchProgress) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise _InterruptedError

    with pytest.raises(_InterruptedError):
        search(problem, SPEC, stop, TrialStore(folder, digest))


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_search_goes_on_where_it_stopped(
    problem: Problem, fake: FakeEvaluators, tmp_path: Path, after: int
) -> None:
    """The leaderboard is that of a search that was not interrupted, to the last digit."""
    whole = search(problem, SPEC)
    needed = list(fake.calls)
    assert len(needed) > 2 * after
    fake.calls.clear()
    _interrupted(problem, tmp_path / "memory", after)
    assert fake.calls == needed[:after]
    fake.calls.clear()
    memory = TrialStore(tmp_path / "memory", "rows")
    resumed = search(problem, SPEC, store=memory)
    assert fake.calls == needed[after:]
    assert memory.known == sum(len(sets) for _, sets, _, _ in needed[:after])
    assert _plain(resumed) == _plain(whole)
    fake.calls.clear()
    assert _plain(search(problem, SPEC, store=TrialStore(tmp_path / "memory", "rows"))) == _plain(whole)
    assert fake.calls == []


def test_real_heads_resume_to_the_same_leaderboard(problem: Problem, tmp_path: Path) -> None:
    spec = SearchSpec(("svm", "dense", "logistic"), epochs=4, executions=2)
    whole = search(problem, spec)

    def stop(progress: SearchProgress) -> None:
        if progress.done > 30:
            raise _InterruptedError

    with pytest.raises(_InterruptedError):
        search(problem, spec, stop, TrialStore(tmp_path / "m", "rows"))
    memory = TrialStore(tmp_path / "m", "rows")
    resumed = search(problem, spec, store=memory)
    assert 0 < memory.known < len(whole)
    for a, b in zip(resumed, whole, strict=True):
        assert dataclasses.replace(a, finished=0, fit_seconds=0) == dataclasses.replace(b, finished=0, fit_seconds=0)
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_a_damaged_file_is_computed_again(problem: Problem, fake: FakeEvaluators, tmp_path: Path) -> None:
    whole = search(problem, SPEC, store=TrialStore(tmp_path / "m", "rows"))
    files = sorted((tmp_path / "m").iterdir())
    assert len(files) == TRIALS
    files[0].write_bytes(files[0].read_bytes()[:-100])
    files[1].write_bytes(b"")
    files[2].write_bytes(b"PK and nothing more")
    with files[3].open("wb") as file:
        np.savez(file, meta=np.asarray([{"seconds": 1}], object))  # what it takes to read this is never run
    fake.calls.clear()
    again = search(problem, SPEC, store=TrialStore(tmp_path / "m", "rows"))
    assert len(fake.sets) == 4
    assert _plain(again) == _plain(whole)
    fake.calls.clear()
    search(problem, SPEC, store=TrialStore(tmp_path / "m", "rows"))
    assert fake.calls == [], "what was computed again was not kept"


def test_a_file_that_was_being_written_is_not_read(problem: Problem, fake: FakeEvaluators, tmp_path: Path) -> None:
    search(problem, SPEC, store=TrialStore(tmp_path / "m", "rows"))
    files = sorted((tmp_path / "m").iterdir())
    files[0].rename(files[0].with_suffix(".tmp"))
    fake.calls.clear()
    search(problem, SPEC, store=TrialStore(tmp_path / "m", "rows"))
    assert len(fake.sets) == 1
    assert len(list((tmp_path / "m").glob("*.npz"))) == TRIALS


@pytest.mark.parametrize(
    ("digest", "changes"),
    [
        ("other rows", {}),
        ("rows", {"seed": 1}),
        ("rows", {"executions": 1}),
        ("rows", {"epochs": 19}),
        ("rows", {"fixed": {"C": 7}}),
    ],
    ids=str,
)
def test_what_was_asked_otherwise_is_not_used(
    problem: Problem, fake: FakeEvaluators, tmp_path: Path, digest: str, changes: dict[str, Any]
) -> None:
    """Of heads whose sets and executions are the same, batches are found again; the rest is computed."""
    spec = dataclasses.replace(SPEC, heads=("dense",) if "fixed" not in changes else ("svm",))
    search(problem, spec, store=TrialStore(tmp_path / "m", "rows"))
    fake.calls.clear()
    changed = dataclasses.replace(spec, **changes)
    memory = TrialStore(tmp_path / "m", digest)
    expected = search(problem, changed)
    computed = len(fake.calls)
    fake.calls.clear()
    assert _plain(search(problem, changed, store=memory)) == _plain(expected)
    assert memory.known == 0
    assert len(fake.calls) == computed > 0


def test_more_time_goes_on_with_what_less_time_found(
    problem: Problem, fake: FakeEvaluators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches of a search by time depend on the clock; the trials are found again one by one."""
    monkeypatch.setattr(searching, "time", fake)
    search(problem, SearchSpec(("svm",), seconds=25), store=TrialStore(tmp_path / "m", "rows"))
    first = list(fake.sets)
    fake.calls.clear()
    memory = TrialStore(tmp_path / "m", "rows")
    found = search(problem, SearchSpec(("svm",), seconds=60), store=memory)
    assert memory.known == len(first) > 10
    assert len(found) > len(first)
    assert not {str(parameters) for parameters in fake.sets} & {str(parameters) for parameters in first}
    assert len(fake.sets) == len(found) - len(first)


def test_outcomes_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = rng.random((2, 5, 3), np.float32)
    outcomes = {
        0.1: Outcome(tuple(runs), 0.1, 3, {"epochs": 4}, {"a": [0.1, float("nan")]}),
        1 / 3: Outcome((rng.random((5, 3), np.float32),), 2.5, 10**12),
    }
    memory = TrialStore(tmp_path / "m", "rows")
    for known, (penalty, theirs) in enumerate(outcomes.items()):
        asked = {"head": "svm", "sets": [{"C": penalty}], "executions": 1, "seed": 0}
        assert memory.find(asked) is None
        memory.keep(asked, theirs)
        ours = memory.find(asked)
        assert ours is not None
        assert memory.known == known + 1
        assert len(ours.runs) == len(theirs.runs)
        for a, b in zip(ours.runs, theirs.runs, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.float32
        assert (ours.seconds, ours.size, dict(ours.found)) == (theirs.seconds, theirs.size, dict(theirs.found))
        assert str(dict(ours.curves)) == str(dict(theirs.curves))
        assert memory.find({**asked, "seed": 1}) is None


def test_it_forgets(problem: Problem, fake: FakeEvaluators, tmp_path: Path) -> None:
    memory = TrialStore(tmp_path / "m", "rows")
    memory.forget()  # nothing is there yet
    search(problem, SPEC, store=memory)
    mine = tmp_path / "m" / "mine.npz"
    mine.touch()
    memory.forget()
    assert list((tmp_path / "m").iterdir()) == [mine]
    mine.unlink()
    memory.forget()
    assert not (tmp_path / "m").exists()
    assert tmp_path.is_dir()


def test_a_memory_without_a_folder_keeps_nothing(
    problem: Problem, fake: FakeEvaluators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    memory = TrialStore(None, "")
    for _ in range(2):
        fake.calls.clear()
        search(problem, SPEC, store=memory)
        assert len(fake.sets) == TRIALS
    memory.forget()
    assert memory.known == 0
    assert list(tmp_path.iterdir()) == []
