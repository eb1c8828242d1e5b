"""Options as values: frozen, checked once, to JSON and back.

A spec says how something was made and nothing else: no paths, no machine, no date. Two equal specs make equal features;
``spec_digest`` of an ``ExtractSpec`` is therefore the cache key of a feature file.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.text import counted
from ffe.errors import SpecError

PreprocessMode = Literal["caffe", "tf", "torch", "none", "normalize"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
Resize = Literal["stretch", "shortest", "longest"]
Channels = Literal["rgb", "bgr", "gray"]
Placement = Literal["timm", "huggingface"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16", "int8"]
Decode = Literal["exact", "fast"]
StoredDtype = Literal["float32", "float16"]
WeightsKind = Literal["file", "random", "finetuned", "scratch"]
Optimizer = Literal["adam", "rmsprop"]
Schedule = Literal["constant", "exponential", "cosine"]
Fill = Literal["nearest", "reflect", "constant", "wrap"]
Compression = Literal["none", "lzf", "gzip", "zstd"]  # of a feature file: lossless, so no part of any spec
Metric = Literal["auto", "accuracy", "balanced_accuracy", "log_loss"]
Oracle = Literal["bayesian", "hyperband", "random"]
ClassWeights = Literal["auto", "balanced", "none"]
TrainingViews = Literal["all", "epoch", "none"]
Refit = Literal["train", "all"]


class Spec:
    """Turns a frozen dataclass into JSON values and back.

    A field that came later (``metadata={"since": 2}``) is left out while it is None, so that older files keep their digests.
    """

    def _check_choices(self, **choices: Any) -> None:
        """Make sure that fields have one of the values of their ``Literal`` types."""
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise SpecError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(get_args(allowed))}.")

    def _check_texts(self, *names: str, or_none: str | None = None) -> None:
        for name in (*names, or_none):
            value = "" if name is None else getattr(self, name)
            if not isinstance(value, str) and not (name == or_none and value is None):
                raise SpecError(f"{name} is {value!r}, but must be text.")

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings, numbers, booleans and None."""
        value: dict[str, Any] = dataclasses.asdict(self)  # type: ignore[call-overload]
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            if "since" in f.metadata and value[f.name] is None:
                del value[f.name]
            elif "spec" in f.metadata:
                value[f.name] = getattr(self, f.name).to_json()
        return value

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a spec from ``to_json()``; a field that is missing, unknown or out of range is a SpecError."""
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        needed = {name for name, f in fields.items() if "since" not in f.metadata}
        if not isinstance(value, dict) or not needed <= set(value) <= set(fields):
            raise SpecError(f"a {cls.__name__} needs the fields {', '.join(fields)}, got {value!r}.")
        converted = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
        for name, item in value.items():
            if nested := fields[name].metadata.get("spec"):
                converted[name] = nested.from_json(item)
        return cls(**converted)


@dataclass(frozen=True)
class PreprocessSpec(Spec):
    """From the bytes of a file to the numbers that enter the backbone."""

    size: tuple[int, int]  # (height, width) in pixels of what the network is given
    # scaling of the uint8 values, named as in ``keras.applications``: ``caffe`` (BGR, ImageNet means subtracted), ``tf`` ([-1,
    # 1]), ``torch`` ([0, 1], then ImageNet mean and deviation), ``none`` ([0, 255]; the model scales by itself); or
    # ``normalize`` ([0, 1], then ``mean`` and ``std``)
    mode: PreprocessMode
    interpolation: Interpolation = "bilinear"  # Pillow's filter of that name, antialiased
    orientation: str = "exif"  # always ``exif``: turned upright before resizing
    background: str = "white"  # what shows through transparent pixels
    decode: Decode = "exact"  # Pillow at full resolution, or ``fast`` (JPEG at a fraction of it; ``ffe.images.decode_fast``)
    # of ``normalize``: for each channel that the network is given, in its order, of values in [0, 1]; else None
    mean: tuple[float, ...] | None = field(default=None, metadata={"since": 6})
    std: tuple[float, ...] | None = field(default=None, metadata={"since": 6})
    # how the whole picture is brought to ``size / crop``, rounded down: None = stretched to it, as ``keras.utils.load_img`` does;
    # ``shortest``: its shortest side is, and its shape stays; ``longest``: its longest side is, and what is missing is filled
    # with the colour that scaling turns into 0
    resize: Resize | None = field(default=None, metadata={"since": 6})
    crop: float | None = field(default=None, metadata={"since": 6})  # share of that, in [0.01, 1), that is cut out at the centre
    # that the network is given; None = RGB. Only of ``tf``, ``none`` and ``normalize``: the other modes name their own
    channels: Channels | None = field(default=None, metadata={"since": 6})
    # by whose rule the odd pixel goes: None = timm's (of an odd rest the half is rounded to the even number; a picture that is
    # filled up stands in the middle), or ``huggingface`` (rounded down; filled at the right and at the bottom)
    placement: Placement | None = field(default=None, metadata={"since": 6})

    def __post_init__(self) -> None:
        size = tuple(self.size) if isinstance(self.size, (tuple, list)) else ()
        if len(size) != 2 or not all(isinstance(n, int) and 0 < n <= 8192 for n in size):
            raise SpecError(f"size is {_shown(self.size, 'x')}, but must be two whole numbers from 1 to 8192.")
        object.__setattr__(self, "size", size)
        self._check_choices(mode=PreprocessMode, decode=Decode, interpolation=Interpolation)
        for name, usual in (("resize", "stretch"), ("crop", 1), ("channels", "rgb")):
            if getattr(self, name) == usual:  # one spec, one digest
                object.__setattr__(self, name, None)
        if self.resize is not None:
            self._check_choices(resize=Resize)
        if self.channels is not None:
            self._check_choices(channels=Channels)
            if self.mode in {"caffe", "torch"}:
                raise SpecError(f"channels is {self.channels!r}, but the mode {self.mode} has its own; leave it out.")
        if self.crop is not None and not (_is_number(self.crop) and 0.01 <= self.crop < 1):
            raise SpecError(f"crop is {self.crop!r}, but must be a share from 0.01 to 1.")
        if self.placement == "timm" or self.whole:
            object.__setattr__(self, "placement", None)
        if self.placement is not None:
            self._check_choices(placement=Placement)
        self._check_normalization()
        for name, only in (("orientation", "exif"), ("background", "white")):
            if getattr(self, name) != only:
                raise SpecError(f"{name} is {getattr(self, name)!r}, but this version of ffe knows only {only!r}.")

    @property
    def whole(self) -> bool:
        """Whether the network is given the whole picture and nothing else, stretched to its size."""
        return self.resize is None and self.crop is None

    def _check_normalization(self) -> None:
        count = 1 if self.channels == "gray" else 3
        for name in ("mean", "std"):
            value = getattr(self, name)
            if self.mode != "normalize":
                if value is not None:
                    raise SpecError(f"{name} belongs to the mode normalize, not to {self.mode}.")
                continue
            numbers = tuple(value) if isinstance(value, (tuple, list)) else ()
            if len(numbers) != count or not all(map(_is_number, numbers)) or (name == "std" and min(numbers) <= 0):
                above = " above 0" if name == "std" else ""
                shown = _shown(value, ",")
                raise SpecError(f"{name} is {shown}, but must be {counted(count, 'number')}{above}, one for each channel.")
            object.__setattr__(self, name, tuple(map(_float, numbers)))


@dataclass(frozen=True)
class AugmentSpec(Spec):
    """How the views of a picture may differ from it; ``ffe.images.augment`` makes them.

    A pair (low, high) is a range that each view draws evenly from; None, False and 0 = no such change.
    """

    flip: bool = False  # mirrored left to right, in half of the views
    vflip: bool = False  # mirrored upside down, in half of the views
    # share of the picture's sides that is shown, in [0.1, 10]: below 1 enlarges, at a place drawn at random; above 1 shrinks
    zoom: tuple[float, float] | None = None
    crop: tuple[float, float] | None = None  # share of its area that is shown, in [0.01, 1], at a place drawn at random
    # of ``crop``: width to height of what is shown, over that of the picture, in [0.1, 10]; its logarithm is drawn evenly
    ratio: tuple[float, float] = (0.75, 4 / 3)
    rotate: float = 0.0  # up to so many degrees either way, in [0, 180]
    shift: float = 0.0  # by up to this share of the width and of the height either way, in [0, 1]
    shear: float = 0.0  # up to so many degrees either way, in [0, 60]
    fill: Fill = "nearest"  # beyond the edge: that pixel, a mirror (``reflect``), black (``constant``), the other side (``wrap``)
    brightness: tuple[float, float] | None = None  # factor of the values, in [0, 10]
    contrast: tuple[float, float] | None = None  # factor of their distance from the picture's mean, in [0, 10]
    # each channel gets ImageNet's mean and deviation, in every view but the plain one: scaled as ``torch``, they become 0 and 1
    normalize: bool = False
    seed: int = 0  # another seed, other views; in [0, 2**31)

    def __post_init__(self) -> None:
        for name in ("flip", "vflip", "normalize"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} is {getattr(self, name)!r}, but must be true or false.")
        for name, (low, high) in _AUGMENT_RANGES.items():
            value = getattr(self, name)
            if value is not None or name == "ratio":
                object.__setattr__(self, name, _range(value, low, high, name))
        for name, most in (("rotate", 180), ("shift", 1), ("shear", 60)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= most:
                raise SpecError(f"{name} is {value!r}, but must be a number from 0 to {most}.")
            object.__setattr__(self, name, _float(value))
        self._check_choices(fill=Fill)
        if self.crop is None and self.ratio != AugmentSpec.ratio:
            raise SpecError("ratio is the shape of what crop cuts out, so it needs crop.")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**31:
            raise SpecError(f"seed is {self.seed!r}, but must be a whole number from 0 to 2147483647.")


@dataclass(frozen=True)
class ViewsSpec(Spec):
    """The views that a feature file holds of each image that trains, beside the plain one."""

    count: int  # of each image, 1 to 1000; their numbers are 1, 2, ..., count
    augment: AugmentSpec = field(metadata={"spec": AugmentSpec})  # how they differ from it

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool) or not 1 <= self.count <= MOST_VIEWS:
            raise SpecError(f"The number of views of an image is {self.count!r}, but must be 1 to {MOST_VIEWS}.")


MOST_VIEWS = 1000

_AUGMENT_RANGES = {"zoom": (0.1, 10), "crop": (0.01, 1), "ratio": (0.1, 10), "brightness": (0, 10), "contrast": (0, 10)}


def _shown(value: Any, between: str) -> str:
    return between.join(map(str, value)) if isinstance(value, (tuple, list)) else repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _float(value: float) -> float:
    """Return a number as specs hold it: 15 and 15.0, 0.0 and -0.0 are one spec, and have one digest."""
    return float(value) + 0.0


def _range(value: Any, least: float, most: float, what: str) -> tuple[float, float]:
    """Return (low, high) as floats."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(map(_is_number, pair)) or not least <= pair[0] <= pair[1] <= most:
        raise SpecError(f"{what} is {value!r}, but must be a range (low, high) with {least} <= low <= high <= {most}.")
    return _float(pair[0]), _float(pair[1])


