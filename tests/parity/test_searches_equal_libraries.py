"""A search scores as scikit-learn's cross-validation does, and as the plain way of fitting each head on each fold.

``GridSearchCV`` runs ``SVC`` on the same folds, scaling inside them. Two things
are named in ffe's way: gamma is a multiple of scikit-learn's "scale", and of
three or more classes with equal votes the one of the greatest confidence wins
(``break_ties=True``). The mean accuracies are equal to the last digit.

``ffe.tuning.score_any.fit_each`` fits every head by itself. The searches share what
they can (kernels, paths, tall forests, batched networks), and come to the same
probabilities, within the tolerances stated.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ffe.base.feature_layout import FeatureLayout
from ffe.extraction.run import extract
from ffe.heads import HEADS, logistic, nystroem, svm
from ffe.heads.forest import new_forest
from ffe.heads.search_space import complete
from ffe.heads.svm import SvmHead
from ffe.heads.transform import FeatureMap
from ffe.specs import SearchSpec
from ffe.store.reader import FeatureStore
from ffe.tuning import score_forest, score_logistic, score_svm
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.score_any import fit_each
from ffe.tuning.scoring import ScoreRequest
from ffe.tuning.search import score_sets, scored_trial

GRID = (2, 2, 12)
LAYOUT = FeatureLayout.of_shape(GRID)


def problem_of(classes: int, rows: int = 90, *, weighted: bool = False, folds: int = 3) -> Problem:
    """Make rows float32 (rows, 48) that overlap, a constant feature among them."""
    rng = np.random.default_rng(classes)
    labels = rng.permutation(np.arange(rows) % classes).astype(np.int64)
    x = rng.gamma(2.0, 1.0, (rows, *GRID))
    x[np.arange(rows), :, :, labels] += 0.7
    x[..., 11] = 1.5
    train = np.arange(rows)
    weights = np.linspace(0.5, 1.6, classes) if weighted else None
    return Problem(
        x.reshape(rows, -1).astype(np.float32), labels, train, fold_parts(train, train % folds), classes, LAYOUT, weights
    )


class _Svc(SVC):
    """``SVC`` whose gamma is a multiple of the "scale" of the rows that it is fitted on."""

    def __init__(self, C: float = 1.0, kernel: str = "rbf", gamma: float = 1.0, class_weight: Any = None) -> None:  # noqa: N803
        super().__init__(C=C, kernel=kernel, gamma=gamma, class_weight=class_weight)

    def fit(self, x: np.ndarray, labels: np.ndarray, sample_weight: Any = None) -> _Svc:
        multiple, self.gamma = self.gamma, self.gamma / (x.shape[1] * x.var())
        self.break_ties = len(np.unique(labels)) > 2
        super().fit(x, labels)
        self._absolute, self.gamma = self.gamma, multiple
        return self


def _grid_search(problem: Problem, x: np.ndarray, scaling: str, grid: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    weights = None if problem.class_weights is None else dict(enumerate(problem.class_weights))
    scaler = StandardScaler() if scaling == "standard" else "passthrough"
    pipeline = make_pipeline(scaler, _Svc(class_weight=weights))
    named = [{f"_svc__{name}": values for name, values in part.items()} for part in grid]
    found = (
        GridSearchCV(pipeline, named, cv=list(problem.parts), refit=False).fit(x.astype(np.float64), problem.labels).cv_results_
    )
    return {
        str(sorted((name.removeprefix("_svc__"), value) for name, value in parameters.items())): (mean, deviation)
        for parameters, mean, deviation in zip(found["params"], found["mean_test_score"], found["std_test_score"], strict=True)
    }


def _assert_equals_grid_search(problem: Problem, pooling: str, scaling: str, *, least: int) -> None:
    grid: list[dict[str, Any]] = [
        {"kernel": ["linear"], "C": [0.01, 0.3, 10.0]},
        {"kernel": ["rbf"], "C": [0.3, 3.0, 100.0], "gamma": [0.1, 1.0, 5.0]},
    ]
    chosen = [dict(zip(part, values, strict=True)) for part in grid for values in itertools.product(*part.values())]
    shared = {"pooling": pooling, "scaling": scaling}
    sets = [complete(SvmHead.space, {**shared, **values}, "svm") for values in chosen]
    outcomes = score_sets("svm", problem, sets, 1, 0)
    spec = SearchSpec(("svm",))
    trials = [scored_trial(problem, spec, "svm", *item, 0.0) for item in zip(sets, outcomes, strict=True)]

    pooled = FeatureMap({**shared, "scaling": "none" if scaling == "standard" else scaling}, problem.layout).rowwise(
        problem.features
    )
    expected = _grid_search(problem, pooled, scaling, grid)
    for values, trial in zip(chosen, trials, strict=True):
        mean, deviation = expected[str(sorted(values.items()))]
        assert trial.score == pytest.approx(mean, abs=1e-12), values
        assert trial.spread == pytest.approx(deviation, abs=1e-12), values
    scores = {trial.score for trial in trials}
    assert len(scores) >= least, "the scores hardly differ: equality says nothing"
    assert max(scores) < 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scaling", ["none", "standard"])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_svm_search_equals_grid_search(classes: int, scaling: str, weighted: bool) -> None:
    """Twelve machines: linear and RBF, over C and gamma, means and deviations over three folds."""
    _assert_equals_grid_search(problem_of(classes, weighted=weighted), "flat", scaling, least=4)


@pytest.fixture(scope="module")
def flowers(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """160 photos of five kinds of flowers through MobileNet, at 64 pixels: a grid of (2, 2, 256)."""
    folder = tmp_path_factory.mktemp("flowers")
    for kind in sorted(path.name for path in (shared / "images" / "flowers").iterdir() if path.is_dir()):
        (folder / "photos" / kind).mkdir(parents=True)
        for photo in sorted((shared / "images" / "flowers" / kind).iterdir())[:32]:
            (folder / "photos" / kind / photo.name).symlink_to(photo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
        extract(folder / "photos", folder / "f.h5", backbone="mobilenet_0.25", size=64, engine="keras")
    with FeatureStore(folder / "f.h5") as store:
        features, labels = store.features(), np.asarray([Path(path).parent.name for path in store.paths])
    names, numbers = np.unique(labels, return_inverse=True)
    train = np.random.default_rng(0).permutation(len(numbers))
    return Problem(
        features, numbers, train, fold_parts(train, np.arange(len(train)) % 4), len(names), FeatureLayout.of_shape((2, 2, 256))
    )


@pytest.mark.parametrize(("pooling", "scaling"), [("avg", "standard"), ("flat", "sqrt_l2")])
def test_on_photos_too(flowers: Problem, pooling: str, scaling: str) -> None:
    assert flowers.features.shape == (160, 1024)
    _assert_equals_grid_search(flowers, pooling, scaling, least=5)


# what the searches share, against fits of each head by itself ------------------------------------------------------------

MAPS = [
    *({"pooling": pooling, "scaling": "standard"} for pooling in ("flat", "avg", "max", "avgmax")),
    *({"pooling": "flat", "scaling": scaling} for scaling in ("none", "l2", "sqrt_l2")),
    {"pooling": "avgmax", "scaling": "sqrt_l2"},
    {"pooling": "flat", "scaling": "standard", "pca": True, "components": 32},
    {"pooling": "avg", "scaling": "l2", "pca": True, "components": 32},
]
OWN: dict[str, list[dict[str, Any]]] = {
    "svm": [{"kernel": "linear", "C": 1.0}, {"kernel": "rbf", "C": 3.0, "gamma": 0.3}],
    "logistic": [{"C": 10.0}, {"C": 0.1}],
    "dense": [
        {"epochs": 3, "patience": 0, "learning_rate": 0.005, "batch_size": 16},
        {"epochs": 3, "patience": 0, "first_dense": 64, "extra_dense_layer": True, "extra_dense": 16, "batch_size": 16},
        {"epochs": 2, "patience": 0, "dropout_rate": 0.0, "l2": 0.01},
    ],
}
# of a probability; the machines see kernels, and the networks sums, that differ in their last bits, and libsvm
# stops at a tolerance of its own
TOLERANCES = {"svm": 2e-3, "logistic": 1e-4, "dense": 1e-4}


@pytest.mark.parametrize(("classes", "rows"), [(2, 90), (3, 45)], ids=["more rows", "more features"])
@pytest.mark.parametrize("head", ["svm", "logistic", "dense"])
def test_a_search_comes_to_what_each_head_comes_to(head: str, classes: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pooling and scaling, with PCA and without, class weights: probabilities of scored rows, bytes of a head."""
    # a path begins elsewhere than a single fit, and L-BFGS stops early: both are solved exactly here
    exactly = functools.partial(LogisticRegression, solver="newton-cholesky", tol=1e-9)
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", exactly)
    problem, kind = problem_of(classes, rows, weighted=True), HEADS[head]
    sets = [complete(kind.space, {**mapping, **own}, head) for mapping in MAPS for own in OWN[head]]
    executions = 2 if head == "dense" else 1
    fast = score_sets(head, problem, sets, executions, 5)
    # a dense search scores the epoch of least loss, which a single fit is told
    found = [{**parameters, **outcome.found} for parameters, outcome in zip(sets, fast, strict=True)]
    slow = fit_each(ScoreRequest(kind, problem, KernelCache(problem.features), found, executions, 5))
    for parameters, ours, theirs in zip(found, fast, slow, strict=True):
        assert len(ours.runs) == executions
        for a, b in zip(ours.runs, theirs.runs, strict=True):
            assert a.shape == (rows, classes)
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, atol=TOLERANCES[head], err_msg=str(parameters))
        assert ours.size == pytest.approx(theirs.size, rel=0.1, abs=200)
        assert ours.seconds > 0
    assert head != "dense" or {1, 3} <= {parameters["epochs"] for parameters in found}


