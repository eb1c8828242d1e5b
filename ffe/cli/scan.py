"""``ffe scan``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ffe.backbones.catalog import DEFAULT
from ffe.base.text import bytes_text, counted, duration_text, number, shorten
from ffe.cli import UrlOrPath
from ffe.cli.options import json_option, report_option, size_option, strict_option
from ffe.cli.progress import Display
from ffe.cli.show import note, print_json

if TYPE_CHECKING:
    from ffe.dataset.scan_result import ScanResult

_BAR = 30
_CLASSES = 40  # of more, only the largest and the smallest are listed
_LISTED = 20


@click.command(short_help="Look at photos before anything is learnt from them.")
@click.argument("source", type=UrlOrPath())
@click.option("--backbone", default=DEFAULT, help="What the photos are for: a name of 'ffe backbones'.")
@size_option()
@report_option(help="Also write a page with charts and pictures, such as scan.html.")
@strict_option(help="Leave with code 1 if files cannot be read or are left out.")
@json_option(help="Print everything as JSON.")
def command(source: str, report: str | None, strict: bool, as_json: bool, **options: Any) -> None:
    """Look at every photo of SOURCE: classes, sizes, formats, files that cannot be read, copies, and what to do about it.

    SOURCE is what 'ffe extract' takes. Every file is decoded once, and none is
    changed.
    """
    from ffe.commands.scan import scan

    with Display() as display:
        result = scan(source, report=report, on_look=partial(display.count, "files"), **options)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(_text(result))
    if report is not None:
        note(f"the page is in '{report}'")
    if strict and (result.skipped or result.left_out or any(finding.level == "refused" for finding in result.findings)):
        sys.exit(1)


def _text(result: ScanResult) -> str:
    """Return everything as text."""
    from ffe.wording.results import facts_text, table

    parts = [facts_text(_facts(result), 9)]
    if result.classes:
        parts.append(_classes(result))
    more = (f" and {len(each.paths) - 3} more" if len(each.paths) > 3 else "" for each in result.twins)
    twins = [(each.cause, ", ".join(each.paths[:3]) + rest) for each, rest in zip(result.twins, more, strict=True)]
    lists: tuple[tuple[tuple[str, ...], Sequence[tuple[str, ...]]], ...] = (
        (("cannot be read", "reason", "why"), [(file.path, file.reason, file.message_and_line()) for file in result.skipped]),
        (("left out", "why"), result.left_out),
        (("named otherwise", "holds"), [(other.path, other.format) for other in result.other_endings]),
        (("there twice", "photos"), twins),
    )
    for header, rows in lists:
        if rows:
            unlisted = f"\nand {len(rows) - _LISTED} more; --json lists all" if len(rows) > _LISTED else ""
            parts.append(table(header, rows[:_LISTED]) + unlisted)
    findings = [(advice.level, advice.text) for advice in result.advice]
    parts.append(facts_text(findings, 7) if findings else "Nothing stands in the way of training on these photos.")
    return "\n\n".join(parts)


def _facts(result: ScanResult) -> list[tuple[str, str | None]]:
    def shares(counts: dict[str, int]) -> str | None:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or None

    def spread(name: str) -> str | None:
        if result.dimensions is None:
            return None
        found = getattr(result.dimensions, name)
        return f"{number(found.least)} to {number(found.most)}, median {number(found.median)}"

    return [
        ("photos", f"{result.photos:,} of {counted(result.files, 'file')} ({result.kind}), {bytes_text(result.bytes)}"),
        ("looked at", f"in {duration_text(result.seconds)}"),
        ("formats", shares(result.formats)),
        ("colours", shares(result.colours)),
        ("splits", shares(result.splits)),
        ("unlabelled", counted(result.unlabelled, "photo") if result.unlabelled else None),
        *((name, spread(name)) for name in ("width", "height", "aspect")),
        ("for", f"{result.backbone} at {result.size[0]}x{result.size[1]}"),
    ]


def _classes(result: ScanResult) -> str:
    from ffe.wording.results import table

    most = max(row.photos for row in result.classes) or 1
    shown = list(result.classes)
    note = ""
    if len(shown) > _CLASSES:
        by_size = sorted(shown, key=lambda row: (-row.photos, row.name))
        shown = by_size[: _CLASSES // 2] + by_size[-_CLASSES // 2 :]
        note = f"\nthe {_CLASSES // 2} largest and the {_CLASSES // 2} smallest of {len(by_size)} classes; --json lists all"
    skipped = any(row.skipped for row in shown)
    counts = [{"photos": row.photos, **row.splits, **({"unreadable": row.skipped} if skipped else {})} for row in shown]
    rows = [
        (shorten(row.name), *(f"{many:,}" for many in count.values()), bar_text(row.photos / most))
        for row, count in zip(shown, counts, strict=True)
    ]
    return table(("class", *counts[0], ""), rows, right=range(1, len(counts[0]) + 1)) + note


def bar_text(share: float, width: int = _BAR) -> str:
    """Return a share in [0, 1] as a bar of blocks, or of ``#`` where the terminal has no blocks."""
    blocks = "█▏▎▍▌▋▊▉"
    try:
        blocks.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * round(share * width)
    eighths = round(8 * share * width)
    return blocks[0] * (eighths // 8) + (blocks[eighths % 8] if eighths % 8 else "")