@dataclass(frozen=True)
class BackboneSpec(Spec):
    """A frozen network, cut at a layer."""

    name: str  # a name of ``ffe.backbones.catalog``
    weights: WeightsKind  # ``file`` (pretrained), ``random``, or learnt and kept in a model file: ``finetuned``, ``scratch``
    # digest of that file, of the recipe of the random ones, or of the arrays that were learnt; of a model of the Hugging Face hub
    # and of a preset of keras-hub it covers the description of the network, too
    weights_sha256: str
    layer: str | None = None  # name of the layer whose output is taken; None = the last one

    def __post_init__(self) -> None:
        self._check_choices(weights=WeightsKind)
        self._check_texts("name", "weights_sha256", or_none="layer")


@dataclass(frozen=True)
class ExtractSpec(Spec):
    """All that decides the value of a stored feature."""

    backbone: BackboneSpec = field(metadata={"spec": BackboneSpec})
    preprocess: PreprocessSpec = field(metadata={"spec": PreprocessSpec})
    precision: Precision = "float32"  # arithmetic of the backbone: a Keras dtype policy, or ``int8``
    dtype: StoredDtype = "float32"  # how a feature is stored
    # digest of the int8 model; None for other precisions, and for a run that has yet to make one
    quantized_sha256: str | None = field(default=None, metadata={"since": 2})

    def __post_init__(self) -> None:
        self._check_choices(precision=Precision, dtype=StoredDtype)
        self._check_texts(or_none="quantized_sha256")
        if self.quantized_sha256 is not None and self.precision != "int8":
            raise SpecError(f"only the precision int8 has a quantised model, not {self.precision}.")


