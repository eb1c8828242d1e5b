"""A feature file in shards: the rows of one file, whatever happens to the run, the source or the shards."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from feature_files import assert_same_file

from ffe.base.feature_layout import FeatureLayout
from ffe.cli import cli
from ffe.commands.evaluate import evaluate
from ffe.commands.export import export
from ffe.commands.pack import pack
from ffe.commands.similar import similar
from ffe.commands.suggest import suggest
from ffe.commands.tune import train, tune
from ffe.commands.verify import verify
from ffe.dataset import load_features
from ffe.dataset.feature_files import as_files
from ffe.errors import DiskFullError, SourceError, SpecError, StaleStoreError, StoreError
from ffe.extraction import run as run_module
from ffe.extraction.estimate import dry_run
from ffe.extraction.request import ExtractOptions, existing_quantized, make_job
from ffe.extraction.run import ExtractSummary, extract
from ffe.extraction.shards import shard_of
from ffe.extraction.stage_times import Progress
from ffe.images.drawings import draw, draw_folder
from ffe.images.sources import scan
from ffe.specs import ExtractSpec
from ffe.store import row_reader, writer
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

ROOT = Path(__file__).resolve().parent.parent.parent
COUNT = 4


def run(source: Path, output: Path, **options: Any) -> ExtractSummary:
    return extract(source, output, **{"backbone": "fake", "batch_size": 4, **options})


def shards(output: Path, count: int = COUNT) -> list[Path]:
    return [output.with_name(f"{output.stem}-{number:05d}-of-{count:05d}.h5") for number in range(1, count + 1)]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the number and the content of every file of a folder."""
    return {file.name: (file.stat().st_ino, file.read_bytes()) for file in folder.iterdir() if file.is_file()}


