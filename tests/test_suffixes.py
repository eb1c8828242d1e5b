"""An output whose ending is that of another format is refused before anything is computed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ffe.errors import BundleError, ReportError, StoreError
from ffe.extraction.plan import check_output
from ffe.report.output import check_output as check_report
from ffe.workflows.writing import check_place


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy", ".parquet", ".json", ".pkl", ".ffe", ".CSV"])
def test_features(tmp_path: Path, suffix: str) -> None:
    sentence = f"The features are written as HDF5, not as '{suffix}'; name the output '{tmp_path / 'f.h5'}'."
    with pytest.raises(StoreError, match=f"^{re.escape(sentence)}$"):
        check_output(tmp_path / f"f{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pkl", ".onnx"])
def test_a_model(tmp_path: Path, suffix: str) -> None:
    sentence = f"The model is written as ffe's own format, not as '{suffix}'; name the output '{tmp_path / 'm.ffe'}'."
    with pytest.raises(BundleError, match=f"^{re.escape(sentence)}$"):
        check_place(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".pdf", ".png"])
def test_a_report(tmp_path: Path, suffix: str) -> None:
    sentence = f"The report is written as HTML, not as '{suffix}'; name the output '{tmp_path / 'r.html'}'."
    with pytest.raises(ReportError, match=f"^{re.escape(sentence)}$"):
        check_report(tmp_path / f"r{suffix}")


@pytest.mark.parametrize("name", ["f", "f.hdf5", "f.hdf", "f.features"])
def test_any_other_ending_may_stay(tmp_path: Path, name: str) -> None:
    check_output(tmp_path / name)
    check_place(tmp_path / name.replace("hdf5", "model"))
    check_report(tmp_path / name)
