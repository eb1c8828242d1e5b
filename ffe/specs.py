"""Options as values: frozen, checked once, to JSON and back.

A spec says how something was made and nothing else: no paths, no machine, no
date. Two equal specs make equal features; ``ffe.keys.spec_digest`` of an
``ExtractSpec`` is therefore the cache key of a feature file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from ffe.errors import SpecError

PreprocessMode = Literal["caffe", "tf", "torch", "none"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16", "int8"]
Decode = Literal["exact", "fast"]
StoredDtype = Literal["float32", "float16"]
Compression = Literal["none", "lzf", "gzip", "zstd"]  # of a feature file: lossless, so no part of any spec


def _check(value: Any, allowed: Any, what: str) -> None:
    if value not in get_args(allowed):
        raise SpecError(f"{what} is {value!r}, but must be one of {', '.join(get_args(allowed))}.")


class Spec:
    """Turns a frozen dataclass into JSON values and back.

    A field that came later (``metadata={"since": 2}``) is left out of the JSON
    while it is None, so that files of earlier versions keep their digests.
    """

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings, numbers, booleans and None."""
        value: dict[str, Any] = dataclasses.asdict(self)  # type: ignore[call-overload]
        for field_ in dataclasses.fields(self):  # type: ignore[arg-type]
            if "since" in field_.metadata and value[field_.name] is None:
                del value[field_.name]
        return value

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a spec from ``to_json()``.

        Raises:
            SpecError: a field is missing, unknown or out of range.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        needed = {name for name, f in fields.items() if "since" not in f.metadata}
        if not isinstance(value, dict) or not needed <= set(value) <= set(fields):
            raise SpecError(f"a {cls.__name__} needs the fields {', '.join(fields)}, got {value!r}.")
        converted: dict[str, Any] = {}
        for name, item in value.items():
            nested = fields[name].metadata.get("spec")
            if nested is not None:
                item = nested.from_json(item)
            elif isinstance(item, list):
                item = tuple(item)
            converted[name] = item
        return cls(**converted)


@dataclass(frozen=True)
class PreprocessSpec(Spec):
    """From the bytes of a file to the numbers that enter the backbone.

    Attributes:
        size: (height, width) in pixels. The whole picture is stretched to it,
            as ``keras.utils.load_img(target_size=..., interpolation="bilinear")`` does.
        mode: scaling of the uint8 values, named as in ``keras.applications``:
            ``caffe`` (BGR, ImageNet means subtracted), ``tf`` ([-1, 1]),
            ``torch`` ([0, 1], then ImageNet mean and deviation), ``none``
            ([0, 255]; the model scales by itself).
        interpolation: always ``bilinear`` (Pillow's, antialiased).
        orientation: always ``exif``: turned upright before resizing.
        background: what shows through transparent pixels.
        decode: ``exact`` (Pillow at full resolution), or ``fast`` (JPEG decoded
            at a fraction of its size, see ``ffe.images.fast``).
    """

    size: tuple[int, int]
    mode: PreprocessMode
    interpolation: str = "bilinear"
    orientation: str = "exif"
    background: str = "white"
    decode: Decode = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        height_width = self.size
        if len(height_width) != 2 or not all(isinstance(n, int) and 0 < n <= 8192 for n in height_width):
            raise SpecError(f"size is {self.size!r}, but must be two whole numbers from 1 to 8192.")
        _check(self.mode, PreprocessMode, "mode")
        _check(self.decode, Decode, "decode")
        for name, only in (
            ("interpolation", "bilinear"),
            ("orientation", "exif"),
            ("background", "white"),
        ):
            if getattr(self, name) != only:
                raise SpecError(f"{name} is {getattr(self, name)!r}, but this version of ffe knows only {only!r}.")


@dataclass(frozen=True)
class BackboneSpec(Spec):
    """A frozen network, cut at a layer.

    Attributes:
        name: a name of ``ffe.backbones.catalog``.
        weights: ``file`` (pretrained, read from a file) or ``random``.
        weights_sha256: digest of that file, or of the recipe of the random ones.
        layer: name of the layer whose output is taken; None = the last one.
    """

    name: str
    weights: Literal["file", "random"]
    weights_sha256: str
    layer: str | None = None

    def __post_init__(self) -> None:
        _check(self.weights, Literal["file", "random"], "weights")


