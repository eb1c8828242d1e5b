"""What a run will take, said before it starts."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.base.system import cache_root
from ffe.errors import BackboneError, DiskFullError, StaleStoreError, StoreError, WeightsError
from ffe.extraction import throughput_log
from ffe.extraction.estimate import Estimate, dry_run
from ffe.extraction.run import ExtractSummary, extract
from ffe.extraction.throughput_log import remember, remembered
from ffe.images.drawings import draw

GIB = 1 << 30


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No earlier runs on this machine."""
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def source(pictures: Path, tmp_path: Path) -> Path:
    """The drawn pictures, to be changed."""
    return Path(shutil.copytree(pictures, tmp_path / "source"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "features.h5"


def run(source: Path, output: Path, **options: Any) -> tuple[ExtractSummary, list[Estimate]]:
    """Extract, and return what was said before."""
    said: list[Estimate] = []
    return extract(source, output, **{"backbone": "fake", "announce": said.append, **options}), said


def files_below(*folders: Path) -> dict[str, tuple[int, int]]:
    """Return every path below some folders, with its size and time of change."""
    return {str(p): (s.st_size, s.st_mtime_ns) for folder in folders for p in folder.rglob("*") for s in [p.lstat()]}


def test_a_first_run(source: Path, output: Path) -> None:
    """Of a backbone that never ran here: its size is known once it is loaded, its time when it has run."""
    (source / "stray.txt").write_text("notes")
    _, (before, loaded) = run(source, output)
    assert (before.images, before.compute, before.copied, before.check, before.unfinished, before.skipped) == (41, 40, 0, 0, 0, 1)
    assert (before.file_bytes, before.needed_bytes, before.least_bytes, before.seconds) == (None, None, 0, None)
    assert loaded.file_bytes is not None
    assert loaded.needed_bytes is not None
    size = output.stat().st_size
    assert size <= loaded.file_bytes <= size + (80 << 10)
    assert 0 < loaded.needed_bytes - loaded.file_bytes <= 40 * 150  # features are written once
    _, (packed,) = run(source, output.with_name("packed.h5"), compress="gzip")  # and here once more
    assert packed.needed_bytes is not None
    assert packed.needed_bytes - loaded.needed_bytes == 40 * 48 * 4
    assert before.free_bytes > 0
    _, (again,) = run(source, output.with_name("other.h5"))
    assert again.file_bytes == loaded.file_bytes


def test_time_is_that_of_earlier_runs_on_this_machine(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_log, "LEAST_IMAGES", 40)
    summary, said = run(source, output)
    assert [estimate.seconds for estimate in said] == [None, None]
    _, (again,) = run(source, output.with_name("other.h5"))
    assert again.seconds == pytest.approx(40 / summary.images_per_second, rel=0.01)
    for other in ({"size": 40}, {"decode": "fast"}, {"engine": "keras"}):
        assert dry_run(source, output.with_name("x.h5"), backbone="fake", **other).seconds is None  # type: ignore[arg-type]


def test_a_few_images_tell_no_rate(source: Path, output: Path) -> None:
    run(source, output)
    assert dry_run(source, output.with_name("x.h5"), backbone="fake").seconds is None


LAYOUT = FeatureLayout.of_shape((4, 4, 3))


def test_what_is_remembered_survives_nonsense() -> None:
    spec, _ = make_spec("fake")
    remember(spec, "auto", LAYOUT, 1000, 123.456)
    assert remembered(spec, "auto") == (LAYOUT, 123.456)
    remember(spec, "auto", LAYOUT, 5, 1.0)
    assert remembered(spec, "auto") == (LAYOUT, 123.456)
    (note,) = (cache_root() / "runs").iterdir()
    for content in ("", "[]", '{"grid": 5, "rates": []}', '{"grid": [0, 1, 2], "rates": {"x": "fast"}}', '{"grid": ["a"]}'):
        note.write_text(content)
        assert remembered(spec, "auto") == (None, None)
        remember(spec, "auto", LAYOUT, 1000, 99.0)
        assert remembered(spec, "auto") == (LAYOUT, 99.0)


def unchanged(source: Path) -> tuple[int, int, int]:
    return 0, 40, 0


def added(source: Path) -> tuple[int, int, int]:
    draw("dog", 77, (48, 48)).save(source / "dog" / "new.png")
    return 1, 40, 0


def changed(source: Path) -> tuple[int, int, int]:
    draw("dog", 78, (64, 48)).save(source / "dog" / "dog_000.png")
    return 1, 39, 0


def renamed(source: Path) -> tuple[int, int, int]:
    """By their sizes they are probably those that are gone."""
    (source / "cat").rename(source / "emu")
    return 0, 20, 20


def touched(source: Path) -> tuple[int, int, int]:
    os.utime(source / "cat" / "cat_000.png", (1e9, 1e9))
    return 0, 39, 1


@pytest.mark.parametrize("what", [unchanged, added, changed, renamed, touched], ids=lambda what: what.__name__)
def test_what_is_to_be_computed_copied_and_compared(
    source: Path, output: Path, what: Callable[[Path], tuple[int, int, int]]
) -> None:
    run(source, output)
    expected = what(source)
    said = dry_run(source, output, backbone="fake")
    assert (said.compute, said.copied, said.check) == expected
    assert (said.needed_bytes == 0) == (what is unchanged)
    summary, (announced,) = run(source, output)
    assert announced.to_json() == {**said.to_json(), "free_bytes": announced.free_bytes}
    assert (summary.computed, summary.read) == (expected[0], expected[0] + expected[2])


def test_rehash_compares_everything(source: Path, output: Path) -> None:
    run(source, output)
    said = dry_run(source, output, backbone="fake", rehash=True)
    assert (said.compute, said.copied, said.check) == (0, 0, 40)


def interrupted(source: Path, output: Path, **options: Any) -> None:
    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, output, batch_size=10, progress=stop, **options)


def test_an_unfinished_run_is_counted(source: Path, output: Path) -> None:
    interrupted(source, output)
    before = files_below(output.parent)
    said = dry_run(source, output, backbone="fake")
    assert (said.compute, said.unfinished) == (30, 10)
    assert files_below(output.parent) == before
    with pytest.raises(StaleStoreError, match=r"An unfinished run for '.*' made other features \(dtype: stored float32, asked"):
        dry_run(source, output, backbone="fake", dtype="float16")
    assert dry_run(source, output, backbone="fake", dtype="float16", overwrite=True).unfinished == 0


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_dry_run_writes_nothing_and_knows_the_size(
    source: Path, output: Path, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    options: dict[str, Any] = {"backbone": "mobilenet_0.25", "size": 32, "weights": "random", "precision": precision}
    before = files_below(tmp_path)
    with caplog.at_level(logging.INFO, "ffe"):
        said = dry_run(source, output, **options)
    assert "loading the backbone mobilenet_0.25 to see the shape of its features" in caplog.text
    assert files_below(tmp_path) == before
    assert said.compute == 40
    assert said.file_bytes is not None
    assert 40 * 256 * 4 < said.file_bytes < 40 * 256 * 4 + (100 << 10)


def test_a_dry_run_refuses_what_the_run_would(source: Path, output: Path) -> None:
    run(source, output)
    with pytest.raises(StaleStoreError, match=r"holds other features than these \(preprocess\.size: stored 32x32, asked 40x40\)"):
        dry_run(source, output, backbone="fake", size=40)
    with pytest.raises(StoreError, match="lies in a folder that does not exist"):
        dry_run(source, output.parent / "none" / "f.h5", backbone="fake")
    with pytest.raises(WeightsError, match="are not on this machine"):
        dry_run(source, output.with_name("x.h5"), backbone="mobilenet_0.25")
    with pytest.raises(BackboneError, match="has no layer 'last'"):
        dry_run(source, output.with_name("x.h5"), backbone="mobilenet_0.25", weights="random", size=32, layer="last")


def test_a_dry_run_downloads_nothing(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.backbones.weights._unreachable", lambda url: "")
    monkeypatch.setattr("ffe.backbones.keras_build.download", lambda *arguments: pytest.fail("nothing may be fetched"))
    with pytest.raises(WeightsError, match="are not on this machine"):
        dry_run(source, output, backbone="mobilenet_0.25")


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("ffe.extraction.estimate.free_disk", lambda folder: count)


def test_a_run_that_surely_does_not_fit_is_refused(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the size is known: at once after an earlier run, else when the backbone is loaded."""
    sentence = (
        r"^The disk of '.*features\.h5' has 20\.0 KiB free, but at least (\d+\.\d) KiB are needed "
        r"until the features are in their file, so (\d+\.\d) KiB are missing; make room, or choose another output\.$"
    )
    free(monkeypatch, 20 << 10)
    for announced in (2, 1):
        said: list[Estimate] = []
        with pytest.raises(DiskFullError, match=sentence):
            extract(source, output, backbone="fake", announce=said.append)
        assert len(said) == announced
        assert list(output.parent.iterdir()) == []
        remember(make_spec("fake")[0], "auto", LAYOUT, 1, 1.0)
    with pytest.raises(DiskFullError, match=sentence):
        dry_run(source, output, backbone="fake").refuse()


def test_what_may_fit_is_not_refused(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are computed once, and what is named like no picture may be none."""
    for i in range(40):
        shutil.copy(source / "cat" / "cat_000.png", source / "cat" / f"copy_{i}.png")
        (source / "dog" / f"{i}.txt").write_text("notes")
    with monkeypatch.context() as patch:
        patch.setattr("ffe.extraction.estimate._PICTURES", {".png", ".txt"})
        other = dry_run(source, output, backbone="fake").least_bytes
    said = dry_run(source, output, backbone="fake")
    assert said.file_bytes is not None
    assert said.needed_bytes is not None
    assert said.least_bytes < min(said.needed_bytes, other)
    free(monkeypatch, said.least_bytes)
    assert run(source, output)[0].rows == 80


def test_nothing_is_refused_where_nothing_is_written(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source, output)
    free(monkeypatch, 0)
    assert run(source, output)[0].changes.unchanged == 40


def test_the_disk_is_that_of_the_output(source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of a link to it."""
    (tmp_path / "link.h5").symlink_to(output)
    asked: list[Path] = []
    monkeypatch.setattr("ffe.extraction.estimate.free_disk", lambda folder: (asked.append(folder), GIB)[1])
    dry_run(source, tmp_path / "link.h5", backbone="fake")
    assert asked == [output.parent.resolve()]


def test_as_json(source: Path, output: Path) -> None:
    value = json.loads(json.dumps(dry_run(source, output, backbone="fake").to_json()))
    assert value["output"] == str(output)
    assert set(value) == {
        *("output", "images", "views", "compute", "copied", "check", "unfinished", "skipped"),
        *("file_bytes", "needed_bytes", "least_bytes", "free_bytes", "seconds", "dropped"),
    }


@pytest.mark.parametrize(
    ("vnni", "level", "sentence"),
    [
        (
            False,
            "WARNING",
            "this processor has no instructions for int8 (VNNI): on such ones int8 was 1.1 to 1.8 times as fast as "
            "float32 with MobileNet and 1.7 to 2 times with VGG19, and 3 to 4 times only where there are some; float32 keeps the "
            "accuracy",
        ),
        (True, "INFO", "this processor has instructions for int8 (VNNI): int8 was 3 to 4 times as fast as float32 on such ones"),
        (None, "INFO", "what int8 brings on this kind of processor is not measured; 'ffe bench PHOTOS' measures it"),
    ],
)
def test_what_int8_brings_is_said_before_the_run(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    vnni: bool | None,
    level: str,
    sentence: str,
) -> None:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    caplog.set_level(logging.INFO, "ffe")
    monkeypatch.setattr("ffe.extraction.request.has_vnni", lambda: vnni)
    dry_run(pictures, tmp_path / "f.h5", backbone="fake", precision="int8")
    assert (level, sentence) in [(record.levelname, record.getMessage()) for record in caplog.records]
