"""A look at a source: counts, spreads, copies, what cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ffe
from ffe.commands.scan import COPIES, RESAVED, scan
from ffe.dataset.scan_result import OtherEnding, ScanResult, SkippedFile
from ffe.errors import BackboneError, ReportError, SourceError, SpecError
from ffe.images.drawings import draw


@pytest.fixture(scope="module")
def source(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits with a copy of a cat that trains in the test, among the dogs; one resized; one broken; one with another's name."""
    folder = tmp_path_factory.mktemp("scanned") / "photos"
    for kind in ("cat", "dog"):
        for split, numbers in (("train", range(6)), ("test", range(6, 9))):
            (folder / split / kind).mkdir(parents=True)
            for i in numbers:
                shutil.copy(pictures / kind / f"{kind}_{i:03}.png", folder / split / kind)
    shutil.copy(pictures / "cat" / "cat_000.png", folder / "test" / "dog" / "copy.png")
    with Image.open(pictures / "dog" / "dog_001.png") as image:
        image.resize((96, 96)).save(folder / "train" / "dog" / "larger.jpg", quality=95)
    (folder / "train" / "dog" / "broken.jpg").write_bytes(b"no picture")
    draw("dog", 50, (40, 90)).save(folder / "train" / "dog" / "wrong.jpg", "PNG")
    (folder / "notes.txt").write_text("not here")
    return folder


@pytest.fixture(scope="module")
def result(source: Path) -> ScanResult:
    return scan(source, backbone="fake", size=(40, 50))


def test_classes_and_splits(result: ScanResult) -> None:
    assert (result.kind, result.files, result.photos, result.unlabelled) == ("split folders", 22, 21, 0)
    assert result.splits == {"train": 14, "test": 7}
    cat, dog = result.classes
    assert (cat.name, cat.photos, cat.different, cat.splits, cat.skipped) == ("cat", 9, 9, {"train": 6, "test": 3}, 0)
    assert (dog.name, dog.photos, dog.different, dog.splits, dog.skipped) == ("dog", 12, 11, {"train": 8, "test": 4}, 1)


def test_sizes(result: ScanResult) -> None:
    found = result.dimensions
    assert found is not None
    assert (found.width.least, found.width.median, found.width.most) == (48, 48, 96)
    assert (found.height.least, found.height.median, found.height.most) == (40, 48, 96)
    assert (found.aspect.least, found.aspect.median, found.aspect.most) == (1, 1, 2.25)
    assert (found.smaller, found.elongated) == (19, 1)  # 48 pixels are less than 50
    assert (result.backbone, result.size) == ("fake", (40, 50))


def test_files(result: ScanResult, source: Path) -> None:
    assert result.formats == {"PNG": 20, "JPEG": 1}
    assert result.colours == {"colour": 21}
    assert result.animated == 0
    assert result.other_endings == (OtherEnding("train/dog/wrong.jpg", "PNG"),)
    assert result.skipped == (
        SkippedFile(
            "train/dog/broken.jpg",
            "not-an-image",
            "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture",
        ),
    )
    assert result.left_out == (("notes.txt", "outside the class folders"),)
    whole = sum(file.stat().st_size for file in source.rglob("*.*g") if file.name != "broken.jpg")
    assert result.bytes == whole


def test_copies(result: ScanResult) -> None:
    assert [(twins.cause, twins.paths, twins.labels, twins.splits) for twins in result.twins] == [
        (COPIES, ("test/dog/copy.png", "train/cat/cat_000.png"), ("dog", "cat"), ("test", "train")),
        (RESAVED, ("train/dog/dog_001.png", "train/dog/larger.jpg"), ("dog", "dog"), ("train", "train")),
    ]


def test_advice(result: ScanResult) -> None:
    assert [advice.level for advice in result.advice][:3] == ["warning"] * 3
    assert result.advice[1].text == (
        "1 photo stands in more than one class ('test/dog/copy.png' (dog) and 'train/cat/cat_000.png' (cat)); "
        "look for wrong labels."
    )


def test_json_can_be_written_and_holds_all(result: ScanResult) -> None:
    value = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert value["classes"][0]["splits"] == {"train": 6, "test": 3}
    assert value["dimensions"]["width"] == {"least": 48, "median": 48, "most": 96}
    assert value["twins"][0]["cause"] == COPIES
    assert value["advice"][0].keys() == {"level", "text"}
    assert value["seconds"] > 0


def test_names_of_groups_count_for_different_photos_and_not_as_copies(pictures: Path, tmp_path: Path) -> None:
    """Ten cats of one burst are one cat for a split; but they are no copies."""
    rows = [f"{pictures / 'cat' / f'cat_{i:03}.png'},cat,{'burst' if i < 10 else ''}\n" for i in range(12)]
    rows += [f"{pictures / 'dog' / f'dog_{i:03}.png'},dog,\n" for i in range(12)]
    (tmp_path / "list.csv").write_text("path,label,group\n" + "".join(rows))
    result = scan(tmp_path / "list.csv")
    assert result.twins == ()
    assert [(c.photos, c.different) for c in result.classes] == [(12, 3), (12, 12)]
    assert any("'cat', has 3 different photos" in advice.text for advice in result.advice)


def test_progress_is_told_after_each_file(pictures: Path) -> None:
    steps: list[tuple[int, int]] = []
    scan(pictures, on_look=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 40) for i in range(1, 41)]


def test_flat_folder(pictures: Path) -> None:
    result = scan(pictures / "cat")
    assert (result.classes, result.photos, result.unlabelled, result.splits) == ((), 20, 20, {})
    assert result.advice[0].text.startswith("No photo has a label")


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.jpg").write_bytes(b"no picture")
    result = scan(tmp_path, report=tmp_path / "scan.html")
    assert (result.photos, result.dimensions, result.twins) == (0, None, ())
    assert [(c.name, c.photos, c.skipped) for c in result.classes] == [("cat", 0, 1), ("dog", 0, 1)]
    assert (tmp_path / "scan.html").is_file()


def test_a_report_inside_the_source_is_no_file_of_it(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "cat", tmp_path / "cat")
    for _ in range(2):
        assert scan(tmp_path, report=tmp_path / "cat" / "scan.html").files == 20


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"source": "none"}, SourceError, "There is no file or folder 'none'; check the path"),
        (
            {"backbone": "vgg91"},
            BackboneError,
            "There is no backbone 'vgg91'; 'ffe backbones' lists all of them. Did you",
        ),
        (
            {"size": 8},
            BackboneError,
            "The backbone 'efficientnetlite0' takes pictures of at least 32 pixels; choose --size 32 or more instead",
        ),
        ({"size": 9999}, SpecError, r"size is 9999x9999, but must be"),
        ({"report": "none/scan.html"}, ReportError, r"The report 'none/scan\.html' lies in a folder that does not exist"),
    ],
)
def test_what_is_refused_before_any_file_is_read(pictures: Path, arguments: dict[str, Any], kind: type, sentence: str) -> None:
    def never(done: int, total: int) -> None:
        raise AssertionError

    with pytest.raises(kind, match=sentence):
        scan(**{"source": pictures, "on_look": never, **arguments})


def test_real_photos(shared: Path) -> None:
    """The copies among 600 flowers; looked at, all are true."""
    result = scan(shared / "images" / "flowers", backbone="mobilenet")
    assert {c.photos for c in result.classes} == {120}
    assert [len(twins.paths) for twins in result.twins] == [2] * 5
    assert sum(twins.cause == COPIES for twins in result.twins) == 2


def test_it_is_public() -> None:
    assert ffe.scan is scan
