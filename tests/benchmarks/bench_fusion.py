"""Do two backbones together know more than the better one alone?

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_fusion.py

What is compared is the best of each search, on the folds that scored it: a little lucky, each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_search import all_rows

from ffe.dataset.feature_files import side_by_side
from ffe.evaluation.comparison import compare
from ffe.specs import SearchSpec
from ffe.store.reader import FeatureStore
from ffe.tuning.problem import Problem
from ffe.tuning.search import search

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("weights")]

HEADS = ("svm", "logistic")


def joined(paths: Sequence[Path]) -> Problem:
    """Take every row of files of the same photos, in the folds of the first."""
    problem = all_rows(paths[0])
    stores = [FeatureStore(path) for path in paths]
    files = side_by_side(stores)
    rows = np.arange(len(problem.labels))
    found = Problem(files.features(rows), problem.labels, rows, problem.parts, problem.classes, files.layout)
    for store in stores:
        store.close()
    return found


@pytest.mark.parametrize(
    "backbones", [("mobilenet", "vgg19"), ("efficientnetlite0", "mobilenet"), ("efficientnetlite0", "vgg19")]
)
def test_fusion_against_the_better_one_alone(features_of: Any, backbones: tuple[str, str]) -> None:
    """The best of a search over both, and of one over each; all three on the same folds, compared photo by photo."""
    paths = [features_of("dogs_vs_cats", backbone, 150 if backbone == "vgg19" else 224) for backbone in backbones]
    spec = SearchSpec(heads=HEADS)
    alone = [search(joined([path]), spec)[0] for path in paths]
    problem = joined(paths)
    both = search(problem, spec)
    together = next(trial for trial in both if trial.parameters["parts"] == "all")
    better = max(alone, key=lambda trial: trial.score)
    truths = problem.labels[problem.scored]
    for name, trial in zip((*backbones, "both"), (*alone, together), strict=True):
        print(f"{name}: {trial.score:.4f} ({trial.head} {trial.parameters})")
    print(compare(together.probabilities, better.probabilities, truths))
    assert both[0].score >= better.score - 0.005
