"""What a search costs, or brings, against not searching: on photos that neither had seen.

    FFE_TEST_DATA=... FFE_BENCH_FEATURES=folder nice python -m pytest -m benchmark -s tests/benchmarks/bench_regret.py

Four sets of photos, ten draws of each: half of every class trains, all others are
unseen. Nothing hangs on the clock: searches end by the number of their trials. Each
draw that is done is kept in ``folder/regret``, so that a run goes on where one
stopped; ``FFE_BENCH_DRAWS=3`` makes fewer.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_search import all_rows

from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.heads import HEADS
from ffe.specs import SearchSpec
from ffe.splits.folds import assign_folds
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import refit, score_sets, search
from ffe.tuning.trial import Trial, rank

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("weights")]

DRAWS = int(os.environ.get("FFE_BENCH_DRAWS", 10))
SETS = [
    ("dogs_vs_cats", "efficientnetlite0", 224),
    ("faces", "efficientnetlite0", 224),
    ("faces", "vgg19", 150),
    ("flowers", "efficientnetlite0", 224),
]


def drawn(every: Problem, seed: int) -> tuple[Problem, Problem]:
    """Return what is searched, half of each class in five folds, and the same rows fitted once and scored on all others."""
    rng, labels = np.random.default_rng(seed), every.labels
    halves = [rng.permutation(np.flatnonzero(labels == k)) for k in range(every.classes)]
    train = np.sort(np.concatenate([rows[: len(rows) // 2] for rows in halves]))
    unseen = np.setdiff1d(np.arange(len(labels)), train)
    own, names = np.arange(len(train)), [str(k) for k in range(every.classes)]
    folds = assign_folds(labels[train], [str(row) for row in train], own, 5, seed, names)
    asked = dataclasses.replace(
        every, features=every.features[train], labels=labels[train], train=own, parts=fold_parts(own, folds)
    )
    order = np.concatenate([train, unseen])
    parts = [(own, np.arange(len(train), len(order)))]
    return asked, dataclasses.replace(asked, features=every.features[order], labels=labels[order], parts=parts)


def on_unseen(asked: Problem, after: Problem, trials: Sequence[Trial], seed: int) -> list[np.ndarray]:
    """Return what each trial, fitted on all rows that it was chosen on, says of the others: float32 (m, K)."""
    found: dict[int, np.ndarray] = {}
    unseen = after.features[after.parts[0][1]]
    for head in HEADS:
        mine = [i for i, trial in enumerate(trials) if trial.head == head]
        if head == "dense":  # its scorer would choose the epoch by these very rows
            found |= {i: refit(asked, trials[i], seed).predict_proba(unseen) for i in mine}
        else:
            outcomes = score_sets(head, after, [trials[i].parameters for i in mine], 1, seed)
            found |= {i: outcome.runs[0] for i, outcome in zip(mine, outcomes, strict=True)}
    return [found[i] for i in range(len(trials))]


def figures(trials: Sequence[Trial], unseen: Sequence[np.ndarray], labels: np.ndarray, truths: np.ndarray) -> dict[str, Any]:
    """Return (accuracy, log loss) on the unseen rows, calibrated on those that scored, by the way of choosing a trial.

    Trials stand in the order of a search, the winner first. ``labels`` are those of the rows that scored them.
    """

    def both(i: int) -> tuple[float, float]:
        said = with_temperature(unseen[i], calibrate(trials[i].probabilities, labels).factor)
        right = said[np.arange(len(truths)), truths]
        return float((said.argmax(axis=1) == truths).mean()), float(-np.log(np.maximum(right, 1e-12)).mean())

    every = [both(i) for i in range(len(trials))]
    highest = next(i for i, trial in enumerate(trials) if trial is rank(trials)[0])
    return {
        **{f"{trial.head}, defaults": every[i] for i, trial in enumerate(trials) if trial.default},
        "winner": every[0],
        "highest score": every[highest],
        "best that was tried": (max(a for a, _ in every), min(loss for _, loss in every)),
    }


def table(draws: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return a line for each set and way: the svm's defaults as they are, all others as differences from it."""
    lines = []
    for name, of_set in draws.items():
        defaults = np.asarray([draw["svm, defaults"] for draw in of_set])
        mean = defaults.mean(axis=0)
        lines.append(f"{name}, {len(of_set)} draws: svm, defaults {mean[0]:.4f}, log loss {mean[1]:.4f}")
        for way in of_set[0]:
            gains = np.asarray([draw[way] for draw in of_set]) - defaults
            error = gains[:, 0].std() / max(1, len(gains) - 1) ** 0.5
            (points, loss) = gains.mean(axis=0)
            lines.append(f"  {way:<22} {100 * points:+.2f} points (±{100 * error:.2f}), log loss {loss:+.4f}")
    return "\n".join(lines)


def test_regret(features_of: Any, tmp_path: Path) -> None:
    """The winner is no worse than the default on any set, in accuracy and in log loss."""
    kept = os.environ.get("FFE_BENCH_FEATURES")
    folder = Path(kept) / "regret" if kept else tmp_path
    folder.mkdir(exist_ok=True)
    draws: dict[str, list[dict[str, Any]]] = {}
    for dataset, backbone, size in SETS:
        name, every = f"{dataset} {backbone}", None
        for seed in range(DRAWS):
            file = folder / f"{dataset}_{backbone}_{size}.{seed}.json"
            if not file.exists():
                every = every or all_rows(features_of(dataset, backbone, size))
                asked, after = drawn(every, seed)
                trials = search(asked, SearchSpec(heads=tuple(HEADS), seed=seed))
                said = on_unseen(asked, after, trials, seed)
                found = figures(trials, said, asked.labels[asked.scored], after.labels[after.scored])
                file.write_text(json.dumps(found), "utf-8")
            draws.setdefault(name, []).append(json.loads(file.read_text("utf-8")))
        print(f"\n{table({name: draws[name]})}")
    for of_set in draws.values():
        gains = np.mean([np.subtract(draw["winner"], draw["svm, defaults"]) for draw in of_set], axis=0)
        assert gains[0] >= 0 >= gains[1]
