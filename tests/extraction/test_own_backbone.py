"""Where no backbone is named: that of the file that is there already, else the default; one for all commands."""

from __future__ import annotations

import inspect
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import ffe
from ffe.backbones.catalog import DEFAULT, find
from ffe.backbones.resolve import make_spec, weights_of
from ffe.base.feature_layout import FeatureLayout
from ffe.cli import cli
from ffe.commands.bench import bench
from ffe.errors import SpecError, StaleStoreError, WeightsError
from ffe.extraction import request
from ffe.extraction.estimate import dry_run
from ffe.extraction.request import ExtractOptions, existing_specs, make_job
from ffe.extraction.run import extract
from ffe.predictor import PredictOptions
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.store.journal import Journal
from ffe.store.reader import FeatureStore

OPTIONS: dict[str, Any] = {"backbone": "fake", "size": (40, 48), "layer": None, "decode": "fast", "dtype": "float16"}


@pytest.fixture
def source(pictures: Path, tmp_path: Path) -> Path:
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for file in sorted((pictures / kind).iterdir())[:4]:
            shutil.copy(file, tmp_path / "photos" / kind)
    return tmp_path / "photos"


def spec_of(path: Path) -> ExtractSpec:
    with FeatureStore(path) as store:
        return store.spec


def test_a_files_own_options_are_taken(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "f.h5"
    extract(source, path, **OPTIONS)
    made = spec_of(path)
    (source / "cat" / "cat_000.png").unlink()
    with caplog.at_level(logging.INFO, "ffe"):
        assert dry_run(source, path).compute == 0
        done = extract(source, path)
    assert (done.computed, done.rows) == (0, 7)
    assert spec_of(path) == made == existing_specs(path)[0]
    said = f"'{path}' was made with the backbone fake at 40x48: going on with that"
    assert [record.getMessage() for record in caplog.records].count(said) == 2
    result = CliRunner().invoke(cli, ["extract", str(source), "-o", str(path)])
    assert (result.exit_code, said in result.stderr) == (0, True)


def test_what_is_named_beside_is_asked_for_and_differs(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    extract(source, path, **OPTIONS)
    with pytest.raises(StaleStoreError, match=r"\(preprocess.size: stored 40x48, asked 32x32\)"):
        extract(source, path, size=32)
    with pytest.raises(StaleStoreError, match=f"backbone.name: stored fake, asked {DEFAULT}"):
        extract(source, path, backbone=DEFAULT)


def test_weights_are_those_of_the_file_or_refused(source: Path, tmp_path: Path) -> None:
    """Learnt ones have to be named; of others, what is found must be the same."""
    spec = make_spec("mobilenet_0.25", 32, "random")[0]
    assert weights_of(spec).kind == "random"
    learnt = replace(spec, backbone=replace(spec.backbone, weights="finetuned"))
    journal = Journal(tmp_path / "f.h5", learnt)
    journal.append(["0" * 64], np.zeros((1, 1), np.float32), FeatureLayout.of_shape((1, 1, 1)), [0])
    journal.commit()
    journal.close()
    with pytest.raises(WeightsError, match=r"pass that file with --weights MODEL\.ffe"):
        extract(source, tmp_path / "f.h5")


def test_a_new_file_has_the_default(source: Path, tmp_path: Path) -> None:
    spec = make_spec()[0]
    assert (spec.backbone.name, spec.preprocess.size, spec.backbone.weights) == (DEFAULT, (224, 224), "file")
    assert existing_specs(tmp_path / "none.h5") == (None, None)


def test_there_is_one_default() -> None:
    for function in (ffe.FeatureExtractor, ffe.scan, bench):
        assert inspect.signature(function).parameters["backbone"].default == DEFAULT
    for function in (ffe.extract, ExtractOptions, ffe.compare):
        assert inspect.signature(function).parameters["backbone"].default is None
    for command in ("extract", "compare", "scan", "bench"):
        assert DEFAULT in CliRunner().invoke(cli, [command, "--help"]).stdout, command
    assert find(DEFAULT).size == 224


@pytest.mark.parametrize(
    ("function", "options", "others"),
    [
        (ffe.extract, ExtractOptions, {"announce", "progress"}),
        (ffe.Predictor.__init__, PredictOptions, {"self", "bundle"}),
    ],
)
def test_keywords_are_the_fields_of_one_value(function: Any, options: type, others: set[str]) -> None:
    """A new option is a field and a keyword, with one default."""

    def defaults(of: Any, without: set[str]) -> dict[str, Any]:
        return {name: one.default for name, one in inspect.signature(of).parameters.items() if name not in without}

    assert defaults(function, others) == defaults(options, set())


def test_a_number_where_numbers_belong_is_a_sentence(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        ffe.extract(source, tmp_path / "f.h5", mean=0.5)  # type: ignore[arg-type]
    assert str(caught.value) == "mean is 0.5, but must be a tuple or a list of numbers, one for each channel."


@pytest.mark.parametrize("named", [{"layer": "nosuch"}, {"size": 32}, {"channels": "bgr"}])
def test_features_of_a_file_can_only_go_on_as_they_were_made(
    source: Path, tmp_path: Path, named: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the backbone is not at hand: that the options are others is said first."""
    path, new = tmp_path / "f.h5", tmp_path / "new.h5"
    spec = ExtractSpec(BackboneSpec("onnx:0123456789ab", "file", "0" * 64), PreprocessSpec((8, 8), "none"))
    journal = Journal(path, spec)
    journal.append(["0" * 64], np.zeros((1, 1), np.float32), FeatureLayout.of_shape((1, 1, 1)), [0])
    journal.commit()
    journal.close()
    with pytest.raises(StaleStoreError, match=r"^An unfinished run for '.*f\.h5' made other features \("):
        make_job(ExtractOptions(source, path, **named))
    with pytest.raises(WeightsError, match="came as a file, which is needed again"):
        make_job(ExtractOptions(source, path))
    monkeypatch.setattr(request, "existing_specs", lambda _: (spec, None))
    path.touch()
    with pytest.raises(StaleStoreError, match=r"f\.h5' holds other features than these \(.*\); choose another output"):
        make_job(ExtractOptions(source, path, **named))
    monkeypatch.setattr(request, "existing_specs", lambda file: (spec if file == path else None, None))
    with pytest.raises(StaleStoreError, match=r"f\.h5' holds other features than these \(.*\); use the options that it was"):
        make_job(ExtractOptions(source, new, like=path, **named))
