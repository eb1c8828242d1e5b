"""Real photos in a bucket: the feature file is that of the folder, also where the bucket fails now and then.

pip install "moto[server]" # no part of [test]: pip finds no releases of it and of s3fs together, but one after the other
FFE_TEST_DATA=... python -m pytest -m slow -s tests/extraction/test_s3.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from feature_files import differences
from s3_server import bucket_of

from ffe.store.reader import FeatureStore

pytest.importorskip("moto")
pytestmark = pytest.mark.slow


def extract(source: str, output: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "ffe", "extract", source, "-o", str(output), "--batch-size", "8"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "images" / "dogs_vs_cats"


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("disk") / "features.h5"
    extract(str(folder), output)
    return output


@pytest.mark.parametrize(("errors", "late"), [(0.0, 0.0), (0.1, 0.01)])
def test_a_bucket_gives_the_file_of_the_folder(folder: Path, expected: Path, tmp_path: Path, errors: float, late: float) -> None:
    """``late`` answers come after the time that the library waits for one."""
    output = tmp_path / "features.h5"
    config = '{"config_kwargs": {"read_timeout": 2}}'
    with bucket_of(folder, errors=errors, late=late, seconds=4) as environment:
        print(extract("s3://photos", output, FSSPEC_S3=config, **environment).splitlines()[-1])
        assert "0 computed" in extract("s3://photos", output, FSSPEC_S3=config, **environment)
    assert differences(expected, output) == {"stat", "source", "tables_sha256"}
    with FeatureStore(output) as store:
        assert store.source == "s3://photos"
        assert len(store) == 1399
        assert not store.skipped
        assert (store.stat > 0).all()
