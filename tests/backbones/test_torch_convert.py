"""What is taken of a network of PyTorch, and what is remembered of it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.registry import source_of
from ffe.backbones.torch_convert import TorchModel, as_it_is, remembered, to_network
from ffe.backbones.weights import Weights, needed_file
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.errors import BackboneError, WeightsError
from ffe.specs import BackboneSpec

SMALL = "timm:mobilenetv4_conv_small_035"

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


@pytest.mark.parametrize("made", [as_it_is, to_network])
def test_a_network_that_draws_at_random_or_gives_no_numbers_is_refused(made: Any) -> None:
    dropout = torch.nn.Dropout().train()
    drawing = model_of()
    drawing = replace(drawing, features=lambda batch: dropout(drawing.module(batch)))
    with pytest.raises(
        BackboneError, match=r"^The backbone 'timm:small' gives another answer each time: it draws at random; choose another"
    ):
        made(drawing, (), (8, 8))
    broken = model_of()
    torch.nn.init.constant_(broken.module[0].bias, torch.nan)
    with pytest.raises(WeightsError, match=r"are not whole: what it gives for a picture is nan; give a file"):
        made(broken, (), (8, 8))


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_a_file_that_is_needed_again_is_named() -> None:
    """Values are not drawn at random in its place."""
    source: Any = source_of(SMALL)
    with pytest.raises(WeightsError, match=f"^The backbone '{SMALL}' came as a weights file, which is needed again; pass the"):
        source.to_torch(BackboneSpec(SMALL, "file", "0"), (64, 64), Weights("file", "0"))
    assert str(needed_file("hf:owner/model")) == (
        "The backbone 'hf:owner/model' came as a weights file, which is needed again; "
        "pass the weights file with --weights FILE.safetensors."
    )


def test_what_covers_no_picture_stands_in_a_column_and_a_larger_grid_is_refused() -> None:
    model = model_of(torch.nn.Conv2d(4, 30, 1), torch.nn.Flatten(2))  # 30 channels of 64 states
    assert as_it_is(model, (), (8, 8)).layout == FeatureLayout((Part(30, 1, 64),))
    larger = model_of(torch.nn.Upsample(scale_factor=2))
    with pytest.raises(BackboneError) as error:
        as_it_is(larger, (), (8, 8))
    assert str(error.value) == (
        "The backbone 'timm:small' gives an output of 4x16x16 there, which is no vector, no tokens and no grid that covers the "
        "picture; name another --layer."
    )


def test_a_class_token_that_is_not_told_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    class Tokens(torch.nn.Module):
        def forward(self, grid: Any) -> Any:
            cells = grid.flatten(2).transpose(1, 2)
            return torch.cat([cells.mean(1, keepdim=True), cells], 1)

    model = model_of(torch.nn.AvgPool2d(4), Tokens())
    caplog.set_level("WARNING", "ffe")
    assert as_it_is(model, (), (16, 24)).layout == FeatureLayout((Part(4, 6, 4, 1, False),))
    assert [record.getMessage() for record in caplog.records] == [
        "the backbone 'timm:small' puts 1 token before its grid, and nothing says whether the first is a class token: none is "
        "taken for it, so no head looks at it"
    ]
    assert as_it_is(replace(model, class_token=True), (), (16, 24)).layout == FeatureLayout((Part(4, 6, 4, 1),))
    assert len(caplog.records) == 1


def test_a_failure_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    answers = iter([{"unsaid": "no memory"}, {"size": [8, 8]}])

    def ask() -> dict[str, Any]:
        return remembered("torch", {"name": "small"}, lambda: next(answers))

    assert [ask(), ask(), ask()] == [{"unsaid": "no memory"}, {"size": [8, 8]}, {"size": [8, 8]}]
