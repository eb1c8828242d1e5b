"""The page in a real browser: it fits, its cells open, its pictures show, and nothing is complained about."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ffe.dataset.scan_result import SkippedFile
from ffe.report.scan_page import MAX_ROWS
from ffe.report.scan_page import render as render_scan
from ffe.report.search_page import write_page
from ffe.report.values import Curves, Page, Picture
from tests.chromium import CHROMIUM, WEAK, Tab

if TYPE_CHECKING:
    from conftest import Scanned

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it to look at pages")

Look = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    found = Tab(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def look(tab: Tab, tmp_path: Path) -> Iterator[Look]:
    """Show a page, run a script in it, and return what the script returns."""
    handler = functools.partial(SilentHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(
        page: Page | str, code: str, *, width: int = 1280, script: bool = True, part: str = "", dark: bool = False
    ) -> dict[str, Any]:
        if isinstance(page, str):
            (tmp_path / "page.html").write_text(page)
        else:
            write_page(tmp_path / "page.html", page)
        tab.call("Emulation.setScriptExecutionDisabled", value=not script)
        tab.open(f"http://127.0.0.1:{server.server_port}/page.html{part}", width, dark=dark)
        answer: dict[str, Any] = tab.run(f"const page = document, view = window; {code}")
        return answer | {"console": list(tab.complaints)}

    yield run
    server.shutdown()
    server.server_close()


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *args: object) -> None:
        pass


WIDTHS = """
  const wide = page.documentElement.scrollWidth, room = page.documentElement.clientWidth;
  const out = [...page.querySelectorAll("main *, header *")].filter((e) => !e.closest(".scroll, .hidden, .skip, svg, [hidden]")
    && e.getBoundingClientRect().right > room + 1).map((e) => e.outerHTML.slice(0, 120));
  return {wide, room, out};