@pytest.mark.parametrize("classes", [2, 4])
def test_a_short_forest_is_the_beginning_of_a_tall_one(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit what ``RandomForestClassifier`` of that size, grown by itself, answers; few trees are held at a time."""
    problem, kind = problem_of(classes, weighted=True), HEADS["forest"]
    sets = [{**complete(kind.space, {"max_features": "log2"}, "forest"), "trees": trees} for trees in (20, 11, 45)]
    sets.append({**complete(kind.space, {"min_samples_leaf": 4, "pooling": "flat"}, "forest"), "trees": 15})
    fit_forest, held = RandomForestClassifier.fit, list[int]()

    def watched(forest: Any, *rows: np.ndarray) -> Any:
        fitted = fit_forest(forest, *rows)
        held.append(sum(tree is not None for tree in fitted.estimators_))
        return fitted

    with monkeypatch.context() as patch:
        patch.setattr(RandomForestClassifier, "fit", watched)
        patch.setattr(score_forest, "_TREES_HELD", 30)
        patch.setattr(score_forest, "_BLOCK_ROWS", 7)
        outcomes = score_sets("forest", problem, sets, 2, 3)
    assert max(held) == 15  # of 45
    for parameters, outcome in zip(sets, outcomes, strict=True):
        x = FeatureMap(parameters, LAYOUT).rowwise(problem.features)
        for execution, run in enumerate(outcome.runs):
            expected = []
            for fit, score in problem.parts:
                reference = RandomForestClassifier(
                    parameters["trees"],
                    max_features=parameters["max_features"],
                    min_samples_leaf=parameters["min_samples_leaf"],
                    class_weight=dict(enumerate(problem.class_weights)),  # type: ignore[arg-type]
                    random_state=3 + execution,
                )
                expected.append(reference.fit(x[fit], problem.labels[fit]).predict_proba(x[score]))
            np.testing.assert_array_equal(run, np.concatenate(expected).astype(np.float32))
        assert not np.array_equal(*outcome.runs)


def test_a_forest_search_comes_to_what_the_head_comes_to() -> None:
    problem, kind = problem_of(3, weighted=True), HEADS["forest"]
    sets = [{**complete(kind.space, {"pooling": pooling}, "forest"), "trees": 25} for pooling in ("flat", "max")]
    fast = score_sets("forest", problem, sets, 1, 3)
    slow = fit_each(ScoreRequest(kind, problem, KernelCache(problem.features), sets, 1, 3))
    for ours, theirs in zip(fast, slow, strict=True):
        np.testing.assert_allclose(ours.runs[0], theirs.runs[0], atol=1e-6)
        assert ours.size == pytest.approx(theirs.size, rel=0.05)
    assert new_forest(sets[0], 3, None).random_state == 3


@pytest.mark.parametrize("classes", [2, 3])
def test_above_the_limit_an_svm_search_comes_to_what_the_head_comes_to(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines on landmarks, along paths of C: within 2e-3 of fits of their own, and other than the exact ones."""
    problem, kind = problem_of(classes, weighted=True), HEADS["svm"]
    sets = [
        complete(kind.space, {**mapping, **own, "C": penalty}, "svm")
        for mapping in ({"pooling": "flat"}, {"scaling": "standard", "pca": True, "components": 32})
        for own in ({"kernel": "linear"}, {"gamma": 0.3})
        for penalty in (30.0, 0.1, 3.0)
    ]
    exact = score_sets("svm", problem, sets, 1, 2)
    for module in (svm, score_svm):
        monkeypatch.setattr(module, "EXACT_ROWS", 59)  # a fold is fitted on 60
    monkeypatch.setattr(nystroem, "LANDMARKS", 30)
    found = score_sets("svm", problem, sets, 1, 2)
    plain = fit_each(ScoreRequest(kind, problem, KernelCache(problem.features), sets, 1, 2))
    for parameters, ours, theirs in zip(sets, found, plain, strict=True):
        np.testing.assert_allclose(ours.runs[0], theirs.runs[0], atol=2e-3, err_msg=str(parameters))
        assert ours.size == pytest.approx(theirs.size, rel=0.1, abs=200)
    changed = [np.abs(ours.runs[0] - before.runs[0]).max() > 0.01 for ours, before in zip(found, exact, strict=True)]
    assert np.mean(changed) > 0.8


def test_above_the_limit_logistic_regression_sees_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search and head alike, and within 2e-2 of what they answer in float64: L-BFGS stops at a tolerance of its own."""
    problem, kind = problem_of(3), HEADS["logistic"]
    sets = [complete(kind.space, {"pooling": "avgmax", "C": penalty}, "logistic") for penalty in (0.1, 3.0)]
    exact = score_sets("logistic", problem, sets, 1, 0)
    for module in (logistic, score_logistic):
        monkeypatch.setattr(module, "EXACT_ROWS", 59)
    found = score_sets("logistic", problem, sets, 1, 0)
    plain = fit_each(ScoreRequest(kind, problem, KernelCache(problem.features), sets, 1, 0))
    for ours, theirs, before in zip(found, plain, exact, strict=True):
        np.testing.assert_allclose(ours.runs[0], theirs.runs[0], atol=2e-2)
        np.testing.assert_allclose(ours.runs[0], before.runs[0], atol=2e-2)
