"""What the benchmarks share: weights, and features of real photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ffe.extraction.run import extract


@pytest.fixture
def weights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))


@pytest.fixture(scope="session")
def features_of(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Extract once for all benchmarks: (dataset, backbone, size) -> feature file."""
    kept = os.environ.get("FFE_BENCH_FEATURES")  # a folder that keeps them for the next time
    folder = Path(kept) if kept else tmp_path_factory.mktemp("features")

    def make(dataset: str, backbone: str, size: int) -> Path:
        path = folder / f"{dataset}_{backbone}_{size}.h5"
        if not path.exists():
            extract(shared / "images" / dataset, path, backbone=backbone, size=size)
        return path

    return make
