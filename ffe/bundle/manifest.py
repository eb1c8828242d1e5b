"""What a bundle says of itself: ``manifest.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ffe._version import __version__
from ffe.base.feature_layout import FeatureLayout
from ffe.base.model_archive import MOST_BACKBONES
from ffe.base.text import composed
from ffe.errors import BundleError
from ffe.specs import AugmentSpec, ExtractSpec, HeadSpec, ViewsSpec

# 1 had no IR members, 2 no calibration, 3 no backbones that ffe trained, 4 no tokens, and one layer of one backbone alone; such
# files are read as they are
SCHEMA = 5
READABLE = (1, 2, 3, 4, 5)
_LAYOUTS_SINCE = 5
_MOST_DIMS = 1 << 27  # features of a row: half a gibibyte

_RECORDS = ("libraries", "evaluation", "search", "members", "calibration", "training")  # fields that are objects of JSON
USES_OF_VIEWS = ("all", "epoch", "none")


@dataclass(frozen=True)
class Beside:
    """A backbone beside the first one, whose features stand behind those of the backbones before it."""

    spec: ExtractSpec  # what makes its features
    spec_digest: str
    parts: int  # of the layout, that are its own

    @classmethod
    def from_json(cls, value: Any) -> Beside:
        """Rebuild one."""
        return cls(ExtractSpec.from_json(value["spec"]), str(value["spec_digest"]), value["parts"])


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of a model."""

    ffe_version: str = __version__
    libraries: dict[str, str] = field(default_factory=dict)  # versions of those that took part
    spec: ExtractSpec  # what makes the features that the head takes, or the first of them
    spec_digest: str
    layout: FeatureLayout  # of a row of features; named ``grid`` in the file
    head: HeadSpec  # the head and its parameters
    class_names: tuple[str, ...]  # column i of the probabilities is class_names[i]
    evaluation: dict[str, Any] = field(default_factory=dict)  # ``{"test": {...}}``; scores of rows that the head never saw
    leaderboard: tuple[dict[str, Any], ...] = ()  # the trials of the search, the one chosen first; empty after ``ffe train``
    search: dict[str, Any] = field(default_factory=dict)  # what the search was asked to do
    members: dict[str, str] = field(default_factory=dict)  # SHA-256 of every other file in the bundle
    # ``{"temperature": factor, ...}``, as ``Calibration.to_json`` gives it; the factor is what ``with_temperature`` takes, and
    # 1, for the head as it is, in older files
    calibration: dict[str, Any] = field(default_factory=lambda: {"temperature": 1.0})
    reject: float = 0.0  # a best probability below this is "not sure", in [0, 1); 0 = never, as in older files
    # how the backbone was trained, by ``ffe finetune`` or ``ffe scratch``; empty where it was not. ``base``: what it was
    # before; ``stages``, ``history``: what happened; see ``ffe.finetuning.finish``
    training: dict[str, Any] = field(default_factory=dict)
    # those of the feature file: ``{"count": 4, "augment": {...}, "used": "all"}``; None = it had none
    views: dict[str, Any] | None = None
    beside: tuple[Beside, ...] = ()  # further backbones, of a model that was made of several feature files

    @property
    def backbones(self) -> tuple[tuple[ExtractSpec, FeatureLayout], ...]:
        """Every backbone, the first one first: what makes its features, and how they lie in its own part of a row."""
        found, parts = list[tuple[ExtractSpec, FeatureLayout]](), self.layout.parts
        for one in reversed(self.beside):
            found.append((one.spec, FeatureLayout(parts[-one.parts :])))
            parts = parts[: -one.parts]
        return ((self.spec, FeatureLayout(parts)), *reversed(found))

    @property
    def augment(self) -> AugmentSpec | None:
        """How views differed from the images that it learnt from, in the feature file or in training; None = there were none."""
        value = _changes_in_training(self.training) if self.views is None else self.views["augment"]
        return None if value is None else AugmentSpec.from_json(value)

    @property
    def temperature(self) -> float:
        """The factor on the logarithms of the head's probabilities."""
        return float(self.calibration["temperature"])

    @property
    def schema(self) -> int:
        """The schema that it is written in: one grid needs no more than earlier versions of ffe read."""
        return SCHEMA if self.layout.grid is None else _LAYOUTS_SINCE - 1

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        fields = {"grid" if name == "layout" else name: value for name, value in asdict(self).items()}
        value = {"schema": self.schema, **fields, "spec": self.spec.to_json(), "grid": self.layout.to_json()}
        if self.views is None:
            del value["views"]
        if self.beside:
            value["beside"] = [{**vars(one), "spec": one.spec.to_json()} for one in self.beside]
        else:
            del value["beside"]
        return value

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """Rebuild a manifest; a BundleError says that it has another schema, or that fields are missing."""
        if not isinstance(value, dict) or "schema" not in value:
            raise BundleError("it has no schema number")
        if value["schema"] not in READABLE:
            raise BundleError(
                f"it has schema {value['schema']!r}, but this version of ffe reads schema {SCHEMA}; "
                "use the version of ffe that wrote it"
            )
        value = {"calibration": {"temperature": 1.0}, "reject": 0.0, "training": {}, "views": None, "beside": [], **value}
        try:
            _check_types(value)
            temperature, reject, views = float(value["calibration"]["temperature"]), float(value["reject"]), value["views"]
            if not (0 < temperature < math.inf and 0 <= reject < 1):
                raise ValueError(f"temperature {temperature!r}, reject {reject!r}")
            if views is not None:
                ViewsSpec.from_json({name: item for name, item in views.items() if name != "used"})
                if views["used"] not in USES_OF_VIEWS:
                    raise ValueError(f"views used {views['used']!r}")
            if (changes := _changes_in_training(value["training"])) is not None:
                AugmentSpec.from_json(changes)
            fields: dict[str, Any] = {name: str(value[name]) for name in ("ffe_version", "spec_digest")}
            fields |= {name: dict(value[name]) for name in _RECORDS}
            fields |= {name: tuple(value[name]) for name in ("leaderboard",)}
            fields["layout"] = FeatureLayout.from_json(value["grid"])
            fields["beside"] = tuple(map(Beside.from_json, value["beside"]))
            fields["spec"], fields["head"] = ExtractSpec.from_json(value["spec"]), HeadSpec.from_json(value["head"])
            return cls(class_names=_composed(value["class_names"]), reject=reject, views=views, **fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"its manifest is incomplete ({error!r})") from error