@dataclass(frozen=True)
class HeadSpec(Spec):
    """A head and the parameters that it was fitted with."""

    name: str
    parameters: dict[str, Any]

    def __post_init__(self) -> None:
        self._check_texts("name")
        if not isinstance(self.parameters, dict):
            raise SpecError(f"the parameters of a head are {self.parameters!r}, but must be values by name.")


def _check_budget(seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < 1e7:
        raise SpecError(f"a budget of {seconds:g} seconds cannot be kept; give one above 0.")


@dataclass(frozen=True)
class SearchSpec(Spec):
    """What a search over heads was asked to do."""

    heads: tuple[str, ...]  # names of ``ffe.heads``
    # parameter sets tried for each head, the default set included; None = as suits each head, or as the time allows
    trials: int | None = None
    seconds: float | None = None  # time for the search; None = the number of trials decides
    oracle: Oracle = "bayesian"  # what proposes parameters: ``bayesian``, ``hyperband`` or ``random``
    # what is aimed at: ``accuracy``, ``balanced_accuracy``, ``log_loss``, or ``auto`` until the classes are known
    metric: Metric = "accuracy"
    fixed: dict[str, Any] = field(default_factory=dict)  # parameters that are not searched, by name, for every head that has them
    executions: int = 1  # trainings of each set, from different seeds, for heads that depend on one; their scores are averaged
    epochs: int = 50  # longest training of a dense head
    folds: int = 5  # parts for cross-validation
    test_fraction: float = 0.2  # share of the rows held out for the one final test
    class_weights: ClassWeights = "auto"  # ``auto``, ``balanced`` or ``none``
    ensemble: int = 0  # trials that are averaged at the most, where that wins; 0 = none
    seed: int = 0  # start of every random choice
    # which views train: ``none``, ``all``, or in heads that train by epochs one drawn for each ``epoch``; None = all there are
    views: TrainingViews | None = field(default=None, metadata={"since": 5})
    # what the head of the model is fitted on: the rows that ``train``, or after the test ``all``
    refit: Refit = field(default="train", metadata={"since": 6})

    def __post_init__(self) -> None:
        if not self.heads:
            raise SpecError("a search needs at least one head; name some with --heads, or leave that out for all.")
        if self.trials is not None and self.trials < 1:
            raise SpecError(f"trials is {self.trials}, but must be at least 1.")
        _check_budget(self.seconds)
        for name, least in (("executions", 1), ("epochs", 1), ("folds", 2), ("seed", 0), ("ensemble", 0)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} is {getattr(self, name)}, but must be at least {least}.")
        if self.ensemble == 1:
            raise SpecError("an ensemble of 1 is no ensemble; give 2 or more heads to average, or 0 for none.")
        if self.seed >= 2**31 or self.epochs > 10_000:
            raise SpecError("a seed must be below 2147483648, and epochs at most 10000.")
        if not 0 < self.test_fraction <= 0.5:
            raise SpecError(f"test_fraction is {self.test_fraction}, but must be above 0 and at most 0.5.")
        self._check_choices(oracle=Oracle, metric=Metric, class_weights=ClassWeights, refit=Refit)
        if self.views is not None:
            self._check_choices(views=TrainingViews)


@dataclass(frozen=True)
class TrainingSpec(Spec):
    """How a network is trained, stage by stage.

    ``epochs`` and ``learning_rate`` have one value for each stage; a single one is taken for all of them.
    """

    # what of the backbone learns in each stage: a number of layers from the end, a layer or block by name, ``all``; 0 = nothing
    unfreeze: tuple[str, ...]
    epochs: tuple[int, ...] = (15,)  # most epochs of each stage
    learning_rate: tuple[float, ...] = (1e-4,)  # where each stage begins
    schedule: Schedule = "constant"  # how it goes on, epoch by epoch; see ``ffe.finetuning.schedule``
    hold: int = 10  # epochs of a stage before an exponential schedule falls
    optimizer: Optimizer = "adam"  # begun anew in each stage
    weight_decay: float = 0.0  # share of the learning rate by which kernels shrink in a step (decoupled, as in AdamW)
    dropout: float | None = None  # share of the values before the head's last layer silent in a step; None = what suits the head
    batch_size: int = 32  # images in a step
    patience: int = 5  # epochs without a better validation loss that end a stage; 0 = none do
    batchnorm: bool = False  # whether unfrozen batch normalisations learn, and use the statistics of the batch
    class_weights: ClassWeights = "auto"
    valid_fraction: float = 0.2  # share of the training images that choose, where no split is given
    seconds: float | None = None  # when the training ends at the latest, counted from the start; None = no such limit
    seed: int = 0  # start of every random choice
    # how images change from epoch to epoch; None = they stay as they are
    augment: AugmentSpec | None = field(default=None, metadata={"spec": AugmentSpec, "since": 1})
    # of each training image; their kept activations take turns with its own, epoch by epoch; 0 = images change anew in each
    views: int = 0

    def __post_init__(self) -> None:
        stages = len(self.unfreeze)
        if not stages or not all(self.unfreeze):
            raise SpecError("--unfreeze names no layers; write, for example, --unfreeze 6, --unfreeze 6,19 or --unfreeze all.")
        for name in ("epochs", "learning_rate"):
            values = getattr(self, name)
            if len(values) not in {1, stages}:
                raise SpecError(
                    f"--unfreeze names {stages} stage{'s' if stages > 1 else ''}, but --{name.replace('_', '-')} {len(values)}; "
                    "give one value for each stage, or a single one for all."
                )
            object.__setattr__(self, name, tuple(values) * (stages if len(values) == 1 else 1))
        if not all(1 <= count <= 10_000 for count in self.epochs):
            raise SpecError(f"epochs are {_listed(self.epochs)}, but each must be from 1 to 10000.")
        if not all(0 < rate <= 10 for rate in self.learning_rate):
            raise SpecError(f"learning rates are {_listed(self.learning_rate)}, but each must be above 0, and at most 10.")
        for name, low, high in (("weight_decay", 0, 10), ("dropout", 0, 0.95), ("valid_fraction", 0.01, 0.5)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SpecError(f"{name} is {value:g}, but must be from {low:g} to {high:g}.")
        whole = {"hold": (0, 10_000), "batch_size": (1, 4096), "patience": (0, 10_000), "seed": (0, 2**31 - 1)}
        for name, (least, most) in {**whole, "views": (0, MOST_VIEWS)}.items():
            if not least <= getattr(self, name) <= most:
                raise SpecError(f"{name} is {getattr(self, name)}, but must be from {least} to {most}.")
        _check_budget(self.seconds)
        if self.views and self.augment is None:
            raise SpecError("--views needs --augment, which says how the views differ; add --augment flip,zoom, for example.")
        self._check_choices(schedule=Schedule, optimizer=Optimizer, class_weights=ClassWeights)


def _listed(values: Any) -> str:
    return ",".join(f"{value:g}" for value in values)


def spec_digest(spec: ExtractSpec) -> str:
    """Return the cache key of the features that ``spec`` makes."""
    return bytes_digest(canonical_json(spec.to_json()))


def spec_differences(stored: ExtractSpec, asked: ExtractSpec, words: tuple[str, str] = ("stored", "asked")) -> list[str]:
    """Say where two specs differ, one ``backbone.name: stored vgg19, asked vgg16`` per field.

    Where the kinds of weights differ, their digests do so too, and are not named.
    """

    def flat(value: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {k: v for name, item in value.items() for k, v in flat(item, f"{prefix}.{name}" if prefix else name).items()}

    def short(name: str, value: Any) -> str:
        if name.endswith("sha256"):
            return "none" if value is None else value[:12]
        if name == _KIND:
            return _KINDS.get(value, value)
        if value is None:
            return _UNSAID.get(name, "none")
        return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

    a, b = flat(stored.to_json()), flat(asked.to_json())
    return [
        f"{k}: {words[0]} {short(k, a.get(k))}, {words[1]} {short(k, b.get(k))}"
        for k in {**a, **b}
        if a.get(k) != b.get(k) and not (k == f"{_KIND}_sha256" and a.get(_KIND) != b.get(_KIND))
    ]


# what None stands for, of fields that do not call it none
_UNSAID = {
    "backbone.layer": "the last",
    "preprocess.resize": "stretch",
    "preprocess.crop": "1",
    "preprocess.channels": "rgb",
    "preprocess.placement": "timm",
}
_KIND = "backbone.weights"
_KINDS = {
    "file": "weights from a file",
    "random": "random weights",
    "finetuned": "fine-tuned weights",
    "scratch": "weights trained from scratch",
}
