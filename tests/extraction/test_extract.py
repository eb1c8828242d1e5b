"""Extraction from end to end, on the fake backbone."""

from __future__ import annotations

import hashlib
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from feature_files import assert_same_file, seal

from ffe.base.digests import bytes_digest
from ffe.commands.verify import verify
from ffe.engines.factory import open_engine
from ffe.engines.fake import FakeEngine
from ffe.errors import DataError, EngineError, SourceError, SpecError, StaleStoreError, StoreError
from ffe.extraction.run import ExtractSummary, Progress, extract
from ffe.images.decode import decode, decode_with_hash
from ffe.images.drawings import draw
from ffe.images.phash import perceptual_hash
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore

OPEN_ENGINE = "ffe.extraction.runners.local.open_engine"


def run(source: Path, output: Path, **options: Any) -> ExtractSummary:
    return extract(source, output, **{"backbone": "fake", "batch_size": 4, **options})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the features go: a folder of its own."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "features.h5"


def table(path: Path) -> dict[str, tuple[str, str, bytes]]:
    """Return path -> (class, digest of the image, bytes of the features)."""
    with FeatureStore(path) as store:
        return {
            store.paths[i]: (
                store.class_names[store.labels[i]] if store.labels[i] >= 0 else "",
                store.sha256[i],
                store.raw_row(i).tobytes(),
            )
            for i in range(len(store))
        }


def expected_table(source: Path) -> dict[str, tuple[str, str, bytes]]:
    """Compute the same the slow way: file by file, without anything of ffe.extraction."""
    from ffe.backbones.resolve import make_spec
    from ffe.engines.fake import FakeEngine

    spec, _ = make_spec("fake")
    engine = FakeEngine(spec, 1)
    rows = {}
    for file in source.glob("*/*.png"):
        data = file.read_bytes()
        features = engine.extract(decode(data, PreprocessSpec((32, 32), "none"))[None])[0]
        rows[file.relative_to(source).as_posix()] = (file.parent.name, bytes_digest(data), features.tobytes())
    return rows


def test_every_picture_has_its_row(pictures: Path, output: Path) -> None:
    summary = run(pictures, output)
    assert (summary.rows, summary.computed, summary.skipped, summary.skipped_reasons) == (40, 40, 0, {})
    assert summary.output == output
    assert summary.to_json()["output"] == str(output)
    assert table(output) == expected_table(pictures)
    with FeatureStore(output) as store:
        order = [hashlib.sha256(path.encode()).hexdigest() for path in store.paths]
        assert order == sorted(order)
        assert store.source == str(pictures.resolve())
        assert store.class_names == ("cat", "dog")
        assert store.split == ("",) * 40
    assert [file.name for file in output.parent.iterdir()] == ["features.h5"]


def test_batch_size_and_workers_change_nothing(source: Path, output: Path) -> None:
    run(source, output, batch_size=1, workers=1)
    other = output.with_name("other.h5")
    run(source, other, batch_size=100, workers=5)
    assert_same_file(other, output)


def test_second_run_computes_nothing_and_touches_nothing(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source, output)
    data, status = output.read_bytes(), output.stat()
    monkeypatch.setattr(OPEN_ENGINE, lambda *rest, **options: pytest.fail("no backbone is needed"))
    summary = run(source, output)
    assert (summary.rows, summary.computed) == (12, 0)
    assert output.read_bytes() == data
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_only_a_new_picture_is_computed(source: Path, output: Path) -> None:
    run(source, output)
    draw("dog", 77, (48, 48)).save(source / "dog" / "new.png")
    assert run(source, output).computed == 1
    assert table(output) == expected_table(source)


def test_changed_picture_is_computed_again(source: Path, output: Path) -> None:
    """The content counts, and not the name."""
    run(source, output)
    draw("dog", 78, (48, 48)).save(source / "dog" / "dog_000.png")
    assert run(source, output).computed == 1
    assert table(output) == expected_table(source)


def test_relabelling_computes_nothing(source: Path, output: Path) -> None:
    run(source, output)
    (source / "emu").mkdir()
    (source / "dog" / "dog_001.png").rename(source / "emu" / "renamed.png")
    assert run(source, output).computed == 0
    assert table(output) == expected_table(source)
    with FeatureStore(output) as store:
        assert store.class_names == ("cat", "dog", "emu")


def test_removed_picture_loses_its_row(source: Path, output: Path) -> None:
    run(source, output)
    (source / "cat" / "cat_002.png").unlink()
    summary = run(source, output)
    assert (summary.rows, summary.computed) == (11, 0)
    assert table(output) == expected_table(source)


