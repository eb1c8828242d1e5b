"""``doctor``: what this machine has, what works on it, and how fast it may be expected to be."""

from __future__ import annotations

import io
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from ffe._version import __version__
from ffe.backbones.catalog import CATALOG
from ffe.backbones.weights import WEIGHTS_DIR_VARIABLE, find_file, keras_home
from ffe.base.openvino_ir import read_ir
from ffe.base.system import cores, free_memory, has_vnni, library_version, may_have_gpu, total_memory
from ffe.base.text import counted
from ffe.engines.devices import keras_gpus, torch_device
from ffe.engines.factory import has_torch
from ffe.engines.model_cache import cache_folder
from ffe.engines.throughput import images_per_second
from ffe.errors import EngineError, one_line
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.specs import Decode, PreprocessSpec

_LIBRARIES = ("tensorflow", "keras", "openvino", "nncf", "h5py", "numpy", "pillow", "opencv-python-headless", "simplejpeg")
_MEASURE_SECONDS = 1.0


@dataclass(frozen=True)
class EngineCheck:
    """Whether an engine works here; ``detail`` says on what, or why it does not."""

    name: str
    works: bool
    detail: str
    installed: bool = True


_NO_TORCH = EngineCheck("torch", False, "for backbones of timm and Hugging Face on a GPU; 'pip install torch' brings it", False)


@dataclass(frozen=True)
class Expected:
    """What extraction through a backbone in the cache may reach, and what would hold it up."""

    backbone: str
    size: tuple[int, int]
    precision: str
    backbone_rate: float
    decode_rate: float
    rate: float
    limit: str
    engine: str
    batch_size: int


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """What ``ffe doctor`` prints; bytes, and images a second; ``vnni`` as ``ffe.base.system.has_vnni`` says."""

    ffe: str = __version__
    python: str = field(default_factory=platform.python_version)
    system: str = field(default_factory=platform.platform)
    processor: str = field(default_factory=_processor)
    cores: int = field(default_factory=cores)
    memory_bytes: int = field(default_factory=total_memory)
    free_memory_bytes: int = field(default_factory=free_memory)
    gpu_device: bool = field(default_factory=lambda: may_have_gpu())
    vnni: bool | None = field(default_factory=has_vnni)
    libraries: dict[str, str | None] = field(default_factory=lambda: {name: library_version(name) for name in _LIBRARIES})
    engines: tuple[EngineCheck, ...]
    weights_folders: tuple[str, ...]
    weights_found: tuple[str, ...]
    cache: str = field(default_factory=lambda: str(cache_folder()))
    cached_models: int
    cache_bytes: int
    decode_rates: dict[str, float]
    expected: tuple[Expected, ...]


def checkup(on_step: Callable[[str], None] = lambda step: None) -> Checkup:
    """Look at the machine, try the engines, and measure decoding and the cached backbones for about a second each."""
    files = sorted(cache_folder().glob("*.zip")) if cache_folder().is_dir() else []
    on_step("decoding is measured, for about two seconds")
    decode_rates = {how: rate for how in get_args(Decode) if (rate := _decode_rate(how)) is not None}
    expected = tuple(_expected(files, decode_rates, on_step))
    on_step("the engines are tried; loading TensorFlow takes a few seconds")
    named = os.environ.get(WEIGHTS_DIR_VARIABLE)
    return Checkup(
        engines=(
            _check("openvino", _check_openvino),
            _check("winograd", _check_winograd),
            _check("keras", _check_keras),
            *((_check("torch", _check_torch),) if has_torch() else (_NO_TORCH,)),
        ),
        weights_folders=tuple(str(path) for path in ([Path(named)] if named else []) + [keras_home() / "models"]),
        weights_found=tuple(row.name for row in CATALOG.values() if find_file(row, (row.size, row.size)) is not None),
        cached_models=len(files),
        cache_bytes=sum(file.stat().st_size for file in files),
        decode_rates=decode_rates,
        expected=expected,
    )


