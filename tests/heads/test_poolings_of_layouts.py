"""Tokens and several layers: pooled and scaled as plain numpy does it, searched and kept like grids."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout, Part
from ffe.errors import HeadError
from ffe.heads import HEADS
from ffe.heads.search_space import complete
from ffe.heads.transform import FeatureMap, averaged, part_layout, pooled_dims, poolings_of, poolings_searched, space_of
from ffe.specs import SearchSpec
from ffe.testing.head import separable_rows
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.score_any import fit_each
from ffe.tuning.scoring import ScoreRequest
from ffe.tuning.search import refit, score_once, score_sets, search, trials_planned

# all of 24 values in 4 channels
TOKENS = FeatureLayout((Part(2, 2, 4, prefix=2),))
LAYERS = FeatureLayout((Part(1, 2, 4), Part(2, 2, 4)))
MIXED = FeatureLayout((Part(1, 2, 4), Part(1, 3, 4, prefix=1)))
VECTORS = FeatureLayout((Part(1, 1, 20), Part(1, 1, 4)))
LAYOUTS = {"tokens": TOKENS, "layers": LAYERS, "mixed": MIXED, "vectors": VECTORS}

SCALINGS = ("none", "l2", "sqrt_l2")


def rows(count: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (count, 24)).astype(np.float32)


def by_hand(row: np.ndarray, layout: FeatureLayout, pooling: str, scaling: str, parts: str = "all") -> np.ndarray:
    """Pool and scale one row, float (D,), in float64."""
    found, start = [], 0
    for number, part in enumerate(layout.parts, 1):
        own = row[start : start + part.dims].astype(np.float64)
        start += part.dims
        if parts not in {"all", str(number)}:
            continue
        tokens = own.reshape(-1, part.channels)
        grid = tokens[part.prefix :]
        mean = grid.sum(axis=0) / len(grid)
        cls = [tokens[0]] if part.prefix else []
        gem = (np.where(grid > 1e-6, grid, 1e-6) ** 3).mean(axis=0) ** (1 / 3) if part.dims > part.channels else own
        views = {
            "flat": [own],
            "avg": [mean],
            "mean": [mean],
            "max": [grid.max(axis=0)],
            "avgmax": [mean, grid.max(axis=0)],
            "cls": cls,
            "cls+mean": [*cls, mean],
            "gem": [gem],
        }[pooling]
        pooled = np.concatenate(views)
        if scaling == "sqrt_l2":
            pooled = np.sign(pooled) * np.abs(pooled) ** 0.5
        if scaling in {"l2", "sqrt_l2"}:
            pooled = pooled / np.sqrt((pooled**2).sum())
        found.append(pooled)
    every = np.concatenate(found)
    return every / np.sqrt(len(found)) if scaling in {"l2", "sqrt_l2"} else every


def test_what_layouts_have() -> None:
    assert poolings_of(TOKENS) == ("flat", "cls", "mean", "cls+mean", "max", "gem")
    assert poolings_of(LAYERS) == ("flat", "avg", "max", "avgmax", "gem")
    assert poolings_of(MIXED) == ("flat", "mean", "cls+mean", "max", "gem")
    assert poolings_searched(100, TOKENS) == ("flat", "cls", "mean", "cls+mean", "max", "gem")
    assert poolings_searched(100, LAYERS) == ("flat", "avg", "max", "avgmax")
    assert poolings_searched(100, MIXED) == ("flat", "mean", "cls+mean", "max", "gem")
    assert poolings_searched(100, VECTORS) == ("flat",)
    many = FeatureLayout((Part(16, 16, 384, prefix=1),))
    assert poolings_searched(100, many) == ("cls", "mean", "cls+mean", "max", "gem")


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(
    ("kind", "pooling", "parts"),
    [
        (kind, pooling, parts)
        for kind, layout in LAYOUTS.items()
        for pooling in poolings_of(layout)
        for parts in ("all", *(str(1 + i) for i in range(len(layout.parts))))
    ],
)
def test_each_part_is_pooled_and_scaled_by_itself(kind: str, pooling: str, parts: str, scaling: str) -> None:
    layout, x = LAYOUTS[kind], rows()
    parameters = {"pooling": pooling, "scaling": scaling, "parts": parts}
    feature_map = FeatureMap(parameters, layout)
    found = feature_map.rowwise(x)
    assert found.dtype == np.float32
    assert found.shape == (len(x), feature_map.dims)
    assert feature_map.dims == pooled_dims(pooling, part_layout(layout, parts))
    np.testing.assert_allclose(found, [by_hand(row, layout, pooling, scaling, parts) for row in x], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["flat", "avg", "max", "avgmax"])
def test_a_plain_grid_is_pooled_as_ever(pooling: str) -> None:
    """To the bit: what earlier models have learnt goes with it."""
    x = rows(50)
    cells = x.reshape(50, 6, 4)
    old = {
        "flat": x,
        "avg": cells.mean(axis=1, dtype=np.float32),
        "max": cells.max(axis=1),
        "avgmax": np.concatenate([cells.mean(axis=1, dtype=np.float32), cells.max(axis=1)], axis=1),
    }[pooling]
    root = np.sign(old) * np.sqrt(np.abs(old))
    scaled = root / np.maximum(np.linalg.norm(root, axis=1, keepdims=True), np.float32(1e-12))
    grid = FeatureLayout.of_shape((2, 3, 4))
    np.testing.assert_array_equal(FeatureMap({"pooling": pooling, "scaling": "none"}, grid).rowwise(x), old)
    np.testing.assert_array_equal(FeatureMap({"pooling": pooling, "scaling": "sqrt_l2"}, grid).rowwise(x), scaled)
    assert HEADS["svm"].space_for(grid) == HEADS["svm"].space


def test_inner_products_are_the_mean_of_those_of_the_parts() -> None:
    """So that no layer outweighs another that is shorter."""
    x, settings = rows(9), {"pooling": "flat", "scaling": "sqrt_l2"}
    every = FeatureMap(settings, LAYERS).rowwise(x)
    first, second = (FeatureMap({**settings, "parts": part}, LAYERS).rowwise(x) for part in ("1", "2"))
    np.testing.assert_allclose(every @ every.T, (first @ first.T + second @ second.T) / 2, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(every, axis=1), 1, atol=1e-6)


def test_means_of_grids_leave_out_what_is_before_them() -> None:
    x = rows(3)
    np.testing.assert_array_equal(averaged(x, TOKENS), x.reshape(3, 6, 4)[:, 2:].mean(axis=1))
    both = np.concatenate([x[:, :8].reshape(3, 2, 4).mean(axis=1), x[:, 8:].reshape(3, 4, 4)[:, 1:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(averaged(x, MIXED), both, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "layout", "sentence"),
    [
        (
            {"pooling": "avgmax"},
            FeatureLayout((Part(16, 16, 384, prefix=1),)),
            "The pooling 'avgmax' needs a grid, but the features are 257 tokens of 384 (class token, 16x16); "
            "use flat, cls, mean, cls+mean, max or gem.",
        ),
        (
            {"pooling": "cls"},
            FeatureLayout.of_shape((7, 7, 1280)),
            "The pooling 'cls' needs a class token, but the features are 7x7x1280; use flat, avg, max, avgmax or gem.",
        ),
        (
            {"pooling": "mean"},
            LAYERS,
            "The pooling 'mean' needs tokens, but the features are 2 layers: 1x2x4; 2x2x4; use flat, avg, max, avgmax or gem.",
        ),
        ({"pooling": "avg", "parts": "3"}, LAYERS, "The features have no part '3': they are 2 layers: 1x2x4; 2x2x4."),
    ],
)
def test_what_a_layout_does_not_have_is_refused(settings: dict[str, Any], layout: FeatureLayout, sentence: str) -> None:
    with pytest.raises(HeadError) as caught:
        FeatureMap(settings, layout)
    assert str(caught.value) == sentence


def problem_of(layout: FeatureLayout, classes: int = 2) -> Problem:
    features, labels = separable_rows(classes, 20)
    features += np.random.default_rng(0).normal(0, 0.5, features.shape).astype(np.float32)
    train = np.arange(len(labels))
    return Problem(features, labels, train, fold_parts(train, train % 3), classes, layout)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("head", HEADS)
def test_first_trials_are_of_what_there_is(head: str, kind: str) -> None:
    layout = LAYOUTS[kind]
    space = HEADS[head].space_for(layout)
    for rows_ in (100, 10_000):
        sets = [complete(space, settings, head) for settings in HEADS[head].first_trials(rows_, layout)]
        for parameters in sets:
            FeatureMap(parameters, layout)
        if head != "forest" and len(layout.parts) > 1:
            assert {parameters["parts"] for parameters in sets} == {"all", "1", "2"}


@pytest.mark.parametrize("kind", ["tokens", "layers", "mixed"])
def test_a_search_tries_what_there_is_and_a_refit_predicts(kind: str) -> None:
    layout = LAYOUTS[kind]
    problem = problem_of(layout)
    trials = search(problem, SearchSpec(("logistic", "svm"), seconds=None))
    tried = {trial.parameters["pooling"] for trial in trials}
    assert tried == set(poolings_searched(len(problem.features), layout))
    assert {trial.parameters.get("parts") for trial in trials} == ({None} if kind == "tokens" else {"all", "1", "2"})
    head = refit(problem, trials[0], 0)
    again = type(head).from_arrays(head.parameters, layout, head.arrays())
    np.testing.assert_array_equal(again.predict_proba(problem.features), head.predict_proba(problem.features))
    assert (head.predict_proba(problem.features).argmax(axis=1) == problem.labels).mean() > 0.9


@pytest.mark.parametrize("head", HEADS)
def test_fast_scorers_keep_parts_apart(head: str) -> None:
    """Sets that differ in parts alone share nothing: each is as if it were fitted by itself."""
    problem, space = problem_of(MIXED, 3), HEADS[head].space_for(MIXED)
    quick = {"dense": {"epochs": 3}, "forest": {"trees": 100}}.get(head, {})
    sets = [
        complete(space, {**quick, "pooling": pooling, "parts": part}, head)
        for pooling, part in itertools.product(("cls+mean", "max"), ("all", "1", "2"))
    ]
    fast = score_sets(head, problem, sets, 1, 0)
    if head == "dense":  # its epoch is chosen by the scored rows; so each set alone is the measure
        alone = [score_sets(head, problem, [each], 1, 0)[0] for each in sets]
    else:
        alone = fit_each(ScoreRequest(HEADS[head], problem, KernelCache(problem.features), sets, 1, 0))
    for one, other in zip(fast, alone, strict=True):
        np.testing.assert_allclose(one.runs[0], other.runs[0], atol=2e-3)
    assert len({one.runs[0].tobytes() for one in fast}) == len(sets)


def test_what_is_fixed_must_be_there() -> None:
    tokens, grid = problem_of(TOKENS), problem_of(FeatureLayout.of_shape((2, 3, 4)))
    with pytest.raises(HeadError, match="The pooling 'avg' needs a grid, but the features are 6 tokens of 4"):
        trials_planned(tokens, SearchSpec(("svm",), fixed={"pooling": "avg"}))
    with pytest.raises(HeadError, match="The pooling 'cls' needs a class token, but the features are 2x3x4"):
        score_once(grid, SearchSpec(("svm",)), "svm", {"pooling": "cls"})
    with pytest.raises(HeadError, match=r"The head 'svm' has no parameter 'parts'; it has pooling, scaling"):
        trials_planned(grid, SearchSpec(("svm",), fixed={"parts": "1"}))
    with pytest.raises(HeadError, match=r"The parameter 'parts' cannot be '3'; it takes all, 1 or 2\."):
        trials_planned(problem_of(LAYERS), SearchSpec(("svm",), fixed={"parts": "3"}))
    best = search(tokens, SearchSpec(("logistic",), fixed={"pooling": "cls"}, trials=4))
    assert {trial.parameters["pooling"] for trial in best} == {"cls"}
    one = search(problem_of(LAYERS), SearchSpec(("logistic",), fixed={"parts": "2"}, trials=4))
    assert {trial.parameters["parts"] for trial in one} == {"2"}


def test_registers_are_not_taken_for_a_class_token() -> None:
    registers = FeatureLayout((Part(16, 16, 384, prefix=4, class_token=False),))
    assert str(registers) == "260 tokens of 384 (4 registers, 16x16)"
    assert poolings_of(registers) == ("flat", "mean", "max", "gem")
    assert poolings_searched(100, registers) == ("mean", "max", "gem")
    assert [one.default for one in space_of(HEADS["svm"].space, registers) if one.name == "pooling"] == ["mean"]
    with pytest.raises(HeadError, match=r"The pooling 'cls' needs a class token, but the features are 260 tokens of 384 \(4 reg"):
        FeatureMap({"pooling": "cls"}, registers)
    beside = FeatureLayout((Part(1, 1, 4, prefix=1, class_token=False), Part(1, 3, 4, prefix=1)))
    assert poolings_of(beside) == ("flat", "mean", "cls+mean", "max", "gem")
    x = rows()
    np.testing.assert_array_equal(FeatureMap({"pooling": "cls+mean"}, beside).rowwise(x)[:, :8], x[:, 4:12])


@pytest.mark.parametrize(
    ("layout", "value"),
    [
        (FeatureLayout((Part(2, 2, 3, 1),)), [[2, 2, 3, 1]]),
        (FeatureLayout((Part(2, 2, 3, 4, False),)), [[2, 2, 3, 4, 0]]),
        (
            FeatureLayout((Part(2, 2, 3, 4, False), Part(2, 2, 3), Part(2, 2, 3, 5))),
            [[2, 2, 3, 4, 0], [2, 2, 3, 0, 0], [2, 2, 3, 5, 1]],
        ),
    ],
)
def test_a_layout_says_where_there_is_no_class_token(layout: FeatureLayout, value: list[Any]) -> None:
    assert layout.to_json() == value
    assert FeatureLayout.from_json(np.asarray(value, np.int64).tolist()) == layout  # as feature files hold it


@pytest.mark.parametrize("numbers", [[2, 2, 3, 1, 2], [2, 2, 3, 0, 1], [2, 2, 3, 1, 0, 0]])
def test_a_layout_that_cannot_be_is_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="layout"):
        FeatureLayout.from_json([numbers])
