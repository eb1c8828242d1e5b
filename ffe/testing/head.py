"""The contract that every head keeps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.base import FitData, Head
from ffe.heads.search_space import complete
from ffe.heads.transform import poolings_of

_GRID = (2, 3, 4)
_LAYOUT = FeatureLayout.of_shape(_GRID)
_LEAST_ACCURACY = 0.9


def separable_rows(classes: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make ``rows`` of each of 2 to 4 classes that any head can tell apart in every pooling.

    Each class is bright in a channel of its own; the rest is noise.

    Returns:
        float32 (classes * rows, 24), a grid of (2, 3, 4), and int64 labels of mixed order.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), rows))
    cells = rng.uniform(0, 1, (len(labels), *_GRID))
    cells[np.arange(len(labels)), :, :, labels] += 1.5
    return cells.reshape(len(labels), -1).astype(np.float32), labels.astype(np.int64)


class HeadContract:
    """Subclass it, name the head, and pytest checks all that ``ffe.heads.base.Head`` promises.

    Attributes:
        head: the class under test.
        settings: parameters that make a fit quick; defaults fill in the rest.
    """

    head: ClassVar[type[Head]]
    settings: ClassVar[dict[str, Any]] = {}

    def fitted(
        self, features: np.ndarray, labels: np.ndarray, *, seed: int = 0, class_weights: np.ndarray | None = None, **settings: Any
    ) -> Head:
        """Return the head, fitted on rows of the grid (2, 3, 4) with the quick settings and those given."""
        head = self.head(self.parameters(**settings), _LAYOUT)
        return head.fit(features, labels, int(labels.max()) + 1, seed=seed, class_weights=class_weights)

    def parameters(self, **settings: Any) -> dict[str, Any]:
        """Return the parameters of a head with the quick settings and those given."""
        return complete(self.head.space, {**self.settings, **settings}, self.head.name)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_probabilities_are_probabilities(self, classes: int) -> None:
        """Float64 (N, K), in [0, 1], rows summing to 1, for any number of rows."""
        head = self.fitted(*separable_rows(classes, 15))
        for rows in (1, 7):
            probabilities = head.predict_proba(separable_rows(classes, 15, seed=1)[0][:rows])
            assert probabilities.dtype == np.float64
            assert probabilities.shape == (rows, classes)
            assert probabilities.min() >= 0
            assert probabilities.max() <= 1
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_it_learns(self, classes: int) -> None:
        """Rows that it has not seen are told apart, and the true class is the likely one."""
        head = self.fitted(*separable_rows(classes, 25))
        features, labels = separable_rows(classes, 25, seed=1)
        probabilities = head.predict_proba(features)
        assert (probabilities.argmax(axis=1) == labels).mean() > _LEAST_ACCURACY
        assert probabilities[np.arange(len(labels)), labels].mean() > 1.2 / classes

    def test_mapped_rows_do_as_well_as_features(self) -> None:
        """On what ``map.rowwise`` made, ``fit_rowwise`` and ``proba_rowwise`` are ``fit`` and ``predict_proba``, bit for bit."""
        features, labels = separable_rows(3, 15)
        others = separable_rows(3, 5, seed=1)[0]
        weights = np.asarray([0.5, 1.0, 2.0])
        head = self.fitted(features, labels, class_weights=weights)
        again = type(head)(head.parameters, _LAYOUT)
        again.fit_rowwise(again.map.rowwise(features), FitData(labels, 3, class_weights=weights))
        expected = head.predict_proba(others)
        np.testing.assert_array_equal(again.predict_proba(others), expected)
        np.testing.assert_array_equal(head.proba_rowwise(head.map.rowwise(others)), expected)

    def test_class_weights_shift_the_answers(self) -> None:
        """Of rows that are in both classes, more are answered with the class that counts fiftyfold; equal weights do little."""
        features, labels = separable_rows(2, 20)
        features, labels = np.concatenate([features] * 3), np.concatenate([labels, labels, 1 - labels])
        plain, equal, shifted = (
            self.fitted(features, labels, class_weights=weights).predict_proba(features)[:, 1].mean()
            for weights in (None, np.ones(2), np.asarray([1.0, 50.0]))
        )
        assert shifted > plain + 0.05
        assert abs(equal - plain) < 0.05

    def test_a_row_does_not_depend_on_its_neighbours(self) -> None:
        """One by one, and together: the same probabilities, to rounding."""
        head = self.fitted(*separable_rows(3, 15))
        features = separable_rows(3, 3, seed=1)[0]
        alone = np.concatenate([head.predict_proba(row[None]) for row in features])
        np.testing.assert_allclose(head.predict_proba(features), alone, atol=1e-5)

    def test_rows_may_be_views_of_images(self) -> None:
        """They are learnt; a head that nothing is drawn for fits as without."""
        features, labels = separable_rows(2, 30)
        fit, images = (np.repeat(features, 2, axis=0), np.repeat(labels, 2)), np.repeat(np.arange(60), 2)
        head = self.fitted(*fit)
        drawn = self.head(self.parameters(), _LAYOUT).fit(*fit, 2, images=images)
        other, wanted = separable_rows(2, 30, seed=1)
        assert (drawn.predict_proba(other).argmax(axis=1) == wanted).mean() > _LEAST_ACCURACY
        if not head.random:
            for name, array in head.arrays().items():
                np.testing.assert_array_equal(array, drawn.arrays()[name], err_msg=name)

    def test_labels_in_any_order(self) -> None:
        """Rows sorted by falling label are learnt like mixed ones; column k stays class k."""
        features, labels = separable_rows(3, 25)
        order = np.argsort(-labels, kind="stable")
        head = self.fitted(features[order], labels[order])
        other, wanted = separable_rows(3, 25, seed=1)
        assert (head.predict_proba(other).argmax(axis=1) == wanted).mean() > _LEAST_ACCURACY

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        """Two fits from one seed have equal arrays."""
        rows = separable_rows(2, 15)
        first, second = self.fitted(*rows, seed=3).arrays(), self.fitted(*rows, seed=3).arrays()
        assert first.keys() == second.keys()
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name], err_msg=name)

    def test_random_tells_whether_seeds_matter(self) -> None:
        """``random`` is true just where another seed may change what a fit answers."""
        rows = separable_rows(2, 15)
        features = separable_rows(2, 15, seed=1)[0]
        first, second = (self.fitted(*rows, seed=seed).predict_proba(features) for seed in (0, 1))
        if self.head.random:
            assert not np.array_equal(first, second)
        else:
            np.testing.assert_array_equal(first.argmax(axis=1), second.argmax(axis=1))

    @pytest.mark.parametrize("classes", [2, 3])
    def test_arrays_hold_all_of_it(self, classes: int) -> None:
        """A head rebuilt from copies of its arrays predicts the same bits; nothing in them needs pickle."""
        head = self.fitted(*separable_rows(classes, 15))
        arrays = {name: array.copy() for name, array in head.arrays().items()}
        assert all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in arrays.values())
        again = self.head.from_arrays(head.parameters, _LAYOUT, arrays)
        features = separable_rows(classes, 15, seed=1)[0]
        np.testing.assert_array_equal(again.predict_proba(features), head.predict_proba(features))
        assert again.parameters == head.parameters
        assert again.arrays().keys() == arrays.keys()

    def test_constant_features_do_no_harm(self) -> None:
        """Features that never vary, and rows of zeros only, give finite probabilities."""
        features, labels = separable_rows(2, 15)
        features[:, :12] = 0.25
        assert np.isfinite(self.fitted(features, labels).predict_proba(features)).all()
        nothing = np.zeros_like(features)
        assert np.isfinite(self.fitted(nothing, labels).predict_proba(nothing)).all()

    @pytest.mark.parametrize("pooling", poolings_of(_LAYOUT))
    def test_every_pooling_learns(self, pooling: str) -> None:
        """Each view of the grid is enough for rows that are told apart by channel."""
        head = self.fitted(*separable_rows(2, 25), pooling=pooling)
        features, labels = separable_rows(2, 25, seed=1)
        assert (head.predict_proba(features).argmax(axis=1) == labels).mean() > _LEAST_ACCURACY
