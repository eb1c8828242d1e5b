"""What every runner must pass: subclass ``RunnerContract`` and give ``make``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ffe.extraction.feature_file import Plan, open_plans
from ffe.extraction.pipeline import ImageFeatures
from ffe.extraction.request import ExtractOptions, Job, make_job
from ffe.extraction.runners.base import Runner
from ffe.extraction.runners.collect import collect
from ffe.extraction.runners.local import LocalRunner
from ffe.extraction.stage_times import no_progress
from ffe.images.drawings import draw_folder


class RunnerContract:
    """The promises of ``ffe.extraction.runners.base.Runner``, as tests, on drawn pictures and the fake backbone."""

    #: keywords of ``ffe.extract`` that ask for the runner
    options: dict[str, Any] = {}  # noqa: RUF012 (a subclass sets it)

    def make(self, job: Job) -> Runner:
        """Return a runner of a job."""
        raise NotImplementedError

    def job(self, folder: Path, **options: Any) -> Job:
        """Return a job of ten pictures, of which two are equal, one is damaged and one is cut off."""
        source = folder / "source"
        if not source.exists():
            draw_folder(source, 5, (48, 48))
            files = sorted(source.glob("*/*.png"))
            files[1].write_bytes(files[8].read_bytes())
            files[3].write_bytes(b"no picture")
            files[6].write_bytes(files[6].read_bytes()[:200])
        keywords = {"backbone": "fake", "batch_size": 2, **self.options, **options}
        return make_job(ExtractOptions(source, folder / "features.h5", **keywords))

    def run(self, job: Job) -> tuple[list[ImageFeatures], list[tuple[int, ...]], list[Plan]]:
        """Return the items of a run, the shapes that were told before the first features, and the plans."""
        shapes: list[tuple[int, ...]] = []
        items: list[ImageFeatures] = []
        with open_plans(job, None) as plans, self.make(job) as runner:
            for batch in runner.run(plans[0], lambda layout: shapes.append((layout.dims,))):
                assert batch
                assert shapes or all(item.features is None for item in batch)
                items += batch
            assert all(isinstance(count, int) for count in runner.nodes.values())
        return items, shapes, list(plans)

    def test_every_file_has_its_item_in_order(self, tmp_path: Path) -> None:
        """A file has one item, with what became of it."""
        items, shapes, _ = self.run(self.job(tmp_path))
        assert [item.index for item in items] == list(range(10))
        assert len(shapes) == 1
        failed = {item.index: item.error.reason for item in items if item.error is not None}
        assert sorted(failed.values()) == ["not-an-image", "truncated"]
        for item in items:
            assert (item.sha256 != "") == (item.index not in failed or item.sha256 != "")
            assert item.pixels is None
            if item.features is not None:
                assert item.features.dtype == np.float32
                assert item.features.shape == shapes[0]

    def test_equal_files_are_computed_once(self, tmp_path: Path) -> None:
        """The first of them has the features."""
        items, _, _ = self.run(self.job(tmp_path))
        good = [item for item in items if item.error is None]
        computed = [item.sha256 for item in good if item.features is not None]
        assert len(computed) == len(set(computed)) == len(good) - 1
        assert {item.sha256 for item in good} == set(computed)
        first = {item.sha256: item.index for item in reversed(good)}
        assert all(first[item.sha256] == item.index for item in good if item.features is not None)

    def test_views_stand_behind_their_images(self, tmp_path: Path) -> None:
        """A file has an item for each view."""
        items, _, _ = self.run(self.job(tmp_path, views=2, augment="flip,zoom"))
        found = [(item.index, item.view) for item in items]
        assert found == [(item.index, view) for item in items if item.view == 0 for view in range(1 if item.error else 3)]

    def test_the_same_as_in_one_process(self, tmp_path: Path) -> None:
        """Digests, hashes, stamps and features, to the bit."""
        job = self.job(tmp_path, views=1, augment="flip")
        items, _, _ = self.run(job)
        with open_plans(job, None) as plans, LocalRunner(job) as local:
            expected = [item for batch in local.run(plans[0], no_progress) for item in batch]
        assert len(items) == len(expected)
        for item, other in zip(items, expected, strict=True):
            assert (item.index, item.sha256, item.stat, item.view) == (other.index, other.sha256, other.stat, other.view)
            assert str(item.error) == str(other.error)
            assert (item.features is None) == (other.features is None)
            if item.features is not None and other.features is not None:
                assert item.phash == other.phash
                np.testing.assert_array_equal(item.features, other.features)

    def test_what_is_in_the_journal_is_not_computed_again(self, tmp_path: Path) -> None:
        """A second run has no features."""
        job = self.job(tmp_path)
        with open_plans(job, None) as plans, self.make(job) as runner:
            done = collect(plans[0], runner, no_progress, no_progress)
            assert done.count == 7
            plans[0].journal.commit()
        items, _, _ = self.run(job)
        assert all(item.features is None for item in items)

    def test_it_can_be_left_in_the_middle(self, tmp_path: Path) -> None:
        """Nothing is in the way of another run."""
        job = self.job(tmp_path)
        with open_plans(job, None) as plans, self.make(job) as runner:
            batches = runner.run(plans[0], no_progress)
            next(batches)
            batches.close()
        assert len(self.run(job)[0]) == 10
