"""The main job where TensorFlow is not installed, on each other backend of Keras; ``.ci/without_tensorflow`` runs this.

With ``FFE_TEST_GPU=1`` it runs on a GPU; there OpenVINO need not be installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ffe.images.drawings import draw_folder
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.without_tensorflow

BACKENDS = ("torch", "jax")
GPU = bool(os.environ.get("FFE_TEST_GPU"))
BACKBONE = ("--backbone", "mobilenet_0.25", "--size", "32", "--weights", "random")
COMMANDS = (
    ("doctor", "--json"),
    ("extract", "pictures", "-o", "features.h5", *BACKBONE, "--engine", "keras", "--json"),
    ("extract", "pictures", "-o", "converted.h5", *BACKBONE, "--json"),  # Keras converts it on OpenVINO, whatever it runs on here
    ("train", "features.h5", "-o", "dense.ffe", "--head", "dense", "--set", "epochs=2", "--json"),
    ("tune", "features.h5", "-o", "tuned.ffe", "--heads", "logistic", "--trials", "12", "--json"),  # more than the first trials
    ("predict", "tuned.ffe", "pictures/cat", "--engine", "keras", "--json"),
    ("finetune", "pictures", "--from", "dense.ffe", "-o", "tuned_on.ffe", "--unfreeze", "all", "--epochs", "1", "--json"),
    ("predict", "tuned_on.ffe", "pictures/cat", "--engine", "keras", "--json"),
    ("explain", "tuned_on.ffe", "pictures/cat/cat_000.png", "-o", "heat"),
    ("export", "tuned_on.ffe", "-o", "exported.keras", "--format", "keras", "--json"),
)
# all in one process, because each loads Keras
RUN = """
import contextlib, io, json, sys
from ffe.cli import cli
for arguments in json.loads(sys.stdin.read()):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main(arguments, standalone_mode=False)
    assert not code, (arguments, code)
    print(json.dumps([arguments[0], printed.getvalue()]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """Return for each backend the folder of what was written, and what each of ``COMMANDS`` printed."""
    assert importlib.util.find_spec("tensorflow") is None, "these tests are for an environment without TensorFlow"
    folders = [tmp_path_factory.mktemp(backend) for backend in BACKENDS]
    with ThreadPoolExecutor() as pool:
        return dict(zip(BACKENDS, pool.map(_run, folders, BACKENDS), strict=True))


def _run(folder: Path, backend: str) -> tuple[Path, list[str]]:
    draw_folder(folder / "pictures", 12, (48, 48))
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(COMMANDS),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "FFE_CACHE_DIR": str(folder / "cache"),
            "KERAS_BACKEND": backend,
            **({"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if GPU else {"CUDA_VISIBLE_DEVICES": ""}),
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
        },
    )
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _ in printed] == [name for name, *_ in COMMANDS]
    return folder, [text for _, text in printed]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_command_does_its_work(answers: dict[str, tuple[Path, list[str]]], backend: str) -> None:
    folder, printed = answers[backend]
    doctor, extracted, converted, trained, tuned, predicted, finetuned, predicted_on, _, exported = printed
    assert f"on {backend}, {'1 GPU' if GPU else 'no GPU'}" in doctor
    assert (json.loads(extracted)["computed"], json.loads(extracted)["engine"]) == (24, "keras")
    assert (json.loads(converted)["computed"], json.loads(converted)["engine"]) == (24, "keras" if GPU else "openvino")
    assert [json.loads(text)["head"] for text in (trained, tuned)] == ["dense", "logistic"]
    for text in (predicted, predicted_on):
        rows = [json.loads(line) for line in text.splitlines()]
        assert len(rows) == 12
        assert {row["label"] for row in rows} <= {"cat", "dog"}
    assert json.loads(finetuned)
    assert (folder / "heat" / "cat_000.png").is_file()
    assert json.loads(exported)


def test_features_are_the_same_on_each(answers: dict[str, tuple[Path, list[str]]]) -> None:
    """The random weights are drawn with numpy, so they are the same."""
    first, *others = (_features(folder / name) for folder, _ in answers.values() for name in ("features.h5", "converted.h5"))
    assert first.std() > 0
    for rows in others:
        np.testing.assert_allclose(rows, first, rtol=0, atol=1e-4 * np.abs(first).max())


def _features(path: Path) -> np.ndarray:
    with FeatureStore(path) as store:
        return store.features()


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_stays_float32_on_a_gpu(backend: str) -> None:
    """PyTorch and JAX take TF32 for convolutions there, of which 10 bits are left, unless they are told not to."""
    code = {
        "torch": "import torch\ndef setting(): return torch.backends.cudnn.allow_tf32",
        "jax": "import jax\ndef setting(): return jax.config.jax_default_matmul_precision",
    }[backend]
    code += """
import numpy as np
from ffe.engines.keras import KerasEngine
class Model:
    def predict_on_batch(self, images):
        print(setting())
        return images
engine = KerasEngine.__new__(KerasEngine)
engine._model, engine.on_cpu, engine.seconds = Model(), False, 0.0
print(setting())
engine._run(np.zeros((1, 2)), 1)
print(setting())
"""
    assert _printed(code, KERAS_BACKEND=backend) == {"torch": "True\nFalse\nTrue\n", "jax": "None\nhighest\nNone\n"}[backend]


def test_pictures_are_scaled_where_they_lie() -> None:
    """NumPy's arrays mix with tensors of the CPU alone; the device ``meta`` has no memory that NumPy could read, as GPUs."""
    code = """
import torch
from ffe.engines.keras import _scaling_layer
for mode in ("tf", "caffe", "torch", "none"):
    print(_scaling_layer(mode)(torch.zeros((1, 2, 2, 3), dtype=torch.uint8, device="meta")).device)
"""
    assert _printed(code, KERAS_BACKEND="torch", KERAS_TORCH_DEVICE="meta") == 4 * "meta\n"


def _printed(code: str, **environment: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout
