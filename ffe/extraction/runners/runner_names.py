"""The runners by name: each is one file."""

from __future__ import annotations

import importlib.util
from typing import Literal

from ffe.base.text import did_you_mean
from ffe.errors import EngineError, SpecError, missing

RunnerName = Literal["local", "ray"]

# where each is, and the package that it needs
RUNNERS: dict[str, tuple[str, str | None]] = {
    "local": ("ffe.extraction.runners.local:LocalRunner", None),
    "ray": ("ffe.extraction.runners.ray:RayRunner", "ray"),
}


def check_runner(name: str, address: str | None, actors: int | None) -> None:
    """Raise a SpecError or EngineError if there is no such runner, or it is not installed, or is given what it does not take."""
    if name not in RUNNERS:
        raise SpecError(f"There is no runner '{name}'; choose one of {', '.join(RUNNERS)}.{did_you_mean(name, RUNNERS)}")
    for option, value in (("address", address), ("actors", actors)):
        if name == "local" and value is not None:
            raise SpecError(f"--{option} is of a cluster, and the runner local has none; add --runner ray, or leave it out.")
    if actors is not None and actors < 1:
        raise SpecError(f"actors is {actors}, but must be at least 1.")
    package = RUNNERS[name][1]
    if package is not None and importlib.util.find_spec(package) is None:
        raise EngineError(missing(f"The runner {name}", package, instead="use --runner local"))
