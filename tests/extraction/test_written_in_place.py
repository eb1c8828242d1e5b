"""Features are written once, where the finished file has them; the file equals one that was put together from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ffe.base.system import taken_disk
from ffe.extraction.estimate import Estimate, dry_run
from ffe.extraction.run import extract
from ffe.images.drawings import draw_folder
from ffe.store import journal as journal_module
from ffe.store.hdf5_create import create_plain
from ffe.store.journal import Draft, Journal
from ffe.store.journal_records import HEAD_BYTES
from ffe.store.reader import FeatureStore
from ffe.store.schema import FEATURES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Cats and dogs, copies of some beside others, and files that give no row."""
    folder = tmp_path / "source"
    draw_folder(folder, 15, (40, 40))
    for i, file in enumerate(sorted(folder.glob("*/*.png"))):
        if i % 3 == 0:
            shutil.copy(file, file.with_name(f"copy_{i}.png"))
        if i % 5 == 0:
            file.with_name(f"broken_{i}.png").write_bytes(file.read_bytes()[:100])
    return folder


@pytest.fixture
def drafts(monkeypatch: pytest.MonkeyPatch) -> list[Draft | None]:
    """The drafts that runs have taken over; None for a run that could not."""
    seen = []
    draft = Journal.draft

    def noting(self: Journal, names: list[str]) -> Draft | None:
        seen.append(draft(self, names))
        return seen[-1]

    monkeypatch.setattr(Journal, "draft", noting)
    return seen


def run(source: Path, output: Path, **options: Any) -> bytes:
    extract(source, output, **{"backbone": "fake", "batch_size": 4, **options})
    assert [file.name for file in output.parent.iterdir() if file.name.startswith(output.name)] == [output.name]
    return output.read_bytes()


OPTIONS: list[dict[str, Any]] = [{}, {"dtype": "float16"}, {"views": 2, "augment": "flip,zoom,brightness"}, {"batch_size": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_the_file_that_copying_gives(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafts: list[Draft | None], options: dict[str, Any]
) -> None:
    once = run(source, tmp_path / "once.h5", **options)
    assert [draft is not None for draft in drafts] == [True]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "draft", lambda self, names: None)
        assert run(source, tmp_path / "copied.h5", **options) == once
    with FeatureStore(tmp_path / "once.h5") as store:
        assert len(store.paths) == 40 * (1 + options.get("views", 0))
        assert len(set(store.sha256)) == 30
        assert len(store.skipped) == 6
        store.features()  # checks every row


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("batches", [1, 3, 5])
def test_a_run_that_goes_on_still_writes_in_place(
    source: Path, tmp_path: Path, drafts: list[Draft | None], options: dict[str, Any], batches: int
) -> None:
    seen = []

    def stop(progress: object) -> None:
        seen.append(progress)
        if len(seen) == batches:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "f.h5", progress=stop, **options)
    assert (tmp_path / "f.h5.partial" / "draft").exists()
    assert run(source, tmp_path / "f.h5", **options) == run(source, tmp_path / "undisturbed.h5", **options)
    assert [draft is not None for draft in drafts] == [True, True]


def test_images_that_changed_during_an_interruption(source: Path, tmp_path: Path, drafts: list[Draft | None]) -> None:
    """Rows no longer stand in order, so the file is put together from them."""

    def stop(progress: Any) -> None:
        if progress.done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "f.h5", progress=stop)
    files = sorted(source.glob("*/cat_*.png"))
    for file in files[:4]:
        file.unlink()
    for i, file in enumerate(files[4:8]):
        shutil.copy(file, file.with_name(f"another_{i}.png"))
    assert run(source, tmp_path / "f.h5") == run(source, tmp_path / "undisturbed.h5")
    assert [draft is not None for draft in drafts] == [False, True]


@pytest.mark.parametrize("compress", ["gzip", "lzf"])
def test_what_is_compressed_is_not_written_in_place(
    source: Path, tmp_path: Path, drafts: list[Draft | None], compress: str
) -> None:
    run(source, tmp_path / "f.h5", compress=compress)
    run(source, tmp_path / "plain.h5")
    run(source, tmp_path / "plain.h5", rehash=True, overwrite=True)
    assert len(drafts) == 2  # of the two plain files
    with FeatureStore(tmp_path / "f.h5") as one, FeatureStore(tmp_path / "plain.h5") as other:
        np.testing.assert_array_equal(one.features(), other.features())


