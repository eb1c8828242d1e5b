"""The page of a scan."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from ffe.dataset.scan_result import SkippedFile
from ffe.images.probe import ImageProbe
from ffe.report.scan_page import MAX_DOTS, MAX_ROWS, render, write_scan_page

if TYPE_CHECKING:
    from conftest import Scanned


class Reader(HTMLParser):
    """Collects what a page holds, and that its tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "br", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def read(page: Scanned) -> tuple[str, Reader]:
    text, reader = render(*page), Reader()
    reader.feed(text)
    assert reader.wrong == []
    assert reader.open == []
    return text, reader


def test_everything_is_there(scan_page: Scanned) -> None:
    text, reader = read(scan_page)
    for words in ("The photos of pets", "Mend it.", "Look there.", "As it is.", "75.0", "430", "500x375: 3 photos", "cat/a.jpg"):
        assert words in text
    for words in ("image file is truncated", "outside the class folders", "the same file", "the input, 150x150", "train"):
        assert words in text
    assert sum(tag == "img" for tag, _ in reader.tags) == 11  # six cats, three dogs, and the copies once more
    assert [attributes["class"] for tag, attributes in reader.tags if (attributes.get("class") or "").startswith("is-")] == [
        "is-refused",
        "is-warning",
        "is-note",
    ]


def test_links_lead_somewhere(scan_page: Scanned) -> None:
    _, reader = read(scan_page)
    ids = {attributes.get("id") for _, attributes in reader.tags}
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert len(links) == 8
    assert {str(link).removeprefix("#") for link in links} <= ids


def test_an_empty_page_says_what_is_missing(scan_page: Scanned) -> None:
    nothing = dict.fromkeys(("advice", "classes", "twins", "skipped", "left_out", "other_endings"), ())
    empty = scan_page.replace(**nothing, splits={}, formats={}, colours={}, dimensions=None)
    text, reader = read(empty._replace(photos=[]))
    assert len(re.findall('class="absent"', text)) == 7
    assert not any(tag in {"img", "td"} for tag, _ in reader.tags)


def test_nothing_is_loaded_and_nothing_runs(scan_page: Scanned) -> None:
    text, reader = read(scan_page)
    assert not any(tag == "script" for tag, _ in reader.tags)
    policies = [attributes["content"] for _, attributes in reader.tags if attributes.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert "http" not in re.sub(r'data:[^"]*|http-equiv', "", text)


def test_hostile_names_break_nothing(hostile_scan_page: Scanned) -> None:
    text, reader = read(hostile_scan_page)
    assert not any(tag == "script" for tag, _ in reader.tags)
    assert not set("\u202e\x1b") & set(text)
    text.encode()


def test_long_lists_are_cut_and_it_is_said(scan_page: Scanned) -> None:
    text, _ = read(scan_page.replace(skipped=tuple(SkippedFile(f"{i}.jpg", "broken", "so") for i in range(MAX_ROWS + 30))))
    assert f"{MAX_ROWS - 1}.jpg" in text
    assert f"{MAX_ROWS}.jpg" not in text
    assert "30 more are not listed here." in text


def test_many_sizes_become_few_dots(scan_page: Scanned) -> None:
    record = scan_page.photos[0][0]
    photos = [(record, ImageProbe(width=100 + i, height=100 + 7 * i % 991)) for i in range(5000)]
    text, _ = read(scan_page.replace(twins=())._replace(photos=photos))
    assert 50 < text.count("<circle") <= MAX_DOTS + 5
    counts = [int(n.replace(",", "")) for n in re.findall(r"<title>\d+x\d+: ([\d,]+) photo", text)]
    assert sum(counts) == 5000


def test_unlabelled_photos_are_shown_too(scan_page: Scanned) -> None:
    photos = [(replace(record, label=-1), look) for record, look in scan_page.photos]
    _, reader = read(scan_page.replace(classes=())._replace(photos=photos))
    assert sum(tag == "img" for tag, _ in reader.tags) == 11


def test_it_is_written_whole(scan_page: Scanned, tmp_path: Path) -> None:
    place = tmp_path / "scan.html"
    write_scan_page(place, *scan_page)
    assert write_scan_page(place, *scan_page) == place.stat().st_size > 10_000
    assert [file.name for file in tmp_path.iterdir()] == ["scan.html"]
