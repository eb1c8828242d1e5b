"""``--layer a,b`` from the photos to the answer, and what such models are refused for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore

CUT = ("--backbone", "mobilenet_0.25", "--size", "32", "--weights", "random", "--layer")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def test_two_layers_from_photos_to_answers(pictures: Path, tmp_path: Path) -> None:
    features, model = tmp_path / "f.h5", tmp_path / "m.ffe"
    done = run("extract", pictures, "-o", features, *CUT, "conv_pw_2_relu,conv_pw_6_relu", "--engine", "openvino")
    assert done.exit_code == 0, done.output
    info = run("info", features).output
    assert "2,560 features each (2 layers: 8x8x32; 2x2x128)" in info
    with FeatureStore(features) as store:
        assert store.schema == 5
        assert store.grid is None
        assert [part.channels for part in store.layout.parts] == [32, 128]
        rows, paths = store.features(), store.paths
    again = run("extract", pictures, "-o", features, *CUT, "conv_pw_2_relu, conv_pw_6_relu", "--engine", "openvino", "--json")
    assert json.loads(again.stdout)["computed"] == 0
    done = run("tune", features, "-o", model, "--heads", "logistic", "--trials", "6", "--set", "scaling=sqrt_l2")
    assert done.exit_code == 0, done.output
    bundle = Bundle(model)
    assert bundle.manifest.schema == 5
    assert bundle.manifest.head.parameters["parts"] in {"all", "1", "2"}
    assert "features     2 layers: 8x8x32; 2x2x128" in run("info", model).output
    assert "pixels, features 2 layers: 8x8x32; 2x2x128;" in bundle.card()
    predictor = Predictor(model)
    found = predictor.features([pictures / path for path in paths[:5]])
    np.testing.assert_allclose(found, rows[:5], atol=1e-5 * np.abs(rows).max())
    said = run("predict", model, pictures / paths[0], "--json")
    assert said.exit_code == 0, said.output
    refused = run("finetune", pictures, "--from", model, "-o", tmp_path / "n.ffe", "--unfreeze", 2)
    assert refused.exit_code == 3, refused.output
    assert "are 2 layers: " in refused.output
    assert "only a backbone that gives one grid can be trained" in refused.output


def test_layers_that_cannot_be(pictures: Path, tmp_path: Path) -> None:
    twice = run("extract", pictures, "-o", tmp_path / "f.h5", *CUT, "conv_pw_2_relu,conv_pw_2_relu")
    assert twice.exit_code == 3
    assert "The layer 'conv_pw_2_relu' is named twice; name each once." in twice.output
    unknown = run("extract", pictures, "-o", tmp_path / "f.h5", *CUT, "conv_pw_2_relu,nope")
    assert unknown.exit_code == 3
    assert "has no layer 'nope'" in unknown.output