def assert_same_rows(sharded: Path, whole: Path) -> None:
    """Check that two files say the same, row by row and to the bit."""
    with FeatureStore(sharded) as one, FeatureStore(whole) as other:
        assert one.rows() == other.rows()
        np.testing.assert_array_equal(one.features(), other.features())
        assert one.crc32 is not None
        assert one.crc32.tolist() == other.crc32.tolist()  # type: ignore[union-attr]
        for name in ("class_names", "skipped", "judged_by", "source", "spec", "layout", "made_views"):
            assert getattr(one, name) == getattr(other, name), name


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 drawn cats and dogs, three birds, a file that is no picture, and one outside of the classes."""
    folder = tmp_path_factory.mktemp("photos")
    draw_folder(folder, 30, (40, 40))
    (folder / "bird").mkdir()
    for i in range(3):
        draw("cat", 90 + i, (40, 40)).save(folder / "bird" / f"bird_{i}.png")
    (folder / "dog" / "bad.png").write_bytes(b"no picture")
    (folder / "loose.txt").write_text("outside")
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features in one file, and in four shards."""
    folder = tmp_path_factory.mktemp("made")
    run(photos, folder / "whole.h5")
    run(photos, folder / "features.h5", shards=COUNT)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change; returns the file that shows the shards."""
    (tmp_path / "out").mkdir()
    for file in made.iterdir():
        shutil.copy2(file, tmp_path / "out")
    return tmp_path / "out" / "features.h5"


@pytest.fixture
def own(photos: Path, tmp_path: Path) -> Path:
    """The photos in a folder that a test may change."""
    shutil.copytree(photos, tmp_path / "own")
    return tmp_path / "own"


def test_shards_are_the_rows_of_one_file(made: Path) -> None:
    output = made / "features.h5"
    assert_same_rows(output, made / "whole.h5")
    assert sorted(file.name for file in made.iterdir()) == sorted(
        ["whole.h5", "features.h5", *(file.name for file in shards(output))]
    )
    assert verify(output).ok
    with FeatureStore(output) as store:
        assert [len(part) for part in store.parts] == [
            sum(shard_of(path, COUNT) == number for path in store.paths) for number in range(1, COUNT + 1)
        ]
        assert {part.class_names for part in store.parts} == {("bird", "cat", "dog")}  # also where there is no bird
        assert sorted(item.path for part in store.parts for item in part.skipped) == ["dog/bad.png", "loose.txt"]
    assert all(verify(file).ok for file in shards(output))


def test_what_reads_features_cannot_tell_shards_from_one_file(made: Path, tmp_path: Path) -> None:
    """Nor the file that they are packed into; a model says how long its fit took, and all else of it is equal."""
    whole, sharded = (tmp_path / name / "features.h5" for name in ("whole", "shards"))
    for file, copied in ((whole, [made / "whole.h5"]), (sharded, [made / "features.h5", *shards(made / "features.h5")])):
        file.parent.mkdir()
        for one in copied:
            shutil.copy(one, file.parent / one.name.replace("whole", "features"))
    pack([sharded], tmp_path / "packed.h5")
    assert (tmp_path / "packed.h5").read_bytes() == whole.read_bytes()
    (tmp_path / "photos").mkdir()
    for i in range(8):
        draw(("cat", "dog")[i % 2], 200 + i, (40, 40)).save(tmp_path / "photos" / f"{i}.png")
    run(tmp_path / "photos", tmp_path / "new.h5", shards=2)
    found = []
    for file in (whole, sharded):
        here = file.parent
        train(file, here / "trained.ffe", head="logistic")
        tune(file, here / "tuned.ffe", heads="logistic", trials=2)
        answers = [evaluate(here / "tuned.ffe", file), similar(file, row=7), verify(file)]
        answers.append(suggest(here / "trained.ffe", tmp_path / "new.h5", here / "next.csv", count=3))
        export(file, here / "table.npz")
        with FeatureStore(file) as store:
            info = {**store.summary(), "parts": []}
        written = [here.joinpath(name).read_bytes() for name in ("next.csv", "table.npz")]
        for name in ("trained.ffe", "tuned.ffe"):
            with zipfile.ZipFile(here / name) as model:
                written += [model.read(member) for member in model.namelist() if member != "manifest.json"]
        found.append((str([one.to_json() for one in answers]).replace(str(here), ""), info, written))
    assert found[0] == found[1]


@pytest.mark.parametrize("asked", [COUNT, None])
def test_the_same_command_again_reads_nothing(here: Path, photos: Path, asked: int | None) -> None:
    before = state(here.parent)
    summary = run(photos, here, shards=asked)
    assert (summary.rows, summary.computed, summary.read, summary.skipped) == (63, 0, 0, 2)
    assert state(here.parent) == before


def test_what_changed_is_computed_and_nothing_else(own: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    run(own, output, shards=COUNT, views=2, augment="flip")
    os.rename(own / "cat", own / "puss")  # every path of a class: most of its images change their shard
    draw("dog", 77, (40, 40)).save(own / "dog" / "new.png")
    (own / "dog" / "dog_003.png").unlink()
    summary = run(own, output)
    assert (summary.computed, summary.changes.renamed, summary.changes.new, summary.changes.removed) == (3, 30, 1, 1)
    run(own, tmp_path / "whole.h5", views=2, augment="flip")
    assert_same_rows(output, tmp_path / "whole.h5")
    others = [file for file in shards(output) if shards(output).index(file) + 1 != shard_of("dog/more.png", COUNT)]
    before = {file: file.stat().st_ino for file in others}
    draw("dog", 78, (40, 40)).save(own / "dog" / "more.png")
    assert run(own, output).computed == 3
    assert {file: file.stat().st_ino for file in others} == before


_CHILD = """
import sys, time
from pathlib import Path
from ffe.base import file_stat
from ffe.engines.fake import FakeEngine
from ffe.extraction.run import extract
from ffe.store import journal
file_stat.RACY_NS, journal._COMMIT_SECONDS, whole = 0, 0.0, FakeEngine.extract
def slow(self, images):
    time.sleep(0.02)
    return whole(self, images)
