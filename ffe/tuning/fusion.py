"""Heads on several feature files side by side: which of the files they look at, and the same heads on those alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead, head_class
from ffe.heads.transform import PARTS, POOLING, poolings_of


def files_looked_at(head: Head, layouts: Sequence[FeatureLayout]) -> tuple[int, ...]:
    """Return the numbers of the files, from 0, whose features a head takes any notice of, ascending; ``layouts`` are theirs."""
    parts = {parameters.get(PARTS.name, PARTS.default) for parameters in _parameters(head)}
    if PARTS.default in parts:
        return tuple(range(len(layouts)))
    return tuple(i for i, own in enumerate(_names(layouts)) if parts.intersection(own))


def on_files(head: Head, layouts: Sequence[FeatureLayout], files: Sequence[int]) -> Head:
    """Return a fitted head that takes rows of some of its files alone, ``files`` of ``files_looked_at``, and answers the same."""
    layout = FeatureLayout(tuple(part for i in files for part in layouts[i].parts))
    names = _names(layouts)
    renamed = {old: str(1 + new) for new, old in enumerate(name for i in files for name in names[i])}

    def of_layout(parameters: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: renamed.get(value, value) if name == PARTS.name else value for name, value in parameters.items()}
        if len(layout.parts) == 1:
            del own[PARTS.name]
        if own[POOLING.name] not in poolings_of(layout):  # a grid had the poolings of the tokens beside it
            own[POOLING.name] = "avg"
        return own

    if isinstance(head, EnsembleHead):
        members = head.parameters["members"]
        parameters: dict[str, Any] = {"members": [{**one, "parameters": of_layout(one["parameters"])} for one in members]}
    else:
        parameters = of_layout(head.parameters)
    return head_class(head.name).from_arrays(parameters, layout, head.arrays())


def _names(layouts: Sequence[FeatureLayout]) -> list[list[str]]:
    """Return of each file the numbers that its parts have in the whole row, as heads name them: from 1."""
    numbers = count(1)
    return [[str(next(numbers)) for _ in layout.parts] for layout in layouts]


def _parameters(head: Head) -> list[Mapping[str, Any]]:
    """Return the parameters of a head, or of each member of an ensemble."""
    members = [member["parameters"] for member in head.parameters.get("members", ())]
    return members if isinstance(head, EnsembleHead) else [head.parameters]
