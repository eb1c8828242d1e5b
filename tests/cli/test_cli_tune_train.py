"""``ffe tune`` and ``ffe train``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ffe.bundle.io import Bundle
from ffe.cli import cli


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_tune_json_is_the_whole_result(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    result = _run("tune", fake_store, "-o", model, "--heads", "logistic, svm", "--trials", 2, "--folds", 3, "--json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    value = json.loads(result.stdout)
    assert set(value) == {
        "output",
        "head",
        "parameters",
        "evaluation",
        "leaderboard",
        "rows",
        "validation",
        "seconds",
    }
    assert value["output"] == str(model)
    assert value["rows"] == {"train": 33, "valid": 0, "test": 7, "left_out": 0}
    assert value["validation"] == "3-fold cross-validation on 33 rows"
    assert set(value["evaluation"]["test"]) >= {
        "n",
        "accuracy",
        "balanced_accuracy",
        "log_loss",
        "auc",
        "confusion",
        "precision",
        "recall",
        "class_names",
    }
    board = value["leaderboard"]
    assert sorted(trial["head"] for trial in board) == ["logistic", "logistic", "svm", "svm"]
    assert [trial["score"] for trial in board] == sorted((trial["score"] for trial in board), reverse=True)
    assert set(board[0]) == {"head", "parameters", "score", "spread", "fit_seconds", "size"}
    assert (value["head"], value["parameters"]) == (board[0]["head"], board[0]["parameters"])

    manifest = Bundle(model).manifest
    assert manifest.head.name == value["head"]
    assert manifest.head.parameters == value["parameters"]
    assert list(manifest.leaderboard) == board
    assert manifest.evaluation == value["evaluation"]
    lines = [line for line in result.stderr.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_tune_text_shows_board_test_and_file(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    result = _run("tune", fake_store, "-o", model, "--heads", "logistic", "--trials", 2)
    assert result.exit_code == 0
    assert result.stdout.startswith("Validation: 5-fold cross-validation on 33 rows\n\nrank  head")
    assert "fitted on 33 training rows" in result.stdout
    assert "Test, on images not seen before: 7 images\naccuracy " in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"{model}: written in ")
    assert "[1/2]" not in result.stdout


def test_train_takes_settings(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    result = _run("train", fake_store, "-o", model, "--head", "svm", "--set", "C=3", "--set", "kernel = linear", "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["head"] == "svm"
    assert value["parameters"] == {"pooling": "avg", "scaling": "sqrt_l2", "kernel": "linear", "C": 3.0}
    assert value["leaderboard"] == []
    assert value["validation"] == "none: no search was made"
    assert Bundle(model).manifest.head.parameters == value["parameters"]


def test_train_text_has_no_board(fake_store: Path, tmp_path: Path) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", "--head", "logistic", "--test-fraction", "0.25")
    assert result.exit_code == 0
    assert result.stdout.startswith("logistic (pooling=avg scaling=sqrt_l2 C=100), fitted on 32 training rows\n")
    assert result.stderr == ""


@pytest.mark.parametrize("text", ["C", "=3", ""])
def test_a_setting_without_name_or_value_is_a_usage_error(fake_store: Path, tmp_path: Path, text: str) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", "--head", "svm", "--set", text)
    assert result.exit_code == 2
    assert f"'{text}' is not NAME=VALUE; write, for example, --set C=10." in result.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--head", "tree"), "ffe: There is no head 'tree'; choose from dense, svm, forest, logistic.\n"),
        (
            ("--head", "svm", "--set", "c=1"),
            "ffe: The head 'svm' has no parameter 'c'; it has pooling, scaling, kernel, C, gamma.\n",
        ),
        (("--head", "svm", "--set", "C=x"), "ffe: The parameter 'C' cannot be 'x'; it takes 0.001 to 1000.\n"),
    ],
)
def test_train_refuses_what_no_head_has(fake_store: Path, tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", sentence)


def test_tune_refuses_an_unknown_head_and_an_empty_list(fake_store: Path, tmp_path: Path) -> None:
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", "svm,tree")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "ffe: There is no head 'tree'; choose from dense, svm, forest, logistic.\n"
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", ",")
    assert (result.exit_code, result.stderr) == (3, "ffe: a search needs at least one head.\n")
