"""KerasTuner decides what to try next; this file speaks its language."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import threadpoolctl

from ffe.heads.search_space import Parameter, active
from ffe.specs import Oracle

EPOCHS = "tuner/epochs"  # KerasTuner's name for how long Hyperband lets a trial train

_CANDIDATES = 2_000
_RESTARTS = 2


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
        self._oracle: Any = None
        self._asked: list[tuple[dict[str, Any], Any]] = []  # values, and KerasTuner's trial
        self._told: list[tuple[dict[str, Any], float]] = []
        self.done = False

    def ask(self, count: int) -> list[dict[str, Any]]:
        """Return up to ``count`` sets that have not been tried; fewer, or none, where the space is used up."""
        if self._name != "hyperband" and self._first:
            some, self._first = self._first[:count], self._first[count:]
            self._asked = [(values, None) for values in some]
            return some
        self._oracle = self._oracle or self._open()
        self._asked = []
        with threadpoolctl.threadpool_limits(limits=1), warnings.catch_warnings():
            # the Gaussian process works on matrices of a few rows, which several threads only slow down,
            # and warns when few points fit many ways
            warnings.simplefilter("ignore")
            for slot in range(count):
                trial = self._oracle.create_trial(f"slot {slot}")
                if trial.status != "RUNNING":
                    self.done = trial.status == "STOPPED" and not self._asked
                    break
                self._asked.append((self._values_of(trial), trial))
        return [values for values, _ in self._asked]

    def tell(self, scores: Sequence[float]) -> None:
        """Report the scores, higher is better, of the sets that were asked for last."""
        choices = {parameter.name: parameter.choices for parameter in self._space if parameter.choices}
        for (values, trial), score in zip(self._asked, scores, strict=True):
            if trial is not None:
                _complete(self._oracle, trial, score)
            elif all(value in choices.get(name, (value,)) for name, value in values.items()):  # the oracle could have proposed it
                self._told.append((values, score))
        self._asked = []

    def _values_of(self, trial: Any) -> dict[str, Any]:
        values = declare(trial.hyperparameters, self._space)
        if EPOCHS in trial.hyperparameters.values:
            values["epochs"] = int(trial.hyperparameters.values[EPOCHS])
        return values

    def _open(self) -> Any:
        """Start the oracle, and tell it what is known already."""
        import keras_tuner

        hp = keras_tuner.HyperParameters()
        declare(hp, self._space)
        # KerasTuner takes the seed 0 for none at all
        common = {"objective": keras_tuner.Objective("score", "max"), "seed": self._seed + 1, "hyperparameters": hp}
        if self._name == "hyperband":
            oracle = _quiet(keras_tuner.oracles.HyperbandOracle)(max_epochs=self._epochs, **common)
        elif self._name == "random":
            oracle = _quiet(keras_tuner.oracles.RandomSearchOracle)(max_trials=self._trials, **common)
        else:
            points = len(self._told) + max(2, min(self._trials // 3 - len(self._told), 3 * len(self._space)))
            oracle = _quiet(_bayesian())(max_trials=self._trials, num_initial_points=points, **common)
        for values, score in self._told:
            oracle.forced = values
            _complete(oracle, oracle.create_trial("known"), score)
        return oracle


def _complete(oracle: Any, trial: Any, score: float) -> None:
    """Tell an oracle how a trial ended."""
    oracle.update_trial(trial.trial_id, {"score": score})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def hyperband_trials(epochs: int) -> int:
    """Return how many sets Hyperband asks for, at the most, where the longest training has so many epochs."""
    import keras_tuner

    oracle = keras_tuner.oracles.HyperbandOracle(keras_tuner.Objective("score", "max"), max_epochs=epochs)
    brackets = range(oracle._get_num_brackets())
    return sum(oracle._get_size(bracket, i) for bracket in brackets for i in range(oracle._get_num_rounds(bracket)))


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
