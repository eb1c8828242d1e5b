"""KerasTuner decides what to try next; this file speaks its language."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import threadpoolctl

from ffe.heads.space import Parameter, active


def declare(hp: Any, space: Sequence[Parameter]) -> dict[str, Any]:
    """Declare a head's space to KerasTuner, with its conditional scopes.

    Args:
        hp: a ``keras_tuner.HyperParameters``.
        space: the parameters, each after the one that it depends on.

    Returns:
        The values of the active parameters that a search chooses.
    """
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
    parent = next(item for item in space if item.name == parameter.when[0])
    return [*_conditions(parent, space), parameter.when]


def _ask(hp: Any, parameter: Parameter) -> Any:
    if parameter.choices and isinstance(parameter.default, bool):
        return hp.Boolean(parameter.name, default=parameter.default)
    if parameter.choices:
        return hp.Choice(parameter.name, list(parameter.choices), default=parameter.default, ordered=False)
    sampling = "log" if parameter.log else "linear"
    return hp.Float(
        parameter.name, parameter.low, parameter.high, step=parameter.step, default=parameter.default, sampling=sampling
    )


def search_space(
    space: Sequence[Parameter],
    evaluate: Callable[[dict[str, Any]], float],
    *,
    trials: int,
    seed: int,
    first: Sequence[dict[str, Any]] = (),
) -> None:
    """Try parameter sets, chosen by Bayesian optimisation (KerasTuner's oracle).

    Args:
        space: the parameters.
        evaluate: scores the values of the active, searched parameters; higher is better.
        trials: sets to try; fewer where a small space is used up.
        seed: the same seed and scores lead to the same sets.
        first: values to try before the oracle's own.
    """
    import keras_tuner

    waiting = list(first)[:trials]
    tried: list[dict[str, Any] | None] = []

    class Oracle(keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
        def populate_space(self, trial_id: str) -> dict[str, Any]:
            if waiting:
                values = waiting.pop(0)
                tried.append(values)
                return {"status": "RUNNING", "values": values}
            # The Gaussian process works on matrices of a few rows, which several threads only slow down,
            # and warns when few points fit many ways.
            with threadpoolctl.threadpool_limits(limits=1), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer: dict[str, Any] = super().populate_space(trial_id)
                if answer["values"] in tried:  # the process may propose its best point once more
                    answer = self._random_populate_space()
            tried.append(answer["values"])
            return answer

    class Tuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[misc]
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            try:
                return {"score": evaluate(declare(trial.hyperparameters, space))}
            except Exception as error:  # KerasTuner would count it as a failed trial and go on
                raise keras_tuner.errors.FatalError(str(error)) from error

    with tempfile.TemporaryDirectory(prefix="ffe-tune-") as folder:
        oracle = Oracle(
            objective=keras_tuner.Objective("score", "max"),
            max_trials=trials,
            num_initial_points=max(len(waiting) + 2, trials // 2),
            seed=seed + 1,  # KerasTuner takes the seed 0 for none at all
        )
        tuner = Tuner(oracle, hypermodel=lambda hp: declare(hp, space), directory=folder, overwrite=True)
        try:
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise error.__cause__ or error from None
