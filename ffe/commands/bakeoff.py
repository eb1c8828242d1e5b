"""``bakeoff``: labelled images and backbones in; which of them to take for these images out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.file_stat import write_note
from ffe.base.output_file import check_output as check_report
from ffe.base.output_file import write_output
from ffe.commands.bakeoff_runner import BakeoffRunner, Entrant
from ffe.comparing.bakeoff_options import BakeoffOptions
from ffe.comparing.bakeoff_result import BakeoffResult, judged
from ffe.dataset.assign_sides import ImageSplit, Splitter
from ffe.dataset.class_checks import check_own_folder
from ffe.dataset.split_csv import SplitCsv, check_source
from ffe.extraction.stage_times import Progress, no_progress
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import Scan, scan
from ffe.redaction import redacted
from ffe.report.bakeoff_page import bakeoff_page
from ffe.splits.holdout import TEST
from ffe.store.reader import FeatureStore
from ffe.tuning.search import SearchProgress


def bakeoff(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    backbones: str | Sequence[str],
    weights: str = "imagenet",
    seconds: float = 300.0,
    trials: int = 16,
    test_fraction: float = 0.2,
    seed: int = 0,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    report: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] = no_progress,
    on_trials: Callable[[SearchProgress], None] = no_progress,
) -> BakeoffResult:
    """Try several backbones on the same labelled images, and find which one to take for them.

    All have the same images, the same test images, the same search and the
    same time for it. Features and models stay in the folder: what is there is
    not computed again, and the same call once more computes nothing. A backbone
    whose weights are missing, or that the time is too short for, says so, and
    the others go on.

    Three tenths of the time are kept for the searches, less where some of the
    backbones cannot have one. Of the rest each backbone has an equal share for its features; what one does not use is
    shared by those behind it, and what needs more comes last.

    Args:
        source: labelled images; see ``ffe.images.sources``. Splits that it gives are kept.
        output: folder for features and models; made if it is missing. None = the source's name with ``-bakeoff`` in the working
            folder.
        backbones: names as ``ffe.extract`` takes them, two at least; in one text, they are parted by commas. Each has its own
            size.
        weights: ``imagenet`` (those that each is published with), or ``random`` (untrained: for tests alone).
        seconds: time for everything.
        trials: of each head in a search, at the most.
        test_fraction: share held out for the test, where the source gives none.
        seed: of every random choice.
        workers, max_pixels, max_bytes, truncated, progress: see ``ffe.extract``.
        report: an HTML file to write.
        on_trials: see ``on_progress`` of ``ffe.tune``.

    Returns:
        What each backbone came to; which are on the frontier of accuracy and rate; the best two compared; which one to take.

    Raises:
        SpecError, SourceError, DataError, StoreError, ReportError, BackboneError: before anything is computed.
        KeyboardInterrupt: interrupted before there was a result; what was computed is kept.
    """
    options = BakeoffOptions.of(locals())
    found, folder = scan(source), options.output
    check_source(found)
    page = None if report is None else check_report(report)
    check_own_folder(folder, found, "output", "-o", "create it first", holds=" for features and models")
    runner = BakeoffRunner(options)
    runner.resolve()
    folder.mkdir(exist_ok=True)
    split = SplitCsv(found, folder / "split.csv")
    ready: list[Entrant] = []
    assigned = None
    for entrant in runner.extract(split.path):
        ready.append(entrant)
        if assigned is None:
            assigned = _split(split, found, entrant.file("h5"), options)
            runner.read(entrant, split.path)  # which has the sides by now
    results = {} if assigned is None else runner.search(ready, assigned, found.class_names)
    contestants, order, take = runner.contestants(results), list[str](), ""
    if assigned is not None:
        contestants, order, take = judged(contestants, assigned.labels(TEST), assigned.together(TEST))
    best, second = [*order, "", ""][:2]
    result = BakeoffResult(
        folder=folder,
        backbones=contestants,
        best=best,
        second=second,
        take=take,
        classes=found.class_names,
        rows={} if assigned is None else assigned.counts(),
        budget=seconds,
        seed=seed,
        interrupted=runner.interrupted,
        seconds=options.clock.elapsed,
    )
    if page is not None:
        write_output(page, bakeoff_page(result, redacted(str(source))).encode())
    return result


def _split(split: SplitCsv, found: Scan, features: Path, options: BakeoffOptions) -> ImageSplit:
    """Give each image its side, by the features of one backbone; an image that an earlier run has seen keeps its side."""
    with FeatureStore(features) as store:
        digests = sorted(store.sha256[i] for i in store.plain.tolist())
    records = sorted((record.path, record.label, record.split, record.group) for record in found.records)
    asked = bytes_digest(canonical_json([options.seed, options.test_fraction, records, digests]))
    note, sides = features.parent / "split.json", None
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text("utf-8"))
        sides = dict(known["sides"]) if known["asked"] == asked else None
    assigned = split.split_features(features, Splitter(found.class_names, None, options.seed, sides), options.test_fraction)
    drawn = zip(assigned.images.sha256, assigned.side.tolist(), strict=True)
    if sides is None:
        write_note(note, {"asked": asked, "sides": {sha256: side for sha256, side in drawn if side}})
    return assigned
