"""Dense heads, cross-validated side by side."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.base.blas import one_blas_thread
from ffe.base.system import cores
from ffe.evaluation.temperature import softmax
from ffe.heads.mlp import Network, network_of
from ffe.heads.probability import two_columns
from ffe.heads.transform import FeatureMap, size_in_bytes
from ffe.tuning.problem import Outcome, Problem
from ffe.tuning.scoring import ScoreRequest

if TYPE_CHECKING:
    from ffe.heads.mlp_batched import BatchedNetworks

_WIDEST = 384  # columns of one group's first layers
_CURVES = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")

Place = tuple[int, int, int]  # set of parameters, part, execution
Groups = list[tuple["BatchedNetworks", list[Place]]]  # each with the places of its networks


def dense_outcomes(request: ScoreRequest) -> list[Outcome]:
    """Train all parts and executions of all sets together, epoch by epoch.

    A set stops when the mean log loss of its scored rows has not fallen for ``patience`` epochs (0 = never), and is
    scored at the epoch where that loss was least; one epoch for all its parts, so that a refit can use it.
    """
    batched = [parameters for parameters in request.sets if parameters["trainer"] == "together"]
    outcomes = iter(_batched(dataclasses.replace(request, sets=batched)) if batched else ())
    return [next(outcomes) if each["trainer"] == "together" else _by_keras(request, each) for each in request.sets]


class _Course:
    """How the training of one set goes, all its parts and executions taken together."""

    def __init__(self, problem: Problem, parameters: Mapping[str, Any], executions: int) -> None:
        self._problem, self._executions = problem, executions
        self._patience, self._epochs = parameters["patience"], parameters["epochs"]
        self.curves: dict[str, list[float]] = {name: [] for name in _CURVES}
        self.best = 0
        self.runs: tuple[np.ndarray, ...] = ()

    @property
    def running(self) -> bool:
        """Whether there is another epoch to train."""
        done = len(self.curves["valid_loss"])
        return done < self._epochs and not (self._patience and done - self.best >= self._patience)

    def record(self, scores: Mapping[tuple[int, int], np.ndarray], loss: float, accuracy: float) -> None:
        """Take in an epoch: logits float32 (m, outputs) by (part, execution), and how the training rows did."""
        from scipy.special import log_softmax

        parts = range(len(self._problem.parts))
        runs = [np.concatenate([scores[part, run] for part in parts]) for run in range(self._executions)]
        runs = [np.nan_to_num(two_columns(run[:, 0]) if run.shape[1] == 1 else run, posinf=1e30, neginf=-1e30) for run in runs]
        labels = self._problem.labels[self._problem.scored]
        rows = np.arange(len(labels))
        self.curves["train_loss"].append(loss)
        self.curves["train_accuracy"].append(accuracy)
        self.curves["valid_loss"].append(
            float(np.mean([-log_softmax(run.astype(np.float64), axis=1)[rows, labels].mean() for run in runs]))
        )
        self.curves["valid_accuracy"].append(float(np.mean([(run.argmax(1) == labels).mean() for run in runs])))
        if self.curves["valid_loss"][-1] <= min(self.curves["valid_loss"]):
            self.best = len(self.curves["valid_loss"])
            self.runs = tuple(softmax(run).astype(np.float32) for run in runs)

    def outcome(self, seconds: float, size: int) -> Outcome:
        """Return what the set came to."""
        return Outcome(self.runs, seconds, size, {"epochs": self.best}, self.curves)


def _batched(request: ScoreRequest) -> list[Outcome]:
    """Train all networks of all sets side by side."""
    problem, sets, executions = request.problem, request.sets, request.executions
    courses = [_Course(problem, parameters, executions) for parameters in sets]
    groups, sizes = _groups(request)
    busy = [0.0] * len(sets)
    with one_blas_thread(), ThreadPoolExecutor(cores()) as pool:
        while groups:
            begun = time.monotonic()
            list(pool.map(lambda group: group[0].epoch(), groups))
            found: dict[int, dict[tuple[int, int], tuple[np.ndarray, float, float]]] = {}
            for group, places in groups:
                for position, number in enumerate(group.training):
                    i, part, run = places[number]
                    share = group.correct[position] / group.epoch_rows
                    found.setdefault(i, {})[part, run] = (group.scores[:, position], group.losses[position], share)
            for i, values in found.items():
                loss, accuracy = (float(np.mean([value[k] for value in values.values()])) for k in (1, 2))
                courses[i].record({key: value[0] for key, value in values.items()}, loss, accuracy)
                busy[i] += (time.monotonic() - begun) / len(found)
            groups = _still_running(groups, courses)
    seconds = [value / (len(problem.parts) * executions) for value in busy]
    return [course.outcome(seconds[i], sizes[i]) for i, course in enumerate(courses)]


def _still_running(groups: Groups, courses: Sequence[_Course]) -> Groups:
    """Let go of the networks of sets that are done, and of groups without networks."""
    left = []
    for group, places in groups:
        positions = [p for p, number in enumerate(group.training) if courses[places[number][0]].running]
        if positions:
            if len(positions) < len(group.training):
                group.keep(positions)
            left.append((group, places))
    return left


def _groups(request: ScoreRequest) -> tuple[Groups, list[int]]:
    """Return the groups of networks, and the bytes of each set's head."""
    from ffe.heads.mlp_batched import BatchedNetworks, Rows

    problem, sets = request.problem, request.sets
    networks = [network_of(parameters, problem.classes) for parameters in sets]
    groups: Groups = []
    sizes = [0] * len(sets)
    for feature_map, positions in request.by_feature_map():
        x = request.cache.rowwise(feature_map)
        shared = None if feature_map.is_fitted_to_rows else Rows(x)
        for part, (fit, score) in enumerate(problem.parts):
            own = copy.copy(feature_map)
            if shared is not None:
                rows = shared
            else:
                own.fit_rowwise(x[fit])
                rows = Rows(x, own.mean, own.scale) if own.components is None else Rows(own.transform_rowwise(x))
            for i in positions:
                sizes[i] = networks[i].size_in_bytes(rows.dims) + size_in_bytes(own.arrays())
            for size in sorted({sets[i]["batch_size"] for i in positions}):
                alike = [i for i in positions if sets[i]["batch_size"] == size]
                for run in range(request.executions):
                    data = problem.fit_data(fit, request.seed + run)
                    for some in _in_widths(alike, networks):
                        group = BatchedNetworks(rows, data, [networks[i] for i in some], size, fit, score)
                        groups.append((group, [(i, part, run) for i in some]))
    return groups, sizes


