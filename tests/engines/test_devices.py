"""Which GPUs there are, on whichever backend Keras runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ffe.backbones.float32 import whole_float32
from ffe.engines.devices import keras_gpus


# on PyTorch, .ci/without_tensorflow does the whole job each time
@pytest.mark.parametrize("backend", [pytest.param("torch", marks=pytest.mark.slow), "openvino"])
def test_keras_on_another_backend_is_asked_for_no_list(backend: str) -> None:
    """Keras has none there, and its engine works all the same."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    code = """
import numpy as np
import keras
from ffe.engines.devices import keras_gpus
from ffe.commands.doctor import _check_keras
from ffe.backbones.resolve import make_spec
from ffe.engines.factory import open_engine
assert keras_gpus() == 0, keras_gpus()
print(_check_keras())
engine = open_engine(*make_spec("mobilenet_0.25", 32, "random"), name="keras", batch_size=2)
assert engine.on_cpu
rows = engine.extract(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
assert rows.shape == (2, 256)
assert np.isfinite(rows).all() and rows.std() > 0
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert (done.stdout, done.returncode) == (f"on {backend}, no GPU\n", 0), done.stderr


@pytest.mark.parametrize(
    ("backend", "devices", "count"),
    [
        ("tensorflow", ["gpu:0", "gpu:1"], 2),
        ("tensorflow", ["cpu:0"], 0),
        ("jax", ["cuda:0"], 1),
        ("jax", ["tpu:0"], 0),
        ("numpy", ["gpu:0"], 0),
    ],
)
def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, backend: str, devices: list[str], count: int) -> None:
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: backend)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    assert keras_gpus() == count


def test_float32_stays_float32_on_a_gpu_of_tensorflow() -> None:
    """It takes TF32 there by itself; tests/test_without_tensorflow.py holds the other backends, and that the engine asks."""
    from tensorflow.config.experimental import tensor_float_32_execution_enabled as setting

    assert setting()
    with whole_float32():
        assert not setting()
    assert setting()
