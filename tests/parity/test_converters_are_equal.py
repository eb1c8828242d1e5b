"""Keras's OpenVINO backend against TensorFlow as the way from Keras to OpenVINO: features, and what has to be computed.

    python -m pytest -m "slow or not slow" tests/parity/test_converters_are_equal.py

Every network of the catalogue that goes the former way; see ``ffe.engines.openvino_convert.convert``. The largest takes 5 GiB
in each of two processes.
"""

from __future__ import annotations

import numpy as np
import pytest

from ffe.backbones.catalog import CATALOG, DEFAULT
from ffe.backbones.resolve import make_spec
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import THROUGH_TENSORFLOW, convert, convert_here

# at their own sizes, because differences grow with them
SLOW = [name for name, row in CATALOG.items() if not row.application.startswith(THROUGH_TENSORFLOW)]


def transposes(model: IrModel) -> int:
    ov = import_openvino()
    network = ov.Core().read_model(model.xml.decode(), ov.Tensor(model.weights))
    return sum(node.get_type_name() == "Transpose" for node in network.get_ops())


@pytest.mark.parametrize(
    ("name", "size"), [("mobilenet_0.25", 32), *(pytest.param(name, None, marks=pytest.mark.slow) for name in SLOW)]
)
def test_both_give_the_same(name: str, size: int | None) -> None:
    """Tolerance: 5e-5 of the largest feature. Weights are random, but for those that come with ffe."""
    spec, weights = make_spec(name, size, "imagenet" if name == DEFAULT else "random")
    height, width = spec.preprocess.size
    ours, theirs = convert(spec, weights), convert_here(spec, weights)
    assert ours.record["converter"].endswith("on openvino")
    assert theirs.record["converter"].endswith("on tensorflow")
    assert transposes(ours) <= transposes(theirs)
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    found, expected = (OpenVinoEngine(model, 2).extract(images) for model in (ours, theirs))
    assert np.abs(found - expected).max() <= 5e-5 * np.abs(expected).max()
    assert expected.std() > 0
