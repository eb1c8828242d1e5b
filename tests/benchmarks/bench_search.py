"""Figures of the search over heads, on features of real photos.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_search.py

Where two ways are compared, both run in one go: times alone mean little on a
shared machine. ``-k`` chooses: article, svm_grid, accuracy, whole, unseen, large.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import threadpoolctl
from bench_speed import peak_of

from ffe.backbones.catalog import FAKE
from ffe.base.feature_layout import FeatureLayout
from ffe.heads.search_space import complete
from ffe.heads.svm import SvmHead
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec, SearchSpec
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import refit, score_sets, search
from ffe.tuning.trial import Trial

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("weights")]

TRIALS, EXECUTIONS, EPOCHS = 160, 2, 50  # the article's search, https://duongnt.com/fast-feature-extraction
PLAIN_TRIALS = 3  # timed, and scaled


def all_rows(path: Path, folds: int = 5, seed: int = 0) -> Problem:
    """Take every row of a file, in stratified folds."""
    from sklearn.model_selection import StratifiedKFold

    with FeatureStore(path) as store:
        features, labels, layout = store.features(), store.labels, store.layout
    assigned = np.empty(len(labels), np.int64)
    for fold, (_, held) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features[:, :1], labels)):
        assigned[held] = fold
    rows = np.arange(len(labels))
    return Problem(features, labels, rows, fold_parts(rows, assigned), int(labels.max()) + 1, layout)


def seconds_of_plain_trials(problem: Problem, folder: Path) -> tuple[list[float], float]:
    """Run a few trials of the article's loop, in memory; return the seconds of each, and the best validation accuracy."""
    import keras
    import keras_tuner

    (train, held) = problem.parts[0]
    ends: list[float] = []

    def build(hp: Any) -> keras.Model:
        first = hp.Choice("first_dense", [4, 8, 16, 32, 64])
        layers = [keras.Input((problem.features.shape[1],)), keras.layers.Dense(first, activation="relu")]
        if first in (32, 64):
            with hp.conditional_scope("first_dense", [32, 64]):
                if hp.Boolean("extra_dense_layer"):
                    with hp.conditional_scope("extra_dense_layer", [True]):
                        layers.append(keras.layers.Dense(hp.Choice("extra_dense", [4, 8, 16]), activation="relu"))
        layers.append(keras.layers.Dropout(hp.Float("dropout_rate", 0.3, 0.8, step=0.1)))
        layers.append(keras.layers.Dense(1, activation="sigmoid"))
        model = keras.Sequential(layers)
        rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
        model.compile(keras.optimizers.RMSprop(rate), "binary_crossentropy", metrics=["accuracy"])
        return model

    class Tuner(keras_tuner.BayesianOptimization):  # type: ignore[misc]
        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            ends.append(time.perf_counter())

    tuner = Tuner(
        build, "val_accuracy", max_trials=PLAIN_TRIALS, executions_per_trial=EXECUTIONS, seed=1, directory=folder, overwrite=True
    )
    x, y = problem.features, problem.labels
    started = time.perf_counter()
    tuner.search(x[train], y[train], validation_data=(x[held], y[held]), epochs=EPOCHS, batch_size=32, verbose=0)
    return np.diff([started, *ends]).tolist(), max(trial.score for trial in tuner.oracle.trials.values())


def best_epoch(trial: Trial) -> float:
    """Return the best validation accuracy of any epoch: KerasTuner's own score of a trial."""
    return max(trial.curves["valid_accuracy"])


