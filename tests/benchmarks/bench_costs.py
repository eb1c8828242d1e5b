"""What every step costs on 10,000 and 100,000 rows x 1,024 features, and on more: seconds, memory, and how it grows.

    FFE_BENCH_FOLDER=... FFE_BENCH_SIZES=10000,100000,1000000 python -m pytest -m benchmark -s tests/benchmarks/bench_costs.py

Every step is a process of its own; its memory is the most that the process held, the libraries and what it mapped of files
included. A step that is done is not done again: the folder (a temporary one, if none is named) keeps the figures in
``costs.json``, and the files that later steps need. FFE_BENCH_STEPS=open,verify chooses steps; a step that takes more than
FFE_BENCH_GIB (16) of memory fails, and its cell stays empty.

The features are made up, but shaped like those of photos: 20 classes of 10 kinds each, not negative, spread as those of
trained networks are; 1 % are near copies, and 0.5 % are copies.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.benchmark

SIZES = [int(size) for size in os.environ.get("FFE_BENCH_SIZES", "10000,100000").split(",")]
DIMS, CLASSES, KINDS, TRIALS = 1024, 20, 200, 30


@cache
def parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what rows are made of: float32 kinds (200, 1024), ways in which images of a kind differ (64, 1024), noise."""
    rng = np.random.default_rng(0)
    classes = rng.standard_normal((CLASSES, DIMS))
    kinds = 0.08 * np.repeat(classes, KINDS // CLASSES, axis=0) + 0.03 * rng.standard_normal((KINDS, DIMS))
    ways = rng.standard_normal((64, DIMS)) / 8
    noise = rng.standard_normal((4096, DIMS))
    return kinds.astype(np.float32), (0.7 * ways).astype(np.float32), noise.astype(np.float32)


def original(i: int) -> int:
    """Return the row that a row is a near copy of, or itself."""
    return i - 1 if i % 100 == 1 else i


def feature_row(i: int) -> np.ndarray:
    """Return float32 (1024,)."""
    kinds, ways, noise = parts()
    j = original(i - 1 if i % 200 == 2 else i)
    style = np.roll(noise[(7 * j + 1) % 4096], j // 4096)[:64]
    row = kinds[j % KINDS] + style @ ways + np.float32(0.3) * np.roll(noise[j % 4096], j // 4096)
    if i % 100 == 1:
        row = row + np.float32(0.2) * np.roll(noise[(i + 99) % 4096], i // 4096)
    return np.maximum(row, 0).astype(np.float32)


def make(folder: Path, size: int) -> None:
    """Write the feature file, with the store's own writer."""
    from ffe.backbones.resolve import make_spec
    from ffe.base.digests import bytes_digest
    from ffe.base.feature_layout import FeatureLayout
    from ffe.store.schema import Row
    from ffe.store.writer import write_store

    def row(i: int) -> Row:
        content = i - 1 if i % 200 == 2 else i  # every 200th is the file before it once more
        digest = bytes_digest(b"%d" % content)
        phash = int(bytes_digest(b"%d" % original(content))[:16], 16) ^ (5 if content % 100 == 1 else 0)
        label = original(content) % KINDS // (KINDS // CLASSES)
        return Row(f"class{label:02d}/{i:08d}.jpg", digest, label, "", phash=phash, stat=(40_000 + i % 999, i))

    write_store(
        folder / "f.h5",
        spec=make_spec("fake")[0],
        layout=FeatureLayout.of_shape((1, 1, DIMS)),
        class_names=tuple(f"class{i:02d}" for i in range(CLASSES)),
        rows=[row(i) for i in range(size)],
        features=lambda row: feature_row(int(row.path[8:16])),
        source=str(folder),
    )


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """Open the feature file, and give it with its rows and their table; that is no part of the step."""
    from ffe.dataset.stored_rows import labelled
    from ffe.dataset.table import table_of_store
    from ffe.store.reader import FeatureStore

    with FeatureStore(folder / "f.h5") as store:
        used = labelled(store)
        yield store, used, table_of_store(store, used, store.class_names)


def groups(folder: Path) -> Callable[[], object]:
    """Find what belongs together, reading the features; the next step takes it."""
    import scipy.sparse.csgraph  # noqa: F401

    from ffe.dataset.load_features import rows_to_group
    from ffe.splits.groups import find_groups
    from ffe.splits.near_index import near_rows  # noqa: F401

    def work() -> str:
        with opened(folder) as (store, used, images):
            rows = rows_to_group([store], np.stack([np.zeros_like(used), used], axis=1), images.paths)
            found = find_groups(images.sha256, images.phash, rows, images.named)
        (folder / "groups.pickle").write_bytes(pickle.dumps(found))
        return f"{found.count:,} groups"

    return work


def split(folder: Path) -> Callable[[], object]:
    """Hold a fifth out, and deal the rest into five folds."""
    from ffe.dataset.assign_sides import drawn_sides
    from ffe.splits.folds import assign_folds

    found = pickle.loads((folder / "groups.pickle").read_bytes())  # noqa: S301 -- our own
    with opened(folder) as (store, _, images):
        names = store.class_names

    def work() -> str:
        side, _ = drawn_sides(images, found, 0.2, 0)
        train = np.flatnonzero(side == "train")
        part = images.take(train)
        folds = assign_folds(part.labels, part.sha256, found.ids[train], 5, 0, names)
        return f"{(side == 'test').mean():.3f} test, {len(np.unique(folds))} folds"

    return work


def learn(folder: Path, **asked: Any) -> Callable[[], object]:
    """Return a call of ``tune`` or ``train``; how long the refit of the winner took stands in its answer."""
    import ffe
    from ffe.commands import tune as module

    took: list[float] = []
    refit = module.refit

    def timed(*given: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return refit(*given, **more)
        finally:
            took.append(time.perf_counter() - started)

    module.refit = timed  # type: ignore[assignment]
    run: Callable[..., Any] = ffe.train if "head" in asked else ffe.tune
    output = folder / f"{run.__name__}.ffe"

    def work() -> str:
        result = run(folder / "f.h5", output, with_backbone=False, overwrite=True, **asked)
        said = f"{result.head.name}, {result.evaluation.accuracy:.4f} right, refit {took[0]:.1f} s"
        return f"{len(result.leaderboard)} trials, {said}" if run is ffe.tune else said

    return work


def evaluate(folder: Path, **asked: Any) -> Callable[[], object]:
    """Score the model of the last step on all rows; where it failed, that of fewer rows."""
    import ffe

    models = sorted(folder.parent.glob("*/train.ffe"), key=lambda path: int(path.parent.name))
    model = [path for path in models if int(path.parent.name) <= int(folder.name)][-1]
    return lambda: f"{ffe.evaluate(model, folder / 'f.h5', **asked).evaluation.accuracy:.4f} right"


def opening(folder: Path) -> Callable[[], object]:
    """Open the file: its columns are read."""
    from ffe.store.reader import FeatureStore

    def work() -> str:
        with FeatureStore(folder / "f.h5") as store:
            return f"{len(store):,} rows"

    return work


def verifying(folder: Path) -> Callable[[], object]:
    """Hold every row against its checksum."""
    import ffe

    return lambda: f"{len(ffe.verify(folder / 'f.h5').problems)} problems"


STEPS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "open": opening,
    "verify": verifying,
    "groups": groups,
    "split": split,
    "tune": lambda folder: learn(folder, trials=math.ceil(TRIALS / 4)),
    "train": lambda folder: learn(folder, head="logistic"),
    "evaluate": evaluate,
    "report": lambda folder: evaluate(folder, report=folder / "report.html"),
}
NAMES = {
    "tune": f"tune, {TRIALS} trials of four heads",
    "train": "train: groups, split, a logistic head on five folds, its refit, the test",
    "evaluate": "evaluate, all rows",
    "report": "evaluate with a report",
}


def run_step(step: str, folder: Path) -> dict[str, Any]:
    """Run a step in this process: seconds without imports, and the most memory in MiB."""
    most = int(float(os.environ.get("FFE_BENCH_GIB", "16")) * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    work = STEPS[step](folder)
    started = time.perf_counter()
    said = work()
    seconds = time.perf_counter() - started
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "mib": int(held.split()[1]) / 2**10, "said": said}  # getrusage knows the parent's too


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-3)), 1)[0])