def test_equal_content_is_computed_once(source: Path, output: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(source / "cat" / "cat_000.png", source / "dog" / f"copy_{name}.png")
    summary = run(source, output, batch_size=2, workers=4)
    assert (summary.rows, summary.computed, summary.copies) == (15, 12, 3)
    assert table(output) == expected_table(source)


def test_bad_file_is_skipped_and_shifts_no_row(source: Path, output: Path) -> None:
    expected = expected_table(source)
    good = (source / "cat" / "cat_000.png").read_bytes()
    (source / "cat" / "half.png").write_bytes(good[: len(good) // 2])
    (source / "dog" / "text.png").write_text("no picture")
    (source / "dog" / "empty.png").touch()
    (source / "stray.txt").write_text("notes")
    summary = run(source, output)
    assert (summary.rows, summary.skipped) == (12, 4)
    assert summary.skipped_reasons == {"left-out": 1, "empty": 1, "truncated": 1, "not-an-image": 1}
    assert table(output) == expected
    with FeatureStore(output) as store:
        assert [(s.path, s.reason) for s in store.skipped] == [
            ("cat/half.png", "truncated"),
            ("dog/empty.png", "empty"),
            ("dog/text.png", "not-an-image"),
            ("stray.txt", "left-out"),
        ]
        assert all(s.message for s in store.skipped)
    assert run(source, output).computed == 0


def test_folder_with_no_picture_at_all(tmp_path: Path, output: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "bad" / "cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bad" / "cat" / f"{name}.png").write_text("no picture")
    sentence = (
        r"None of the 2 files could be read \(the first, '.*/cat/[ab]\.png': .+\); check the paths, and that they are pictures\."
    )
    with pytest.raises(SourceError, match=sentence):
        run(tmp_path / "bad", output)
    (tmp_path / "urls.csv").write_text("path,label\nmemory://gone/a.png,cat\nmemory://gone/b.png,dog\n")
    with pytest.raises(SourceError, match=r"None of the 2 files could be read \(the first, 'memory://gone/[ab]\.png': no such"):
        run(tmp_path / "urls.csv", output)
    assert list(output.parent.iterdir()) == []


def test_other_spec_is_refused_until_overwrite(source: Path, output: Path) -> None:
    run(source, output)
    data = output.read_bytes()
    sentence = (
        r"features\.h5' holds other features than these \(preprocess\.size: stored 32x32, asked 48x40; "
        r"dtype: stored float32, asked float16\); choose another output, or replace it with "
        r"--overwrite \(in Python overwrite=True\)\."
    )
    with pytest.raises(StaleStoreError, match=sentence):
        run(source, output, size=(48, 40), dtype="float16")
    assert output.read_bytes() == data
    assert run(source, output, size=(48, 40), dtype="float16", overwrite=True).computed == 12
    with FeatureStore(output) as store:
        assert store.spec.preprocess.size == (48, 40)
        assert store.raw_row(0).dtype == np.float16


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing/features.h5", r"lies in a folder that does not exist \('.*missing'\); name a file in an existing folder"),
        ("", r"The output '.*' is a folder; name a file in an existing folder, such as features\.h5"),
    ],
)
def test_output_that_cannot_be_written(source: Path, tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence):
        run(source, tmp_path / name)


def test_an_empty_file_at_the_output(source: Path, output: Path) -> None:
    """As after a crash of something else: the sentence says what helps, and both ways do."""
    output.touch()
    with pytest.raises(StoreError, match=r"is empty; make it with 'ffe extract SOURCE -o .*features\.h5 --overwrite'\."):
        run(source, output)
    assert run(source, output, overwrite=True).rows == 12


def test_output_that_is_one_of_the_images(source: Path) -> None:
    picture = source / "cat" / "cat_000.png"
    data = picture.read_bytes()
    with pytest.raises(StoreError, match=r"cat_000\.png' exists and is no feature file, so it is not replaced; choose another"):
        run(source, picture, overwrite=True)
    assert picture.read_bytes() == data


def test_output_that_is_another_file_is_not_replaced(source: Path, output: Path) -> None:
    output.write_text("my diary")
    with pytest.raises(StoreError, match="is no feature file, or a damaged one; give a file"):
        run(source, output)
    assert output.read_text() == "my diary"


def test_unknown_engine_is_refused_first(source: Path, output: Path) -> None:
    with pytest.raises(EngineError, match="There is no engine 'abacus'"):
        run(source, output, engine="abacus")


class _Interrupts:
    """An engine that a user stops after some batches."""

    def __init__(self, inner: Any, batches: int) -> None:
        self.name, self.layout, self.batch_size, self.sizes = inner.name, inner.layout, inner.batch_size, inner.sizes
        self.in_flight, self.seconds, self.on_cpu = inner.in_flight, 0.0, True
        self._inner, self._left = inner, batches

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: self.extract(images)

    def extract(self, images: np.ndarray) -> np.ndarray:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return np.asarray(self._inner.extract(images))


@pytest.mark.portable
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_interrupted_run_goes_on(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """What was computed is not computed again, and the file is that of an undisturbed run."""
    run(source, output.with_name("undisturbed.h5"))
    with monkeypatch.context() as patch:
        patch.setattr(
            "ffe.extraction.runners.local.open_engine",
            lambda *rest, **options: _Interrupts(open_engine(*rest, **options), batches),
        )
        with pytest.raises(KeyboardInterrupt):
            run(source, output)
    assert not output.exists()
    summary = run(source, output)
    assert summary.computed == 12 - 4 * batches
    assert_same_file(output, output.with_name("undisturbed.h5"))
    assert sorted(file.name for file in output.parent.iterdir()) == ["features.h5", "undisturbed.h5"]


class _Wavers(FakeEngine):
    """An engine that is not exact: a row's last bits hang on where in which batch it stands."""

    exact = False
    calls = 0

    def extract(self, images: np.ndarray) -> np.ndarray:
        _Wavers.calls += 1
        if _Wavers.calls == 3:
            raise KeyboardInterrupt
        steps = np.arange(len(images), dtype=np.float32)[:, None] + _Wavers.calls
        return super().extract(images) * (1 + steps * np.float32(1e-7))


@pytest.mark.portable
def test_interrupted_run_of_an_engine_that_is_not_exact_ends_in_a_sound_file(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OPEN_ENGINE, lambda spec, *_, **__: _Wavers(spec, 4))
    with pytest.raises(KeyboardInterrupt):
        run(source, output)
    assert run(source, output).computed == 4
    found = verify(output, recompute=12, source=source)
    assert (found.problems, found.recomputed) == ((), 12)


def test_interrupted_run_is_not_continued_with_other_options(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(OPEN_ENGINE, lambda *rest, **options: _Interrupts(open_engine(*rest, **options), 1))
        with pytest.raises(KeyboardInterrupt):
            run(source, output)
    with pytest.raises(StaleStoreError, match=r"An unfinished run for '.*' made other features \(dtype: stored float32, asked"):
        run(source, output, dtype="float16")
    assert run(source, output, dtype="float16", overwrite=True).computed == 12


# Kills itself at a chosen moment; every batch is a part of its own, so that there is something to go on with.
KILLED = """
import os, signal, sys
from pathlib import Path
from ffe.engines.fake import FakeEngine
from ffe.base import file_stat
from ffe.extraction import feature_file as place, run
from ffe.store import journal, writer

def die(*rest, **options):
    os.kill(os.getpid(), signal.SIGKILL)

source, output, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
journal._COMMIT_SECONDS = 0.0
file_stat.RACY_NS = 0
if moment == "batch":
    whole, calls = FakeEngine.extract, []
    def extract(self, images):
        calls.append(1)
        return die() if len(calls) == 3 else whole(self, images)
    FakeEngine.extract = extract
elif moment == "store":
    place.write_store = lambda *rest, **options: (setattr(writer.os, "replace", die), writer.write_store(*rest, **options))
elif moment == "discard":
    journal.Journal.discard = die
run.extract(source, output, backbone="fake", batch_size=4)
"""


@pytest.mark.parametrize(("moment", "most"), [("batch", 8), ("store", 0), ("discard", 0)])
def test_killed_run_goes_on(source: Path, output: Path, moment: str, most: int) -> None:
    """Killed in a batch, before the file is renamed, and after: the next run computes at most the rest."""
    run(source, output.with_name("undisturbed.h5"))
    command = [sys.executable, "-c", KILLED, str(source), str(output), moment]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert output.exists() == (moment == "discard")
    summary = run(source, output)
    assert (summary.rows, summary.skipped) == (12, 0)
    assert summary.computed <= most
    assert_same_file(output, output.with_name("undisturbed.h5"))
    assert not output.with_name("features.h5.partial").exists()


def test_memory_does_not_grow_with_the_source(pictures: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded and not yet given back: what may be decoded ahead, and two batches."""
    import threading

    lock, held, peak = threading.Lock(), 0, 0

    def counting(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        nonlocal held, peak
        found = decode_with_hash(data, preprocess)
        with lock:
            held += 1
            peak = max(peak, held)
        return found

    class Engine(_Interrupts):
        def extract(self, images: np.ndarray) -> np.ndarray:
            nonlocal held
            rows = super().extract(images)
            with lock:
                held -= len(images)
            return rows

    monkeypatch.setattr("ffe.images.loader._AHEAD_BYTES", 0)  # then 16 images
    monkeypatch.setattr("ffe.images.loader.decode_with_hash", counting)
    monkeypatch.setattr(OPEN_ENGINE, lambda *rest, **options: Engine(open_engine(*rest, **options), -1))
    assert run(pictures, output, workers=4).computed == 40
    assert held == 0
    assert 4 <= peak <= 16 + 2 * 4 + 1


def test_progress_runs_to_the_end(source: Path, output: Path) -> None:
    (source / "dog" / "text.png").write_text("no picture")
    seen: list[Progress] = []
    run(source, output, batch_size=5, progress=seen.append)
    done = [p.done for p in seen]
    assert done == sorted(set(done))
    assert done[-1] == 13
    assert {p.total for p in seen} == {13}
    assert [p.skipped for p in seen] == sorted(p.skipped for p in seen)
    assert seen[-1].skipped == 1
    assert seen[-1].remaining == 0
    assert all(p.rate > 0 and p.remaining >= 0 for p in seen)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What ffe warns of, also where the command line has taken its log over."""
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    caplog.set_level(logging.WARNING, "ffe")
    return caplog


def test_untrained_backbone_is_announced_when_asked_for(source: Path, output: Path, warnings: pytest.LogCaptureFixture) -> None:
    run(source, output, weights="random")
    assert any("THE BACKBONE IS UNTRAINED (--weights random)" in message for message in warnings.messages)


def test_ordinary_run_warns_of_nothing(source: Path, output: Path, warnings: pytest.LogCaptureFixture) -> None:
    run(source, output)
    assert warnings.messages == []


def test_single_class_is_announced(source: Path, output: Path, warnings: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(source / "dog")
    run(source, output)
    assert warnings.messages == ["only one class ('cat') was found; a head needs at least two"]


def test_splits_and_unlabelled_rows_are_kept(source: Path, output: Path) -> None:
    lines = ["path,label,split", "cat/cat_000.png,cat,train", "dog/dog_000.png,dog,val", "dog/dog_001.png,,test", "gone.png,cat,"]
    (source / "list.csv").write_text("\n".join(lines))
    summary = run(source / "list.csv", output)
    assert (summary.rows, summary.skipped_reasons) == (3, {"missing": 1})
    with FeatureStore(output) as store:
        rows = dict(zip(store.paths, zip(store.labels.tolist(), store.split, strict=True), strict=True))
    assert rows == {"cat/cat_000.png": (0, "train"), "dog/dog_000.png": (1, "valid"), "dog/dog_001.png": (-1, "test")}


def hashes(path: Path) -> dict[str, int]:
    with FeatureStore(path) as store:
        return dict(zip(store.paths, store.phash.tolist(), strict=True))


def test_every_row_has_the_fingerprint_of_its_pixels(source: Path, output: Path) -> None:
    shutil.copy(source / "dog" / "dog_000.png", source / "cat" / "copy.png")  # decoded once, whichever comes first
    run(source, output)
    expected = {
        file.relative_to(source).as_posix(): perceptual_hash(decode(file.read_bytes(), PreprocessSpec((32, 32), "none")))
        for file in source.glob("*/*")
    }
    assert hashes(output) == expected
    draw("dog", 77, (48, 48)).save(source / "dog" / "new.png")
    run(source, output)
    again = hashes(output)
    assert again.pop("dog/new.png")
    assert again == expected


def test_rows_of_an_earlier_version_keep_an_unknown_fingerprint(source: Path, output: Path) -> None:
    run(source, output)
    with h5py.File(output, "r+") as file:
        del file["phash"], file["group"]
        seal(file)
    before = output.read_bytes()
    assert run(source, output).computed == 0
    assert output.read_bytes() == before
    draw("dog", 77, (48, 48)).save(source / "dog" / "new.png")
    assert run(source, output).computed == 1
    found = hashes(output)
    assert found.pop("dog/new.png") != 0
    assert set(found.values()) == {0}


def test_groups_are_kept_and_regrouping_computes_nothing(source: Path, output: Path) -> None:
    def groups(*names: str) -> tuple[ExtractSummary, dict[str, str]]:
        lines = [f"cat/cat_00{i}.png,cat,{name}\n" for i, name in enumerate(names)]
        (source / "list.csv").write_text("path,label,group\n" + "".join(lines))
        summary = run(source / "list.csv", output)
        with FeatureStore(output) as store:
            return summary, dict(zip(store.paths, store.group, strict=True))

    assert groups("a", "", "bürst")[1] == {"cat/cat_000.png": "a", "cat/cat_001.png": "", "cat/cat_002.png": "bürst"}
    summary, found = groups("a", "a", "")
    assert summary.computed == 0
    assert found == {"cat/cat_000.png": "a", "cat/cat_001.png": "a", "cat/cat_002.png": ""}


def test_output_inside_the_source_is_no_image(source: Path) -> None:
    """Neither the file nor the parts of an unfinished run turn up as classes, rows or skipped files."""
    for where in (source / "features.h5", source / "cat" / "features.h5"):
        first = run(source, where)
        again = run(source, where)
        assert (first.rows, first.skipped, again.computed, again.skipped) == (12, 0, 0, 0)
        partial = where.with_name("features.h5.partial")
        partial.mkdir()
        (partial / "000001.npy").write_bytes(b"")
        assert run(source, where).skipped == 0
        with FeatureStore(where) as store:
            assert store.class_names == ("cat", "dog")
        where.unlink()


def test_file_of_another_source_is_not_emptied(source: Path, output: Path, tmp_path: Path) -> None:
    run(source, output)
    other = tmp_path / "other"
    for kind in ("cat", "dog"):
        (other / kind).mkdir(parents=True)
        draw(kind, 30, (48, 48)).save(other / kind / "new.png")  # type: ignore[arg-type]
    before = output.read_bytes()
    with pytest.raises(StaleStoreError, match=r"holds 12 rows of '.*source' that '.*other' has not; choose another output, or"):
        run(other, output)
    assert output.read_bytes() == before
    assert run(other, output, overwrite=True).rows == 2


def test_source_that_moved_costs_nothing(source: Path, output: Path, tmp_path: Path) -> None:
    run(source, output)
    assert run(source.rename(tmp_path / "moved"), output).computed == 0


def test_files_that_are_gone_are_dropped_with_a_word(source: Path, output: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(source, output)
    (source / "cat" / "cat_000.png").unlink()
    with caplog.at_level(logging.WARNING, logger="ffe"):
        assert run(source, output).rows == 11
    assert caplog.messages == [f"1 row was dropped from '{output}': 1 file is gone"]


def test_rows_that_a_list_no_longer_names_are_not_said_to_be_gone(
    source: Path, output: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = sorted(source.rglob("*.png"))
    listed = tmp_path / "photos.csv"

    def write(some: list[Path]) -> None:
        listed.write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in some))

    write(files)
    run(listed, output)
    files[1].unlink()
    files[2].write_bytes(b"no picture")
    write([files[0], files[2], *files[5:]])
    with caplog.at_level(logging.WARNING, logger="ffe"):
        assert run(listed, output).rows == 8
    causes = "1 file is gone, 1 file can no longer be read and 2 files are no longer listed"
    assert caplog.messages[-1] == f"4 rows were dropped from '{output}': {causes}"
    write(files[5:])
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ffe"):
        assert run(listed, output).rows == 7
    (said,) = (record for record in caplog.records if "dropped" in record.message)
    assert (said.levelname, said.message) == ("INFO", f"1 row was dropped from '{output}': 1 file is no longer listed")


def test_features_that_do_not_fit_float16_are_refused(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.engines.fake.FakeEngine.extract", lambda self, images: np.full((len(images), 48), 1e6, np.float32))
    with pytest.raises(DataError, match=r"NaN or too large for float16; use --dtype float32\."):
        run(source, output, dtype="float16")


def test_link_that_points_at_itself_stops_nothing(source: Path, output: Path) -> None:
    (source / "cat" / "loop").symlink_to("loop")
    summary = run(source, output)
    assert (summary.rows, summary.skipped_reasons) == (12, {"left-out": 1})


def test_interrupted_overwriting_run_goes_on(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source, output, size=16)
    with monkeypatch.context() as patch:
        patch.setattr(OPEN_ENGINE, lambda *rest, **options: _Interrupts(open_engine(*rest, **options), 2))
        with pytest.raises(KeyboardInterrupt):
            run(source, output, overwrite=True)
    assert run(source, output, overwrite=True).computed == 4


@pytest.mark.parametrize(("name", "paths"), [("source", (None, "f.h5")), ("output", ("pictures", 7))])
def test_what_is_no_path_is_refused_in_a_sentence(name: str, paths: tuple[Any, Any]) -> None:
    with pytest.raises(SpecError, match=rf"^{name} is (None|7), but must be a path; give it as text or as a pathlib\.Path\.$"):
        extract(*paths)
