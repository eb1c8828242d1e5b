"""Columns of a list or table that are not there: which was probably meant, and what goes without it."""

from __future__ import annotations

from collections.abc import Sequence

from ffe.base.text import nearest
from ffe.images.records import Finding

_LIKE = 0.75  # of 1: ``lable``, ``labels`` and ``grp`` are, ``fine_label`` is not
_SHOWN = 200
_OPTIONAL = ("split", "group")


def misspelt(wanted: str, names: Sequence[str]) -> str | None:
    """Return the first name that is spelt nearly as one that is wanted; None = there is none."""
    return nearest(wanted, reversed(names), _LIKE)


def column_findings(place: object, names: Sequence[str], *, labelled: bool) -> list[Finding]:
    """Return what to say of columns that a table has not; ``labelled`` = one of them holds labels, under whatever name."""
    findings = []
    if not labelled:
        near = misspelt("label", names)
        meant = "if one does" if near is None else f"'{near}' perhaps"
        text = (
            f"'{place}' has no column 'label' (found: {', '.join(names)[:_SHOWN]}), so its photos have none; "
            f"rename the one that holds labels, {meant}."
        )
        findings.append(Finding("note" if near is None else "warning", text))
    for wanted in _OPTIONAL:
        if wanted not in names and (near := misspelt(wanted, names)) is not None:
            text = f"'{place}' has a column '{near}', which is not read; name it '{wanted}' if that is meant."
            findings.append(Finding("warning", text))
    return findings