"""


@pytest.fixture(scope="session")
def many_classes(full_page: Page) -> Page:
    """Forty classes with long names, mistaken for each other."""
    files = [row.file for row in full_page.pictures]
    names = [f"a class with a rather long name {i}" for i in range(40)]
    rows = [Picture(f"{i}.png", files[i % 40], i % 40, (i % 40 + i // 200) % 40, 0.8) for i in range(600)]
    counts = np.zeros((40, 40), int)
    np.add.at(counts, ([row.true for row in rows], [row.predicted for row in rows]), 1)
    test = {
        **(full_page.evaluation or {}),
        **{"n": 600, "accuracy": 1 / 3, "confusion": counts.tolist(), "confusion_intervals": None},
        **dict.fromkeys(("recall", "precision"), [0.3] * 40),
        **dict.fromkeys(("recall_intervals", "precision_intervals"), [None] * 40),
    }
    return replace(full_page, class_names=names, evaluation=test, pictures=rows)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["full_page", "hostile_page", "many_classes", "nothing"])
def test_the_page_never_scrolls_sideways_and_nobody_complains(
    look: Look, request: pytest.FixtureRequest, which: str, width: int
) -> None:
    page = Page("Nothing") if which == "nothing" else request.getfixturevalue(which)
    found = look(page, WIDTHS, width=width)
    assert found == {"wide": width, "room": width, "out": [], "console": []}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["scan_page", "hostile_scan_page"])
def test_nor_does_the_page_of_a_scan(look: Look, request: pytest.FixtureRequest, which: str, width: int) -> None:
    found = look(render_scan(*request.getfixturevalue(which)), WIDTHS, width=width)
    assert found == {"wide": width, "room": width, "out": [], "console": []}


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tick_label_of_a_time_is_cut_off(look: Look, full_page: Page, width: int) -> None:
    over_time = [(0.0, 0.5), (90.0, 0.6)]
    found = look(
        replace(full_page, curves=Curves(over_time=over_time)),
        """
        const last = [...page.querySelectorAll("#curves text.x:not(.name)")].at(-1);
        const [edge, end] = [last.closest("svg"), last].map((e) => e.getBoundingClientRect().right);
        return {last: last.textContent, fits: end <= edge};
        """,
        width=width,
    )
    assert found == {"last": "1\u202fmin 30\u202fs", "fits": True, "console": []}


def test_what_follows_a_table_keeps_its_distance(look: Look, scan_page: Scanned) -> None:
    found = look(
        render_scan(*scan_page.replace(skipped=[SkippedFile(f"{i}.jpg", "broken", "so") for i in range(MAX_ROWS + 1)])),
        """
        const after = page.querySelector("#skipped .scroll + p");
        return {gap: after.getBoundingClientRect().top - after.previousElementSibling.getBoundingClientRect().bottom};
        """,
    )
    assert found["gap"] >= 12


def test_no_column_of_the_classes_is_cut_off_on_a_telephone(look: Look, scan_page: Scanned) -> None:
    classes = [replace(row, splits={"train": 1200, "valid": 300, "test": 300}) for row in scan_page.result.classes]
    found = look(
        render_scan(*scan_page.replace(classes=classes)),
        """
        const box = page.querySelector("#classes .scroll");
        return {last: [...box.querySelectorAll("th.n")].at(-1).textContent, room: box.clientWidth, wide: box.scrollWidth};
        """,
        width=390,
    )
    assert found["last"] == "Unreadable"
    assert found["wide"] <= found["room"]


def test_complaints_and_overflow_would_be_seen(look: Look) -> None:
    """So that the test above can fail."""
    page = "<!DOCTYPE html><main><p style='width:3000px'>x</p></main><script>missing()</script>"
    found = look(page, WIDTHS, width=390)
    assert found["wide"] > 3000
    assert len(found["out"]) == 1
    assert "missing is not defined" in found["console"][0]


def test_a_cell_opens_and_shows_its_pictures(look: Look, full_page: Page) -> None:
    found = look(
        full_page,
        """
        const open = () => [...page.querySelectorAll("details[name=cell][open] > div")].map((e) => e.id);
        const panels = [...page.querySelectorAll("details[name=cell]")];
        const seen = () => panels.filter((e) => e.getBoundingClientRect().height > 0).length;
        const cell = (id) => page.querySelector(`.matrix a[href="#${id}"]`);
        const first = open();
        cell("cell-0-0").click();
        const second = open(), shown = page.querySelectorAll("#cell-0-0 img").length;
        const height = page.querySelector("#cell-0-0 img").getBoundingClientRect().height;
        const told = [...page.querySelectorAll(".matrix a")].map((a) => a.getAttribute("aria-expanded"));
        const alone = seen();
        cell("cell-0-0").click();
        const third = open();
        cell("cell-1-0").focus();
        const focused = page.activeElement === cell("cell-1-0");
        page.activeElement.click();
        const fourth = open();
        page.dispatchEvent(new view.KeyboardEvent("keydown", {key: "Escape"}));
        return {first, second, shown, height, told, alone, third, focused, fourth, last: open()};
        """,
    )
    assert found.pop("height") > 50
    assert found == {
        "first": ["cell-0-1"],  # the most frequent mistake is open from the start
        "second": ["cell-0-0"],
        "shown": 8,
        "told": ["true", "false", "false", "false"],
        "alone": 1,
        "third": [],
        "focused": True,
        "fourth": ["cell-1-0"],
        "last": [],
        "console": [],
    }


ENLARGE = """
        const boxes = [...page.querySelectorAll("#mistakes .photo input")];
        const size = (box) => Math.round(box.parentElement.querySelector("img").getBoundingClientRect().width);
        const small = size(boxes[0]);
        boxes[0].parentElement.querySelector("img").click();
        const large = size(boxes[0]), named = boxes[0].getAttribute("aria-label");
        boxes[0].parentElement.querySelector("img").click();
        const again = size(boxes[0]);
        boxes[1].focus();
        const focused = page.activeElement === boxes[1];
        boxes[1].click();  // as the space bar does
        """


@pytest.mark.parametrize("script", [True, False])
def test_a_photo_is_enlarged_and_made_small_again(look: Look, full_page: Page, script: bool) -> None:
    """By a click, or from the keyboard; no script is needed."""
    found = look(full_page, ENLARGE + "return {small, large, named, again, focused, second: size(boxes[1])};", script=script)
    assert found["small"] < 200 < 400 < found["large"]
    assert found["again"] == found["small"]
    assert found["second"] == found["large"]
    assert found["named"].startswith("Enlarge ")
    assert found["focused"]


def test_escape_makes_a_photo_small_and_one_is_large_at_a_time(look: Look, full_page: Page) -> None:
    found = look(
        full_page,
        ENLARGE
        + """
        boxes[0].click();
        const one = page.querySelectorAll(".photo input:checked").length;
        const panels = page.querySelectorAll("details[name=cell][open]").length;
        page.dispatchEvent(new view.KeyboardEvent("keydown", {key: "Escape"}));
        return {one, none: page.querySelectorAll(".photo input:checked").length,
                panels: panels - page.querySelectorAll("details[name=cell][open]").length};
        """,
    )
    assert (found["one"], found["none"], found["panels"]) == (1, 0, 0)


def test_a_cell_opens_without_scripts(look: Look, full_page: Page) -> None:
    """A link to a place inside a closed <details> opens it."""
    found = look(
        full_page,
        """
        const all = [...page.querySelectorAll("details[name=cell]")];
        return {seen: all.filter((e) => e.getBoundingClientRect().height > 0).length,
                open: all.filter((e) => e.open).map((e) => e.querySelector("div").id)};
        """,
        script=False,
        part="#cell-1-0",
    )
    assert (found["seen"], found["open"]) == (4, ["cell-1-0"])


def test_every_picture_can_be_decoded(look: Look, hostile_page: Page, full_page: Page) -> None:
    code = """
        for (const panel of page.querySelectorAll("details")) { panel.removeAttribute("name"); panel.open = true; }
        const images = [...page.querySelectorAll("img")].filter((e) => e.hasAttribute("src"));
        for (const image of images) image.loading = "eager";
        await Promise.all(images.map((e) => e.decode()));
        return {count: images.length, empty: images.filter((e) => !e.naturalWidth).length};
    """
    for page, count in ((full_page, 30), (hostile_page, None)):
        found = look(page, code)
        assert found["empty"] == 0
        assert found["count"] == count if count else found["count"] > 40
        assert found["console"] == []


@pytest.mark.parametrize(("dark", "paper"), [(True, "rgb(20, 23, 26)"), (False, "rgb(251, 251, 249)")])
def test_dark_and_light(look: Look, full_page: Page, dark: bool, paper: str) -> None:
    found = look(
        full_page,
        """
        const style = view.getComputedStyle(page.body);
        return {paper: style.backgroundColor, ink: style.color};
        """,
        dark=dark,
    )
    assert found["paper"] == paper
    assert found["ink"] != paper


CONTRAST = (
    WEAK
    + """
  const kinds = ["p", ".absent", ".facts dt", "nav a", ".of", ".accuracy", "thead th", ".parameters", ".path", "small",
    ".legend li", "code"];
  const box = page.createElement("div");
  box.className = "matrix-box";
  box.innerHTML = `<table class="matrix"><tr>${[...Array(10).keys()].map((i) =>
    `<td class="ok h${i}">1</td><td class="no h${i}">1</td>`).join("")}</tr></table>`;
  page.body.append(box);
  const shown = [...kinds.map((k) => page.querySelector(k)).filter(Boolean), ...box.querySelectorAll("td")];
  return weak(shown);
