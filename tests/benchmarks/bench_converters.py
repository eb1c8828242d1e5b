"""What does it bring to convert backbones of Keras without TensorFlow, and are the graphs as fast? Both ways in turn.

FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_converters.py
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from ffe.backbones.resolve import make_spec
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import convert, convert_here

pytestmark = pytest.mark.benchmark

ROUNDS, RUNS, BATCH, PHOTOS = 15, 3, 8, 8
CASES = (
    ("mobilenet", 224, "imagenet"),
    ("vgg19", 150, "imagenet"),
    ("resnet50v2", 224, "random"),
    ("mobilenetv3small", 224, "random"),
    ("efficientnetlite0", 224, "imagenet"),
)
CODE = """
import sys
import ffe.engines.openvino_convert as module
if sys.argv.pop(1) == "tensorflow":
    module.convert = module.convert_here
from ffe.cli import main
main()
"""


@pytest.mark.parametrize(("backbone", "size", "weights"), CASES)
def test_graphs_are_as_fast(shared: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, size: int, weights: str) -> None:
    """Processor seconds of an image, the least of all rounds: at most 3 % more than of TensorFlow's graph."""
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
    spec, found = make_spec(backbone, size, weights)
    engines = {
        "Keras": OpenVinoEngine(convert(spec, found), BATCH),
        "TensorFlow": OpenVinoEngine(convert_here(spec, found), BATCH),
    }
    images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    ours, theirs = (engine.extract(images) for engine in engines.values())
    for number in range(ROUNDS):
        for name in list(engines)[:: 1 if number % 2 else -1]:
            started = time.process_time()
            engines[name].extract(images)
            seconds[name].append((time.process_time() - started) / BATCH)
    least, middle = ({name: float(of(values)) for name, values in seconds.items()} for of in (np.min, np.median))
    apart = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(
        f"\n{backbone} at {size}: {1e3 * least['Keras']:.1f} ms of the processor an image, TensorFlow's graph "
        f"{1e3 * least['TensorFlow']:.1f}: {least['Keras'] / least['TensorFlow']:.3f} (of the medians "
        f"{middle['Keras'] / middle['TensorFlow']:.3f}); features differ by {apart:.1e}"
    )
    assert min(least["Keras"] / least["TensorFlow"], middle["Keras"] / middle["TensorFlow"]) <= 1.03


def test_first_run(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ffe extract`` on a cache that is empty: processor seconds, and memory of all its processes; both must be less."""
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
    (tmp_path / "photos").mkdir()
    for file in sorted((shared / "images" / "dogs_vs_cats" / "cat").iterdir())[:PHOTOS]:
        shutil.copy(file, tmp_path / "photos")
    found: dict[str, list[tuple[float, int]]] = {"keras": [], "tensorflow": []}
    for number in range(RUNS + 1):
        for way, values in found.items():
            run = _run(tmp_path, way)
            if number:  # the first writes bytecode
                values.append(run)
    middle = {way: np.median(values, axis=0) for way, values in found.items()}
    for way, values in found.items():
        (least, low), (most, high) = np.min(values, axis=0), np.max(values, axis=0)
        print(
            f"\nby {way}: {middle[way][0]:.1f} s of the processor ({least:.1f} to {most:.1f}), "
            f"{middle[way][1] / 2**20:.0f} MiB at the most ({low / 2**20:.0f} to {high / 2**20:.0f})",
            end="",
        )
    assert (middle["keras"] < middle["tensorflow"]).all()


def _run(folder: Path, way: str) -> tuple[float, int]:
    """Return processor seconds of a run with an empty cache, and the most memory of all its processes together, in bytes."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "cache").mkdir()
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "FFE_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", CODE, way, "extract", "photos", "-o", "f.h5", "--overwrite", "--backbone", "mobilenet"]
    before, most = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        own = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, _memory(own))
            time.sleep(0.05)
    assert process.returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, most


def _memory(process: psutil.Process) -> int:
    try:
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:  # it has just ended
        return 0
