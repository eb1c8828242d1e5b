"""Support vector machine, linear or RBF."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ffe.base.arrays import RowSource, empty_array
from ffe.base.feature_layout import FeatureLayout
from ffe.base.text import counted
from ffe.errors import HeadError
from ffe.evaluation.temperature import softmax
from ffe.heads.base import FitData, Head, SearchSize, Settings, sklearn_weights
from ffe.heads.nystroem import LANDMARKS, choose_landmarks, machine_path, whitener
from ffe.heads.passes import fit_linear, fit_map, mapped_blocks, squared_hinge_loss, wide_pca_text
from ffe.heads.probability import two_columns
from ffe.heads.search_space import Parameter
from ffe.heads.transform import FEATURE_SPACE, is_flat_by_kernel, poolings_searched, stored

log = logging.getLogger("ffe")

EXACT_ROWS = 6_000  # a Gram matrix of 0.3 GB, and fits of seconds; beyond, landmarks

MOST_STEPS = 1_000_000  # of libsvm, in seconds; hard problems of large numbers would take it many minutes

_BLOCK_COLUMNS = 2_048
_BLOCK_ROWS = 4_096
VOTES_OF_PAIRS, ONE_AGAINST_REST, SUMS_OF_PAIRS = 0, 1, 2
LEAD = 1e-3  # of the answer, where the sums would answer otherwise


class SvmHead(Head):
    """scikit-learn's ``SVC``, one against one, on a kernel that is computed once.

    Above 6,000 rows the kernel is approximated from 1,024 of them, and the
    machines have squared hinge loss, one against the rest
    (``ffe.heads.nystroem``). Probabilities are a softmax of the summed decision
    values of each class, to be calibrated by a temperature; the answer is
    scikit-learn's. A machine that has not converged after a million steps is
    taken as it is, and said to be so.
    """

    name: ClassVar[str] = "svm"
    space: ClassVar[tuple[Parameter, ...]] = (
        *FEATURE_SPACE,
        Parameter("kernel", "rbf", ("linear", "rbf")),
        Parameter("C", 10.0, low=1e-3, high=1e3, log=True),
        Parameter("gamma", 1.0, low=0.05, high=20.0, log=True, when=("kernel", ("rbf",))),
    )

    _squares: np.ndarray | None = None  # squared lengths of the vectors, once they were asked for

    further_trials: ClassVar[int] = 8
    trials_at_once: ClassVar[int] = 12

    @classmethod
    def first_trials(cls, rows: int, layout: FeatureLayout) -> list[Settings]:
        """Add to the defaults a coarse grid for each map, chosen on the photos of ``tests/benchmarks/bench_search.py``."""
        poolings = poolings_searched(rows, layout)
        first = super().first_trials(rows, layout)
        single = _kernels([{**settings, "scaling": "sqrt_l2"} for settings in first if "parts" in settings])
        if rows > EXACT_ROWS:
            few = [{"pooling": pooling} for pooling in ("avg", "avgmax", "cls", "cls+mean") if pooling in poolings]
            return [{}, *few, *_kernels([{**each, "scaling": "sqrt_l2"} for each in few]), *single]
        pooled = [pooling for pooling in poolings if pooling not in {"max", "gem"}]
        maps = [*itertools.product(pooled, ("sqrt_l2", "l2", "standard"))]
        maps += itertools.product(["flat"] if is_flat_by_kernel(rows, layout) else [], ("sqrt_l2", "l2"))
        return [*first, *_kernels([{"pooling": pooling, "scaling": scaling} for pooling, scaling in maps]), *single]

    @classmethod
    def fit_seconds(cls, size: SearchSize) -> float:
        """Return about how long one fit takes; see ``Head``."""
        rows, dims, classes = size.fit_rows, size.dims, size.classes
        if size.train_rows <= EXACT_ROWS:
            return 2.5 * rows**2 * dims / size.rate / 3 + 6e-8 * rows**2 * (1 + classes / 4)
        return rows * LANDMARKS * (4.0 * dims + 4.0 * LANDMARKS + 100.0 * (1 if classes == 2 else classes)) / size.rate

    @classmethod
    def search_bytes(cls, size: SearchSize) -> int:
        """Return the memory of the Gram matrices, or of the kernel with the landmarks; see ``Head``."""
        return gram_bytes(size) if size.train_rows <= EXACT_ROWS else 16 * size.fit_rows * LANDMARKS

    @classmethod
    def search_note(cls, train_rows: int) -> str:
        """Say where the kernel is approximated; see ``Head``."""
        if train_rows <= EXACT_ROWS:
            return ""
        approximation = f"an approximation of its kernel from {LANDMARKS} of them (Nyström)"
        return f"above {EXACT_ROWS} training rows the svm works on {approximation}"

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        """Fit on mapped rows; see ``Head``."""
        x = self.map.fit_rowwise(x).transform_rowwise(x)
        labels, classes, rbf = data.labels, data.classes, self.parameters["kernel"] == "rbf"
        self._classes, self._temperature, self._squares = classes, 1.0, None
        self._gamma = gamma_of(self.parameters, x)
        self._scoring = ONE_AGAINST_REST if classes > 2 and len(x) > EXACT_ROWS else SUMS_OF_PAIRS
        if len(x) > EXACT_ROWS:
            support, pairs, self._bias = self._fit_landmarks(x, data)
        else:
            products = inner_products(x)
            kernel = rbf_kernel(products, products.diagonal(), products.diagonal(), self._gamma) if rbf else products
            support, pairs, self._bias, converged = fit_pairs(kernel, labels, classes, self.parameters["C"], data.class_weights)
            if not converged:
                log.warning(
                    "the svm had not converged after %s steps, so it may be worse than it could be: C = %g is much for features "
                    "of this scale; a smaller C, or scaling=sqrt_l2, mends that",
                    f"{MOST_STEPS:,}",
                    self.parameters["C"],
                )
        if rbf:
            self._vectors, self._pairs = x[support], pairs.astype(np.float32)
        else:
            self._vectors, self._pairs = np.empty((0, 0), np.float32), (x[support].T @ pairs).astype(np.float32)
        return self

    def fit_streamed(self, source: RowSource, data: FitData) -> Self:
        """Solve a linear machine in passes over the rows, an RBF one on landmarks of them; see ``Head``."""
        self._classes, self._temperature, self._squares = data.classes, 1.0, None
        self._scoring, self._gamma = (ONE_AGAINST_REST if data.classes > 2 else SUMS_OF_PAIRS), 0.0
        if self.parameters["kernel"] == "linear":
            pairs, self._bias = fit_linear(source, self.map, data, self.parameters["C"], squared_hinge_loss)
            self._vectors, self._pairs = np.empty((0, 0), np.float32), pairs.astype(np.float32)
            return self
        fit_map(self.map, source, data)
        count, total, squares = 0, 0.0, 0.0
        for x in mapped_blocks(self.map, source):
            count, total, squares = count + x.size, total + x.sum(dtype=np.float64), squares + squares_of(x).sum()
        self._gamma = float(self.parameters["gamma"]) * count / (x.shape[1] * (squares - total**2 / count or count))
        self._vectors = self.map.transform_rowwise(self.map.rowwise(source[choose_landmarks(len(data.labels), data.seed)]))
        pairs, self._bias = self._solved(lambda: mapped_blocks(self.map, source), self._vectors, data)
        self._pairs = pairs.astype(np.float32)
        return self

    def approximation(self, rows: int, *, streamed: bool) -> str:
        """Say that an RBF kernel stands on landmarks; see ``Head``."""
        if rows <= EXACT_ROWS or (streamed and self.parameters["kernel"] == "linear"):
            return wide_pca_text(self.map) if streamed else ""
        return f"the kernel of the svm is approximated from {LANDMARKS:,} of them (Nyström)"

    def _fit_landmarks(self, x: np.ndarray, data: FitData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return landmarks (m,), coefficients (m, P) of the kernel with each, and biases (P,)."""
        landmarks = choose_landmarks(len(x), data.seed)
        return landmarks, *self._solved(
            lambda: (x[i : i + _BLOCK_ROWS] for i in range(0, len(x), _BLOCK_ROWS)), x[landmarks], data
        )

    def _solved(
        self, blocks: Callable[[], Iterable[np.ndarray]], landmarks: np.ndarray, data: FitData
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients (m, P) and biases (P,) on the mapped rows that a call of ``blocks`` yields in order."""
        back = whitener(kernel_of(landmarks, landmarks, self._gamma))
        z, done = empty_array((len(data.labels), back.shape[1]), what="kernels"), 0
        for x in blocks():
            z[done : done + len(x)] = kernel_of(x, landmarks, self._gamma) @ back
            done += len(x)
        signs, penalties = signs_of(data.labels, self._classes), [self.parameters["C"]]
        ((w, b),) = machine_path(z, signs, penalties, data.row_weights)
        return back @ w, b

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes) for mapped rows; see ``Head``."""
        x = self.map.transform_rowwise(x)
        if len(self._vectors):
            x = kernel_of(x, self._vectors, self._gamma, self._squared)
        return self._proba_of(x)

    def proba_of_replaced(self, row: np.ndarray, out: np.ndarray, values: np.ndarray) -> np.ndarray | None:
        """Multiply each cell with those of the vectors once, where an RBF kernel looks at cells as they are; see ``Head``."""
        leaves_cells = self.map.pooling == "flat" and not self.map.is_fitted_to_rows and self.map.layout.grid is not None
        if not leaves_cells or not len(self._vectors):
            return None
        cells, values = self.map.rooted(row.reshape(out.shape[1], -1)), self.map.rooted(values)
        vectors = self._vectors.reshape(len(self._vectors), *cells.shape)
        products = np.zeros((len(out), len(vectors)))
        for i, cell in enumerate(cells):
            changed = out[:, i]
            found = (vectors[:, i] @ np.concatenate([cell[None], values[changed]]).T).T
            products[~changed] += found[0]
            products[changed] += found[1:]
        squares = ~out @ squares_of(cells) + out.sum(axis=1) * squares_of(values)
        if self.map.scaling != "none":  # rows of length 1
            products /= np.sqrt(squares)[:, None]
            squares = np.ones(len(out))
        return self._proba_of(rbf_kernel(products, squares, self._squared, self._gamma))

    @property
    def _squared(self) -> np.ndarray:
        if self._squares is None:
            self._squares = squares_of(self._vectors)
        return self._squares

    def _proba_of(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities float64 (n, K) from kernel values (n, m), or from mapped rows where the kernel is linear."""
        decisions = x @ self._pairs + self._bias
        if self._scoring != ONE_AGAINST_REST:
            decisions = (votes_of_pairs if self._scoring == VOTES_OF_PAIRS else class_scores)(decisions, self._classes)
        return softmax(self._temperature * decisions)

    def linear(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return weights and bias of a linear kernel, where votes do not count; see ``Head``."""
        if len(self._vectors) or self._scoring == VOTES_OF_PAIRS:
            return None
        machine = self._temperature * np.concatenate([self._pairs, self._bias[None]]).astype(np.float64)
        if self._scoring == SUMS_OF_PAIRS:
            machine = two_columns(machine[:, 0]) if self._classes == 2 else _of_pairs(machine, self._classes)
        return machine[:-1], machine[-1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the machine as arrays, and those of the map.

        ``vectors`` is empty for a linear kernel; ``pairs`` (m or d, P) and ``bias`` (P,)
        are for the P pairs of classes, or for the P classes against the rest;
        ``constants``: classes, gamma, temperature, and what decisions become: 1 = scores
        against the rest, 2 = sums of pairs, 0 = votes of pairs, in earlier models.
        """
        constants = np.asarray([self._classes, self._gamma, self._temperature, self._scoring], np.float64)
        machine = {"vectors": self._vectors, "pairs": self._pairs, "bias": self._bias, "constants": constants}
        return {**machine, **self.map.arrays()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what ``arrays`` returned; the first models had a temperature of their own, and no fourth constant."""
        axes = (("vectors", 2), ("pairs", 2), ("bias", 1))
        self._vectors, self._pairs, self._bias = (stored(arrays, *array) for array in axes)
        classes, self._gamma, self._temperature, *rest = (float(value) for value in stored(arrays, "constants", 1))
        self._classes, self._scoring = int(classes), int(rest[0]) if rest else VOTES_OF_PAIRS
        machines = self._classes if self._scoring == ONE_AGAINST_REST else self._classes * (self._classes - 1) // 2
        if len(self._bias) != machines:
            raise HeadError(
                f"A svm for {counted(self._classes, 'class', 'classes')} has {counted(machines, 'machine')}, "
                f"not {len(self._bias)}; make the model again."
            )


def _kernels(maps: Sequence[Settings]) -> list[Settings]:
    """Return a coarse grid of machines for each map."""
    result: list[Settings] = []
    for shared in maps:
        result += [{**shared, "kernel": "rbf", "C": c, "gamma": gamma} for c, gamma in ((30.0, 0.1), (10.0, 0.3), (3.0, 1.0))]
        result.append({**shared, "kernel": "linear", "C": 0.01 if shared["scaling"] == "standard" else 1.0})
    return result


def gram_bytes(size: SearchSize) -> int:
    """Return the memory of the Gram matrices of a search: of all rows, of each part, and of the fits that run at once."""
    return 8 * (2 * size.rows**2 + size.parts * size.fit_rows * size.rows + 2 * size.fit_rows**2 * size.cores)


def signs_of(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return float64 (n, K), 1 or -1: class 1 against class 0 where there are two, else each class against the rest."""
    return np.where(labels[:, None] == ([1] if classes == 2 else np.arange(classes)), 1.0, -1.0)


def gamma_of(parameters: Mapping[str, Any], x: np.ndarray) -> float:
    """Return the gamma of an RBF kernel on x (n, d): scikit-learn's "scale", 1 / (d * variance), times the parameter."""
    if parameters["kernel"] != "rbf":
        return 0.0
    variance = float(x.var(dtype=np.float64)) or 1.0
    return float(parameters["gamma"]) / (x.shape[1] * variance)


def inner_products(x: np.ndarray) -> np.ndarray:
    """Return the Gram matrix float64 (n, n) of x float32 (n, d), summed in float64, some columns at a time."""
    gram = np.zeros((len(x), len(x)))
    for start in range(0, x.shape[1], _BLOCK_COLUMNS):
        block = x[:, start : start + _BLOCK_COLUMNS].astype(np.float64)
        gram += block @ block.T
    return gram


def kernel_of(a: np.ndarray, b: np.ndarray, gamma: float, squares_b: np.ndarray | None = None) -> np.ndarray:
    """Return the kernel float64 (n, m) of float32 (n, d) and (m, d); linear where gamma is 0; ``squares_b`` of b, if known."""
    products = (a @ b.T).astype(np.float64)
    if not gamma:
        return products
    return rbf_kernel(products, squares_of(a), squares_of(b) if squares_b is None else squares_b, gamma)


def squares_of(x: np.ndarray) -> np.ndarray:
    """Return the squared lengths float64 (n,) of x float32 (n, d), summed in float64."""
    squares: np.ndarray = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    return squares


def kernel_rows(x: np.ndarray, landmarks: np.ndarray, gamma: float, back: np.ndarray) -> np.ndarray:
    """Return the kernel of all rows with the landmarks, times ``back`` (m, r): float32 (n, r), in blocks of rows."""
    result = np.empty((len(x), back.shape[1]), np.float32)
    for start in range(0, len(x), _BLOCK_ROWS):
        result[start : start + _BLOCK_ROWS] = kernel_of(x[start : start + _BLOCK_ROWS], landmarks, gamma) @ back
    return result


def rbf_kernel(products: np.ndarray, squares_a: np.ndarray, squares_b: np.ndarray, gamma: float) -> np.ndarray:
    """Return exp(-gamma * squared distance) float64 (n, m) from inner products (n, m) and squared lengths (n,), (m,)."""
    distances = squares_a[:, None] + squares_b[None, :] - 2 * products
    np.maximum(distances, 0, out=distances)
    distances *= -gamma
    return np.exp(distances, out=distances)


def fit_pairs(
    kernel: np.ndarray, labels: np.ndarray, classes: int, penalty: float, class_weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Fit on a Gram matrix; return (support (m,), pairs (m, P), bias (P,), whether it converged in ``MOST_STEPS``).

    ``kernel(x, support) @ pairs + bias`` is positive for the first class of a
    pair (i < j); with two classes it is positive for class 1, as in scikit-learn.
    """
    from sklearn.svm import SVC

    weights = sklearn_weights(class_weights)
    machine = SVC(C=penalty, kernel="precomputed", cache_size=500, class_weight=weights, max_iter=MOST_STEPS).fit(kernel, labels)
    converged = not machine.fit_status_
    support, coefficients = machine.support_, machine.dual_coef_
    if classes == 2:
        return support, coefficients.T, machine.intercept_, converged
    owner = labels[support]
    columns = [
        np.where(owner == second, coefficients[first], np.where(owner == first, coefficients[second - 1], 0.0))
        for first, second in itertools.combinations(range(classes), 2)
    ]
    return support, np.stack(columns, axis=1), machine.intercept_, converged


def class_scores(decisions: np.ndarray, classes: int) -> np.ndarray:
    """Turn decision values (N, P) of pairs into scores (N, classes) whose softmax says how sure the answer is.

    The score of a class is the sum of its decision values against the others. The class with
    the most votes, scikit-learn's answer, is put just above them where the sums say otherwise.
    """
    if classes == 2:
        return two_columns(decisions[:, 0])
    sums = _of_pairs(decisions, classes)
    rows, best = np.arange(len(sums)), votes_of_pairs(decisions, classes).argmax(axis=1)
    others = sums.copy()
    others[rows, best] = -np.inf
    sums[rows, best] = np.maximum(sums[rows, best], others.max(axis=1) + LEAD)
    return sums


def votes_of_pairs(decisions: np.ndarray, classes: int) -> np.ndarray:
    """Turn decision values (N, P) of pairs into votes (N, classes), as scikit-learn's ``decision_function_shape='ovr'``.

    Within equal votes the summed confidence counts, squeezed below a third of a vote.
    """
    if classes == 2:
        return two_columns(decisions[:, 0])
    confidence = _of_pairs(decisions, classes)
    votes = _of_pairs(np.where(decisions >= 0, 0.5, -0.5), classes) + (classes - 1) / 2
    return votes + confidence / (3 * (np.abs(confidence) + 1))


def _of_pairs(values: np.ndarray, classes: int) -> np.ndarray:
    """Sum values (N, P) of pairs (i < j) for each class, float64 (N, classes): for the first of a pair, against the second."""
    sums = np.zeros((len(values), classes))
    for pair, (first, second) in enumerate(itertools.combinations(range(classes), 2)):
        sums[:, first] += values[:, pair]
        sums[:, second] -= values[:, pair]
    return sums