def test_article_search_against_plain_kerastuner(features_of: Any, tmp_path: Path) -> None:
    """160 trials x 2 executions x 50 epochs on 1,008 of the faces, 432 to score on; with and without early stopping.

    The learning rate is searched on both sides too: the article's own space has 66 sets only.
    """
    every = all_rows(features_of("faces", "vgg19", 150))
    rows = np.random.default_rng(0).permutation(len(every.labels))
    problem = dataclasses.replace(every, train=rows[:1008], parts=[(rows[:1008], rows[1008:1440])])
    fixed = {"pooling": "flat", "scaling": "none", "pca": False}
    compiled = SearchSpec(heads=("dense",), trials=2, epochs=1, fixed={**fixed, "patience": 0})
    search(problem, compiled)  # so that neither side pays for the first compilation
    plain, plain_best = seconds_of_plain_trials(problem, tmp_path)
    whole = float(np.mean(plain)) * TRIALS
    print(f"\nplain KerasTuner: {', '.join(f'{s:.1f}' for s in plain)} s a trial, so {whole / 60:.1f} min; best {plain_best:.4f}")
    for name, patience, wanted in (("every epoch", 0, 25), ("early stopping", 5, 75)):
        spec = SearchSpec(
            heads=("dense",), trials=TRIALS, executions=EXECUTIONS, epochs=EPOCHS, fixed={**fixed, "patience": patience}
        )
        started = time.perf_counter()
        trials = search(problem, spec)
        took = time.perf_counter() - started
        best = max(map(best_epoch, trials))
        print(f"ffe, {name}: {took:.1f} s, {whole / took:.0f}x (wanted {wanted}x); best {best:.4f}, {len(trials)} trials")
        if patience == 0:
            print(f"   the best set again by Keras's own loop: {again_by_keras(problem, trials):.4f}")
    again, _ = seconds_of_plain_trials(problem, tmp_path)
    print(f"plain KerasTuner afterwards: {', '.join(f'{s:.1f}' for s in again)} s a trial")


def again_by_keras(problem: Problem, trials: list[Trial]) -> float:
    """Train the set with the best epoch once more, by ``keras.Model.fit``; return the best validation accuracy."""
    winner = max(trials, key=best_epoch)
    fixed = {**winner.parameters, "epochs": EPOCHS, "trainer": "keras"}
    spec = SearchSpec(heads=("dense",), trials=1, epochs=EPOCHS, executions=EXECUTIONS, fixed=fixed)
    return best_epoch(search(problem, spec)[0])


