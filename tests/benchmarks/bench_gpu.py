"""Whole runs of ``ffe extract`` on a GPU, against the bare forward pass and against decoding on all cores.

    FFE_TEST_DATA=... KERAS_BACKEND=torch python -m pytest -m benchmark -s tests/benchmarks/bench_gpu.py

The engine ``keras`` runs on whichever backend ``KERAS_BACKEND`` names; the engine ``torch`` runs the same networks of timm with
random weights. The bare pass takes float32 pictures that lie on the GPU, of a fixed size of batch, and leaves the features there.
The rate of whole runs is that of the pictures by which a long run has more than a short one, over the time that it takes longer:
loading and compiling are left out, and their seconds stand beside it. The bound is the slower of decoding and the bare pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from photo_lists import listed

from ffe.backbones.float32 import whole_float32
from ffe.backbones.registry import TorchSource, source_of
from ffe.backbones.resolve import make_spec
from ffe.base.system import cores, may_have_gpu
from ffe.engines.factory import open_engine
from ffe.engines.throughput import images_per_second
from ffe.images.loader import ImageStream

pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(not may_have_gpu(), reason="there is no GPU")]

SHORT, LONG = (int(n) for n in os.environ.get("FFE_BENCH_IMAGES", "4000,24000").split(","))
_SECONDS = 2.0
_BATCHES = (64, 256)
_FFE = "from ffe.cli import main; main()"
KERAS = [("vgg19", 150), ("mobilenet", 224)]
TORCH = [("timm:vgg19.tv_in1k", 150), ("timm:mobilenetv1_100.ra4_e3600_r224_in1k", 224)]


def _weights(backbone: str) -> str:
    return "random" if ":" in backbone else "imagenet"


def alone(backbone: str, size: int, precision: str, files: list[str]) -> dict[str, float]:
    """Return images a second of decoding, of the bare forward pass and of the engine, each at its best batch."""
    spec, weights = make_spec(backbone, size, _weights(backbone), precision=precision)
    rates = {}
    with ImageStream(files, spec.preprocess) as images:
        started = time.perf_counter()
        pixels = np.stack([item.pixels for item in images if item.pixels is not None and item.index < 1024])
        rates["decoding"] = len(files) / (time.perf_counter() - started)
    engine: Any = open_engine(spec, weights, name="torch" if ":" in backbone else "keras")
    found = {}
    for batch in _BATCHES:
        engine.batch_size = batch
        found[batch] = images_per_second(engine, pixels, _SECONDS)
    rates["engine"], rates["batch"] = max((rate, batch) for batch, rate in found.items())
    rates["bare"] = 0.0
    for batch in _BATCHES:
        if engine.name == "torch":
            network = cast(TorchSource, source_of(backbone)).to_torch(spec.backbone, spec.preprocess.size, weights)
            rates["bare"] = max(rates["bare"], _bare(*_torch_pass(engine, network.model, size, batch), batch))
        else:
            rates["bare"] = max(rates["bare"], _bare(*_keras_pass(engine.backbone, size, batch), batch))
    return rates


def _bare(run: Callable[[], Any], wait: Callable[[Any], Any], batch: int) -> float:
    """Return images a second of ``run``, which puts a batch on its way, and ``wait``, which waits for what that returned."""
    for _ in range(3):
        wait(run())
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < _SECONDS:
        wait([run() for _ in range(8)][-1])
        count += 8 * batch
    return count / (time.perf_counter() - started)


def _torch_pass(engine: Any, network: Any, size: int, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    import torch

    compiled, pixels = torch.compile(network.to("cuda"), dynamic=False), torch.rand(batch, 3, size, size, device="cuda")

    def run() -> Any:
        with engine._settings():
            return compiled(pixels)

    return run, lambda _: torch.cuda.synchronize()


def _keras_pass(network: Any, size: int, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    import keras

    pixels = np.random.default_rng(0).random((batch, size, size, 3), np.float32)
    if keras.config.backend() == "torch":
        import torch

        on_device = torch.from_numpy(pixels).to("cuda")

        def run() -> Any:
            with whole_float32(), torch.inference_mode():
                return network(on_device, training=False)

        return run, lambda _: torch.cuda.synchronize()
    import jax

    array, compiled = jax.device_put(pixels), jax.jit(lambda pictures: network(pictures, training=False))

    def run_jax() -> Any:
        with whole_float32():
            return compiled(array)

    return run_jax, jax.block_until_ready


@pytest.fixture(scope="module")
def photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make photos enough of those at hand: the same pictures, each with a comment of its own, so that none is known already."""
    files = sorted((shared / "images" / "dogs_vs_cats").resolve().glob("*/*.jpg"))
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for number in range(LONG):
        file = files[number % len(files)]
        (folder / file.parent.name).mkdir(exist_ok=True)
        made.append(folder / file.parent.name / f"{number}.jpg")
        data, comment = file.read_bytes(), b"%08d" % number
        made[-1].write_bytes(data[:2] + b"\xff\xfe\x00\x0a" + comment + data[2:])
    return made


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize(("backbone", "size"), [*KERAS, *TORCH])
def test_whole_runs(photos: list[Path], tmp_path: Path, backbone: str, size: int, precision: str) -> None:
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "FFE_CACHE_DIR": str(tmp_path / "cache")}
    listed(tmp_path / "short.csv", photos[:SHORT])
    listed(tmp_path / "long.csv", photos)
    sample = json.dumps([backbone, size, precision, [*map(str, photos[: min(SHORT, 4000)])]])
    other = subprocess.run(
        [sys.executable, __file__], input=sample, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    rates = json.loads(other.stdout.splitlines()[-1])
    seconds = []
    for name in ("short", "short", "long"):  # the first compiles what is kept for the others
        extract = [
            sys.executable,
            "-c",
            _FFE,
            "extract",
            f"{name}.csv",
            "-o",
            "f.h5",
            "--overwrite",
            "--json",
            "--backbone",
            backbone,
        ]
        extract += ["--size", str(size), "--precision", precision, "--weights", _weights(backbone)]
        started = time.perf_counter()
        done = subprocess.run(extract, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
    (tmp_path / "f.h5").unlink()
    rate = (LONG - SHORT) / (seconds[2] - seconds[1])
    answer = json.loads(done.stdout)
    bound = min(rates["decoding"], rates["bare"])
    print(
        f"{answer['engine']} {os.environ.get('KERAS_BACKEND', '') * (answer['engine'] == 'keras')} {backbone} {precision}: whole "
        f"{rate:.0f} images/s, {rate / bound:.2f} of the bound; bare {rates['bare']:.0f}, engine {rates['engine']:.0f} "
        f"(batch {rates['batch']:.0f}), decoding {rates['decoding']:.0f} on {cores()} cores; {answer['stages']}; "
        f"{', '.join(f'{each:.1f}' for each in seconds)} s for {SHORT}, {SHORT} and {LONG}",
        flush=True,
    )


if __name__ == "__main__":
    print(json.dumps(alone(*json.load(sys.stdin))))
