"""Views of the images that train: what is made, of what, when it is made again, and that plain rows never notice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from feature_files import seal

from ffe.base.hdf5_checks import as_text
from ffe.commands.pack import pack
from ffe.commands.verify import verify
from ffe.engines.base import ROW_TOLERANCE
from ffe.engines.fake import FakeEngine
from ffe.errors import SourceError, SpecError, StaleStoreError, StoreError
from ffe.extraction.estimate import dry_run
from ffe.extraction.run import ExtractSummary, extract
from ffe.extraction.stage_times import Progress
from ffe.images import augment as augmenting
from ffe.images import loader
from ffe.images.augment import augment
from ffe.images.augment_text import parse_augment
from ffe.images.decode import decode, decode_with_hash
from ffe.images.drawings import draw
from ffe.specs import PreprocessSpec, ViewsSpec
from ffe.store import journal
from ffe.store.check import check_store
from ffe.store.reader import FeatureStore
from ffe.store.writer import write_store

CHANGES = "flip,zoom=0.6-1.2,rotate=20,brightness=0.7-1.3"


def run(source: Path, output: Path, **options: Any) -> ExtractSummary:
    return extract(source, output, **{"backbone": "fake", "batch_size": 4, **options})


def with_views(source: Path, output: Path, **options: Any) -> ExtractSummary:
    return run(source, output, **{"views": 3, "augment": CHANGES, **options})


def table(path: Path) -> dict[tuple[str, int], bytes]:
    """Return the bytes of each row's features, by path and view."""
    with FeatureStore(path) as store:
        assert check_store(store) == []
        rows = enumerate(zip(store.paths, store.views.tolist(), strict=True))
        return {key: store.raw_row(i).tobytes() for i, key in rows}


def plain(path: Path) -> dict[tuple[str, int], bytes]:
    return {key: row for key, row in table(path).items() if key[1] == 0}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "features.h5"


# what is made ------------------------------------------------------------------------------------------------------------


def test_each_row_of_a_view_is_the_backbone_on_that_view(source: Path, output: Path) -> None:
    summary = with_views(source, output)
    assert (summary.rows, summary.images, summary.computed, summary.read) == (48, 12, 48, 12)
    spec = parse_augment(CHANGES)
    with FeatureStore(output) as store:
        assert store.made_views == ViewsSpec(3, spec) == summary.views
        assert store.views.tolist() == [0, 1, 2, 3] * 12
        with pytest.raises(ValueError, match="read-only"):
            store.plain[0] = 1
        for row in range(len(store)):
            pixels = decode((source / store.paths[row]).read_bytes(), PreprocessSpec((32, 32), "none"))
            view = augment(pixels, spec, store.sha256[row], int(store.views[row]))
            np.testing.assert_array_equal(store.features(np.asarray([row]))[0], FakeEngine(store.spec, 8).extract(view[None])[0])
        for name in ("paths", "sha256", "split", "group"):
            column = getattr(store, name)
            assert [column[i] for i in store.plain for _ in range(4)] == list(column)
        for column in (store.labels, store.phash, store.stat):
            np.testing.assert_array_equal(np.repeat(column[store.plain], 4, axis=0), column)


def test_plain_rows_and_the_spec_are_those_of_a_file_without_views(source: Path, output: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "plain.h5")
    with_views(source, output)
    assert plain(output) == table(tmp_path / "plain.h5")
    with FeatureStore(output) as one, FeatureStore(tmp_path / "plain.h5") as other:
        assert (one.spec, one.spec_digest, one.schema) == (other.spec, other.spec_digest, other.schema)
        assert other.made_views is None
    with h5py.File(tmp_path / "plain.h5") as file:
        assert "views" not in file.attrs