def _check_openvino() -> str:
    """Compile and run a model of one node; return what it ran on."""
    from ffe.base.openvino_ir import import_openvino

    ov = import_openvino()
    image = ov.opset13.parameter([1, 4], ov.Type.f32)
    core = ov.Core()
    ran = core.compile_model(ov.Model([ov.opset13.relu(image)], [image]), "CPU")([np.full((1, 4), -1, np.float32)])
    if ran[0].any():
        raise EngineError("it computes wrongly")
    return str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()


def _check_keras() -> str:
    """Import Keras, and ask it for its devices."""
    import keras

    gpus = keras_gpus()
    return f"on {keras.config.backend()}, {counted(gpus, 'GPU') if gpus else 'no GPU'}"


def _check_torch() -> str:
    """Import PyTorch, and let it compute on the device that the engine takes."""
    import torch

    device = torch_device()
    if torch.full((4,), -1.0, device=device).relu().any():
        raise EngineError("it computes wrongly")
    return f"on PyTorch {torch.__version__}, {'no GPU' if device == 'cpu' else device}"


def _check_winograd() -> str:
    """Compile the loops, and compute a convolution that passes on what it reads; return what makes its products."""
    from threadpoolctl import threadpool_info

    from ffe.base.openvino_ir import import_openvino
    from ffe.engines.winograd_convolution import Convolution

    import_openvino()  # which reads its networks
    kernel = np.zeros((3, 3, 16, 16), np.float32)
    kernel[1, 1] = np.eye(16)
    convolution = Convolution(kernel, (1, 1), (1, 1), (1, 1, 1, 1), by_tiles=True)
    convolution.prepare()
    grids = np.random.default_rng(0).random((1, 9, 7, 16), np.float32)
    found = np.empty_like(grids)
    convolution(grids, found)
    if not np.allclose(found, grids, atol=1e-4):
        raise EngineError("it computes wrongly")
    products = [f"{each['internal_api']} {each['version']}" for each in threadpool_info() if "numpy" in each["filepath"]]
    return f"on {''.join(products[:1]) or 'NumPy'}, for networks of 3x3 convolutions such as VGG"


def _check(name: str, check: Callable[[], str]) -> EngineCheck:
    try:
        return EngineCheck(name, True, check())
    except Exception as error:  # whatever is wrong with it is what the user wants to know
        return EngineCheck(name, False, one_line(error))


def _decode_rate(how: Decode) -> float | None:
    """Return JPEG pictures of 500x375 that one core decodes to 224x224, a second; None if it cannot."""
    buffer = io.BytesIO()
    draw("dog", 0, (375, 500)).save(buffer, "JPEG", quality=90)
    data, preprocess = buffer.getvalue(), PreprocessSpec((224, 224), "none", decode=how)
    try:
        decode(data, preprocess)
    except ImportError:  # its library is missing: the line of libraries says so
        return None
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _MEASURE_SECONDS:
        decode(data, preprocess)
        count += 1
    return count / (time.perf_counter() - started)


def _expected(files: list[Path], decode_rates: dict[str, float], on_step: Callable[[str], None]) -> Iterator[Expected]:
    from ffe.engines.fastest import opened, remembered, winner

    for number, file in enumerate(files, start=1):
        on_step(f"backbone {number} of {len(files)} in the cache is measured, for about a second")
        try:
            model = read_ir(file)
            engine = opened(winner(remembered(file.stem)), model)
            size = engine.size
            rate = images_per_second(engine, np.zeros((16, *size, 3), np.uint8), _MEASURE_SECONDS)
        except Exception:  # a broken one is reported, and made again, by the run that wants it
            continue
        decode_rate = decode_rates["exact"] * cores() * min(1.0, 224 * 224 / (size[0] * size[1]))
        both = 1 / (1 / rate + 1 / decode_rate)  # on a CPU they share the cores
        limit = "backbone" if rate < decode_rate else "decode"
        name, precision = str(model.record.get("backbone", "?")), "int8" if "fidelity" in model.record else "float32"
        yield Expected(name, size, precision, rate, decode_rate, both, limit, engine.name, engine.batch_size)
