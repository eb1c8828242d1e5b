"""Feature files and models that earlier versions wrote are sound, and mean what they meant; ``write.py`` made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answers import FILES, HERE, answers, unpack

STORED: dict[str, Any] = json.loads((HERE / "answers.json").read_text("utf-8"))

# of probabilities: processors differ in the last bits of features, and more where the arithmetic is int8
TOLERANCE = 2e-3
INT8_TOLERANCE = 0.05


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    unpack(folder)
    return folder


def unlike(stored: list[Any], found: list[Any], tolerance: float) -> list[str]:
    """Return the answers that are not as they were; a label may differ only where two classes are about equal."""
    assert len(stored) == len(found)
    wrong = []
    for was, now in zip(stored, found, strict=True):
        (label, sure, probabilities), (label_now, sure_now, probabilities_now) = was, now
        *_, second, first = sorted(probabilities.values())
        same = probabilities_now == pytest.approx(probabilities, rel=0, abs=tolerance)
        if not same or ((label, sure) != (label_now, sure_now) and first - second > 2 * tolerance):
            wrong.append(f"{was}, now {now}")
    return wrong


def test_every_file_has_its_answers() -> None:
    assert list(STORED) == FILES
    assert len(FILES) >= 35


@pytest.mark.parametrize("name", FILES)
def test_what_was_written_means_what_it_meant(name: str, folder: Path) -> None:
    if name == "schema4_zstd.h5":
        pytest.importorskip("hdf5plugin")
    stored, found = STORED[name], answers(name, folder)
    for asked, tolerance in (("predict", INT8_TOLERANCE if name == "int8.ffe" else TOLERANCE), ("evaluate", 1e-6)):
        assert unlike(stored.pop(asked, []), found.pop(asked, []), tolerance) == []
    assert {key: found["info"].get(key) for key in stored["info"]} == stored.pop("info")
    del found["info"]
    assert found == stored


@pytest.mark.parametrize("now", [["cat", True, {"cat": 0.6, "dog": 0.4}], ["dog", True, {"cat": 0.7, "dog": 0.3}]])
def test_another_answer_would_be_seen(now: list[Any]) -> None:
    was = ["cat", True, {"cat": 0.7, "dog": 0.3}]
    assert len(unlike([was, was], [was, now], TOLERANCE)) == 1