def test_one_commit_after_another(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(source, tmp_path / "whole.h5")
    monkeypatch.setattr(journal_module, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "_PART_BYTES", 1)
    assert run(source, tmp_path / "f.h5") == whole


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
@pytest.mark.parametrize(("dims", "step"), [(1, 1), (48, 2), (50_176, 5)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_this_hdf5_puts_the_first_row_where_a_draft_has_it(tmp_path: Path, rows: int, dims: int, step: int, dtype: str) -> None:
    """And all others behind it; else files are right as well, but written twice."""
    shape, kind, step = (rows, dims), np.dtype(dtype), min(step, rows)
    assert create_plain(tmp_path / "f.h5", shape, kind, step, 0) == HEAD_BYTES
    chunks = -(-rows // step)
    assert (tmp_path / "f.h5").stat().st_size == HEAD_BYTES + chunks * step * dims * kind.itemsize
    with h5py.File(tmp_path / "f.h5") as file:
        data = file[FEATURES]
        places = [data.id.get_chunk_info_by_coord((i * step, 0)).byte_offset for i in range(chunks)]
        assert places == [HEAD_BYTES + i * step * dims * kind.itemsize for i in range(chunks)]
        assert (data.shape, data.dtype, data.chunks) == (shape, kind, (step, dims))
        assert np.isnan(data.fillvalue)


def test_an_hdf5_that_puts_it_elsewhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafts: list[Draft | None]
) -> None:
    """Then the rows are copied."""
    once = run(source, tmp_path / "once.h5")
    for module in ("journal", "writer"):
        monkeypatch.setattr(f"ffe.store.{module}.HEAD_BYTES", 1000)
    assert run(source, tmp_path / "f.h5") == once
    assert [draft is not None for draft in drafts] == [True, True]


def test_where_the_folder_of_the_rows_is_a_link_to_another_disk(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafts: list[Draft | None]
) -> None:
    """The draft cannot be renamed, so its rows are copied."""
    once = run(source, tmp_path / "once.h5")
    monkeypatch.setattr(journal_module, "_same_disk", lambda *folders: False)
    assert run(source, tmp_path / "f.h5") == once
    assert [draft is not None for draft in drafts] == [True, False]


def test_ended_after_the_draft_became_the_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left that would pass for an unfinished run."""

    def interrupted(self: Journal) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "discard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "f.h5")
    assert not (tmp_path / "f.h5.partial").exists()
    before = (tmp_path / "f.h5").read_bytes()
    assert extract(source, tmp_path / "f.h5", backbone="fake").computed == 0
    assert (tmp_path / "f.h5").read_bytes() == before


def test_a_run_that_goes_on_needs_room_for_the_rest_alone(source: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        if progress.done >= 30:
            raise KeyboardInterrupt

    first = list[Estimate]()
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "f.h5", progress=stop, announce=first.append)
    held = taken_disk(tmp_path / "f.h5.partial" / "draft")
    second = dry_run(source, tmp_path / "f.h5", backbone="fake")
    whole, rest = first[-1].needed_bytes, second.needed_bytes
    assert whole is not None
    assert rest is not None
    assert held > 0
    assert whole - held - 128 * 46 <= rest <= whole - held
    assert second.least_bytes <= rest
    assert second.file_bytes == first[-1].file_bytes


def test_an_unfinished_run_over_other_images_promises_nothing(source: Path, tmp_path: Path) -> None:
    """Whether its rows are of these images is not known before they are read."""

    def stop(progress: Any) -> None:
        if progress.done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "f.h5", progress=stop)
    few = tmp_path / "few"
    draw_folder(few, 5, (32, 32))
    said = dry_run(few, tmp_path / "f.h5", backbone="fake")
    assert said.unfinished > 10
    assert (said.images, said.compute) == (10, 10)
    assert said.needed_bytes
    assert run(few, tmp_path / "f.h5") == run(few, tmp_path / "undisturbed.h5")
