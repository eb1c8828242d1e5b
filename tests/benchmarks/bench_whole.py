"""Whole runs of ``ffe extract``, from the start of the process to its end, against what the processor can do.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_whole.py

``FFE_BENCH_AVX2=1`` holds both sides to AVX2. The bound of a rate is that of OpenVINO alone, on arrays in memory, in its best
batch; or that together with decoding by Pillow, which shares the same cores: 1 / (1 / backbone + 1 / decoding). Wants a quiet
machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from photo_lists import listed
from PIL import Image

pytestmark = pytest.mark.benchmark

ROUNDS = int(os.environ.get("FFE_BENCH_ROUNDS", 3))
AVX2 = bool(os.environ.get("FFE_BENCH_AVX2"))
# what OpenVINO, NumPy's OpenBLAS and numba take a processor for that has AVX2 and no more
ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "haswell"}
_SAMPLE, _SECONDS = 96, 3.0
SETS = [("vgg19", 150, "flowers"), ("mobilenet", 224, "dogs_vs_cats,faces,flowers")]


def alone(backbone: str, size: int, files: list[str]) -> dict[str, float]:
    """Return images a second of OpenVINO by the size of its batches, and of decoding by Pillow on all cores."""
    from ffe.backbones.resolve import make_spec
    from ffe.engines.factory import float_model
    from ffe.engines.openvino import OpenVinoEngine
    from ffe.engines.throughput import images_per_second

    def decoded(file: str) -> np.ndarray:
        return np.asarray(Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        photos = np.stack([*pool.map(decoded, files)])
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < _SECONDS:
            count += len([*pool.map(decoded, files)])
        rates = {"decoding": count / (time.perf_counter() - started)}
    model = float_model(*make_spec(backbone, size))
    for batch in (1, 2, 4, 8):
        rates[str(batch)] = images_per_second(OpenVinoEngine(model, batch), photos, _SECONDS)
    return rates


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(("backbone", "size", "sets"), SETS)
def test_whole_runs(shared: Path, tmp_path: Path, backbone: str, size: int, sets: str) -> None:
    """The first run converts and measures, and does not count; then both sides in turn."""
    files = [file for name in sets.split(",") for file in sorted((shared / "images" / name).resolve().glob("*/*.jpg"))]
    listed(tmp_path / "photos.csv", files)
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "FFE_CACHE_DIR": str(tmp_path / "cache")}
    environment = {**os.environ, **path, **(ENVIRONMENT if AVX2 else {})}
    extract = [sys.executable, "-m", "ffe", "extract", "photos.csv", "-o", "f.h5", "--overwrite"]
    extract += ["--backbone", backbone, "--size", str(size)]
    sample = json.dumps([backbone, size, [*map(str, files[:: len(files) // _SAMPLE][:_SAMPLE])]])
    whole, shares, bounds = list[float](), list[float](), list[float]()
    for number in range(ROUNDS + 1):
        (tmp_path / "f.h5").unlink(missing_ok=True)
        started = time.perf_counter()
        said = subprocess.run(extract, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        rate = len(files) / (time.perf_counter() - started)
        if not number:
            continue
        other = subprocess.run([sys.executable, __file__, sample], env=environment, check=True, capture_output=True, text=True)
        rates = json.loads(other.stdout.splitlines()[-1])
        decoding = rates.pop("decoding")
        best = max(rates, key=rates.__getitem__)
        whole.append(rate)
        shares.append(rate / rates[best])
        bounds.append(rate * (1 / rates[best] + 1 / decoding))
        print(
            f"  whole {rate:.1f} images/s; OpenVINO alone {rates[best]:.1f} in batches of {best}, decoding {decoding:.0f}: "
            f"{shares[-1]:.2f} of OpenVINO alone, {bounds[-1]:.2f} of both"
        )
    print([line for line in said.stderr.splitlines() if "images/s" in line])
    for what, found in (("images/s", whole), ("of OpenVINO alone", shares), ("of OpenVINO and decoding", bounds)):
        print(f"{backbone}{' held to AVX2' * AVX2}: {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}) {what}")


if __name__ == "__main__":
    print(json.dumps(alone(*json.loads(sys.argv[1]))))
