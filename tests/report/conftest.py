"""A page of drawn cats and dogs, with every section filled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ffe.dataset.scan_result import Advice, ClassCount, Dimensions, OtherEnding, ScanResult, SkippedFile, Spread, Twins
from ffe.evaluation.learning_curve import LearningCurvePoint, fit_learning_curve
from ffe.evaluation.reject import SelectiveScores
from ffe.evaluation.temperature import Bin, Calibration
from ffe.images.probe import ImageProbe
from ffe.images.records import ImageRecord
from ffe.report.projection import Projection, pca
from ffe.report.values import Curves, Duplicates, Page, Picture


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
        label_issues=[Picture(row.path, row.file, row.true, 1 - row.true, 0.88) for row in rows[:2]],
        calibration=Calibration(
            factor=1.5,
            rows=40,
            error_before=0.08,
            error_after=0.03,
            log_loss_before=0.5,
            log_loss_after=0.4,
            before=(Bin(0.5, 0.7, 10, 0.6, 0.5, (0.2, 0.8)), Bin(0.8, 1.0, 30, 0.9, 0.8, (0.6, 0.9))),
            after=(Bin(0.5, 0.7, 20, 0.6, 0.6, (0.4, 0.8)),),
        ),
        coverage=[
            SelectiveScores(0.5, 1.0, 0.9, 40, (0.8, 0.95)),
            SelectiveScores(0.9, 0.4, 1.0, 16, (0.8, 1.0)),
            SelectiveScores(0.99, 0.0, None, 0, None),
        ],
        duplicates=[
            Duplicates("the same file", [(row.path, row.file) for row in rows[4:6]]),
            Duplicates("near copies", [("lost/cat.jpg", Path("/nowhere/cat.jpg")), (rows[7].path, rows[7].file)]),
        ],
        leak="Without it 95.0 % would have been claimed.",
        map=Projection(
            pca(features, 2)[0],
            np.asarray([row.true for row in rows]),
            np.asarray([row.true == row.predicted for row in rows]),
            [row.path for row in rows],
            [row.file for row in rows],
            "PCA, 41 % of the variance",
        ),
        learning_curve=fit_learning_curve(
            [LearningCurvePoint(n, a, (a - 0.098, a + 0.05)) for n, a in ((30, 0.7), (60, 0.8), (120, 0.9))]
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
    assert full_page.evaluation is not None
    return replace(
        full_page,
        title=name,
        facts={name: name},
        class_names=HOSTILE,
        evaluation={
            **full_page.evaluation,
            "confusion": counts.tolist(),
            "confusion_intervals": None,
            "recall": [0.1] * 4,
            "precision": [None] * 4,
            "precision_intervals": [None] * 4,
            "recall_intervals": [None] * 4,
        },
        leaderboard=[{**trial(name, 0.5, i), "parameters": {name: name}} for i in range(3)],
        comparison=name,
        pictures=[replace(row, file=None) if i < 5 else row for i, row in enumerate(rows)],
        label_issues=[Picture(name, None, 0, 7, 0.5), Picture(name, Path(name), -1, 2, 0.5)],
        duplicates=[Duplicates(name, [(name, None), (name, Path("a\0b"))])],
        leak=name,
        map=replace(full_page.map, paths=[name] * 40, files=[None] * 40, labels=np.arange(40) % 4, method=name),
        made={name: name},
    )


class Scanned(NamedTuple):
    """What the page of a scan is made of."""

    result: ScanResult
    photos: list[tuple[ImageRecord, ImageProbe]]

    def replace(self, **fields: Any) -> Scanned:
        return self._replace(result=replace(self.result, **fields))


@pytest.fixture(scope="session")
def scan_page(pictures: Path) -> Scanned:
    """Every section has something to show."""
    cats, dogs = (sorted((pictures / kind).iterdir()) for kind in ("cat", "dog"))
    files = [*((f"cat/{file.name}", file, 0) for file in cats[:6]), *((f"dog/{file.name}", file, 1) for file in dogs[:3])]
    sizes = [*[(48, 48)] * 4, *[(500, 375)] * 3, *[(375, 500)] * 2]
    spread = Spread(48, 430.5, 500)
    result = ScanResult(
        source="/some/where/pets",
        kind="split folders",
        files=41,
        photos=40,
        unlabelled=0,
        bytes=4096,
        classes=(ClassCount("cat", 30, 30, {"train": 20, "test": 10}, 1), ClassCount("dog", 10, 10, {"train": 5, "test": 5}, 0)),
        splits={"train": 25, "test": 15},
        formats={"JPEG": 30, "PNG": 10},
        colours={"colour": 40},
        animated=0,
        dimensions=Dimensions(spread, spread, Spread(0.75, 1, 1.33), 0, 0),
        twins=(Twins("the same file", tuple(path for path, _, _ in files[4:6]), ("cat", "cat"), ("train", "train")),),
        skipped=(SkippedFile("cat/broken.jpg", "truncated", "image file is truncated"),),
        left_out=(("notes.txt", "outside the class folders"),),
        other_endings=(OtherEnding("cat/a.jpg", "PNG"),),
        findings=(),
        backbone="mobilenet",
        size=(150, 150),
        advice=(Advice("refused", "Mend it."), Advice("warning", "Look there."), Advice("note", "As it is.")),
        seconds=1.0,
    )
    photos = [
        (ImageRecord(path, file, label, ""), ImageProbe(width=width, height=height))
        for (path, file, label), (width, height) in zip(files, sizes, strict=True)
    ]
    return Scanned(result, photos)


@pytest.fixture
def hostile_scan_page(scan_page: Scanned) -> Scanned:
    """Every text that comes from users is out to break the page."""
    name = "/".join(HOSTILE)
    file = scan_page.photos[0][0].file
    photos = [(ImageRecord(name, place, 0, ""), ImageProbe(width=9, height=9)) for place in (Path("gone"), file)]
    page = scan_page.replace(
        source=f"/{name}",
        kind=name,
        classes=(ClassCount(name, 1, 1, {"train": 1}, 0),),
        formats={name: 1},
        other_endings=(OtherEnding(name, name),),
        skipped=(SkippedFile(name, name, name),),
        left_out=((name, name),),
        twins=(Twins(name, (name, name), (None, None), ("", "")),),
        advice=(Advice("note", name),),
    )
    return page._replace(photos=photos)
