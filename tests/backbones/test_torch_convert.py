"""What is taken of a network of PyTorch, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.torch_convert import TorchModel, as_it_is, remembered, to_network

torch = pytest.importorskip("torch", reason="PyTorch is not installed; pip install -e '.[torch]'")


def model_of(*layers: Any) -> TorchModel:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), *layers).eval()
    return TorchModel("timm:small", module, module, module)


def test_a_layer_is_taken_before_what_follows_changes_it() -> None:
    model = model_of(torch.nn.ReLU(inplace=True))
    images = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    with torch.no_grad():
        expected = model.module[0](torch.from_numpy(images)).numpy()
        (found,) = as_it_is(model, ["0"], (8, 8)).model(torch.from_numpy(images))
    assert expected.min() < -0.5
    assert np.array_equal(found.numpy(), expected)
    import openvino

    compiled = openvino.Core().compile_model(to_network(model, ["0"], (8, 8)).model, "CPU")
    assert np.allclose(compiled(images)[0], expected, atol=0.05), "the hint of precision is left to the machine"


def test_a_failure_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    answers = iter([{"unsaid": "no memory"}, {"size": [8, 8]}])

    def ask() -> dict[str, Any]:
        return remembered("torch", {"name": "small"}, lambda: next(answers))

    assert [ask(), ask(), ask()] == [{"unsaid": "no memory"}, {"size": [8, 8]}, {"size": [8, 8]}]
