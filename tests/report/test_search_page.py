"""The page of a search: what is in it, what is not, and that nothing gets out of its place."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ffe.base.output_file import check_output
from ffe.base.text import duration, number, of_a_hundred, percent, plain, short_path, span
from ffe.errors import ReportError
from ffe.report.confusion import MAX_PICTURES, matrix_of
from ffe.report.search_page import render, write_page
from ffe.report.values import Curves, Page, Picture

VOID = {"input", "meta", "link", "img", "br"}
SECTIONS = {
    "leaderboard",
    "curves",
    "scores",
    "confusion",
    "mistakes",
    "labels",
    "calibration",
    "duplicates",
    "map",
    "growth",
    "made",
}


class Reader(HTMLParser):
    """Reads a page as strictly as it was written."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.values: list[str] = []
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        found = dict(attrs)
        self.tags[tag] += 1
        self.attributes |= set(names)
        self.values += [value for value in found.values() if value]
        self.classes.update((found.get("class") or "").split())
        if "id" in found:
            self.ids.append(found["id"] or "")
        if "href" in found:
            self.links.append(found["href"] or "")
        if "src" in found:
            self.sources.append(found["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def check_whole(html: str) -> Reader:
    """Check what holds for every page."""
    reader = Reader(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert len(set(reader.ids)) == len(reader.ids)
    assert {link[1:] for link in reader.links if link != "data:,"} <= set(reader.ids)
    assert all(link.startswith("#") or link == "data:," for link in reader.links)
    assert all(source.startswith(("data:image/jpeg;base64,", "data:image/svg+xml;base64,")) for source in reader.sources)
    assert reader.tags["script"] == 1
    assert not any(name.startswith("on") for name in reader.attributes)
    assert "http" not in re.sub(r"data:image/[^\"]*", "", html).replace("http-equiv", "")
    assert "url(" not in html
    assert "@import" not in html
    assert set(reader.ids) >= SECTIONS - {"labels", "leaderboard"}
    assert ("labels" in reader.ids) == ("#labels" in reader.links)
    return reader


def test_links_are_called_as_the_headings_that_they_lead_to(full_page: Page) -> None:
    for page in (full_page, replace(full_page, trained=True), replace(full_page, scored=True)):
        html = render(page)
        links = re.findall(r'<li><a href="#([^"]*)">([^<]*)</a></li>', html)
        assert len(links) > 5
        for place, name in links:
            assert f'<h2 id="{place}-title">{name}</h2>' in html


def test_the_threshold_is_explained(full_page: Page) -> None:
    text = check_whole(render(full_page)).text
    assert "A threshold is the least probability that an answer needs: below it the model says “not sure” instead." in text
    assert "No threshold is set, so the model always answers; --reject 0.9 sets one, in ffe tune for good" in text
    said = "'Not sure' below 0.8: 90 % of the images are answered (36), 95 % of those right."
    text = check_whole(render(replace(full_page, unsure=said))).text
    assert said in text
    assert "No threshold is set" not in text


def test_every_photo_can_be_enlarged(full_page: Page) -> None:
    reader = check_whole(render(full_page))
    assert reader.tags["label"] == reader.tags["input"] == reader.classes["shot"] > 0
    assert any(value.startswith("Enlarge ") for value in reader.values)


def test_a_full_page(full_page: Page) -> None:
    reader = check_whole(render(full_page))
    assert "90.0 % of the test photos named rightly 95 % interval: 77.0 to 96.2 %" in reader.text
    assert (
        "Of 100 new photos like these, about 90 would be named rightly; with 40 tested photos it may be 77 to 96." in reader.text
    )
    assert "svm is better than forest: the difference is 45 points." in reader.text
    assert "16 of 17 trials, scored by accuracy in validation" in reader.text
    assert "All 4 mistakes, the surest first." in reader.text
    assert "2 photos where heads that were fitted without the photo are sure of another class" in reader.text
    assert (
        "On validation photos the calibration error is 8.0 % before, and 3.0 % after multiplying the scores by 1.5" in reader.text
    )
    assert "On the test photos it is 3.2 %, as said above." in reader.text
    assert "at least 90 % are taken, 40.0 % of the photos are answered, and 100 % of these answers are right." in reader.text
    assert "4 photos in 2 groups" in reader.text
    assert "Without it 95.0 % would have been claimed." in reader.text
    assert "40 photos, laid out by their features (PCA, " in reader.text
    assert "Twice as many photos would bring about " in reader.text
    assert "30 70.0 % 60.2 to 75.0 % 60 80.0 % 70.2 to 85.0 % 120 90.0 % 80.2 to 95.0 % 240 " in reader.text
    assert "1 photo could not be shown" in reader.text
    assert "absent" in reader.classes  # that note alone
    assert reader.classes["absent"] == 1


def test_what_each_section_shows(full_page: Page) -> None:
    reader = check_whole(render(full_page))
    trials, classes, scores, coverage, growth, matrix = 16, 2, 4, 3, 4, 2
    assert reader.tags["tr"] == trials + classes + scores + coverage + growth + matrix + 6  # six heads
    assert reader.classes["chart"] == 6
    assert reader.classes["miss"] == 4 + 2  # points of the map, cells
    cells, mistakes, suspects, copies, tip = 3 + 8 + 1 + 8, 4, 2, 4, 1
    assert reader.tags["img"] == cells + mistakes + suspects + copies + tip
    assert [id for id in reader.ids if id.startswith("cell-")] == ["cell-0-1", "cell-1-0", "cell-1-1", "cell-0-0"]
    values = [value.replace("\u202f", " ") for value in reader.values]
    assert "cat called dog: 3 photos (15.0 %; 95 %: 1 to 7.2 photos)" in values


def test_nothing_at_all_is_said_in_plain_sentences() -> None:
    reader = check_whole(render(Page("Nothing")))
    assert "leaderboard" in reader.ids
    assert reader.classes["absent"] == len(SECTIONS)
    assert "labels" not in reader.ids
    assert reader.tags["img"] == reader.tags["table"] == reader.tags["svg"] == 0
    for sentence in (
        "No test was made, so nothing is known about new photos.",
        "No search was made: the head and its parameters were given.",
        "No dense head was trained, so there are no learning curves.",
        "Duplicates were not looked for.",
        "No map was made.",
    ):
        assert sentence in reader.text


@pytest.mark.parametrize("name", [field.name for field in fields(Page) if field.name != "title"])
def test_any_part_may_be_absent(full_page: Page, name: str) -> None:
    check_whole(render(replace(full_page, **{name: getattr(Page("x"), name)})))


def test_looked_for_and_not_found_is_not_the_same_as_not_looked_for(full_page: Page) -> None:
    right = [row for row in full_page.pictures if row.true == row.predicted]
    text = check_whole(render(replace(full_page, label_issues=[], duplicates=[], pictures=right))).text
    assert "No label looks wrong." in text
    assert "No two photos are the same or nearly so." in text
    assert "No photo of the test was named wrongly." in text


def test_a_network_that_trained_is_said_to_suspect_photos_that_it_did_not_train_on(full_page: Page) -> None:
    text = check_whole(render(replace(full_page, trained=True))).text
    assert "2 photos of the validation, not trained on, where the network is sure of another class than the label, or" in text
    assert "heads that were fitted without" not in text


def test_a_training_has_no_leaderboard_but_what_it_was_before_and_after(full_page: Page) -> None:
    trained = replace(full_page, leaderboard=(), trained=True, comparison="no real difference")
    reader = check_whole(render(trained))
    assert "Before and after no real difference" in reader.text
    assert reader.links[1:4] == ["#comparison", "#comparison", "#curves"]  # to skip to, and the first two sections
    from_nothing = check_whole(render(replace(trained, comparison=None)))
    assert from_nothing.links[1:3] == ["#curves", "#curves"]
    for read in (reader, from_nothing):
        assert "leaderboard" not in read.ids
        assert "No search was made" not in read.text


def test_training_shows_under_validation_that_lies_upon_it(full_page: Page) -> None:
    html = render(replace(full_page, curves=Curves([1.0, 0.5], [1.0, 0.5], [0.5, 1.0], [0.5, 1.0])))
    training, validation = re.findall(r'<g class="k[01]"><path( class="dashed")? d="(M[^"]*)"/></g>', html)[:2]
    assert training[1] == validation[1]
    assert (training[0], validation[0]) == ("", ' class="dashed"')


def test_another_metric_is_named_and_a_log_loss_stands_above_0(full_page: Page) -> None:
    more = {"default": True, "log_loss": None}
    trials = [{**trial, **more, "score": trial["score"] - 1.5, "tied": i < 2} for i, trial in enumerate(full_page.leaderboard)]
    text = check_whole(render(replace(full_page, leaderboard=trials, metric="log_loss"))).text
    assert "16 of 17 trials, scored by log loss in validation" in text
    assert "Lowest validation log loss 0.5500 (svm); 1 other is no different from that by more than chance" in text
    assert "1 svm 0.55 ± 0.01" in text
    assert "Every trial, and the lowest so far" in text
    assert "lowest so far svm forest chosen" in text
    text = check_whole(render(replace(full_page, metric="balanced_accuracy"))).text
    assert "16 of 17 trials, scored by balanced accuracy in validation" in text
    assert "1 svm 95.00 % ± 1.00" in text


def test_a_head_that_was_given_has_a_board_of_one(full_page: Page) -> None:
    reader = check_whole(render(replace(full_page, leaderboard=full_page.leaderboard[:1], comparison=None)))
    assert "The head and its parameters were given, and scored once on validation rows." in reader.text
    assert "absent" in reader.classes
    assert reader.classes["absent"] == 1  # the photo that is gone


def test_trials_far_behind_do_not_flatten_the_chart(full_page: Page) -> None:
    last = full_page.leaderboard[-1]
    trials = [*full_page.leaderboard[:-1], {**last, "score": 0.2}]
    title = "Every trial, and the highest so far (1 trial far behind is not drawn)"
    assert title in render(replace(full_page, leaderboard=trials))
    trials = [*full_page.leaderboard[:-1], {**last, "score": 0.78}]
    assert "far behind" not in render(replace(full_page, leaderboard=trials))


def test_probabilities_that_are_kept_as_they_are(full_page: Page) -> None:
    assert full_page.calibration is not None
    text = check_whole(render(replace(full_page, calibration=replace(full_page.calibration, factor=1)))).text
    assert (
        "On validation photos the calibration error is 8.0 %; scaling the scores would not make the probabilities better" in text
    )
    assert "so they are as the head gives them, and the chart shows them once." in text
    assert "as they are Answering only when sure" in text
    nearly = check_whole(render(replace(full_page, calibration=replace(full_page.calibration, factor=1.02)))).text
    assert "by 1.02, the number with the least log loss: it changes next to nothing, so the chart shows only the prob" in nearly
    risen = replace(full_page.calibration, error_after=0.09)
    text_risen = check_whole(render(replace(full_page, calibration=risen))).text
    assert "8.0 % before, and 9.0 % after multiplying the scores by 1.5, the number with the least log loss. The" in text_risen
    sentence = "error rises although the log loss falls, from 0.5 to 0.4: it is the rougher measure, taken in 15 bins, so the"
    hardly = replace(full_page.calibration, error_after=0.0801)  # as shown, it is the same
    shown = [text_risen, nearly, check_whole(render(replace(full_page, calibration=hardly))).text]
    assert [sentence in one for one in shown] == [True, False, False]
    both = "before after Answering only when sure"
    assert [both in shown for shown in (text, nearly, check_whole(render(full_page)).text)] == [False, False, True]


def test_hostile_names_stay_text(hostile_page: Page) -> None:
    html = render(hostile_page)
    reader = check_whole(html)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "<script>alert(1)</script>" in reader.text
    assert "O'Brien & söhne" in reader.text
    assert "\\u202e\\x1b[31m\\x80" in reader.text
    assert "no label" in reader.text
    assert "class 7" in reader.text
    assert len(html) < 1_000_000  # long names are cut
    html.encode()


def test_the_same_page_gives_the_same_bytes(full_page: Page, tmp_path: Path) -> None:
    sizes = [write_page(tmp_path / name, full_page) for name in ("a.html", "b.html")]
    a, b = ((tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert a == b
    assert sizes == [len(a), len(a)]
    assert str(tmp_path).encode() not in a
    assert sorted(os.listdir(tmp_path)) == ["a.html", "b.html"]


def test_a_page_that_exists_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    write_page(place, Page("Old"))
    write_page(place, Page("New"))
    assert "<h1><bdi>New</bdi></h1>" in place.read_text("utf-8")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>mine", b"\x89HDF\r\n\x1a\n", b"\xff\xd8\xff photo"])
def test_what_is_no_report_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "mine"
    place.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        write_page(place, Page("New"))
    assert str(caught.value) == (
        f"'{place}' exists and is no report of ffe, so it is not replaced; choose another name for the report."
    )
    assert place.read_bytes() == content


def test_a_page_that_cannot_be_written_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReportError) as caught:
        write_page(tmp_path / "no" / "report.html", Page("x"))
    assert str(caught.value) == (
        f"The report '{tmp_path}/no/report.html' lies in a folder that does not exist ('{tmp_path}/no'); "
        "create it, or choose another place."
    )
    with pytest.raises(ReportError) as caught:
        check_output(tmp_path)
    assert str(caught.value) == f"The report '{tmp_path}' is a folder; give the name of a file, such as '{tmp_path}/report.html'."
    with monkeypatch.context() as patch:
        patch.setattr("ffe.base.output_file.takes_files", lambda _: False)
        with pytest.raises(ReportError) as caught:
            check_output(tmp_path / "report.html")
        assert str(caught.value) == f"The folder '{tmp_path}' cannot be written to; choose another place for the report."
    write_page(tmp_path / "old.html", Page("old"))
    old = (tmp_path / "old.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ReportError) as caught:
        write_page(tmp_path / "old.html", Page("x"))
    assert str(caught.value) == (
        f"The report '{tmp_path}/old.html' cannot be written: "
        f"the disk of '{tmp_path}' is full; make room there, or choose another place."
    )
    assert (tmp_path / "old.html").read_bytes() == old
    assert os.listdir(tmp_path) == ["old.html"]


def _many(classes: int, each: int) -> list[Picture]:
    """Rows that fill every cell of a matrix."""
    cells = [(i, j) for i in range(classes) for j in range(classes)]
    return [Picture(f"{i}/{j}/{n}", None, i, j, 0.5 + n / 1000) for i, j in cells for n in range(each)]


def test_cells_show_the_surest_mistakes_and_the_least_certain_right_answers() -> None:
    matrix = matrix_of([[30, 30], [30, 30]], _many(2, 30))
    wrong, right = matrix.rows[0][1], matrix.rows[0][0]
    assert len(wrong.pictures) == 24
    assert [p.probability for p in wrong.pictures[:2]] == [0.529, 0.528]
    assert len(right.pictures) == 8
    assert [p.probability for p in right.pictures[:2]] == [0.5, 0.501]


@pytest.mark.parametrize(("classes", "each"), [(12, 30), (40, 1), (40, 2)])
def test_all_cells_together_stay_within_bounds(classes: int, each: int) -> None:
    matrix = matrix_of([[each] * classes] * classes, _many(classes, each))
    shown = sum(len(cell.pictures) for cell in matrix.filled)
    assert MAX_PICTURES / 2 < shown <= MAX_PICTURES


def test_of_very_many_classes_those_with_most_mistakes_are_shown() -> None:
    confusion = [[10 if i == j else 0 for j in range(100)] for i in range(100)]
    confusion[97][99] = 5
    matrix = matrix_of(confusion, _many(100, 1)[:200])
    assert len(matrix.classes) == 60
    assert matrix.left_out == 40
    assert matrix.classes[-2:] == (97, 99)
    assert [cell.heat for cell in matrix.rows[0][:2]] == [9, 0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.97856, "97.9 %"), (1, "100 %"), (0, "0 %"), (0.99999, ">99.9 %"), (0.00001, "<0.1 %"), (None, "–"), (float("nan"), "–")],
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "0.00 s"), (0.42, "0.42 s"), (3, "3.0 s"), (59.7, "1 min"), (200, "3 min 20 s"), (3840, "1 h 4 min"), (None, "–")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds).replace("\u202f", " ") == text


def test_numbers_and_spans() -> None:
    assert [number(v) for v in (0.04812, 12, 1234.5, 1e6, None)] == ["0.0481", "12", "1,234", "1,000,000", "–"]
    assert span((0.963, 0.989)).replace("\u202f", " ") == "96.3 to 98.9 %"
    assert span((0.05, 0.118), share=False) == "0.05 to 0.118"
    assert span(None) == span([0.5]) == span([0.5, float("nan")]) == ""


def test_accuracy_in_words() -> None:
    start = "Of 100 new photos like these, "
    assert of_a_hundred(0.979, (0.963, 0.989), 280) == (
        f"{start}about 98 would be named rightly; with 280 tested photos it may be 96 to 99."
    )
    assert of_a_hundred(0.999, None, 1000) == f"{start}more than 99 would be named rightly (1,000 photos tested)."
    assert of_a_hundred(1.0, (0.938, 1.0), 58) == (
        f"{start}nearly all would be named rightly; with 58 tested photos it may be 94 to 100."
    )
    assert of_a_hundred(0.0, (0.0, 0.9), 1) == f"{start}hardly any would be named rightly; with 1 tested photo it may be 0 to 90."
    assert of_a_hundred(1.0, (0.9963, 1.0), 1000).endswith("with 1,000 tested photos it may be 99.6 to 100.")


def test_foreign_text_is_made_visible() -> None:
    assert plain("plain") == "plain"
    assert plain("söhne 猫 🐈") == "söhne 猫 🐈"
    assert plain("a\nb\x00\x7f\udcff\ud800\u2028\ufffe") == "a\\nb\\x00\\x7f\\xff\ufffd\\u2028\ufffd"
    assert plain("x" * 1000, 10) == "xxxxx … xxxxx"
    assert short_path("/a/b/cat/1.jpg") == short_path("b\\cat\\1.jpg") == "cat/1.jpg"
