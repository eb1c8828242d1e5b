"""Dense heads, cross-validated side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import threadpoolctl

from ffe.base.system import cores
from ffe.heads.base import row_weights
from ffe.heads.dense import network_of
from ffe.heads.mlp import Network, initial_layers
from ffe.heads.probability import log_softmax, softmax, two_columns
from ffe.heads.transform import FeatureMap
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Outcome, Problem, by_feature_map

_WIDEST = 384  # columns of one group's first layers

Place = tuple[int, int, int]  # set of parameters, part, execution


def dense_outcomes(
    problem: Problem, views: KernelCache, sets: Sequence[Mapping[str, Any]], executions: int, seed: int
) -> list[Outcome]:
    """Fit and score every set of parameters on every part; see ``EVALUATE`` in ``ffe.tuning.search``.

    All parts and executions of all sets train together, epoch by epoch. A set
    stops when the mean log loss of its scored rows has not fallen for
    ``patience`` epochs (0 = never), and is scored at the epoch where that loss
    was least; one epoch for all its parts, so that a refit can use it. Where two
    epochs are equal to the last bits, another processor may take the other one.
    """
    outcomes: list[Outcome | None] = [None] * len(sets)
    together = [i for i, parameters in enumerate(sets) if parameters["trainer"] == "together"]
    for i, parameters in enumerate(sets):
        if i not in together:
            outcomes[i] = _by_keras(problem, views, parameters, executions, seed)
    if together:
        chosen = [sets[i] for i in together]
        for i, outcome in zip(together, _together(problem, views, chosen, executions, seed), strict=True):
            outcomes[i] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


class _Course:
    """How the training of one set goes, all its parts and executions taken together."""

    def __init__(self, problem: Problem, parameters: Mapping[str, Any], executions: int) -> None:
        self._problem, self._executions = problem, executions
        self._patience, self._epochs = parameters["patience"], parameters["epochs"]
        self.curves: dict[str, list[float]] = {
            name: [] for name in ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")
        }
        self.best = 0
        self.runs: tuple[np.ndarray, ...] = ()

    @property
    def running(self) -> bool:
        """Whether there is another epoch to train."""
        done = len(self.curves["valid_loss"])
        return done < self._epochs and not (self._patience and done - self.best >= self._patience)

    def record(self, scores: Mapping[tuple[int, int], np.ndarray], loss: float, accuracy: float) -> None:
        """Take in an epoch: logits float32 (m, outputs) by (part, execution), and how the training rows did."""
        parts = range(len(self._problem.parts))
        runs = [np.concatenate([scores[part, run] for part in parts]) for run in range(self._executions)]
        runs = [np.nan_to_num(two_columns(run[:, 0]) if run.shape[1] == 1 else run, posinf=1e30, neginf=-1e30) for run in runs]
        labels = self._problem.labels[self._problem.scored]
        rows = np.arange(len(labels))
        self.curves["train_loss"].append(loss)
        self.curves["train_accuracy"].append(accuracy)
        self.curves["valid_loss"].append(float(np.mean([-log_softmax(run)[rows, labels].mean() for run in runs])))
        self.curves["valid_accuracy"].append(float(np.mean([(run.argmax(1) == labels).mean() for run in runs])))
        if self.curves["valid_loss"][-1] <= min(self.curves["valid_loss"]):
            self.best = len(self.curves["valid_loss"])
            self.runs = tuple(softmax(run).astype(np.float32) for run in runs)

    def outcome(self, seconds: float, size: int) -> Outcome:
        """Return what the set came to."""
        return Outcome(self.runs, seconds, size, {"epochs": self.best}, self.curves)


def _together(
    problem: Problem, views: KernelCache, sets: Sequence[Mapping[str, Any]], executions: int, seed: int
) -> list[Outcome]:
    networks = [network_of(parameters, problem.classes) for parameters in sets]
    courses = [_Course(problem, parameters, executions) for parameters in sets]
    groups, sizes = _groups(problem, views, sets, networks, executions, seed)
    busy = [0.0] * len(sets)
    with threadpoolctl.threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(cores()) as pool:
        while groups:
            begun = time.monotonic()
            list(pool.map(lambda group: group[0].epoch(), groups))
            lanes: dict[int, dict[tuple[int, int], tuple[np.ndarray, float, float]]] = {}
            for group, places in groups:
                for position, lane in enumerate(group.lanes):
                    i, part, run = places[lane]
                    share = group.correct[position] / group.epoch_rows
                    lanes.setdefault(i, {})[part, run] = (group.scores[:, position], group.losses[position], share)
            for i, found in lanes.items():
                loss, accuracy = (float(np.mean([value[k] for value in found.values()])) for k in (1, 2))
                courses[i].record({key: value[0] for key, value in found.items()}, loss, accuracy)
                busy[i] += (time.monotonic() - begun) / len(lanes)
            groups = _still_running(groups, courses)
    seconds = [value / (len(problem.parts) * executions) for value in busy]
    return [course.outcome(seconds[i], sizes[i]) for i, course in enumerate(courses)]


def _still_running(groups: list[tuple[Any, list[Place]]], courses: Sequence[_Course]) -> list[tuple[Any, list[Place]]]:
    """Let go of the lanes of sets that are done, and of groups without lanes."""
    left = []
    for group, places in groups:
        positions = [p for p, lane in enumerate(group.lanes) if courses[places[lane][0]].running]
        if positions:
            if len(positions) < len(group.lanes):
                group.keep(positions)
            left.append((group, places))
    return left


def _groups(
    problem: Problem,
    views: KernelCache,
    sets: Sequence[Mapping[str, Any]],
    networks: Sequence[Network],
    executions: int,
    seed: int,
) -> tuple[list[tuple[Any, list[Place]]], list[int]]:
    """Return the groups of lanes, each with the places of its lanes, and the bytes of each set's head."""
    from ffe.heads.mlp_batched import BatchedNetworks, Rows

    groups: list[tuple[Any, list[Place]]] = []
    sizes = [0] * len(sets)
    weights = row_weights(problem.labels, problem.class_weights)
    for positions in by_feature_map(sets).values():
        feature_map = FeatureMap(sets[positions[0]], problem.grid)
        x = views.rowwise(feature_map)
        shared = None if feature_map.is_fitted_to_rows else Rows(x)
        for part, (fit, score) in enumerate(problem.parts):
            own = feature_map.unfitted()
            if shared is not None:
                rows = shared
            else:
                own.fit_rowwise(x[fit])
                rows = Rows(x, own.mean, own.scale) if own.components is None else Rows(own.settle(x))
            learnt = own.size_in_bytes()
            for i in positions:
                sizes[i] = 4 * sum(a * b + b for a, b in networks[i].shapes(rows.dims)) + learnt
            for size in sorted({sets[i]["batch_size"] for i in positions}):
                alike = [i for i in positions if sets[i]["batch_size"] == size]
                for run in range(executions):
                    for some in _in_widths(alike, networks):
                        starts = [initial_layers(networks[i], rows.dims, seed + run) for i in some]
                        group = BatchedNetworks(
                            *(rows, problem.labels, weights, fit, score, [networks[i] for i in some]),
                            *(starts, [seed + run] * len(some), seed + run, size, problem.images(fit)),
                        )
                        groups.append((group, [(i, part, run) for i in some]))
    return groups, sizes


