"""The pages of docs/ say what the code says: names, values, members, codes, and every package."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ffe import cli
from ffe.base import model_archive
from ffe.base.feature_layout import FeatureLayout
from ffe.bundle import manifest
from ffe.heads import HEADS
from ffe.heads.search_space import complete
from ffe.specs import ExtractSpec
from ffe.store import journal_folder, journal_records, schema

DOCS = Path(__file__).resolve().parent.parent / "docs"


def script() -> ModuleType:
    """Return ``docs/write_reference.py`` as a module."""
    spec = importlib.util.spec_from_file_location("write_reference", DOCS / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def first_cells(text: str) -> list[str]:
    """Return what stands in the first column of the tables of a page."""
    return re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)


SCRIPT = script()


@pytest.mark.parametrize("section", SCRIPT.SECTIONS)
def test_written_sections_are_those_of_the_code(section: str) -> None:
    path, text = SCRIPT.written(section)
    found = path.read_text("utf-8")
    assert f"<!-- begin {section} -->" in found
    assert f"<!-- end {section} -->" in found
    assert found.split() == text.split(), "run: python docs/write_reference.py"  # other releases of click break lines otherwise


def fields_of(kind: Any, above: str = "") -> list[str]:
    """Return the fields of a spec by their names in JSON, ``backbone.name``."""
    names = []
    for field in dataclasses.fields(kind):
        nested = field.metadata.get("spec")
        names += [above + field.name] if nested is None else fields_of(nested, f"{above}{field.name}.")
    return names


def test_feature_file_has_no_secrets() -> None:
    text = page("reference/feature-file.md")
    datasets = (schema.FEATURES, schema.DATA_LINK, *schema.TABLES, *schema.BACKBONE_PARTS)
    attributes = (*schema.ATTRIBUTES, "tables_sha256", "record")
    for name in (*(f"/{name}" for name in datasets), *attributes, *fields_of(ExtractSpec)):
        assert f"`{name}`" in text, name
    for number in schema.READABLE:
        assert f"\n| {number} | " in text, number
    assert f"\n| {schema.SCHEMA} | nothing" in text


def test_model_file_has_no_secrets() -> None:
    text = page("reference/model-file.md")
    members = [value for name, value in vars(model_archive).items() if name.isupper() and isinstance(value, str)]
    assert len(members) == 9
    for name in (*members, *(field.name for field in dataclasses.fields(manifest.Manifest))):
        assert f"`{name}`" in text, name
    for number in manifest.READABLE:
        assert f"\n| {number} | " in text, number
    assert f"\n| {manifest.SCHEMA} | nothing" in text


def test_journal_has_no_secrets() -> None:
    text = page("design/journal.md")
    files = (journal_folder.DRAFT, journal_folder.MODEL, journal_folder.LOCK)
    for name in (*files, *(field.name for field in dataclasses.fields(journal_records.Record))):
        assert f"`{name}`" in text, name
    assert f"byte {journal_records.HEAD_BYTES:,}:" in text


def test_exit_codes_are_those_of_the_command_line() -> None:
    codes = [int(cell) for cell in first_cells(page("reference/exit-codes.md")) if cell.isdecimal()]
    assert codes == sorted({0, 2, cli.DONE_BUT_SKIPPED, cli.REFUSED, cli.BROKEN, cli.INTERRUPTED})


@pytest.mark.parametrize("name", [name for name in HEADS if name != "dense"])  # its arrays are numbered
def test_arrays_of_a_head_are_named(name: str) -> None:
    from ffe.testing.head import separable_rows

    text = page("reference/heads.md").partition("## The arrays in a model file")[2]
    wanted: dict[str, Any] = {"scaling": "standard", "pca": True, "trees": 100}
    space = HEADS[name].space
    settings = {key: value for key, value in wanted.items() if key in {parameter.name for parameter in space}}
    features, labels = separable_rows(3, 12)
    head = HEADS[name](complete(space, settings, name), FeatureLayout.of_shape((2, 3, 4))).fit(features, labels, 3)
    for array in head.arrays():
        assert f"`{array}`" in text, array


def test_results_name_benchmarks_that_there_are() -> None:
    text = page("results.md")
    folder = DOCS.parent / "tests" / "benchmarks"
    named = set(re.findall(r"bench_\w+\.py", text))
    assert named == {file.name for file in folder.glob("bench_*.py")}
    for file, words in re.findall(r'(bench_\w+\.py) -k "?([\w ]+)"?', text):
        tests = re.findall(r"^def (test_\w+)", (folder / file).read_text("utf-8"), re.MULTILINE)
        for word in words.split(" or "):
            assert any(word in test for test in tests), word


BY_HAND = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *(f"docs/{path.relative_to(DOCS)}" for path in DOCS.rglob("*.md")))


@pytest.mark.parametrize("name", BY_HAND)
def test_files_and_folders_that_a_page_names_are_there(name: str) -> None:
    root = DOCS.parent
    named = re.findall(r"`((?:ffe|tests|docs|data|notebooks|\.ci)/[\w./-]*)`", (root / name).read_text("utf-8"))
    assert [path for path in named if not (root / path).exists() and "X.py" not in path] == []


def test_glossary_is_sorted() -> None:
    words = [word.casefold() for word in re.findall(r"^\| \*\*([^*]+)\*\*", page("design/glossary.md"), re.MULTILINE)]
    assert len(words) >= 50
    assert words == sorted(words)
