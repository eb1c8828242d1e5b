"""The engine that costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.backbones.weights import random_weights
from ffe.engines.base import Engine
from ffe.engines.factory import open_engine
from ffe.engines.fake import FakeEngine
from ffe.errors import EngineError
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.testing import EngineContract


def spec_of(size: tuple[int, int]) -> ExtractSpec:
    return ExtractSpec(BackboneSpec("fake", "random", random_weights().sha256), PreprocessSpec(size, "none"))


@pytest.mark.portable
class TestFakeEngine(EngineContract):
    tolerance = 1e-6

    def make(self, batch_size: int) -> Engine:
        return FakeEngine(spec_of(self.size), batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """Mean colour of every cell, one by one, in float64."""
        height, width = self.size
        grid = np.empty((len(images), 4, 4, 3))
        for i in range(4):
            for j in range(4):
                rows = slice(i * height // 4, (i + 1) * height // 4)
                columns = slice(j * width // 4, (j + 1) * width // 4)
                grid[:, i, j] = images[:, rows, columns].mean(axis=(1, 2), dtype=np.float64) / 127.5 - 1
        return grid


class TestFakeEngineOfOddSize(TestFakeEngine):
    size = (11, 30)


def test_fake_backbone_gets_the_fake_engine() -> None:
    engine = open_engine(spec_of((32, 32)), random_weights(), batch_size=7)
    assert isinstance(engine, FakeEngine)
    assert engine.batch_size == 7


def test_unknown_engine() -> None:
    with pytest.raises(EngineError, match=r"There is no engine 'abacus'; choose one of auto, keras, openvino, torch, winograd\."):
        open_engine(spec_of((32, 32)), random_weights(), name="abacus")
