"""Text for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ffe.bundle.io import Bundle
from ffe.report.text import bytes_text, evaluation_text, leaderboard_text, parameters_text, table


def test_a_table_has_equal_columns() -> None:
    text = table(("name", "n"), [("a", "1"), ("longer", "100")], right=(1,))
    assert text.splitlines() == ["name      n", "------  ---", "a         1", "longer  100"]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(("name", "n"), []).splitlines() == ["name  n", "----  -"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (812, "812 B"), (1024, "1.0 KiB"), (1_468_006, "1.4 MiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5120.0 GiB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_parameters_leave_out_switches_that_are_off() -> None:
    assert parameters_text({"kernel": "rbf", "C": 10.0, "l2": 1.23456e-4, "extra": False, "units": 8, "on": True}) == (
        "kernel=rbf C=10 l2=0.000123 units=8 on=True"
    )


def _trial(head: str, score: float, spread: float | None = 0.01) -> dict[str, Any]:
    return {
        "head": head,
        "parameters": {"C": 1.0},
        "score": score,
        "spread": spread,
        "fit_seconds": 0.5,
        "size": 2048,
    }


def test_the_leaderboard_shows_the_first_ones_and_the_best_of_every_other_head() -> None:
    trials = [_trial("svm", 0.9 - i / 100) for i in range(5)] + [_trial("forest", 0.5, None), _trial("forest", 0.4)]
    lines = leaderboard_text(trials, top=3).splitlines()
    assert [line.split()[:3] for line in lines[2:]] == [
        ["1", "svm", "0.9000"],
        ["2", "svm", "0.8900"],
        ["3", "svm", "0.8800"],
        ["6", "forest", "0.5000"],
    ]
    assert lines[0].split() == ["rank", "head", "validation", "spread", "fit", "size", "parameters"]
    assert lines[2].split()[3:] == ["0.0100", "0.50", "s", "2.0", "KiB", "C=1"]
    assert lines[5].split()[3:] == ["0.50", "s", "2.0", "KiB", "C=1"]


EVALUATION: dict[str, Any] = {
    "n": 5,
    "accuracy": 0.6,
    "balanced_accuracy": 0.58333,
    "log_loss": 0.4812,
    "auc": None,
    "confusion": [[1, 1, 0], [1, 2, 0], [0, 0, 0]],
    "precision": [0.5, 2 / 3, None],
    "recall": [0.5, 2 / 3, None],
    "class_names": ["cat", "dog", "emu"],
}


def test_scores_and_the_confusion_matrix() -> None:
    lines = evaluation_text(EVALUATION).splitlines()
    assert lines[0] == "accuracy 0.6000, balanced accuracy 0.5833, log loss 0.4812, AUC undefined, 5 images"
    assert lines[2].split() == ["true", "\\", "predicted", "cat", "dog", "emu", "precision", "recall"]
    assert [line.split() for line in lines[4:]] == [
        ["cat", "1", "1", "0", "0.500", "0.500"],
        ["dog", "1", "2", "0", "0.667", "0.667"],
        ["emu", "0", "0", "0"],
    ]
    assert "AUC 0.8333" in evaluation_text({**EVALUATION, "auc": 5 / 6})


def test_the_model_card_names_classes_backbone_head_and_scores(fake_bundle: Path) -> None:
    bundle = Bundle(fake_bundle)
    card = bundle.card()
    assert card.startswith("# Image classifier: cat, dog\n")
    assert "Backbone `fake` (UNTRAINED, random weights: for trying things out only) at 32x32 pixels" in card
    assert "head `logistic` (" in card
    assert evaluation_text(bundle.manifest.evaluation["test"]) in card
    assert "do not use it to decide about anybody" in card