@pytest.mark.portable
@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_plain_rows_of_a_real_backbone_do_not_change(source: Path, output: Path, tmp_path: Path, engine: str) -> None:
    """To the bit where the engine is exact, and within its tolerance otherwise; views added later never touch them."""
    real = {"backbone": "mobilenet_0.25", "size": 32, "weights": "random", "engine": engine, "batch_size": 8}
    extract(source, tmp_path / "plain.h5", **real)  # type: ignore[arg-type]
    extract(source, output, views=4, augment=CHANGES, **real)  # type: ignore[arg-type]
    fresh, before = plain(output), table(tmp_path / "plain.h5")
    if engine == "openvino":
        assert fresh == before
    for key, row in before.items():
        expected = np.frombuffer(row, np.float32)
        apart = np.abs(np.frombuffer(fresh[key], np.float32) - expected).max()
        assert apart <= ROW_TOLERANCE * np.abs(expected).max()
    with FeatureStore(output) as store:
        assert len(np.unique(store.features(), axis=0)) == 60
    extract(source, tmp_path / "plain.h5", views=1, augment=CHANGES, **real)  # type: ignore[arg-type]
    assert plain(tmp_path / "plain.h5") == before


def test_a_file_is_decoded_once_for_all_of_its_views(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counting(data: bytes, *rest: Any) -> tuple[np.ndarray, int]:
        decoded.append(data)
        return decode_with_hash(data, *rest)

    monkeypatch.setattr(loader, "decode_with_hash", counting)
    with_views(source, output)
    assert len(decoded) == 12


@pytest.mark.parametrize("folders", ["split", "csv"])
def test_only_images_that_train_get_views(pictures: Path, output: Path, tmp_path: Path, folders: str) -> None:
    files = sorted(pictures.glob("*/*_00[0-3].png"))
    split_of = {"000": "train", "001": "train", "002": "valid", "003": "test"}
    lines = ["path,label,split"]
    for file in files:
        split = split_of[file.stem.split("_")[1]]
        target = tmp_path / "source" / split / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        lines.append(f"{file},{file.parent.name},{split}")
    lines.append(f"{pictures / 'cat' / 'cat_009.png'},,train")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    summary = with_views(tmp_path / ("source" if folders == "split" else "list.csv"), output)
    assert summary.rows == 8 + 4 * 3 + (folders == "csv")
    with FeatureStore(output) as store:
        views = store.views > 0
        assert {split for split, view in zip(store.split, views, strict=True) if view} == {"train"}
        assert (store.labels[views] >= 0).all()
        value = store.summary()
        assert value["images"] == 8 + (folders == "csv")
        assert value["class_counts"] == {"cat": 4, "dog": 4}
        assert value["splits"]["valid"] == value["splits"]["test"] == 2


def test_a_copy_that_tests_has_no_views_and_the_one_that_trains_has(pictures: Path, output: Path, tmp_path: Path) -> None:
    file = pictures / "cat" / "cat_000.png"
    for name in ("test/cat/a.png", "train/cat/b.png", "train/cat/c.png"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "source" / name)
    assert with_views(tmp_path / "source", output).computed == 4
    rows = table(output)
    assert sorted(rows) == [("test/cat/a.png", 0), *(("train/cat/b.png", v) for v in range(4))] + [
        ("train/cat/c.png", v) for v in range(4)
    ]
    assert [rows["train/cat/b.png", v] for v in range(4)] == [rows["train/cat/c.png", v] for v in range(4)]


# again -------------------------------------------------------------------------------------------------------------------


def test_the_same_command_again_opens_nothing(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_views(source, output)
    before = output.read_bytes(), output.stat().st_mtime_ns
    monkeypatch.setattr("ffe.extraction.runners.local.open_images", None)
    for options in ({}, {"augment": None}, {"views": None}, {"views": None, "augment": None}):
        summary = with_views(source, output, **options)
        assert (summary.computed, summary.read, summary.rows) == (0, 0, 48)
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("first", "then", "computed"),
    [
        ({"views": None, "augment": None}, {}, 36),
        ({"views": 1}, {}, 24),
        ({"views": 5}, {}, 0),
        ({"augment": "flip,zoom=0.6-1.2,rotate=20,brightness=0.7-1.3,seed=1"}, {}, 36),
        ({}, {"views": 0, "augment": None}, 0),
        ({}, {"views": 2, "augment": None}, 0),
    ],
)
def test_only_what_is_missing_is_computed_and_the_file_is_that_of_a_fresh_run(
    source: Path, output: Path, tmp_path: Path, first: dict[str, Any], then: dict[str, Any], computed: int
) -> None:
    with_views(source, output, **first)
    stated = dry_run(source, output, backbone="fake", **{"views": 3, "augment": CHANGES, **then})
    summary = with_views(source, output, **then)
    assert (summary.computed, stated.compute) == (computed, computed)
    assert summary.changes.unchanged == summary.images == 12
    fresh = {**then, "augment": CHANGES} if then.get("views") else then
    with_views(source, tmp_path / "fresh.h5", **fresh)
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_changes_of_the_source(source: Path, output: Path, tmp_path: Path) -> None:
    with_views(source, output)
    draw("dog", 77).save(source / "dog" / "new.png")
    draw("dog", 78).save(source / "dog" / "dog_000.png")
    (source / "dog" / "dog_001.png").unlink()
    (source / "dog" / "dog_002.png").rename(source / "cat" / "moved.png")
    summary = run(source, output)
    assert (summary.computed, summary.read) == (8, 3)
    found = summary.changes
    assert (found.unchanged, found.new, found.changed, found.removed, found.renamed) == (9, 1, 1, 1, 1)
    with_views(source, tmp_path / "fresh.h5")
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_file_keeps_its_views_with_a_word_until_they_are_dropped(
    source: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_views(source, output)
    caplog.set_level("INFO", logger="ffe")
    assert run(source, output).rows == 48
    assert (
        "the feature file has 3 views of each image that trains (flip,zoom=0.6-1.2,rotate=20,brightness=0.7-1.3), "
        "and keeps them, also of new images; --views 0 drops them"
    ) in caplog.messages
    assert run(source, output, views=0).rows == 12
    assert run(source, output, overwrite=True).views is None


def test_what_a_run_takes_is_stated_with_its_views(source: Path, output: Path) -> None:
    with_views(source, output)
    shutil.copy(source / "cat" / "cat_000.png", source / "cat" / "copy.png")
    draw("cat", 50).save(source / "cat" / "new.png")
    found = dry_run(source, output, backbone="fake")
    assert (found.images, found.views, found.compute, found.copied) == (14, 42, 8, 48)
    free = dry_run(source, output.with_name("other.h5"), backbone="fake")
    more = dry_run(source, output.with_name("other.h5"), backbone="fake", views=9, augment="flip")
    assert (more.compute, more.views) == (140, 126)
    assert more.file_bytes is not None
    assert free.file_bytes is not None
    assert more.file_bytes - free.file_bytes > 126 * 48 * 4
    assert more.least_bytes > free.least_bytes
    with_views(source, output)
    assert found.file_bytes is not None
    assert output.stat().st_size <= found.file_bytes


# interrupted -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def start(call: Callable[[], object], batches: int) -> None:
        whole, left = FakeEngine.extract, iter(range(batches))

        def failing(self: FakeEngine, images: np.ndarray) -> np.ndarray:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return whole(self, images)

        with monkeypatch.context() as patch:
            patch.setattr(journal, "_COMMIT_SECONDS", 0.0)
            patch.setattr(FakeEngine, "extract", failing)
            with pytest.raises(KeyboardInterrupt):
                call()

    return start


@pytest.mark.parametrize("batches", [1, 5, 9])
def test_a_run_that_goes_on_makes_the_same_file(
    source: Path, output: Path, tmp_path: Path, interrupted: Callable[..., None], batches: int
) -> None:
    interrupted(lambda: with_views(source, output), batches)
    stated = dry_run(source, output, backbone="fake", views=3, augment=CHANGES)
    assert stated.unfinished == 48 - stated.compute > 0
    summary = with_views(source, output)
    assert summary.computed == stated.compute
    with_views(source, tmp_path / "fresh.h5")
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_views_of_another_augmentation_are_not_taken_from_an_unfinished_run(
    source: Path, output: Path, tmp_path: Path, interrupted: Callable[..., None]
) -> None:
    interrupted(lambda: with_views(source, output, augment="vflip"), 9)
    stated = dry_run(source, output, backbone="fake", views=3, augment=CHANGES)
    assert 0 < stated.unfinished <= 12
    assert with_views(source, output).computed == stated.compute >= 36
    with_views(source, tmp_path / "fresh.h5")
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()


# in parts ----------------------------------------------------------------------------------------------------------------


def parts_of(source: Path, folder: Path, **second: Any) -> list[Path]:
    """Extract the two halves of a source, each as a CSV, as two machines would."""
    files = sorted(source.glob("*/*.png"))
    for number in (0, 1):
        lines = [f"{file.relative_to(source)},{file.parent.name}" for file in files[number::2]]
        (source / f"{number}.csv").write_text("\n".join(["path,label", *lines]))
        with_views(source / f"{number}.csv", folder / f"{number}.h5", **(second if number else {}))
    return [folder / "0.h5", folder / "1.h5"]


@pytest.mark.parametrize("virtual", [False, True])
def test_two_parts_packed_are_one_run(source: Path, tmp_path: Path, virtual: bool) -> None:
    parts = parts_of(source, tmp_path)
    summary = pack(parts, tmp_path / "all.h5", virtual=virtual)
    assert (summary.rows, summary.duplicates) == (48, 0)
    with_views(source, tmp_path / "one.h5")
    assert table(tmp_path / "all.h5") == table(tmp_path / "one.h5")
    with FeatureStore(tmp_path / "all.h5") as store:
        assert store.made_views == ViewsSpec(3, parse_augment(CHANGES))
    assert pack([*parts, tmp_path / "one.h5"], tmp_path / "twice.h5").duplicates == 12


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"views": None, "augment": None}, "has no views, and "),
        ({"views": 2}, "has 2 views of each image that trains (flip,zoom=0.6-1.2,rotate=20,brightness=0.7-1.3), and "),
        ({"augment": "flip"}, "has 3 views of each image that trains (flip), and "),
    ],
)
def test_parts_with_other_views_are_not_packed(source: Path, tmp_path: Path, second: dict[str, Any], words: str) -> None:
    with pytest.raises(StaleStoreError) as error:
        pack(parts_of(source, tmp_path, **second), tmp_path / "all.h5")
    assert words in str(error.value)
    assert str(error.value).endswith("; extract both with the same --views and --augment.")