def test_svm_grid_against_grid_search(features_of: Any) -> None:
    """12 points x 5 folds on 16,384 features of 1,399 photos; the scores are equal."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    problem = all_rows(features_of("dogs_vs_cats", "mobilenet", 128))
    x, y, parts = problem.features, problem.labels, [(fit, score) for fit, score in problem.parts]
    penalties, gammas = (0.1, 1.0, 10.0), (0.3, 1.0, 3.0)
    common = {"pooling": "flat", "scaling": "none"}
    settings = [{"kernel": "linear", "C": c} for c in penalties]
    settings += [{"kernel": "rbf", "C": c, "gamma": g} for c in penalties for g in gammas]
    sets = [complete(SvmHead.space, {**common, **chosen}, "svm") for chosen in settings]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        outcomes = score_sets("svm", problem, sets, 1, 0)
        seconds.append(time.perf_counter() - started)
    ends = np.cumsum([len(score) for _, score in parts])[:-1]

    def fold_scores(runs: np.ndarray) -> list[float]:
        return [float((p.argmax(1) == y[s]).mean()) for p, (_, s) in zip(np.split(runs, ends), parts, strict=True)]

    ours = [fold_scores(outcome.runs[0]) for outcome in outcomes]
    # the folds differ a little in what gamma="scale" is, so each point is one fold's value away from the other's
    started, theirs = time.perf_counter(), np.empty((len(settings), len(parts)))
    for fold, (fit, score) in enumerate(parts):
        scale = 1 / (x.shape[1] * x[fit].var(dtype=np.float64))
        grid = [
            {"kernel": ["linear"], "C": list(penalties)},
            {"kernel": ["rbf"], "C": list(penalties), "gamma": [g * scale for g in gammas]},
        ]
        found = GridSearchCV(SVC(), grid, cv=[(fit, score)], refit=False, n_jobs=-1).fit(x, y).cv_results_
        for point, accuracy in zip(found["params"], found["split0_test_score"], strict=True):
            chosen = {"kernel": point["kernel"], "C": point["C"]}
            if point["kernel"] == "rbf":
                chosen["gamma"] = next(g for g in gammas if np.isclose(g * scale, point["gamma"]))
            theirs[settings.index(chosen), fold] = accuracy
    slow = time.perf_counter() - started
    took = ", ".join(f"{s:.1f}" for s in seconds)
    print(f"\nGridSearchCV(SVC) on all cores {slow:.0f} s; ffe {took} s: {slow / np.median(seconds):.0f}x")
    assert np.array_equal(np.asarray(ours), theirs)


ACCURACY = [
    ("faces", "vgg19", 150, 0.875),
    ("faces", "mobilenet", 224, 0.895),
    ("flowers", "mobilenet", 224, 0.905),
    ("dogs_vs_cats", "mobilenet", 224, 0.983),
]


@pytest.mark.parametrize(("dataset", "backbone", "size", "wanted"), ACCURACY)
def test_accuracy_of_the_default_search(features_of: Any, dataset: str, backbone: str, size: int, wanted: float) -> None:
    """5-fold cross-validation over all rows, for three seeds of the search and of the folds."""
    for seed in range(3):
        problem = all_rows(features_of(dataset, backbone, size), seed=seed)
        started = time.perf_counter()
        winner, *_ = search(problem, SearchSpec(heads=("svm", "logistic", "dense", "forest"), seed=seed))
        took = time.perf_counter() - started
        name = f"{dataset} {backbone} seed {seed}"
        print(f"\n{name}: {winner.score:.4f} (wanted {wanted}), {took:.0f} s, {winner.head} {winner.parameters}")


def test_whole_tune_on_dogs_and_cats(features_of: Any, tmp_path: Path) -> None:
    """``ffe tune --heads auto`` as a process, everything included."""
    path = features_of("dogs_vs_cats", "mobilenet", 224)
    for seed in range(3):
        command = [sys.executable, "-m", "ffe", "tune", str(path), "-o", f"{tmp_path}/{seed}.ffe", "--seed", str(seed), "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took = time.perf_counter() - started
        value = json.loads(done.stdout)
        test = value["evaluation"]["test"]
        print(f"\nseed {seed}: {took:.1f} s (wanted 60), validation {value['leaderboard'][0]['score']:.4f}, ", end="")
        print(f"test {test['accuracy']:.4f} of {test['n']}, {value['head']}")


@pytest.mark.parametrize("ensemble", [0, 4])
def test_unseen_photos(features_of: Any, ensemble: int) -> None:
    """Nested: each fifth of dogs and cats is tested by a search that saw the other four only."""
    from ffe.tuning.ensemble_search import best_ensemble

    problem = all_rows(features_of("dogs_vs_cats", "mobilenet", 224))
    right = 0
    for fold, (fit, score) in enumerate(problem.parts):
        inner = np.random.default_rng(fold).permutation(len(fit)) % 5
        rest = dataclasses.replace(problem, train=fit, parts=fold_parts(fit, inner))
        spec = SearchSpec(heads=("svm", "logistic", "dense"), ensemble=ensemble)
        trials = search(rest, spec)
        winner = (best_ensemble(rest, spec, trials) if ensemble else None) or trials[0]
        head = refit(rest, winner, 0)
        hits = int((head.predict_proba(problem.features[score]).argmax(1) == problem.labels[score]).sum())
        print(f"\nfold {fold}: {hits} of {len(score)}, {winner.head}, validation {winner.score:.4f}")
        right += hits
    print(f"ensemble {ensemble}: {right} of {len(problem.labels)} unseen photos right: {right / len(problem.labels):.4f}")


def test_large(tmp_path: Path) -> None:
    """25,000 rows x 8192, made here: peak memory of ``ffe tune --heads auto``, and what it says beforehand."""
    rows, layout = 25_000, FeatureLayout.of_shape((4, 4, 512))
    path = tmp_path / "large.h5"
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(2, 1, 512)).astype(np.float32) * 0.25
    labels = generator.integers(0, 2, rows)

    def features(row: Row) -> np.ndarray:
        own = np.random.default_rng(int(row.sha256, 16))
        return np.maximum(own.normal(size=(16, 512)).astype(np.float32) - 1.0 + centres[row.label], 0).ravel()

    spec = ExtractSpec(BackboneSpec(FAKE, "random", "0" * 64), PreprocessSpec((64, 64), "none"))
    made = [Row(f"{i:05d}.jpg", f"{i:064x}", int(label), "") for i, label in enumerate(labels)]
    write_store(path, spec=spec, layout=layout, class_names=("a", "b"), rows=made, features=features)
    with h5py.File(path) as file:
        print(f"\n{file['features'].shape}, {path.stat().st_size / 2**20:.0f} MiB")
    command = (sys.executable, "-m", "ffe", "tune", str(path), "-o", str(tmp_path / "m.ffe"), "--without-backbone")
    with threadpoolctl.threadpool_limits(None):
        seconds, peak = peak_of(*command)
    print(f"tune --heads auto: {seconds:.0f} s, peak {peak} MiB (wanted below 8192)")
    assert peak < 8192