def _composed(names: Sequence[str]) -> tuple[str, ...]:
    """Return names in the form NFC, as sources give them; as they are where two would then be one."""
    found = tuple(map(composed, names))
    return found if len(set(found)) == len(found) else tuple(names)


def _changes_in_training(training: Mapping[str, Any]) -> Any:
    """Return how images changed from epoch to epoch, as plain values; None = they did not."""
    return training.get("options", {}).get("augment")


def _check_types(value: dict[str, Any]) -> None:
    """Make sure that what the record names is of the kind that the rest of ffe takes it for; else a ValueError names it."""
    grid, names = value["grid"], value["class_names"]
    if (layout := FeatureLayout.from_json(grid)).dims > _MOST_DIMS:
        raise ValueError(f"grid {grid!r} is too large")
    parts = [one["parts"] for one in value["beside"]]
    if not all(type(n) is int and n > 0 for n in parts) or len(parts) >= MOST_BACKBONES or sum(parts) >= len(layout.parts):
        raise ValueError(f"parts of further backbones {parts!r}")
    if not (_texts(names) and 2 <= len(set(names)) == len(names)):
        raise ValueError("class_names")
    for name in _RECORDS:
        if not isinstance(value[name], dict) or (name in {"libraries", "members"} and not _texts(list(value[name].values()))):
            raise ValueError(name)
    if not (isinstance(value["leaderboard"], (list, tuple)) and all(isinstance(trial, dict) for trial in value["leaderboard"])):
        raise ValueError("leaderboard")


def _texts(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(text, str) for text in values)
