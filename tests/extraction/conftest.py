"""Fixtures of the tests of extraction."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def source(pictures: Path, tmp_path: Path) -> Path:
    """Six cats and six dogs that a test may change."""
    folder = tmp_path / "source"
    for file in sorted(pictures.glob("*/*_00[0-5].png")):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name / file.name)
    return folder
