"""Keras's OpenVINO backend against TensorFlow as the way from Keras to OpenVINO: features, and what has to be computed.

    python -m pytest -m "slow or not slow" tests/parity/test_converters_are_equal.py

One network or more of every family that goes the former way; see ``ffe.engines.openvino_convert.convert``.
"""

from __future__ import annotations

import numpy as np
import pytest

from ffe.backbones.weights import random_weights
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import convert, convert_here
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessMode, PreprocessSpec

SLOW = [
    *[("mobilenet", 64, "tf"), ("mobilenetv2", 64, "tf"), ("mobilenetv3small", 64, "none"), ("mobilenetv3large", 64, "none")],
    *[("efficientnetlite0", 64, "tf"), ("efficientnetb0", 64, "none"), ("efficientnetv2b0", 64, "none")],
    *[("resnet50", 64, "caffe"), ("resnet50v2", 64, "tf"), ("densenet121", 64, "torch"), ("convnexttiny", 64, "none")],
    *[("xception", 96, "tf"), ("inceptionv3", 96, "tf"), ("inceptionresnetv2", 96, "tf"), ("vgg16", 48, "caffe")],
    ("nasnetmobile", 224, "tf"),
]


def transposes(model: IrModel) -> int:
    ov = import_openvino()
    network = ov.Core().read_model(model.xml.decode(), ov.Tensor(model.weights))
    return sum(node.get_type_name() == "Transpose" for node in network.get_ops())


@pytest.mark.parametrize(
    ("name", "size", "mode"), [("mobilenet_0.25", 64, "tf"), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_both_give_the_same(name: str, size: int, mode: PreprocessMode) -> None:
    """Tolerance: 5e-5 of the largest feature; MobileNetV2 and EfficientNetV2B0 come to 1.4e-5 and 2.5e-5, others less."""
    spec = ExtractSpec(BackboneSpec(name, "random", random_weights().sha256), PreprocessSpec((size, size), mode))
    ours, theirs = convert(spec, random_weights()), convert_here(spec, random_weights())
    assert ours.record["converter"].endswith("on openvino")
    assert theirs.record["converter"].endswith("on tensorflow")
    assert transposes(ours) <= transposes(theirs)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    found, expected = (OpenVinoEngine(model, 2).extract(images) for model in (ours, theirs))
    assert np.abs(found - expected).max() <= 5e-5 * np.abs(expected).max()
    assert expected.std() > 0
