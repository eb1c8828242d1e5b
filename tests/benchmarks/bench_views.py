"""Do views help? The accuracy of heads on images that they have not seen, with and without views of the training images.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_views.py

A third of the images is held out, once, by their content; images that belong
together stay on one side. The training sets are drawn from the others, the
same number of each class; "all" are nine tenths of them. For every set a small
search picks the parameters by cross-validation on that set alone, the winner
is fitted on all of it, and asked about the plain rows of those held out; with
"tta", about their four views as well, and the five answers are averaged. The
features are averaged over the grid. All columns of a row see the same sets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.dataset.load_features import pooled_rows
from ffe.extraction.run import extract
from ffe.specs import SearchSpec
from ffe.splits.folds import assign_folds
from ffe.splits.groups import find_groups
from ffe.splits.holdout import hold_out
from ffe.store.reader import FeatureStore
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import refit, search

pytestmark = pytest.mark.benchmark

CHANGES = "flip,zoom=0.8-1.2,rotate=15,shift=0.1,brightness=0.8-1.2"
VIEWS = 4
SIZES = (50, 200, None)
DRAWS = 5
TRIALS = {"svm": 5, "dense": 2}  # those that a search opens with
WAYS = (("svm", "none"), ("svm", "all"), ("dense", "none"), ("dense", "all"), ("dense", "epoch"))


class Images:
    """The images of a feature file with views, and how they are split.

    Attributes:
        x: float32 (n, 1 + views, C): the plain row of each image, and its views.
        labels: int64 (n,).
    """

    def __init__(self, path: Path) -> None:
        with FeatureStore(path) as store:
            plain = store.plain
            rows = np.concatenate([plain[:, None], store.rows_of_views(plain)], axis=1)
            assert (rows >= 0).all()
            self.labels, self.class_names = store.labels[plain], store.class_names
            self._sha256 = [store.sha256[i] for i in plain]
            phash, names = store.phash[plain], list(store.paths)
            origin = np.stack([np.zeros(len(names), np.int64), np.arange(len(names))], axis=1)
            self.x = pooled_rows([store], origin, names)[rows]
        self._groups = find_groups(self._sha256, phash, self.x[:, 0]).ids
        side = hold_out(self.labels, self._sha256, self._groups, 1 / 3, 0).side
        self.test, self._rest = np.flatnonzero(side == "test"), np.flatnonzero(side == "train")

    def sets(self, size: int | None) -> Iterator[np.ndarray]:
        """Yield training sets, int64 (size,), as many of each class as of the others."""
        for draw in range(DRAWS):
            generator, chosen = np.random.default_rng(draw), []
            for label in range(len(self.class_names)):
                mine = generator.permutation(self._rest[self.labels[self._rest] == label])
                count = round(0.9 * len(mine)) if size is None else size // len(self.class_names)
                chosen.append(mine[:count])
            yield np.sort(np.concatenate(chosen))

    def problem(self, chosen: np.ndarray, views: str) -> Problem:
        """Return what a search works on."""
        labels, count, each = self.labels[chosen], len(chosen), self.x.shape[1]
        digests = [self._sha256[i] for i in chosen]
        train = np.arange(count)
        parts = fold_parts(train, assign_folds(labels, digests, self._groups[chosen], 5, 0, self.class_names))
        layout = FeatureLayout.of_shape((1, 1, self.x.shape[2]))
        if views == "none":
            return Problem(self.x[chosen, 0], labels, train, parts, len(self.class_names), layout)
        image = np.tile(train, each)
        x = np.concatenate([self.x[chosen, view] for view in range(each)])
        whole = Problem(x, labels[image], train, parts, len(self.class_names), layout, None, image, views == "epoch")
        widened = [(whole.with_views(fit), score) for fit, score in parts]
        return Problem(x, labels[image], whole.with_views(train), widened, whole.classes, layout, None, image, views == "epoch")

    def accuracies(self, chosen: np.ndarray, head: str, views: str) -> tuple[float, float]:
        """Return the accuracy on the images held out: of their plain rows, and averaged over their views."""
        problem = self.problem(chosen, views)
        fitted = refit(problem, search(problem, SearchSpec((head,), trials=TRIALS[head]))[0], 0)
        answers = np.stack([fitted.predict_proba(self.x[self.test, view]) for view in range(self.x.shape[1])])
        truth = self.labels[self.test]
        return float((answers[0].argmax(1) == truth).mean()), float((answers.mean(axis=0).argmax(1) == truth).mean())


@pytest.fixture(params=["dogs_vs_cats", "faces"])
def images(request: pytest.FixtureRequest, shared: Path, weights: None, tmp_path: Path) -> Images:
    kept = os.environ.get("FFE_BENCH_FEATURES")  # a folder that keeps them for the next time
    path = (Path(kept) if kept else tmp_path) / f"{request.param}_mobilenet_224_views.h5"
    if not path.exists():
        extract(shared / "images" / request.param, path, backbone="mobilenet", views=VIEWS, augment=CHANGES)
    return Images(path)


def test_what_views_are_worth(images: Images) -> None:
    """More images are worth more than views of few."""
    names = [f"{head} {views}{tta}" for head, views in WAYS for tta in ("", ", tta")]
    print(f"\n{len(images.test)} images held out, {DRAWS} draws: mean and deviation")
    print(f"| images | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    means = []
    for size in SIZES:
        found = np.asarray(
            [np.concatenate([images.accuracies(chosen, *way) for way in WAYS]) for chosen in images.sets(size)]
        )  # (draws, ways)
        count = len(next(images.sets(size)))
        cells = [f"{mean:.4f} ± {spread:.4f}" for mean, spread in zip(found.mean(axis=0), found.std(axis=0, ddof=1), strict=True)]
        print(f"| {count} | {' | '.join(cells)} |", flush=True)
        won = [f"{(column > 0).sum()}:{(column < 0).sum()}" for column in found[:, [2, 6, 8]].T - found[:, [0, 4, 4]].T]
        print(f"  draws won and lost by views: svm all {won[0]}, dense all {won[1]}, dense epoch {won[2]}", flush=True)
        means.append(found.mean(axis=0))
    assert (means[-1] > means[0]).all()
