"""Reads damaged feature files or models, one after the other; a process of its own, so that a crash is seen.

    python fuzz_worker.py store|bundle FOLDER SEED FIRST COUNT GOOD ...

FOLDER is empty and its own; nothing but the case itself may ever stand in it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from pathlib import Path

from damage import damaged_bundle, damaged_store
from use import outcome, use_bundle, use_store

_KINDS = {"store": (damaged_store, use_store), "bundle": (damaged_bundle, use_bundle)}


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Go through the cases that the arguments name."""
    kind, folder, (seed, first, count) = sys.argv[1], Path(sys.argv[2]), map(int, sys.argv[3:6])
    goods = [Path(name) for name in sys.argv[6:]]
    damage, use = _KINDS[kind]
    os.chdir(folder)
    bad = folder / ("bad.h5" if kind == "store" else "bad.ffe")
    for good in goods:
        assert outcome(use, good) == "sound"
    before = _peak_mib()
    for index in range(first, first + count):
        print(json.dumps({"started": index}), flush=True)
        damage(goods[index % len(goods)], bad, random.Random(f"{seed} {index}"))
        started = time.process_time()
        try:
            found = outcome(use, bad)
        except BaseException as error:  # whatever else there is, the test wants to know it
            found = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - started
        if list(folder.iterdir()) != [bad]:
            found = f"files beside it: {sorted(folder.iterdir())}"
        print(json.dumps({"done": index, "outcome": found, "seconds": seconds, "more_mib": _peak_mib() - before}), flush=True)


if __name__ == "__main__":
    main()