@dataclass(frozen=True)
class ExtractSpec(Spec):
    """All that decides the value of a stored feature.

    Attributes:
        precision: arithmetic of the backbone: a Keras dtype policy, or ``int8``.
        dtype: how a feature is stored.
        quantized_sha256: digest of the int8 model; None for other precisions,
            and for a run that has yet to calibrate one.
    """

    backbone: BackboneSpec = field(metadata={"spec": BackboneSpec})
    preprocess: PreprocessSpec = field(metadata={"spec": PreprocessSpec})
    precision: Precision = "float32"
    dtype: StoredDtype = "float32"
    quantized_sha256: str | None = field(default=None, metadata={"since": 2})

    def __post_init__(self) -> None:
        _check(self.precision, Precision, "precision")
        _check(self.dtype, StoredDtype, "dtype")
        if self.quantized_sha256 is not None and self.precision != "int8":
            raise SpecError(f"only the precision int8 has a quantised model, not {self.precision}.")


@dataclass(frozen=True)
class HeadSpec(Spec):
    """A head and the parameters that it was fitted with."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class SearchSpec(Spec):
    """What a search over heads was asked to do.

    Attributes:
        heads: names of ``ffe.heads``.
        trials: parameter sets tried for each head, the default set included;
            None = a number that suits each head, or what the time allows.
        seconds: time for the search; None = the number of trials decides.
        oracle: what proposes parameters: ``bayesian``, ``hyperband`` or ``random``.
        metric: what is aimed at: ``accuracy``, ``balanced_accuracy`` or ``log_loss``.
        fixed: parameters that are not searched, by name, for every head that has them.
        executions: trainings of each set, from different seeds, for heads that
            depend on one; their scores are averaged.
        epochs: longest training of a dense head.
        folds: parts for cross-validation.
        test_fraction: share of the rows held out for the one final test.
        class_weights: ``auto``, ``balanced`` or ``none``.
        ensemble: heads that are averaged, where that wins; 0 = none.
        seed: start of every random choice.
    """

    heads: tuple[str, ...]
    trials: int | None = None
    seconds: float | None = None
    oracle: Literal["bayesian", "hyperband", "random"] = "bayesian"
    metric: Literal["accuracy", "balanced_accuracy", "log_loss"] = "accuracy"
    fixed: dict[str, Any] = field(default_factory=dict)
    executions: int = 1
    epochs: int = 50
    folds: int = 5
    test_fraction: float = 0.2
    class_weights: Literal["auto", "balanced", "none"] = "auto"
    ensemble: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.heads:
            raise SpecError("a search needs at least one head.")
        if self.trials is not None and self.trials < 1:
            raise SpecError(f"trials is {self.trials}, but must be at least 1.")
        if self.seconds is not None and not 0 < self.seconds < 1e7:
            raise SpecError(f"a budget of {self.seconds:g} seconds cannot be kept; give one above 0.")
        for name, least in (("executions", 1), ("epochs", 1), ("folds", 2), ("seed", 0), ("ensemble", 0)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} is {getattr(self, name)}, but must be at least {least}.")
        if self.ensemble == 1:
            raise SpecError("an ensemble of 1 is no ensemble; give 2 or more heads to average, or 0 for none.")
        if self.seed >= 2**31 or self.epochs > 10_000:
            raise SpecError("a seed must be below 2147483648, and epochs at most 10000.")
        if not 0 < self.test_fraction <= 0.5:
            raise SpecError(f"test_fraction is {self.test_fraction}, but must be above 0 and at most 0.5.")
        _check(self.oracle, Literal["bayesian", "hyperband", "random"], "oracle")
        _check(self.metric, Literal["accuracy", "balanced_accuracy", "log_loss"], "metric")
        _check(self.class_weights, Literal["auto", "balanced", "none"], "class_weights")
