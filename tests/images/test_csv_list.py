"""CSV files that list images -> records; and every line that does not fit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from ffe.errors import SourceError
from ffe.images.csv_list import _text
from ffe.images.records import UNLABELLED
from ffe.images.sources import list_images, scan


def named(source: Path) -> dict[str, tuple[str, str]]:
    """Return path -> (class name or empty, split)."""
    found = scan(source)
    return {r.path: ("" if r.label == UNLABELLED else found.class_names[r.label], r.split) for r in found.records}


def write_csv(folder: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


def test_csv_with_labels_and_splits(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "path,label,split\nb.png,dog,train\nsub/a.png,cat,VAL\nc.png,,\n")
    found = scan(path)
    assert found.kind == "csv"
    assert found.root == tmp_path
    assert found.class_names == ("cat", "dog")
    assert named(path) == {"b.png": ("dog", "train"), "sub/a.png": ("cat", "valid"), "c.png": ("", "")}
    assert {r.file for r in found.records} == {tmp_path / "b.png", tmp_path / "sub" / "a.png", tmp_path / "c.png"}


def test_csv_with_groups(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "path,label,Group\nb.png,dog, patient 7 \na.png,cat,\n")
    assert {record.path: record.group for record in scan(path).records} == {"a.png": "", "b.png": "patient 7"}
    assert {record.group for record in scan(write_csv(tmp_path, "path,label\na.png,cat\n")).records} == {""}


def test_group_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Line 2 of '.*list\.csv' has a group with a zero byte; mend the line\."):
        scan(write_csv(tmp_path, "path,label,group\na.png,cat,a\0b\n"))


def test_csv_without_a_split_column(tmp_path: Path) -> None:
    assert named(write_csv(tmp_path, "label,path\ncat,a.png\n")) == {"a.png": ("cat", "")}


def test_csv_with_a_byte_order_mark_and_spaces(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "Path, Label \na.png, cat \n", encoding="utf-8-sig")
    assert named(path) == {"a.png": ("cat", "")}


def test_tsv(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "path\tlabel\na, b.png\tcat\n", name="list.tsv")
    assert named(path) == {"a, b.png": ("cat", "")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "path,class\na.png,cat\n",
            r"has no 'label' column \(found: path, class\); its first line must name the columns path,label",
        ),
        ("file,label\na.png,cat\n", r"has no 'path' column \(found: file, label\)"),
        ("", r"list\.csv' is empty; its first line must name the columns path,label\."),
        (" , \n", r"has no 'path' column \(found: nothing\)"),
        (
            "path,label\na.png,cat\na.png,cat\n",
            r"Line 3 of '.*' names 'a\.png' a second time, after line 2; keep one line per image",
        ),
        ("path,label,split\na.png,cat,dev\n", r"Line 2 of '.*' has the split 'dev'; use train, valid or test, or leave it empty"),
        ("path,label\na.png,cat\n,dog\n", r"Line 3 of '.*' has no path; fill it in or remove the line"),
        (
            "path,label\n",
            r"The CSV '.*list\.csv' lists no images; give each a line with its path and its label, under the first\.",
        ),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        scan(write_csv(tmp_path, text))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            "path,label\na.png,cat\nkätzchen.png,cat\n".encode("latin-1"),
            "Line 3 of 'LIST' is no UTF-8 text ('kätzchen.png,cat'); save the list as UTF-8 text, which Excel calls 'CSV UTF-8'.",
        ),
        (
            b"\xef\xbb\xbfpath,label\n\xe4.png,cat\n",
            "Line 2 of 'LIST' is no UTF-8 text ('ä.png,cat'); save the list as UTF-8 text, which Excel calls 'CSV UTF-8'.",
        ),
        (
            "path,label\n".encode("utf-16-le"),
            "The CSV 'LIST' has no 'path' column (found: p\0a\0t\0h\0, \0l\0a\0b\0e\0l\0); "
            "its first line must name the columns path,label and, if you like, split and group.",
        ),
    ],
)
def test_csv_in_an_encoding_that_is_not_named(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    with pytest.raises(SourceError) as error:
        scan(path)
    assert str(error.value).replace(str(path), "LIST") == sentence


def test_a_fault_behind_many_lines_is_named_in_little_memory() -> None:
    data = b"path,label\n" + b"a,b\n" * (1 << 16) + b"\xe4.png,cat\n"
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"^Line 65,538 of 'list\.csv'"):
            _text(Path("list.csv"), data)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_csv_whose_mark_names_its_encoding(tmp_path: Path, encoding: str) -> None:
    assert named(write_csv(tmp_path, "path,label\nä.png,Kätzchen\n", encoding=encoding)) == {"ä.png": ("Kätzchen", "")}


@pytest.mark.parametrize("start", ["", "sep=;\n", "\n\n"])
def test_semicolons_and_tabs_are_recognised(tmp_path: Path, start: str) -> None:
    for delimiter in ";\t|":
        text = f"{start if delimiter == ';' else ''}path;label\na,b.png;cat\n\nc.png;dog;\n;;\n".replace(";", delimiter)
        text = text.replace(f"sep={delimiter}", "sep=;")
        assert named(write_csv(tmp_path, text)) == {"a,b.png": ("cat", ""), "c.png": ("dog", "")}


FINDINGS = [
    (
        "path,label\na.png,cat\nb,final.png,cat\nc.png,dog\nd.png\n",
        [(3, 5)],
        "Line 3 of 'LIST' has 3 fields where the first line names 2 columns; put quotes around a name that holds a comma, "
        "and leave no column out. So it is with line 5.",
        ["a.png", "c.png"],
    ),
    (
        'path,label\na.png,cat\n"b.png,cat\nc.png,dog\n"d.png,dog\ne.png,dog\n',
        [(3, 5)],
        "Line 3 of 'LIST' opens a quote and does not close it where the field ends; close it, remove it, or write it twice "
        '("") where it belongs to a name. So it is with line 5.',
        ["a.png", "c.png", "e.png"],
    ),
    (
        'path,label\na.png,cat\n"b.png,cat\nc.png",dog\n',
        [(3,)],
        "Line 3 of 'LIST' opens a quote and does not close it where the field ends; close it, remove it, or write it twice "
        '("") where it belongs to a name.',
        ["a.png", 'c.png"'],
    ),
    (
        "path,label\n\n\n\na.png,cat\n\n\na.png,dog\nb.png,dog\n./b.png,dog\n",
        [(8,), (10,)],
        "Line 8 of 'LIST' gives 'a.png' the label 'dog', and line 5 the label 'cat'; keep the right one. "
        "'ffe scan LIST' lists 1 more.",
        ["a.png", "b.png"],
    ),
    (
        "path,label\r\nimg\\a.png,cat\r\nimg\\b.png,dog\r\nc.png,dog\r\nimg\\d.png,dog\r\n",
        [(2, 3, 5)],
        "Line 2 of 'LIST' has the path 'img\\a.png', which is no file here: Windows writes backslashes; replace them by /. "
        "So it is with lines 3 and 5.",
        ["c.png"],
    ),
    (
        "path,label\n" + "a,b.png,cat\n" * 9 + "c.png,dog\n",
        [tuple(range(2, 11))],
        "Line 2 of 'LIST' has 3 fields where the first line names 2 columns; put quotes around a name that holds a comma, "
        "and leave no column out. So it is with lines 3, 4, 5, 6, 7 and 3 more.",
        ["c.png"],
    ),
]


@pytest.mark.parametrize(("text", "lines", "sentence", "paths"), FINDINGS)
def test_lines_that_do_not_fit(tmp_path: Path, text: str, lines: list[tuple[int, ...]], sentence: str, paths: list[str]) -> None:
    """They are refused, all of a kind at once; a look takes in the others."""
    path = write_csv(tmp_path, text)
    with pytest.raises(SourceError) as error:
        scan(path)
    assert str(error.value).replace(str(path), "LIST") == sentence
    found = list_images(path)
    assert [finding.lines for finding in found.findings] == lines
    assert [record.path for record in found.records] == paths


@pytest.mark.parametrize("column", ["path", "label", "split", "group"])
def test_a_column_that_is_named_twice(tmp_path: Path, column: str) -> None:
    path = write_csv(tmp_path, f"path,label,split,group,{column}\na.png,cat,,,x\n")
    with pytest.raises(SourceError, match=rf"names the column '{column}' twice in its first line; keep one of them\.$"):
        scan(path)


def test_a_list_that_only_holds_faults_is_refused_by_a_look_too(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^Line 2 of '.*' has 3 fields where"):
        list_images(write_csv(tmp_path, "path,label\na,b.png,cat\n"))


def test_a_name_may_hold_quotes_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / 'two\nlines, "x".png').write_bytes(b"picture")
    found = scan(write_csv(tmp_path, 'path,label\n"two\nlines, ""x"".png",cat\nb.png,dog\n'))
    assert [(record.path, record.line) for record in found.records] == [("b.png", 4), ('two\nlines, "x".png', 2)]


def test_names_are_found_in_either_form(tmp_path: Path) -> None:
    """The list says NFC and the disk NFD, as after a copy from a Mac; the record is spelt as the disk spells it."""
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    (tmp_path / nfd).mkdir()
    (tmp_path / nfd / f"{nfd}.png").write_bytes(b"picture")
    path = write_csv(tmp_path, f"path,label\n{nfc}/{nfc}.png,{nfd}\nb.png,{nfc}\n")
    found = scan(path)
    assert found.class_names == (nfc,)
    assert [(record.path, record.label) for record in found.records] == [("b.png", 0), (f"{nfd}/{nfd}.png", 0)]
    with pytest.raises(SourceError, match=r"a second time, after line 2; keep one line per image\.$"):
        scan(write_csv(tmp_path, f"path,label\n{nfd}/{nfd}.png,cat\n{nfd}/{nfc}.png,cat\n"))
