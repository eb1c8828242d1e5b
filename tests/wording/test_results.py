"""Text for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.text import bytes_text, share_text, shorten
from ffe.bundle.io import Bundle
from ffe.evaluation.comparison import compare
from ffe.evaluation.reject import selective_scores
from ffe.evaluation.scores import evaluate_probabilities
from ffe.evaluation.temperature import calibrate, softmax
from ffe.wording.results import (
    answered_text,
    calibration_text,
    choice_text,
    comparison_text,
    evaluation_text,
    facts_text,
    head_text,
    kept_text,
    leaderboard_text,
    never_right_text,
    parameters_text,
    table,
)


def test_a_table_has_equal_columns() -> None:
    text = table(("name", "n"), [("a", "1"), ("longer", "100")], right=(1,))
    assert text.splitlines() == ["name      n", "------  ---", "a         1", "longer  100"]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(("name", "n"), []).splitlines() == ["name  n", "----  -"]


LONG = "a/long/folder/" * 12 + "photo.jpg"


@pytest.mark.parametrize(
    ("header", "rows", "right"),
    [
        (("path", "why"), [(LONG, "it holds " + "nothing " * 30)], ()),
        (("name", "what", "against one at a time"), [("x" * 60, "y" * 60, "1.0")] * 3, (2,)),
        (("n" * 90, *("title of words",) * 8), [("a", *("1.00 (95 %)",) * 8)], range(1, 9)),
        (("a", "b"), [("", "")], ()),
    ],
)
def test_no_table_is_wider_than_100_columns(header: tuple[str, ...], rows: list[tuple[str, ...]], right: Any) -> None:
    lines = table(header, rows, right=right).splitlines()
    if "title of words" not in header:
        assert max(map(len, lines)) <= 100
    whole = "".join("".join(lines).split())
    if len(rows) == 1 and len(header) == 2:
        assert all("".join(part.split()) in _columns(lines) for part in rows[0])
    assert all(cell in whole for row in rows for i, cell in enumerate(row) if i in right and " " not in cell)


def _columns(lines: list[str]) -> list[str]:
    """Return what stands in each of two columns, without spaces."""
    edge = lines[1].index("  ") if "  " in lines[1] else len(lines[1])
    return ["".join("".join(line[part] for line in lines[2:]).split()) for part in (slice(0, edge), slice(edge, None))]


def test_the_members_of_an_ensemble_have_lines_of_their_own() -> None:
    settings = {"pooling": "avg", "scaling": "sqrt_l2", "kernel": "rbf", "C": 12.345, "gamma": 0.00123, "weights": "balanced"}
    members = [{"head": head, "parameters": settings} for head in ("svm", "logistic", "dense")]
    lines = leaderboard_text([{**_trial("ensemble", 0.9), "parameters": {"members": members}}, _trial("svm", 0.8)]).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.strip().split(" (")[0].split()[-1] for line in lines if " (" in line] == ["svm", "logistic", "dense"]
    assert [line.split()[0] for line in lines if "ensemble" in line or "0.8000" in line] == ["1", "2"]
    text = head_text("ensemble", {"members": members}).splitlines()
    assert text[0] == "ensemble of 3 heads:"
    assert [line.split(" (")[0] for line in text[1:]] == ["svm", "logistic", "dense"]
    assert head_text("svm", {"C": 1.0}) == "svm (C=1)"


def test_facts_are_broken_at_spaces_and_paths_stay_whole() -> None:
    text = facts_text([("a", "one two"), ("longer", ", ".join(["library 1.2.3"] * 20)), ("path", LONG), ("lines", "x\ny")])
    lines = text.splitlines()
    assert lines[0] == "a       one two"
    assert max(len(line) for line in lines if LONG not in line) <= 100
    assert f"path    {LONG}" in lines
    assert lines[-2:] == ["lines   x", "        y"]


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


def test_trials_that_chance_cannot_tell_apart_share_the_first_rank() -> None:
    trials = [
        {**_trial("svm", 0.89), "tied": True, "log_loss": 0.25},
        {**_trial("svm", 0.9), "tied": True, "log_loss": 0.5},
        {**_trial("svm", 0.8), "tied": False, "log_loss": None},
    ]
    header, _, *lines = leaderboard_text(trials).splitlines()
    assert header.split() == ["rank", "head", "validation", "spread", "log", "loss", "fit", "size", "parameters"]
    assert [line.split()[:5] for line in lines] == [
        ["1", "svm", "0.8900", "0.0100", "0.2500"],
        ["1=", "svm", "0.9000", "0.0100", "0.5000"],
        ["3", "svm", "0.8000", "0.0100", "0.50"],
    ]
    assert "log loss" not in leaderboard_text(trials[:1] + trials[2:])  # nothing is told apart by it


def test_what_was_chosen_and_what_scored_highest_are_told_apart() -> None:
    board = [
        {**_trial("svm", 0.89), "tied": True, "default": False},
        {**_trial("logistic", 0.9), "tied": True, "default": True},
        {**_trial("forest", 0.8), "tied": False, "default": True},
    ]
    two = "highest validation accuracy 0.9000 (logistic); 1 other is no different from that by more than chance, and of these 2 "
    assert choice_text(board) == f"{two}the one with the least log loss was chosen."
    assert choice_text([{**board[0], "default": True}, *board[1:]]) == f"{two}the one with default parameters was chosen."
    dense = {**board[0], "head": "dense", "default": True}  # whose score hangs on a seed, so that its defaults have no privilege
    assert choice_text([dense, *board[1:]]) == f"{two}the one with the least log loss was chosen."
    average = {**board[0], "head": "ensemble", "parameters": {"members": []}}
    assert choice_text([average, *board[1:]]) == f"{two}an average of several, for its log loss, was chosen."
    assert choice_text([board[1], board[2]], "balanced_accuracy") == (
        "highest validation balanced accuracy 0.9000 (logistic): the one chosen, better than all others by more than chance."
    )
    assert choice_text([{**board[0], "score": -0.25}, {**board[2], "score": -0.5}], "log_loss").startswith(
        "lowest validation log loss 0.2500 (svm): the one chosen, "
    )
    assert "; the other is no different from that by more than chance, and of these 2 the one" in choice_text(board[:2])
    assert "; the other 3 are no different from that by more than chance, and of these 4 the one" in choice_text(board[:2] * 2)
    assert choice_text(board[:1]) == ""
    assert choice_text([_trial("svm", 0.9), _trial("svm", 0.8)]) == ""  # of a model that an earlier version made


def test_classes_that_were_never_named_rightly_are_named() -> None:
    assert never_right_text(EVALUATION) == ""
    some = {**EVALUATION, "recall": [0.5, 0.0, None], "confusion": [[1, 1, 0], [3, 0, 0], [0, 0, 0]]}
    assert never_right_text(some) == "No image was named rightly of 'dog' (3 images)."
    assert never_right_text({**some, "recall": [0.0, 0.0, None]}) == (
        "No image was named rightly of 'cat' (2 images) and 'dog' (3 images)."
    )


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
    """Of an older model: without intervals."""
    lines = evaluation_text(EVALUATION).splitlines()
    assert lines[:6] == [
        "5 images",
        "accuracy           0.6000",
        "balanced accuracy  0.5833",
        "log loss           0.4812",
        "AUC                undefined",
        "",
    ]
    assert lines[6].split() == ["true", "\\", "predicted", "cat", "dog", "emu", "precision", "recall"]
    assert [line.split() for line in lines[8:]] == [
        ["cat", "1", "1", "0", "0.500", "0.500"],
        ["dog", "1", "2", "0", "0.667", "0.667"],
        ["emu", "0", "0", "0"],
    ]
    assert "AUC                0.8333\n" in evaluation_text({**EVALUATION, "auc": 5 / 6})


def test_the_model_card_names_classes_backbone_head_and_scores(fake_bundle: Path) -> None:
    bundle = Bundle(fake_bundle)
    card = bundle.card()
    assert card.startswith("# Image classifier: cat, dog\n")
    assert "Backbone `fake` (UNTRAINED, random weights: for trying things out only) at 32x32 pixels" in card
    assert "head `logistic` (" in card
    assert evaluation_text(bundle.manifest.evaluation["test"]) in card
    assert "do not use it to decide about anybody" in card


def scored(names: list[str], rows: int = 300, groups: np.ndarray | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(len(names))
    labels = rng.integers(0, len(names), rows)
    scores = rng.normal(size=(rows, len(names)))
    scores[np.arange(rows), labels] += 2.5
    found = evaluate_probabilities(softmax(scores), labels, names, groups=groups)
    return json.loads(json.dumps(found.to_json()))


def test_scores_and_shares_stand_with_their_intervals() -> None:
    value = scored(["cat", "dog"], groups=np.arange(300) // 3)
    lines = evaluation_text(value).splitlines()
    assert lines[0] == "300 images in 100 groups"
    low, high = value["intervals"]["accuracy"]
    assert lines[1] == f"accuracy           {value['accuracy']:.4f} (95 %: {low:.4f} to {high:.4f})"
    assert lines[5] == f"calibration error  {value['expected_calibration_error']:.4f}"
    low, high = value["recall_intervals"][1]
    assert lines[-1].endswith(f"{value['recall'][1]:.3f} ({low:.2f}-{high:.2f})")


def test_long_names_stand_beside_their_numbers() -> None:
    names = [f"a rather long name {i}" for i in range(6)]
    text = evaluation_text(scored(names))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[7].split()[:9] == ["true", "\\", "predicted", "1", "2", "3", "4", "5", "6"]
    assert lines[9].startswith("1 a rather long name 0  ")


@pytest.mark.parametrize("classes", [2, 5, 10, 40])
def test_any_number_of_classes_fits_into_a_hundred_columns(classes: int) -> None:
    names = [f"class{i}" for i in range(classes)]
    text = evaluation_text(scored(names, 50 * classes))
    assert max(map(len, text.splitlines())) <= 100
    assert ("true \\ predicted" in text) == (classes < 40)


def test_many_classes_are_shown_by_the_worst_and_the_most_confused() -> None:
    names = [f"class{i}" for i in range(40)]
    value = scored(names, 2000)
    lines = evaluation_text(value).splitlines()
    assert lines[7] == "The 10 classes of 40 that are found least often (the whole matrix: --json):"
    worst = int(np.argmin(value["recall"]))
    assert lines[11].split()[:2] == [names[worst], str(sum(value["confusion"][worst]))]
    confusion = np.asarray(value["confusion"])
    np.fill_diagonal(confusion, 0)
    assert lines[22] == "The most frequent confusions:"
    true, guessed, count = lines[26].split()
    assert int(count) == confusion.max() == confusion[names.index(true), names.index(guessed)]
    assert len(lines) == 36


def test_no_confusion_at_all_is_said() -> None:
    names = [f"class{i}" for i in range(40)]
    found = evaluate_probabilities(np.eye(40), np.arange(40), names)
    assert evaluation_text(found.to_json()).endswith("\n\nNo image was taken for another class.")


@pytest.mark.parametrize(
    ("share", "text"), [(0.9786, "97.9 %"), (1, "100 %"), (0.9999, ">99.9 %"), (0.0001, "<0.1 %"), (0.0, "0 %"), (0.5, "50.0 %")]
)
def test_hundred_percent_stands_only_for_all(share: float, text: str) -> None:
    assert share_text(share) == text


def test_long_names_are_shortened_in_their_middle() -> None:
    assert shorten("short") == "short"
    assert shorten("a" * 30 + "b" * 30) == "a" * 14 + "..." + "b" * 13


def test_the_reject_option_in_one_sentence() -> None:
    probabilities, labels = np.asarray([[0.95, 0.05]] * 9 + [[0.6, 0.4]]), np.zeros(10, np.int64)
    assert answered_text(selective_scores(probabilities, labels, 0.9).to_json()) == (
        "'Not sure' below 0.9: 90.0 % of the images are answered (9), 100 % of those right (95 %: 70.1 % to 100 %)."
    )
    assert (
        answered_text(selective_scores(probabilities, labels, 0.96).to_json()) == "'Not sure' below 0.96: no image is answered."
    )


def test_calibration_in_one_line() -> None:
    value = {**calibrate(np.full((3, 2), 0.5), np.zeros(3, np.int64)).to_json(), "error_before": 0.031, "error_after": 0.012}
    assert calibration_text({**value, "temperature": 0.59}) == (
        "calibration error 0.031 -> 0.012, by scaling that lowers the model's confidence"
    )
    assert calibration_text({**value, "temperature": 1.7}).endswith("by scaling that raises the model's confidence")
    assert calibration_text(value) == "calibration error 0.031; kept as they are, no scaling makes them better"


def test_which_weights_are_kept() -> None:
    assert kept_text({"stage": 1, "epoch": 0}, 12) == (
        "The weights from before the first epoch are kept (*): "
        "no epoch had less validation loss, on 12 images, so nothing was learnt."
    )
    assert kept_text({"stage": 2, "epoch": 3}, 12).startswith("The weights of stage 2, epoch 3 are kept (*): ")


@pytest.mark.parametrize(
    ("real", "interval", "p_value", "verdict"),
    [
        (True, (0.01, 0.09), 0.001, "svm is better than forest: "),
        (False, (0.01, 0.09), 0.08, "svm may be better than forest, more photos would tell: "),
        (False, (-0.01, 0.11), 0.04, "svm may be better than forest, more photos would tell: "),
        (False, (-0.01, 0.11), 0.08, "no real difference between svm and forest: "),
    ],
)
def test_no_difference_is_said_only_where_interval_and_test_agree(
    real: bool, interval: tuple[float, float], p_value: float, verdict: str
) -> None:
    found = {"accuracy_a": 0.95, "accuracy_b": 0.9, "n": 100, "difference": 0.05}
    found |= {"real": real, "interval": interval, "p_value": p_value}
    assert comparison_text(found, "svm", "forest").startswith(verdict)
    other = found | {"accuracy_a": 0.9, "accuracy_b": 0.95, "difference": -0.05, "interval": (-interval[1], -interval[0])}
    assert comparison_text(other, "forest", "svm") == comparison_text(found, "svm", "forest")


def test_a_comparison_names_the_better_first_and_says_where_there_is_no_difference() -> None:
    labels = np.zeros(200, np.int64)
    right, worse, same = (np.where(np.arange(200)[:, None] < wrong, [0.2, 0.8], [0.8, 0.2]) for wrong in (2, 30, 3))
    assert comparison_text(compare(worse, right, labels).to_json(), "svm", "logistic").startswith(
        "logistic is better than svm: 99.0 % and 85.0 % of the same 200 images right, 14.0 points apart (95 %: "
    )
    text = comparison_text(compare(right, same, labels).to_json(), "svm", "logistic")
    assert text.startswith("no real difference between svm and logistic: 99.0 % and 98.5 % of the same 200 images right, ")
    assert text.endswith("; p = 1)")
