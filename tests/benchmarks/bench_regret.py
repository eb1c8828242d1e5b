"""What a search costs, or brings, against not searching: on photos that neither had seen.

    FFE_TEST_DATA=... FFE_BENCH_FEATURES=folder nice python -m pytest -m benchmark -s tests/benchmarks/bench_regret.py

Four sets of photos, ten draws of each: half of every class trains, all others are
unseen. Nothing hangs on the clock: searches end by the number of their trials. What
every trial of a draw said is kept in ``folder/regret``, so that a run goes on where
one stopped, and another rule of choosing is measured in seconds; ``FFE_BENCH_DRAWS=3``
makes fewer draws.
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

from ffe.base.feature_layout import FeatureLayout
from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.heads import HEADS
from ffe.specs import SearchSpec
from ffe.tuning.choosing import choose
from ffe.tuning.ensemble_search import AUTO_MEMBERS, best_ensemble
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import refit, score_once, score_sets, search
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
    from sklearn.model_selection import StratifiedKFold

    rng, labels = np.random.default_rng(seed), every.labels
    halves = [rng.permutation(np.flatnonzero(labels == k)) for k in range(every.classes)]
    train = np.sort(np.concatenate([rows[: len(rows) // 2] for rows in halves]))
    order = np.concatenate([train, np.setdiff1d(np.arange(len(labels)), train)])
    own, folds = np.arange(len(train)), np.empty(len(train), np.int64)
    for fold, (_, held) in enumerate(StratifiedKFold(5, shuffle=True, random_state=seed).split(train, labels[train])):
        folds[held] = fold
    asked = dataclasses.replace(
        every, features=every.features[train], labels=labels[train], train=own, parts=fold_parts(own, folds)
    )
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


def draw(every: Problem, seed: int, file: Path) -> None:
    """Search on one half, and write what every trial said of its own rows and of the unseen ones.

    Behind the trials of the search stand the defaults of heads that it began with others: a forest of fewer trees.
    """
    (asked, after), spec = drawn(every, seed), SearchSpec(heads=tuple(HEADS), seed=seed)
    trials = search(asked, spec)
    others = [head for head in HEADS if not any(trial.default and trial.head == head for trial in trials)]
    more = [dataclasses.replace(score_once(asked, spec, head, {}), default=True) for head in others]
    with file.with_suffix(".part").open("wb") as part:
        np.savez_compressed(
            part,
            about=json.dumps([trial.to_json() for trial in (*trials, *more)]),
            searched=len(trials),
            oof=[trial.probabilities for trial in (*trials, *more)],
            unseen=on_unseen(asked, after, [*trials, *more], seed),
            labels=asked.labels[asked.scored],
            truths=after.labels[after.scored],
        )
    file.with_suffix(".part").rename(file)


def figures(file: Path) -> dict[str, tuple[float, float]]:
    """Return (accuracy, log loss) on the unseen rows, calibrated on those that scored, by the way of choosing a trial."""
    kept = np.load(file)
    labels, truths, searched = kept["labels"], kept["truths"], int(kept["searched"])
    own = np.arange(len(labels))
    layout = FeatureLayout.of_shape((1,))
    problem = Problem(np.empty((len(labels), 1), np.float32), labels, own, [(own, own)], int(labels.max()) + 1, layout)
    told = [{**about, "tied": False, "log_loss": None} for about in json.loads(str(kept["about"]))]
    every = [Trial(**about, probabilities=said) for about, said in zip(told, kept["oof"], strict=True)]
    names = [json.dumps([trial.head, trial.parameters]) for trial in every]
    unseen = dict(zip(names, kept["unseen"], strict=True))

    def both(answers: np.ndarray, oof: np.ndarray) -> tuple[float, float]:
        said = with_temperature(answers, calibrate(oof, labels).factor)
        right = said[np.arange(len(truths)), truths]
        return float((said.argmax(axis=1) == truths).mean()), float(-np.log(np.maximum(right, 1e-12)).mean())

    of_trials = [both(unseen[name], trial.probabilities) for name, trial in zip(names, every, strict=True)]
    by_name = dict(zip(names, of_trials, strict=True))
    board = choose(problem, "accuracy", every[:searched])
    first, highest = (json.dumps([trial.head, trial.parameters]) for trial in (board[0], rank(every[:searched])[0]))
    found = {f"{trial.head}, defaults": of_trials[i] for i, trial in enumerate(every) if trial.default}
    found |= {"winner": by_name[first], "highest score": by_name[highest], "ensemble auto": by_name[first]}
    tried = np.asarray(of_trials[:searched])
    found["best that was tried"] = (float(tried[:, 0].max()), float(tried[:, 1].min()))
    together = best_ensemble(problem, SearchSpec(heads=tuple(HEADS), ensemble=AUTO_MEMBERS), board)
    if together is not None:
        members = [(unseen[json.dumps([m["head"], m["parameters"]])], m["temperature"]) for m in together.parameters["members"]]
        mean = np.mean([with_temperature(*member) for member in members], axis=0)
        found["ensemble auto"] = both(mean, together.probabilities)
    return found


def table(draws: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return a line for each set and way: what it did, and by how much the winner did better."""
    lines = []
    for name, of_set in draws.items():
        lines.append(f"{name}, {len(of_set)} draws")
        for way in sorted(of_set[0]):
            done = np.asarray([each[way] for each in of_set])
            gains = np.asarray([each["winner"] for each in of_set]) - done
            (accuracy, loss), (points, less) = done.mean(axis=0), gains.mean(axis=0)
            errors = gains.std(axis=0) / max(1, len(gains) - 1) ** 0.5
            text = f"{accuracy:.4f}, log loss {loss:.4f}; the winner {100 * points:+.2f} points (±{100 * errors[0]:.2f})"
            lines.append(f"  {way:<20} {text}, log loss {less:+.4f} (±{errors[1]:.4f})")
    return "\n".join(lines)


def test_regret(features_of: Any, tmp_path: Path) -> None:
    """The winner is no worse than the svm's defaults on any set, in accuracy and in log loss, and clearly better on two."""
    kept = os.environ.get("FFE_BENCH_FEATURES")
    folder = Path(kept) / "regret" if kept else tmp_path
    folder.mkdir(exist_ok=True)
    draws: dict[str, list[dict[str, Any]]] = {}
    for dataset, backbone, size in SETS:
        name, every = f"{dataset} {backbone}", None
        for seed in range(DRAWS):
            file = folder / f"{dataset}_{backbone}_{size}.{seed}.npz"
            if not file.exists():
                every = every or all_rows(features_of(dataset, backbone, size))
                draw(every, seed, file)
            draws.setdefault(name, []).append(figures(file))
        print(f"\n{table({name: draws[name]})}")
    gains = [
        np.mean([np.subtract(each["winner"], each["svm, defaults"]) for each in of_set], axis=0) for of_set in draws.values()
    ]
    assert all(points >= 0 >= loss for points, loss in gains)
    assert sum(points >= 0.005 for points, _ in gains) >= 2