def table(done: dict[str, dict[str, Any]]) -> str:
    """Return what is known as a table in Markdown."""
    sizes = sorted({int(key.split()[1]) for key in done})
    lines = ["| step | " + " | ".join(f"{size:,} rows" for size in sizes) + " | exponent |", "|---" * (len(sizes) + 2) + "|"]
    for step in STEPS:
        known = [(size, done[f"{step} {size}"]) for size in sizes if f"{step} {size}" in done]
        cells = {size: f"{found['seconds']:.3g} s, {found['mib'] / 1024:.2f} GiB" for size, found in known}
        grows = f"{exponent([n for n, _ in known], [f['seconds'] for _, f in known]):.2f}" if len(known) > 1 else ""
        lines.append(f"| {NAMES.get(step, step)} | " + " | ".join(cells.get(size, "") for size in sizes) + f" | {grows} |")
    return "\n".join(lines)


def test_costs(tmp_path: Path) -> None:
    folder = Path(os.environ.get("FFE_BENCH_FOLDER", tmp_path))
    steps = os.environ.get("FFE_BENCH_STEPS", ",".join(STEPS)).split(",")
    kept = folder / "costs.json"
    done: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for size in SIZES:
        place = folder / str(size)
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "f.h5").is_file():
            make(place, size)
        for step in steps:
            if (key := f"{step} {size}") in done:
                continue
            started = time.perf_counter()
            call = subprocess.run([sys.executable, __file__, step, place], capture_output=True, text=True, check=False)
            if call.returncode:
                print(f"{key}: failed after {time.perf_counter() - started:.0f} s: {(call.stderr.splitlines() or [''])[-1]}")
                continue
            done[key] = json.loads(call.stdout.splitlines()[-1])
            print(f"{key}: {done[key]}", flush=True)
            kept.write_text(json.dumps(done, indent=1))
    print(f"\n{table(done)}")
    assert done


if __name__ == "__main__":
    print(json.dumps(run_step(sys.argv[1], Path(sys.argv[2]))))
