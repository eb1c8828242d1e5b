"""KerasTuner decides what to try next; this file speaks its language."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import threadpoolctl

from ffe.base.helper_process import HelperProcess, keras_process
from ffe.heads.search_space import Parameter, active
from ffe.specs import Oracle

EPOCHS = "tuner/epochs"  # KerasTuner's name for how long Hyperband lets a trial train

_CANDIDATES = 2_000
_RESTARTS = 2
_FACTOR = 3  # of Hyperband


def declare(hp: Any, space: Sequence[Parameter]) -> dict[str, Any]:
    """Declare a space to ``keras_tuner.HyperParameters``, with its conditional scopes; return the active values."""
    values: dict[str, Any] = {}
    for parameter in space:
        if not parameter.searched:
            continue
        # a scope inside the scope of its own parent: KerasTuner activates the innermost by all of them
        with contextlib.ExitStack() as scopes:
            for parent, wanted in _conditions(parameter, space):
                scopes.enter_context(hp.conditional_scope(parent, list(wanted)))
            value = _ask(hp, parameter)
        if active(parameter, values):
            values[parameter.name] = round(value, 10) if isinstance(value, float) else value
    return values


def _conditions(parameter: Parameter, space: Sequence[Parameter]) -> list[tuple[str, tuple[Any, ...]]]:
    if parameter.when is None:
        return []
    parent = next((item for item in space if item.name == parameter.when[0]), None)
    return [] if parent is None else [*_conditions(parent, space), parameter.when]


def _ask(hp: Any, parameter: Parameter) -> Any:
    if parameter.choices and isinstance(parameter.default, bool):
        return hp.Boolean(parameter.name, default=parameter.default)
    if parameter.choices:
        return hp.Choice(parameter.name, list(parameter.choices), default=parameter.default, ordered=False)
    low, high = parameter.tried or (parameter.low, parameter.high)
    sampling = "log" if parameter.log else "linear"
    return hp.Float(parameter.name, low, high, step=parameter.step, default=parameter.default, sampling=sampling)


class TrialProposer:
    """Takes several sets of parameters at a time from one of KerasTuner's oracles; nothing is written to disk.

    At most ``trials`` sets will be asked for, ``first`` before the oracle's own;
    Hyperband has a number of its own, which depends on ``epochs``, the longest training.
    """

    def __init__(
        self,
        space: Sequence[Parameter],
        *,
        oracle: Oracle = "bayesian",
        trials: int,
        epochs: int = 50,
        seed: int = 0,
        first: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._space = tuple(space)
        self._name, self._trials, self._epochs, self._seed = oracle, trials, epochs, seed
        self._first = [dict(values) for values in first]
        self._proposals: Proposals | _Elsewhere | None = None
        self._opening: list[dict[str, Any]] = []  # those of the first sets that were asked for last
        self._told: list[tuple[dict[str, Any], float]] = []
        self.done = False

    def ask(self, count: int) -> list[dict[str, Any]]:
        """Return up to ``count`` sets that have not been tried; fewer, or none, where the space is used up."""
        if self._name != "hyperband" and self._first:
            self._opening, self._first = self._first[:count], self._first[count:]
            return self._opening
        if self._proposals is None:
            facts = (self._space, self._name, self._trials, self._epochs, self._seed, self._told)
            self._proposals = (
                Proposals(*facts) if (process := keras_process("keras_tuner")) is None else _Elsewhere(process, *facts)
            )
        asked, self.done = self._proposals.ask(count)
        return asked

    def tell(self, scores: Sequence[float]) -> None:
        """Report the scores, higher is better, of the sets that were asked for last."""
        if self._proposals is not None:
            self._proposals.tell(scores)
            return
        choices = {parameter.name: parameter.choices for parameter in self._space if parameter.choices}
        for values, score in zip(self._opening, scores, strict=True):
            if all(value in choices.get(name, (value,)) for name, value in values.items()):  # the oracle could have proposed it
                self._told.append((values, score))
        self._opening = []


class Proposals:
    """An oracle of KerasTuner that is told what is known already, ``told``, and its trials that are not done."""

    def __init__(
        self,
        space: Sequence[Parameter],
        name: Oracle,
        trials: int,
        epochs: int,
        seed: int,
        told: Sequence[tuple[Mapping[str, Any], float]],
    ) -> None:
        import keras_tuner

        self._space, self._asked = space, list[Any]()
        hp = keras_tuner.HyperParameters()
        declare(hp, space)
        # KerasTuner takes the seed 0 for none at all
        common = {"objective": keras_tuner.Objective("score", "max"), "seed": seed + 1, "hyperparameters": hp}
        if name == "hyperband":
            oracle = _quiet(keras_tuner.oracles.HyperbandOracle)(max_epochs=epochs, **common)
        elif name == "random":
            oracle = _quiet(keras_tuner.oracles.RandomSearchOracle)(max_trials=trials, **common)
        else:
            points = len(told) + max(2, min(trials // 3 - len(told), 3 * len(space)))
            oracle = _quiet(_bayesian())(max_trials=trials, num_initial_points=points, **common)
        self.oracle = oracle
        for values, score in told:
            oracle.forced = values
            _complete(oracle, oracle.create_trial("known"), score)

    def ask(self, count: int) -> tuple[list[dict[str, Any]], bool]:
        """Return up to ``count`` sets, and whether there are no more."""
        self._asked, done = [], False
        with threadpoolctl.threadpool_limits(limits=1), warnings.catch_warnings():
            # the Gaussian process works on matrices of a few rows, which several threads only slow down,
            # and warns when few points fit many ways
            warnings.simplefilter("ignore")
            for slot in range(count):
                trial = self.oracle.create_trial(f"slot {slot}")
                if trial.status != "RUNNING":
                    done = trial.status == "STOPPED" and not self._asked
                    break
                self._asked.append(trial)
        return [self._values_of(trial) for trial in self._asked], done

    def tell(self, scores: Sequence[float]) -> None:
        """Report the scores of the sets that were asked for last."""
        for trial, score in zip(self._asked, scores, strict=True):
            _complete(self.oracle, trial, score)
        self._asked = []

    def _values_of(self, trial: Any) -> dict[str, Any]:
        values = declare(trial.hyperparameters, self._space)
        if EPOCHS in trial.hyperparameters.values:
            values["epochs"] = int(trial.hyperparameters.values[EPOCHS])
        return values


_opened: list[Proposals] = []  # in the other process


def warm_up(*, wait: bool = False) -> None:
    """Let KerasTuner be loaded in a process of its own, without TensorFlow; see ``ffe.base.helper_process.keras_process``."""
    process = keras_process("keras_tuner")
    if wait and process is not None:
        process.call(len, ())


class _Elsewhere:
    """``Proposals`` in another process."""

    def __init__(self, process: HelperProcess, *facts: Any) -> None:
        self._process, self._number = process, process.call(_opened_here, *facts)

    def ask(self, count: int) -> tuple[list[dict[str, Any]], bool]:
        answer: tuple[list[dict[str, Any]], bool] = self._process.call(_asked_here, self._number, count)
        return answer

    def tell(self, scores: Sequence[float]) -> None:
        self._process.call(_told_here, self._number, list(scores))


def _opened_here(*facts: Any) -> int:
    _opened.append(Proposals(*facts))
    return len(_opened) - 1


def _asked_here(number: int, count: int) -> tuple[list[dict[str, Any]], bool]:
    return _opened[number].ask(count)


def _told_here(number: int, scores: Sequence[float]) -> None:
    _opened[number].tell(scores)


def _complete(oracle: Any, trial: Any, score: float) -> None:
    """Tell an oracle how a trial ended."""
    oracle.update_trial(trial.trial_id, {"score": score})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def hyperband_trials(epochs: int) -> int:
    """Return how many sets Hyperband asks for, at the most, where the longest training has so many epochs.

    https://github.com/keras-team/keras-tuner/blob/master/keras_tuner/src/tuners/hyperband.py has the sums.
    """
    brackets = next(n for n in range(1, 99) if epochs / _FACTOR**n < 1)
    largest = math.ceil(1 + math.log(epochs, _FACTOR))
    return sum(math.ceil(largest / (n + 1) * _FACTOR ** (n - i)) for n in range(brackets) for i in range(n + 1))


def _quiet(kind: Any) -> Any:
    """Return an oracle that writes no files, prints nothing, and takes values that are forced on it."""

    class Quiet(kind):  # type: ignore[misc]
        forced: dict[str, Any] | None = None

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.verbose = 0

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            if self.forced is not None:
                values, self.forced = self.forced, None
                return {"status": "RUNNING", "values": values}
            answer: dict[str, Any] = super().populate_space(trial_id)
            if answer["status"] == "RUNNING" and EPOCHS not in answer["values"] and self._duplicate(answer["values"]):
                values = self._random_values()
                answer = {"status": "RUNNING" if values else "STOPPED", "values": values or None}
            return answer

        def save(self) -> None:
            pass

        def _save_trial(self, trial: Any) -> None:
            pass

    return Quiet


def _bayesian() -> Any:
    """Return KerasTuner's Bayesian oracle, which looks for the best point of its acquisition function among 2,000 random ones.

    That takes a hundredth of the time of its own way, 50 runs of L-BFGS-B.
    """
    import keras_tuner

    class Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
        def _make_gpr(self) -> Any:
            return super()._make_gpr().set_params(n_restarts_optimizer=_RESTARTS)

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            completed = sum(trial.status == "COMPLETED" for trial in self.trials.values())
            if completed < self.num_initial_points:
                answer: dict[str, Any] = self._random_populate_space()
                return answer
            x, y = self._vectorize_trials()
            self.gpr.fit(x, y)
            bounds = self._get_hp_bounds()
            points = self._random_state.uniform(bounds[:, 0], bounds[:, 1], size=(_CANDIDATES, len(bounds)))
            mean, deviation = self.gpr.predict(points, return_std=True)
            best = points[int(np.argmin(mean - self.beta * deviation))]
            return {"status": "RUNNING", "values": self._vector_to_values(best)}

    return Bayesian