def _in_widths(positions: Sequence[int], networks: Sequence[Network]) -> list[list[int]]:
    """Deal sets into groups whose first layers have at most 384 units together."""
    assigned: list[list[int]] = [[]]
    for i in positions:
        if assigned[-1] and sum(networks[j].units for j in assigned[-1]) + networks[i].units > _WIDEST:
            assigned.append([])
        assigned[-1].append(i)
    return assigned


def _by_keras(problem: Problem, views: KernelCache, parameters: Mapping[str, Any], executions: int, seed: int) -> Outcome:
    """Train one set by Keras's own loop, part after part; early stopping is then a matter of choosing the epoch."""
    from ffe.heads.mlp_keras import train_with_keras

    started = time.monotonic()
    network, course = network_of(parameters, problem.classes), _Course(problem, parameters, executions)
    weights = row_weights(problem.labels, problem.class_weights)
    feature_map = FeatureMap(parameters, problem.grid)
    x = views.rowwise(feature_map)
    watched: dict[tuple[int, int], list[np.ndarray]] = {}
    size = 0
    for part, (fit, score) in enumerate(problem.parts):
        own = feature_map.unfitted().fit_rowwise(x[fit])
        inside, outside = own.settle(x[fit]), own.settle(x[score])
        learnt = own.size_in_bytes()
        size = 4 * sum(a * b + b for a, b in network.shapes(inside.shape[1])) + learnt
        for run in range(executions):
            start = initial_layers(network, inside.shape[1], seed + run)
            watched[part, run] = []
            train_with_keras(
                *(inside, problem.labels[fit], weights[fit], network, start, seed + run),
                *(parameters["batch_size"], parameters["epochs"]),
                held=outside,
                on_epoch=watched[part, run].append,
                images=problem.images(fit),
            )
    for epoch in range(parameters["epochs"]):
        if course.running:
            course.record({key: logits[epoch] for key, logits in watched.items()}, float("nan"), float("nan"))
    return course.outcome((time.monotonic() - started) / len(watched), size)
