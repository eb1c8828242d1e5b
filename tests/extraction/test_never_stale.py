"""Features of another kind are refused, whatever it is that differs, and the difference is spelled out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel
from ffe.cli import cli
from ffe.errors import StaleStoreError
from ffe.extraction.estimate import dry_run
from ffe.extraction.run import extract
from ffe.images.sources import scan
from ffe.specs import ExtractSpec
from ffe.store.journal import Journal
from ffe.store.schema import Row
from ffe.store.writer import write_store

MODEL = IrModel(b"<net/>", np.arange(10, dtype=np.uint8), {"fidelity": {}})

# what the file was made with, what is asked for, and what is said
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "backbone": ({}, {"backbone": "mobilenet_0.5"}, "backbone.name: stored mobilenet_0.25, asked mobilenet_0.5"),
    "size": ({}, {"size": (32, 48)}, "preprocess.size: stored 32x32, asked 32x48"),
    "weights": (
        {},
        {"weights": "WEIGHTS"},
        "backbone.weights: stored random weights, asked weights from a file",
    ),
    "other weights": (
        {"weights": "WEIGHTS"},
        {"weights": "OTHER"},
        "backbone.weights_sha256: stored 14422b042349, asked [0-9a-f]{12}",
    ),
    "layer": ({}, {"layer": "conv_pw_13_relu"}, "backbone.layer: stored the last, asked conv_pw_13_relu"),
    "decode": ({}, {"decode": "fast"}, "preprocess.decode: stored exact, asked fast"),
    "precision": ({}, {"precision": "mixed_float16"}, "precision: stored float32, asked mixed_float16"),
    "int8": ({}, {"precision": "int8"}, "precision: stored float32, asked int8"),
    "not int8": (
        {"precision": "int8"},
        {},
        f"precision: stored int8, asked float32; quantized_sha256: stored {MODEL.sha256[:12]}, asked none",
    ),
    "dtype": ({}, {"dtype": "float16"}, "dtype: stored float32, asked float16"),
    "much": (
        {"decode": "fast"},
        {"backbone": "vgg19", "dtype": "float16"},
        "backbone.name: stored mobilenet_0.25, asked vgg19; preprocess.mode: stored tf, asked caffe; "
        "preprocess.decode: stored fast, asked exact; dtype: stored float32, asked float16",
    ),
}


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, str]:
    """Two weights files, by the names that stand for them above."""
    for name in ("WEIGHTS", "OTHER"):
        (tmp_path / f"{name}.weights.h5").write_bytes(name.encode())
    return {name: str(tmp_path / f"{name}.weights.h5") for name in ("WEIGHTS", "OTHER")}


def options(files: dict[str, str], /, **changes: Any) -> dict[str, Any]:
    asked = {"backbone": "mobilenet_0.25", "size": 32, "weights": "random", **changes}
    return {**asked, "weights": files.get(asked["weights"], asked["weights"])}


def spec_of(files: dict[str, str], /, **changes: Any) -> ExtractSpec:
    spec, _ = make_spec(**options(files, **changes))
    return replace(spec, quantized_sha256=MODEL.sha256) if spec.precision == "int8" else spec


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backbone may be opened, and no image, before the refusal."""
    monkeypatch.setattr("ffe.extraction.runners.local.open_engine", lambda *rest, **options: pytest.fail("a backbone was opened"))
    monkeypatch.setattr("ffe.engines.quantize.quantized_for", lambda *rest: pytest.fail("a model was calibrated"))
    monkeypatch.setattr("ffe.images.loader.read_image", lambda file: pytest.fail("an image was opened"))


def text_of(options: dict[str, Any]) -> list[str]:
    """Return options as they stand on a command line."""
    arguments = []
    for name, value in options.items():
        arguments += [f"--{name}", "x".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return arguments


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", CASES)
def test_a_file_of_other_features(pictures: Path, tmp_path: Path, weights: dict[str, str], name: str) -> None:
    made, asked, difference = CASES[name]
    output = tmp_path / "f.h5"
    spec = spec_of(weights, **made)
    rows = [Row(record.path, f"{i:064x}", 0, "") for i, record in enumerate(scan(pictures).records)]
    quantized = MODEL if spec.precision == "int8" else None
    write_store(
        output,
        spec=spec,
        layout=FeatureLayout.of_shape((1, 1, 256)),
        class_names=["cat"],
        rows=rows,
        features=lambda row: np.zeros(256, np.float32),
        source=str(pictures),
        quantized=quantized,
    )
    before = output.read_bytes()
    sentence = (
        rf"'.*f\.h5' holds other features than these \({difference}\); "
        r"choose another output, or replace it with --overwrite \(in Python overwrite=True\)\."
    )
    wish = options(weights, **asked)
    for attempt in (extract, dry_run):
        with pytest.raises(StaleStoreError) as caught:
            attempt(pictures, output, **wish)  # type: ignore[operator]
        assert re.fullmatch(sentence, str(caught.value)), str(caught.value)
    result = CliRunner().invoke(cli, ["extract", str(pictures), "-o", str(output), *text_of(wish)])
    assert (result.exit_code, result.stdout) == (3, "")
    assert re.fullmatch(f"ffe: {sentence}", result.stderr.splitlines()[-1])
    assert output.read_bytes() == before
    assert not output.with_name("f.h5.partial").exists()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", [name for name in CASES if "int8" not in name])
def test_an_unfinished_run_for_other_features(pictures: Path, tmp_path: Path, weights: dict[str, str], name: str) -> None:
    made, asked, difference = CASES[name]
    output = tmp_path / "f.h5"
    journal = Journal(output, spec_of(weights, **made))
    journal.append(["0" * 64], [np.zeros(256, np.float32)], FeatureLayout.of_shape((1, 1, 256)))
    journal.commit()
    journal.close()
    sentence = (
        rf"An unfinished run for '.*f\.h5' made other features \({difference}\); "
        r"use the options of that run, another output, or --overwrite \(in Python overwrite=True\)\."
    )
    for attempt in (extract, dry_run):
        with pytest.raises(StaleStoreError) as caught:
            attempt(pictures, output, **options(weights, **asked))  # type: ignore[operator]
        assert re.fullmatch(sentence, str(caught.value)), str(caught.value)
    again = Journal(output, spec_of(weights, **made))
    assert len(again) == 1
    again.close()