# damage ------------------------------------------------------------------------------------------------------------------


def test_a_damaged_view_is_made_again_from_the_picture(source: Path, output: Path) -> None:
    with_views(source, output)
    sound = output.read_bytes()
    with h5py.File(output) as file:
        begin = file["features"].id.get_chunk_info(0).byte_offset
    data = bytearray(sound)
    for row in (4, 6, 11):  # a plain one, its second view, and the third of the next
        data[begin + row * 48 * 4 + 9] ^= 4
    output.write_bytes(data)
    assert [problem.row for problem in verify(output).problems] == [4, 6, 11]
    found = verify(output, repair=True, recompute=48)
    assert (found.ok, found.repaired, found.recomputed) == (True, 3, 48)
    assert output.read_bytes() == sound


def test_a_view_of_something_else_is_found(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = augmenting.draw
    monkeypatch.setattr(augmenting, "draw", lambda spec, sha256, view: other(spec, sha256, view + (view > 0)))
    with_views(source, output)
    monkeypatch.undo()
    found = verify(output, recompute=48)
    assert found.recomputed == 48
    assert {problem.row for problem in found.problems if problem.row is not None} == set(
        np.flatnonzero(np.arange(48) % 4 > 0).tolist()
    )


def test_missing_views_are_a_problem(source: Path, output: Path) -> None:
    with_views(source, output)
    with FeatureStore(output) as store:
        whole = store.rows()
        store.views = np.where(np.arange(48) == 5, 2, store.views)
        assert [problem.message for problem in check_store(store)][:1] == ["it has two rows of one image"]
        assert len(whole) == 48
    with FeatureStore(output) as store:
        features = {(row.path, row.view): store.raw_row(i) for i, row in enumerate(whole)}
        write_store(
            output.with_name("cut.h5"),
            spec=store.spec,
            layout=store.layout,
            class_names=store.class_names,
            rows=[row for row in whole if (row.path, row.view) not in {(whole[1].path, 2), (whole[4].path, 0)}],
            features=lambda row: features[row.path, row.view],
            views=store.made_views,
        )
    with FeatureStore(output.with_name("cut.h5")) as store:
        assert [problem.text() for problem in check_store(store)] == [
            f"it has 2 of 3 views of '{whole[1].path}'",
            "it has views of images that it has not",
        ]


def test_views_of_another_class_than_their_image_are_a_problem(source: Path, output: Path) -> None:
    with_views(source, output)
    with h5py.File(output, "r+") as file:
        file["labels"][6] = 1 - file["labels"][6]
        seal(file)
    with FeatureStore(output) as store:
        assert [problem.text() for problem in check_store(store)] == [
            f"the views of '{store.paths[4]}' are of another content, class, split or group than it"
        ]


def test_views_that_the_file_does_not_speak_of(source: Path, output: Path) -> None:
    with_views(source, output)
    with h5py.File(output, "r+") as file:
        del file.attrs["views"]
        seal(file)
    with pytest.raises(StoreError, match="it holds views that it does not speak of"):
        FeatureStore(output)


def test_the_digest_of_the_tables_covers_what_the_views_are(source: Path, output: Path) -> None:
    with_views(source, output)
    with h5py.File(output, "r+") as file:
        value = json.loads(file.attrs["views"])
        value["augment"]["rotate"] = 21.0
        file.attrs["views"] = as_text(json.dumps(value))
    with pytest.raises(StoreError, match="its tables are not those that were written"):
        FeatureStore(output)


# refused -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"views": 4},
            "--views needs --augment, which says how the views differ; add --augment flip,zoom=0.8-1.2,rotate=15, for example.",
        ),
        (
            {"augment": "flip"},
            "--augment says how views differ, but not how many there are; add --views 4, for example.",
        ),
        (
            {"views": 0, "augment": "flip"},
            "--views 0 makes no views, so there is nothing for --augment to say; leave one of them out.",
        ),
        ({"views": 1001, "augment": "flip"}, "The number of views of an image is 1001, but must be 1 to 1000."),
        ({"views": -1, "augment": "flip"}, "The number of views of an image is -1, but must be 1 to 1000."),
        (
            {"views": 2, "augment": "flop"},
            "There is no change 'flop' for --augment; known are flip, vflip, zoom, crop, rotate, "
            "shift, shear, brightness, contrast, normalize, ratio, fill, seed. Did you mean 'flip'?",
        ),
    ],
)
def test_options_that_do_not_go_together(source: Path, output: Path, options: dict[str, Any], sentence: str) -> None:
    for call in (run, lambda *files, **rest: dry_run(*files, backbone="fake", **rest)):
        with pytest.raises(SpecError) as error:
            call(source, output, **options)
        assert str(error.value) == sentence
    assert not output.exists()


