"""The rows of a run -> its feature file."""

from __future__ import annotations

import logging

import numpy as np

from ffe.errors import SourceError
from ffe.extraction.changes import JUDGED_BY, Changes, changes
from ffe.extraction.plan import Plan, same_table, source_text, table_of
from ffe.machine import collector_paused
from ffe.store.layout import Row, Skipped
from ffe.store.writer import write_store

log = logging.getLogger("ffe")


@collector_paused()
def assemble(
    plan: Plan, rows: dict[int, Row], skipped: dict[int, Skipped], stored: dict[str, int]
) -> tuple[list[Row], list[Skipped], Changes]:
    """Put the feature file in place, unless the one that is there says all this already; return its table, and what changed."""
    job, existing, journal = plan.job, plan.existing, plan.journal
    table = table_of(job, rows, skipped)
    changed = changes(existing, table[0])
    grid = journal.grid if existing is None else existing.grid
    if not rows or grid is None:
        first = table[1][0]
        raise SourceError(
            f"None of the {len(table[1])} files could be read (the first, '{job.found.root / first.path}': {first.message}); "
            "check the paths, and that they are pictures."
        )
    if existing is not None and changed.removed:
        log.warning("%d rows were dropped from '%s': their files are gone or no longer readable", changed.removed, job.output)

    def features(row: Row) -> np.ndarray:
        if existing is not None and row.sha256 in stored:
            return existing.raw_row(stored[row.sha256])
        return journal.row(row.sha256)

    if not plan.written and not same_table(job, existing, *table):
        write_store(
            job.output,
            spec=plan.spec,
            grid=grid,
            class_names=job.found.class_names,
            rows=table[0],
            features=features,
            skipped=table[1],
            judged_by=JUDGED_BY,
            source=source_text(job.found),
            quantized=plan.quantized,
        )
    return *table, changed