def _in_widths(positions: Sequence[int], networks: Sequence[Network]) -> Iterator[list[int]]:
    """Put sets into groups whose first layers have at most 384 units together."""
    group: list[int] = []
    for i in positions:
        if group and sum(networks[j].units for j in group) + networks[i].units > _WIDEST:
            yield group
            group = []
        group.append(i)
    yield group


def _by_keras(request: ScoreRequest, parameters: Mapping[str, Any]) -> Outcome:
    """Train one set by Keras's own loop, part after part; early stopping is then a matter of choosing the epoch."""
    from ffe.heads.mlp_keras import train_with_keras

    started, problem = time.monotonic(), request.problem
    course, feature_map = _Course(problem, parameters, request.executions), FeatureMap(parameters, problem.layout)
    watched: dict[tuple[int, int], list[np.ndarray]] = {}
    size = 0
    for number, part in enumerate(problem.parts):
        inside, outside, learnt = request.mapped(feature_map, part)
        size = network_of(parameters, problem.classes).size_in_bytes(inside.shape[1]) + learnt
        for run in range(request.executions):
            watched[number, run] = []
            data = problem.fit_data(part[0], request.seed + run)
            train_with_keras(inside, data, parameters, outside, watched[number, run].append)
    for epoch in range(parameters["epochs"]):
        if course.running:
            course.record({key: logits[epoch] for key, logits in watched.items()}, float("nan"), float("nan"))
    return course.outcome((time.monotonic() - started) / len(watched), size)