def test_an_unlabelled_set_has_no_views(source: Path, output: Path) -> None:
    with pytest.raises(SourceError) as error:
        with_views(source / "cat", output)
    assert str(error.value) == (
        f"The images of '{source / 'cat'}' have no labels, so none of them trains, and only those that train get views; "
        "give one folder per class, or a CSV with labels, or do without views (--views 0)."
    )


def test_a_set_that_only_tests_gets_no_views_with_a_word(
    source: Path, output: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.move(source, tmp_path / "new" / "test")
    assert with_views(tmp_path / "new", output).rows == 12
    assert f"no image of '{tmp_path / 'new'}' trains, so none gets views" in caplog.messages


def test_progress_counts_images_and_not_their_views(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where those of one are in two batches: it is done with the last of them, once."""
    told: list[Progress] = []
    clock = iter([0.0])
    for module in ("collect", "local"):
        monkeypatch.setattr(f"ffe.extraction.runners.{module}.time", SimpleNamespace(monotonic=lambda: next(clock, 10.0)))
    summary = with_views(source, output, batch_size=3, progress=told.append)
    assert (summary.computed, told[-1].total) == (48, 12)
    assert [progress.done for progress in told].count(12) == 1
    assert told[-1].done == 12
    assert told[-1].rate == pytest.approx(12 / 10)
