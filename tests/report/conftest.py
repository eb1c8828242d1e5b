"""A page of drawn cats and dogs, with every section filled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.report.projection import feature_map
from ffe.report.scan_page import ClassRow, ScanPage, spread_row
from ffe.report.values import CalibrationView, Curves, Duplicates, GrowthView, Page, Picture, Suspect


def trial(head: str, score: float, finished: float) -> dict[str, Any]:
    parameters = {"C": 1.0, "extra": False}
    seconds = {"fit_seconds": 0.5, "finished": finished}
    return {"head": head, "score": score, "spread": 0.01, "size": 2048, "parameters": parameters, **seconds}


def scored_rows(folder: Path) -> list[Picture]:
    """20 cats, of which 3 are called dog; 20 dogs, of which one is called cat."""
    rows = []
    for label, name in enumerate(("cat", "dog")):
        for i, file in enumerate(sorted((folder / name).iterdir())):
            wrong = i < (3, 1)[label]
            rows.append(Picture(f"{name}/{file.name}", file, label, 1 - label if wrong else label, 0.9 - i / 100))
    return rows


@pytest.fixture(scope="session")
def full_page(pictures: Path) -> Page:
    """Every section has something to show."""
    rows = scored_rows(pictures)
    features = np.random.default_rng(0).standard_normal((len(rows), 6)).astype(np.float32)
    files = [row.file for row in rows]
    return Page(
        title="Cats and dogs",
        facts={"Backbone": "fake", "Rows": "120 train, 40 test"},
        class_names=("cat", "dog"),
        evaluation={
            "n": 40,
            "accuracy": 0.9,
            "balanced_accuracy": 0.9,
            "log_loss": 0.25,
            "auc": None,
            "expected_calibration_error": 0.0321,
            "confusion": [[17, 3], [1, 19]],
            "precision": [17 / 18, 19 / 22],
            "recall": [0.85, 0.95],
            "class_names": ["cat", "dog"],
            "intervals": {"accuracy": [0.77, 0.962], "log_loss": [0.1, 0.4]},
            "precision_intervals": [[0.74, 0.99], [0.66, 0.95]],
            "recall_intervals": [[0.64, 0.948], None],
            "confusion_intervals": [[[12.8, 19.0], [1.0, 7.2]], [[0.2, 4.8], [15.2, 19.8]]],
        },
        leaderboard=[trial("svm", 0.95 - i / 100, 9.0 - i / 2) for i in range(16)] + [trial("forest", 0.5, 1.0)],
        comparison="svm is better than forest:\nthe difference is 45 points.",
        curves=Curves([1.0, 0.5, 0.2], [1.1, 0.6, 0.5], [0.5, 0.8, 0.95], [0.5, 0.7, 0.8]),
        pictures=rows,
        label_issues=[Suspect(row.path, row.file, row.true, 1 - row.true, 0.88) for row in rows[:2]],
        calibration=CalibrationView(
            1.5,
            0.08,
            0.03,
            [(0.6, 0.5, 10), (0.9, 0.8, 30)],
            [(0.6, 0.6, 20)],
            [(0.5, 1.0, 0.9), (0.9, 0.4, 1.0), (1.0, 0.0, None)],
        ),
        duplicates=[
            Duplicates("the same file", [(row.path, row.file) for row in rows[4:6]]),
            Duplicates("near copies", [("lost/cat.jpg", Path("/nowhere/cat.jpg")), (rows[7].path, rows[7].file)]),
        ],
        leak="Without it 95.0 % would have been claimed.",
        map=feature_map(
            features,
            [row.true for row in rows],
            [row.path for row in rows],
            files,
            [row.true == row.predicted for row in rows],
            method="pca",
        ),
        growth=GrowthView(
            [30, 60, 120],
            [0.7, 0.8, 0.9],
            [0.6, 0.7, 0.8],
            [0.8, 0.9, 0.95],
            [(30, 0.7), (240, 0.93)],
            (240, 0.93, 0.88, 0.97),
            "More helps.",
        ),
        made={"Command": "ffe tune features.h5 -o model.ffe", "Seed": "0"},
    )


HOSTILE = (
    "<script>alert(1)</script>",
    "O'Brien & söhne",
    '"><img src=x onerror=alert(1)>' + "a" * 5000,
    "שלום \u202e\x1b[31m\udc80\n",
)


@pytest.fixture
def hostile_page(full_page: Page) -> Page:
    """Every text that comes from users is out to break the page."""
    name = "/".join(HOSTILE)
    rows = [replace(row, path=f"{i}/{name}", true=i % 4, predicted=(i * 3 + 1) % 4) for i, row in enumerate(full_page.pictures)]
    counts = np.zeros((4, 4), int)
    np.add.at(counts, ([row.true for row in rows], [row.predicted for row in rows]), 1)
    assert full_page.map is not None
    return replace(
        full_page,
        title=name,
        facts={name: name},
        class_names=HOSTILE,
        evaluation={"n": 40, "accuracy": 0.25, "confusion": counts.tolist(), "recall": [0.1] * 4, "precision": [None] * 4},
        leaderboard=[{**trial(name, 0.5, i), "parameters": {name: name}} for i in range(3)],
        comparison=name,
        pictures=[replace(row, file=None) if i < 5 else row for i, row in enumerate(rows)],
        label_issues=[Suspect(name, None, 0, 7, 0.5), Suspect(name, Path(name), -1, 2, 0.5)],
        duplicates=[Duplicates(name, [(name, None), (name, Path("a\0b"))])],
        leak=name,
        map=replace(full_page.map, paths=[name] * 40, files=[None] * 40, labels=[i % 4 for i in range(40)], method=name),
        growth=GrowthView([1], [0.5], sentence=name),
        made={name: name},
    )


@pytest.fixture(scope="session")
def scan_page(pictures: Path) -> ScanPage:
    """Every section has something to show."""
    cats, dogs = (sorted((pictures / kind).iterdir()) for kind in ("cat", "dog"))
    return ScanPage(
        title="The photos of pets",
        facts={"photos": "40 of 41 files"},
        advice=[("refused", "Mend it."), ("warning", "Look there."), ("note", "As it is.")],
        classes=[
            ClassRow("cat", 30, {"train": 20, "test": 10}, 1, [(f"cat/{file.name}", file) for file in cats[:4]]),
            ClassRow("dog", 10, {"train": 5, "test": 5}, 0, [(f"dog/{file.name}", file) for file in dogs[:3]]),
        ],
        sizes=[(48, 48)] * 20 + [(500, 375)] * 15 + [(375, 500)] * 5,
        size=(150, 150),
        spreads=[spread_row("width", 48, 430.5, 500)],
        formats={"JPEG": 30, "PNG": 10},
        colours={"colour": 40},
        other_endings=[("cat/a.jpg", "PNG")],
        skipped=[("cat/broken.jpg", "truncated", "image file is truncated")],
        left_out=[("notes.txt", "outside the class folders")],
        duplicates=[Duplicates("the same file", [(f"cat/{file.name}", file) for file in cats[4:6]])],
    )


@pytest.fixture
def hostile_scan_page(scan_page: ScanPage, pictures: Path) -> ScanPage:
    """Every text that comes from users is out to break the page."""
    name = "/".join(HOSTILE)
    file = pictures / "cat" / "cat_000.png"
    return replace(
        scan_page,
        title=name,
        facts={name: name},
        advice=[("note", name)],
        classes=[ClassRow(name, 1, {"train": 1}, 0, [(name, file), (name, Path("gone"))])],
        formats={name: 1},
        other_endings=[(name, name)],
        skipped=[(name, name, name)],
        left_out=[(name, name)],
        duplicates=[Duplicates(name, [(name, file)] * 2)],
    )
