"""Which photos are wrong: ``ffe evaluate`` with --report, --csv and --answers, and ``ffe predict --csv``."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ffe
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.images.drawings import draw
from ffe.report.predictions_csv import Answers, check_answers


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def mixed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures, of which 15 have the other label."""
    folder = tmp_path_factory.mktemp("mixed")
    for kind, other in (("cat", "dog"), ("dog", "cat")):
        for i, file in enumerate(sorted((pictures / kind).iterdir())):
            place = folder / (other if i < (10 if kind == "cat" else 5) else kind)
            place.mkdir(exist_ok=True)
            shutil.copy(file, place / f"{kind}_{i}.png")
    return folder


def test_wrong_photos_are_named(fake_bundle: Path, mixed: Path, tmp_path: Path) -> None:
    result = run("evaluate", fake_bundle, mixed, "--csv", tmp_path / "a.csv", "--report", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "a.csv")
    assert list(rows[0]) == ["path", "label", "sure", "truth", "probability_cat", "probability_dog"]
    assert len(rows) == 40
    assert all(row["truth"] == row["path"].split("/")[0] for row in rows)
    wrong = [row for row in rows if row["label"] != row["truth"]]
    lines = result.stdout.splitlines()
    start = lines.index(f"Named wrongly: {len(wrong)} photos of 40, the surest first.")
    surest = max(wrong, key=lambda row: max(float(row["probability_cat"]), float(row["probability_dog"])))
    assert lines[start + 1].startswith("  ")
    assert f"is {surest['truth']}, called {surest['label']} (" in lines[start + 1]
    assert len(wrong) > 10
    assert lines[start + 11] == f"  and {len(wrong) - 10} more; --csv FILE lists all, --report FILE.html shows them"
    assert lines[-2:] == [f"{tmp_path / 'r.html'}: the report", f"{tmp_path / 'a.csv'}: every answer"]
    page = (tmp_path / "r.html").read_text()
    assert f"The 24 surest of {len(wrong)} mistakes." in page or f"All {len(wrong)} mistakes, the surest first." in page
    assert "data:image/jpeg;base64," in page
    assert "On these photos the calibration error is" in page
    assert "so the scores are too good" in page  # it was trained on them
    for other in ("Leaderboard", "Learning curves", "More photos?", "never saw", "validation photos"):
        assert other not in page


def test_answers_as_json(fake_bundle: Path, fake_store: Path, tmp_path: Path) -> None:
    plain = json.loads(run("evaluate", fake_bundle, fake_store, "--json").stdout)
    assert "answers" not in plain
    result = run("evaluate", fake_bundle, fake_store, "--json", "--answers", "--csv", tmp_path / "a.csv")
    record: dict[str, Any] = json.loads(result.stdout)
    answers = record.pop("answers")
    assert record == plain
    assert result.stderr.splitlines()[-1] == f"{tmp_path / 'a.csv'}: every answer"
    assert len(answers) == record["n"]
    assert sum(answer["label"] == answer["truth"] for answer in answers) / record["n"] == record["accuracy"]
    for answer, row in zip(answers, table(tmp_path / "a.csv"), strict=True):
        assert (row["path"], row["label"], row["truth"]) == (answer["path"], answer["label"], answer["truth"])
        assert float(row["probability_cat"]) == answer["probabilities"]["cat"]
    bad = run("evaluate", fake_bundle, fake_store, "--answers")
    assert bad.exit_code == 2
    assert "--answers goes with --json; --csv writes every answer into a file." in " ".join(bad.stderr.split())


def test_unseen_ones_alone(fake_bundle: Path, fake_store: Path, tmp_path: Path) -> None:
    result = ffe.evaluate(fake_bundle, fake_store, unseen=True, report=tmp_path / "r.html")
    page = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "r.html").read_text("utf-8")).split())
    assert f"left out {40 - result.evaluation.n} known from training" in page
    assert f"digest {Bundle(fake_bundle).sha256}" in page  # as 'ffe info' calls it
    assert len(result.paths) == len(result.labels) == len(result.answers()) == result.evaluation.n < 40
    assert len(result.wrong) == round((1 - result.evaluation.accuracy) * result.evaluation.n)


def test_predict_writes_the_same_table(fake_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    draw("cat", 0, (48, 48)).save(folder / "a.png")
    shutil.copy(folder / "a.png", os.fsencode(folder) + b"/\xe9.png")
    (folder / "b.png").write_text("no picture")
    result = run("predict", fake_bundle, folder, "--csv", tmp_path / "a.csv", "--json")
    said = {record["path"]: record for record in map(json.loads, result.stdout.splitlines())}
    rows = table(tmp_path / "a.csv")
    assert list(rows[0]) == ["path", "label", "sure", "error", "probability_cat", "probability_dog"]
    assert {row["path"]: row["label"] or None for row in rows} == {path: record["label"] for path, record in said.items()}
    assert os.fsencode(folder) + b"/\xe9.png" in (tmp_path / "a.csv").read_bytes()
    (bad,) = (row for row in rows if row["error"])
    assert (bad["path"], bad["label"], bad["probability_cat"]) == (str(folder / "b.png"), "", "")


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    answers = Answers(check_answers(tmp_path / "a.csv"), ("=x", "-1"), "truth")
    answers.add("=cmd.png", "=x", True, "-1", (0.25, 0.75))
    answers.add("@a\nb,c.png", "+y", False, None, ())
    answers.write()
    assert (tmp_path / "a.csv").read_bytes() == (
        b"path,label,sure,truth,probability_=x,probability_-1\n./=cmd.png,'=x,true,-1,0.25,0.75\n\"./@a\nb,c.png\",'+y,false,,,\n"
    )
    Answers(check_answers(tmp_path / "a.csv"), ("a",), "error").write()  # its own are replaced


def test_a_table_that_cannot_be_written_is_refused_first(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_text("path,label\na.png,cat\n")
    for command in ("predict", "evaluate"):
        result = run(command, fake_bundle, pictures, "--csv", tmp_path / "photos.csv")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "' exists and is no table of answers of ffe, so it is not replaced; choose another name for" in result.stderr