FakeEngine.extract = slow
extract(sys.argv[1], sys.argv[2], backbone="fake", batch_size=1, shards=4)
"""


def test_a_killed_run_goes_on_shard_by_shard(photos: Path, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(photos), str(output)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    second = Path(f"{shards(output)[1]}.partial")
    deadline = time.monotonic() + 60
    while len(list(second.glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    kept = [file.name for file in tmp_path.iterdir()]
    assert f"{shards(output)[0].name}.partial" in kept
    assert not list(Path(f"{shards(output)[3]}.partial").glob("*.json"))
    summary = run(photos, output)  # it is remembered that there are four
    with FeatureStore(shards(output)[0]) as first:
        assert 63 - len(first) - 20 < summary.computed <= 63 - len(first) - 3
    assert_same_rows(output, made / "whole.h5")
    assert not list(tmp_path.glob("*.partial"))


def test_between_two_shards_the_file_is_refused_and_the_next_run_mends_it(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "features.h5"
    run(own, output, shards=2)
    for i in range(20):  # of both shards
        draw("dog", 100 + i, (40, 40)).save(own / "dog" / f"new_{i}.png")
    whole, count = run_module._put_in_place, 0

    def once(outcome: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        whole(outcome)

    monkeypatch.setattr(run_module, "_put_in_place", once)
    with pytest.raises(KeyboardInterrupt):
        run(own, output)
    with pytest.raises(StoreError) as caught:
        FeatureStore(output)
    assert str(caught.value) == (
        f"'{output}' is virtual, and its part '{shards(output, 2)[0]}' is not the file that was packed; put that back, "
        "or make it again with 'ffe extract' or 'ffe pack'."
    )
    monkeypatch.undo()
    assert run(own, output).computed == 0  # what was computed was kept
    run(own, tmp_path / "whole.h5")
    assert_same_rows(output, tmp_path / "whole.h5")


def test_a_shard_that_is_gone_is_refused_and_made_again(here: Path, photos: Path) -> None:
    before = state(here.parent)
    shards(here)[2].unlink()
    with pytest.raises(StoreError) as caught:
        FeatureStore(here)
    assert str(caught.value) == (
        f"'{here}' is virtual, and its part '{shards(here)[2]}' is not there; put it back, "
        "or make it again with 'ffe extract' or 'ffe pack'."
    )
    summary = run(photos, here)
    assert (summary.computed, summary.rows) == (len([1 for _ in FeatureStore(shards(here)[2]).paths]), 63)
    assert {name: content for name, (_, content) in state(here.parent).items()} == {
        name: content for name, (_, content) in before.items()
    }


@pytest.mark.parametrize(("size", "sentence"), [(0, "is empty"), (4096, "is an HDF5 file that is cut off or damaged")])
def test_a_shard_that_is_cut_off_is_made_again_alone(here: Path, photos: Path, size: int, sentence: str) -> None:
    before, third = state(here.parent), shards(here)[2]
    os.truncate(third, size)
    for act in (lambda: FeatureStore(here), lambda: run(photos, here)):
        with pytest.raises(StoreError) as caught:
            act()
        again = "delete it, and run the same 'ffe extract' again: it makes this shard alone."
        assert str(caught.value) == f"'{third}' {sentence}; {again}"
    third.unlink()
    assert 0 < run(photos, here).computed < 30
    assert {name: content for name, (_, content) in state(here.parent).items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_a_shard_of_another_run(here: Path, photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "features.h5", shards=COUNT, size=48)
    third = shutil.copy(shards(tmp_path / "features.h5")[2], shards(here)[2])
    with pytest.raises(StoreError, match=r"is virtual, and its part .* is not the file that was packed; put that back, or make"):
        FeatureStore(here)
    with pytest.raises(StaleStoreError) as caught:
        run(photos, here)
    assert str(caught.value) == (
        f"'{third}' holds other features than these (preprocess.size: stored 48x48, asked 32x32); choose another output, "
        "delete the shards that were made otherwise, or replace all of them with --overwrite (in Python overwrite=True)."
    )
    draw_folder(tmp_path / "others", 30, (44, 44))  # the same spec, and the same names
    run(tmp_path / "others", tmp_path / "others.h5", shards=COUNT)
    shutil.copy(shards(tmp_path / "others.h5")[2], third)
    assert 0 < run(photos, here).computed < 30
    assert_same_rows(here, here.with_name("whole.h5"))


def test_a_disk_that_is_full_at_the_third_shard(
    photos: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole, calls = tmp_path / "features.h5", writer.put_in_place, list[Path]()

    def full(made: Path, path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(made, path)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "put_in_place", full)
        with pytest.raises(DiskFullError, match=r"^The disk of '.*-00003-of-00004\.h5' is full: .*; make room and run the same"):
            run(photos, output, shards=COUNT)
    assert [file.exists() for file in (output, *shards(output))] == [False, True, True, False, False]
    assert run(photos, output).computed == 0
    for file in (output, *shards(output)):
        assert file.read_bytes() == (made / file.name).read_bytes()


def test_shards_made_one_by_one_are_the_same_files(photos: Path, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    for number in (3, 1, 4, 2):
        summary = run(photos, output, shards=f"{number}/{COUNT}")
        assert summary.output == shards(output)[number - 1]
        assert run(photos, output, shards=f"{number}/{COUNT}").read == 0
    assert not output.exists()
    pack(shards(output), output, virtual=True)
    for file in (output, *shards(output)):
        assert_same_file(file, made / file.name)
    output.unlink()
    assert (run(photos, output, shards=COUNT).read, run(photos, output).read) == (0, 0)
    for file in (output, *shards(output)):
        assert_same_file(file, made / file.name)


@pytest.mark.parametrize("shards_asked", [COUNT, f"1/{COUNT}"])
def test_two_processes_do_not_write_one_shard(here: Path, photos: Path, shards_asked: str | int) -> None:
    from ffe.store.journal_folder import hold_output

    with hold_output(shards(here)[0]), pytest.raises(StoreError) as caught:
        run(photos, here, shards=shards_asked)
    assert str(caught.value) == (
        f"Another process is writing '{shards(here)[0]}'; wait until it is done, or choose another output."
    )


def test_another_number_of_shards_is_refused(here: Path, photos: Path) -> None:
    with pytest.raises(StoreError) as caught:
        run(photos, here, shards=8)
    assert str(caught.value) == (
        f"'{here}' is in 4 shards, and --shards asks for 8; leave --shards out, choose another output, or make one file of it "
        f"with 'ffe pack {here} -o NEW.h5'."
    )
    with pytest.raises(StoreError) as caught:
        run(photos, here.with_name("whole.h5"), shards=4)
    assert str(caught.value) == (
        f"'{here.with_name('whole.h5')}' is one file, or an unfinished run makes one, and --shards asks for 4; "
        "leave --shards out, choose another output, or replace it with --overwrite (in Python overwrite=True)."
    )
    here.unlink()
    for options in ({"shards": 8}, {"shards": 1}, {"shards": 8, "overwrite": True}):
        with pytest.raises(StoreError) as caught:
            run(photos, here, **options)
        assert str(caught.value) == (
            f"'{shards(here)[0]}' is a shard of another number of shards than {options['shards']}; "
            "delete it and those like it, or choose another output."
        )


@pytest.mark.parametrize("value", ["0", "x", "3/2", "0/4", 1001, "1/", "-2", 2.5])
def test_what_is_no_number_of_shards(value: Any, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        ExtractOptions(tmp_path, tmp_path / "f.h5", shards=value)
    assert str(caught.value) == f"shards is '{value}', but must be a number from 1 to 1,000, or one of them alone, such as 3/8."


def test_a_shard_without_images_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        run(photos, tmp_path / "f.h5", shards=500)
    there = {shard_of(record.path, 500) for record in scan(photos).records}
    number = min(set(range(1, 501)) - there)
    assert str(caught.value) == f"--shards 500 is too many for 64 images: shard {number} would have none; ask for fewer."
    assert not list(tmp_path.iterdir())


def test_the_int8_model_is_one_for_all_shards(photos: Path, tmp_path: Path) -> None:
    job = make_job(ExtractOptions(photos, tmp_path / "f.h5", backbone="fake", shards="2/4"))
    with pytest.raises(StoreError) as caught:
        existing_quantized(replace(job, spec=replace(job.spec, precision="int8")))
    assert str(caught.value) == (
        "All shards need one int8 model, and there is none yet; make shard 1/4 first, "
        "or name a feature file that has one with --like."
    )


def test_losses_are_looked_at_for_all_shards_together(own: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    run(own, output, shards=COUNT)
    before = state(tmp_path)
    for file in (own / "bird").iterdir():
        file.unlink()
    draw("cat", 60, (44, 40)).save(own / "bird" / "other.png")
    for call in (extract, dry_run):
        with pytest.raises(SourceError) as caught:
            call(own, output)  # type: ignore[operator]
        assert str(caught.value) == (
            f"3 of 63 images in '{output}' are gone from '{own}': 3 of 3 of 'bird'. See whether a disk or a link is missing; "
            "if they are gone for good, run the same command with --prune (in Python prune=True)."
        )
    assert state(tmp_path) == before
    for i in range(3):
        draw("cat", 90 + i, (40, 40)).save(own / "bird" / f"bird_{i}.png")
    with FeatureStore(shards(output)[1]) as second:
        gone = [path for path in second.paths if not path.startswith("bird")]
    for path in gone[1:]:  # nearly all of one shard, but few of all images
        (own / path).unlink()
    assert run(own, output).changes.removed == len(gone) - 1


def test_a_class_that_cannot_be_read_is_refused(own: Path, tmp_path: Path) -> None:
    for file in (own / "bird").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(SourceError) as caught:
        run(own, tmp_path / "f.h5", shards=COUNT)
    assert "None of the 3 files of the class 'bird' can be read ('bird/bird_" in str(caught.value)
    assert str(caught.value).endswith("Features that were computed are kept for the same command.")
    draw("cat", 99, (40, 40)).save(own / "bird" / "bird_1.png")
    assert run(own, tmp_path / "f.h5").computed == 1


def test_a_shard_of_which_nothing_can_be_read_is_named(own: Path, tmp_path: Path) -> None:
    for file in own.glob("*/*.png"):
        if shard_of(file.relative_to(own).as_posix(), 12) == 2:
            file.write_bytes(b"no picture")
    with pytest.raises(SourceError) as caught:
        run(own, tmp_path / "f.h5", shards=12)
    assert str(caught.value).startswith("No image of shard 2 of 12 can be read (the first, '")
    assert str(caught.value).endswith("); ask for fewer shards (--shards), in another output.")
    assert run(own, tmp_path / "g.h5", shards=2).skipped > 2


def test_a_dry_run_adds_up_the_shards(here: Path, photos: Path, tmp_path: Path) -> None:
    new, whole = (dry_run(photos, tmp_path / "new.h5", backbone="fake", shards=count) for count in (COUNT, 1))
    assert (new.output, new.images, new.compute, new.skipped) == (whole.output, whole.images, whole.compute, whole.skipped)
    assert new.file_bytes is not None
    assert whole.file_bytes is not None
    assert whole.file_bytes < new.file_bytes < whole.file_bytes + COUNT * 70_000
    assert dry_run(photos, here).compute == 0
    assert list(tmp_path.iterdir()) == [here.parent]


def test_overwrite_makes_all_shards_anew(here: Path, photos: Path, tmp_path: Path) -> None:
    assert run(photos, here, size=48, overwrite=True).computed == 63
    run(photos, tmp_path / "whole.h5", size=48)
    assert_same_rows(here, tmp_path / "whole.h5")
    whole = here.with_name("whole.h5")
    assert run(photos, whole, shards=2, overwrite=True).computed == 63
    assert len(FeatureStore(whole).parts) == 2


def test_the_output_may_lie_among_the_photos(own: Path, tmp_path: Path) -> None:
    run(own, own / "features.h5", shards=2)
    assert run(own, own / "features.h5", shards=2).read == 0
    with FeatureStore(own / "features.h5") as store:
        assert [item.path for item in store.skipped] == ["dog/bad.png", "loose.txt"]


def test_the_command_says_what_it_made(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    found = CliRunner().invoke(cli, ["extract", str(photos), "-o", str(output), "--backbone", "fake", "--shards", "2"])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith(f"{output}: 63 rows, 63 computed, 2 skipped, in ")
    parts = "The features lie in 2 files beside it, f-00001-of-00002.h5 to f-00002-of-00002.h5: keep them together, "
    assert f"{parts}or make one file of them with 'ffe pack {output} -o NEW.h5'." in found.stderr


def test_progress_is_that_of_all_shards(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    run(
        photos,
        tmp_path / "f.h5",
        shards=2,
        progress=lambda one: seen.append((one.done, one.total, one.skipped)),
    )
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1] == (64, 64, 2)
    assert {total for _, total, _ in seen} == {64}


def test_the_last_progress_tells_of_shards_before_it(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "f.h5", shards=2)
    shards(tmp_path / "f.h5", 2)[0].unlink()
    seen: list[Progress] = []
    run(photos, tmp_path / "f.h5", shards=2, progress=seen.append)
    assert seen[-1].done == 64
    assert seen[-1].rate > 0  # that of the first shard: the second had nothing to compute
    assert seen[-1].stages.read >= seen[-2].stages.read > 0


def _synthetic(folder: Path, rows: int, count: int, spec: ExtractSpec) -> Path:
    """Write made-up features in shards, float32 (rows, 1024)."""
    files, layout, row = shards(folder / "features.h5", count), FeatureLayout.of_shape((1024,)), np.ones(1024, np.float32)
    paths = [f"a/{i}" for i in range(rows)]
    for number, file in enumerate(files, 1):
        mine = [Row(path, "0" * 64, 0, "") for path in paths if shard_of(path, count) == number]
        write_store(file, spec=spec, layout=layout, class_names=["a"], rows=mine, features=lambda _: row)
    pack(files, folder / "features.h5", virtual=True)
    return folder / "features.h5"


def _peak(read: Callable[[FeatureStore], Iterable[Any]], file: Path) -> int:
    """Return the most bytes that reading takes beside what an open file does."""
    with FeatureStore(file) as store:
        tracemalloc.start()
        for _ in read(store):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def test_features_stream_out_of_shards_in_memory_that_stays_flat(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_reader, "_WINDOW_BYTES", 1 << 20)
    monkeypatch.setattr(load_features, "_PIECE_BYTES", 1 << 20)
    with FeatureStore(made / "whole.h5") as store:
        spec = store.spec
    file = _synthetic(tmp_path, 10_000, 8, spec)  # 40 MiB

    def pieces(store: FeatureStore) -> Any:
        origin = np.stack([np.zeros(len(store), np.int64), np.arange(len(store))], 1)
        return load_features._pieces([as_files(store)], origin)

    for read in (lambda store: store.batches(64), lambda store: store.shuffled(64), pieces):
        assert _peak(read, file) < 12 << 20
