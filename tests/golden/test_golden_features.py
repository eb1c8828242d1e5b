"""Values that must not change from one version to the next; a change makes every stored feature stale.

``python tests/golden/test_golden_features.py`` writes the values anew, for a change that is meant.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.weights import random_weights
from ffe.base.digests import canonical_json
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec, spec_digest

GOLDEN = Path(__file__).with_name("mobilenet_random.json")

pytestmark = pytest.mark.portable

TIGHT = 1e-4  # the stored pixels, as a share of the largest feature: float32 sums in another order
LOOSE = 0.05  # the JPEG decoded again, as a share of the norm: libjpeg versions differ by a level or two

SPEC = ExtractSpec(BackboneSpec("mobilenet_0.25", "random", random_weights().sha256), PreprocessSpec((32, 32), "tf"))


def features_of(pixels: np.ndarray) -> np.ndarray:
    """Return the features (256,) of uint8 pixels (32, 32, 3), through the reference engine."""
    from ffe.engines.factory import open_engine

    return open_engine(SPEC, random_weights(), batch_size=1).extract(pixels[None])[0]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """The stored values."""
    content: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
    content["pixels"] = np.frombuffer(zlib.decompress(base64.b64decode(content["pixels"])), np.uint8).reshape(32, 32, 3)
    content["jpeg"] = base64.b64decode(content["jpeg"])
    return content


@pytest.fixture(scope="module")
def features(golden: dict[str, Any]) -> np.ndarray:
    """Features of the stored pixels, computed now."""
    return features_of(golden["pixels"])


def test_features_of_the_stored_pixels(golden: dict[str, Any], features: np.ndarray) -> None:
    """Tolerance: 1e-4 of the largest value."""
    assert len(golden["values"]) == 20
    np.testing.assert_allclose(
        features[:: len(features) // 20][:20], golden["values"], rtol=0, atol=TIGHT * max(golden["values"])
    )
    measured = [features.mean(), features.std(), np.linalg.norm(features)]
    np.testing.assert_allclose(measured, [golden["mean"], golden["std"], golden["norm"]], rtol=TIGHT)
    assert golden["norm"] > 1e-3  # the signal has not died out on its way through the layers


def test_features_of_the_jpeg(golden: dict[str, Any], features: np.ndarray) -> None:
    """Tolerance: 5 % of the norm."""
    decoded = features_of(decode(golden["jpeg"], PreprocessSpec((32, 32), "none")))
    assert np.linalg.norm(decoded - features) <= LOOSE * golden["norm"]


def test_pixels_of_the_jpeg(golden: dict[str, Any]) -> None:
    """Tolerance: 3 levels of 255."""
    assert np.abs(decode(golden["jpeg"], PreprocessSpec((32, 32), "none")).astype(int) - golden["pixels"]).max() <= 3


def test_spec_digest_never_changes_by_accident() -> None:
    """A new digest makes every feature file of every user stale."""
    assert canonical_json(SPEC.to_json()).decode() == (
        '{"backbone":{"layer":null,"name":"mobilenet_0.25","weights":"random","weights_sha256":'
        '"ea9a2a288842e550567fa00838737e1ab4d82af2d249475365d76d581426efeb"},"dtype":"float32","precision":"float32",'
        '"preprocess":{"background":"white","decode":"exact","interpolation":"bilinear","mode":"tf","orientation":"exif",'
        '"size":[32,32]}}'
    )
    assert spec_digest(SPEC) == "5df4767b73af545fe0ec613ab6f474661b7e268109a727bfeaa97569cbddf182"


def _write() -> None:
    """Measure, and store what was measured."""
    buffer = io.BytesIO()
    draw("cat", 0, (64, 64)).save(buffer, "JPEG", quality=90)
    pixels = decode(buffer.getvalue(), PreprocessSpec((32, 32), "none"))
    features = features_of(pixels)
    content = {
        "about": "features of mobilenet_0.25 with random weights, seed 0, at 32x32: every 12th value, mean, deviation and norm",
        "pixels": base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode(),
        "jpeg": base64.b64encode(buffer.getvalue()).decode(),
        "values": [float(f"{value:.7g}") for value in features[:: len(features) // 20][:20]],
        "mean": float(f"{features.mean():.7g}"),
        "std": float(f"{features.std():.7g}"),
        "norm": float(f"{np.linalg.norm(features):.7g}"),
    }
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    _write()