"""
)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(look: Look, full_page: Page, dark: bool) -> None:
    """Contrast of at least 4.5 to 1, as WCAG 2.2 asks for text (success criterion 1.4.3)."""
    found = look(full_page, CONTRAST, dark=dark)
    assert found["count"] > 28
    assert found["weak"] == []


def test_a_mistake_on_the_map_shows_its_picture(look: Look, full_page: Page) -> None:
    found = look(
        full_page,
        """
        const point = page.querySelector("g.miss"), tip = page.querySelector(".tip");
        const before = tip.hidden;
        point.querySelector("circle").dispatchEvent(new view.PointerEvent("pointerover", {bubbles: true}));
        const image = tip.querySelector("img");
        await image.decode();
        const box = tip.getBoundingClientRect();
        const shown = {hidden: tip.hidden, width: image.naturalWidth, words: tip.textContent.trim(), inside: box.right <= 390};
        page.querySelector("svg.map").dispatchEvent(new view.PointerEvent("pointerleave"));
        return {before, ...shown, after: tip.hidden};
        """,
        width=390,
    )
    words = found.pop("words")
    assert re.fullmatch(r"(cat|dog)/\w+\.png \(mistake; labelled (cat|dog)\)", words)
    assert found == {"before": True, "hidden": False, "width": 48, "inside": True, "after": True, "console": []}
