"""``ffe tune`` and ``ffe train``."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from feature_files import seal

from ffe.base.feature_layout import FeatureLayout
from ffe.bundle.io import Bundle
from ffe.cli import COMMANDS, cli
from ffe.cli.progress import TrialsProgress
from ffe.cli.training import EpochProgress
from ffe.errors import DataError
from ffe.evaluation.temperature import with_temperature
from ffe.images.drawings import draw_folder
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore
from ffe.tuning.search import SearchProgress
from ffe.tuning.trial import Trial
from ffe.wording.results import METRIC_NAMES, choice_text


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_search_with_a_report_opens_each_feature_file_once(
    fake_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Counted(h5py.File):  # type: ignore[misc]
        def __init__(self, name: object, *arguments: object, **options: object) -> None:
            opened.append(str(name))
            super().__init__(name, *arguments, **options)

    draw_folder(tmp_path / "others", 3, (64, 64))
    assert _run("extract", tmp_path / "others", "-o", tmp_path / "test.h5", "--backbone", "fake").exit_code == 0
    monkeypatch.setattr("h5py.File", Counted)
    options = ("--heads", "logistic", "--trials", 2, "--report", tmp_path / "r.html", "--test", tmp_path / "test.h5")
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", *options)
    assert result.exit_code == 0, result.output
    assert opened == [str(fake_store), str(tmp_path / "test.h5")]


def test_tune_json_is_the_whole_result(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    result = _run("tune", fake_store, "-o", model, "--heads", "logistic, svm", "--trials", 2, "--folds", 3, "--json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    value = json.loads(result.stdout)
    assert set(value) == {
        "output",
        "head",
        "features",
        "parameters",
        "evaluation",
        "calibration",
        "rivals",
        "comparison",
        "leak",
        "answered",
        "approximations",
        "class_weights",
        "leaderboard",
        "rows",
        "views",
        "validation",
        "metric",
        "known",
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
    tied = [trial["tied"] for trial in board]
    assert tied == sorted(tied, reverse=True)
    assert all((trial["log_loss"] is not None) == trial["tied"] for trial in board)
    assert sum(trial["default"] for trial in board) == 2
    assert set(board[0]) == {
        "head",
        "parameters",
        "score",
        "spread",
        "fit_seconds",
        "size",
        "finished",
        "default",
        "tied",
        "log_loss",
    }
    assert value["rivals"] == list(dict.fromkeys(trial["head"] for trial in board))
    assert value["comparison"]["n"] == value["calibration"]["rows"] == 33
    assert (value["leak"], value["answered"], value["class_weights"], value["known"]) == (None, None, None, 0)
    assert (value["head"], value["parameters"]) == (board[0]["head"], board[0]["parameters"])

    manifest = Bundle(model).manifest
    assert manifest.head.name == value["head"]
    assert manifest.head.parameters == value["parameters"]
    assert list(manifest.leaderboard) == board
    assert manifest.evaluation == value["evaluation"]
    cost, line = result.stderr.splitlines()
    assert re.fullmatch(
        r"searching logistic, svm: 4 trials, each fitted 3 times on about 22 rows; "
        r"the search takes about \d+ s and \d+\.\d MiB of memory",
        cost,
    )
    highest = max(board, key=lambda trial: (trial["score"], -trial["size"]))
    assert line == f"4 trials, highest validation accuracy {highest['score']:.4f} ({highest['head']})"
    assert list(tmp_path.iterdir()) == [model]


def test_tune_prints_the_winner_its_score_and_the_next_command(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "my m.ffe"
    result = _run("tune", fake_store, "-o", model, "--heads", "logistic,svm", "--trials", 2)
    assert result.exit_code == 0
    manifest = Bundle(model).manifest
    best, test = manifest.leaderboard[0], manifest.evaluation["test"]
    low, high = test["intervals"]["accuracy"]
    head, parameters, choice, score, written, following = result.stdout.splitlines()
    assert head == (
        f"{best['head']}: chosen of 4 trials, validation accuracy {best['score']:.4f} (5-fold cross-validation on 33 rows)"
    )
    assert choice == f"  {choice_text(manifest.leaderboard)}"
    assert choice.startswith("  highest validation accuracy ")
    assert parameters.startswith("  pooling=")
    assert score == (
        f"Test on 7 images not seen before: accuracy {test['accuracy']:.4f} (95 %: {low:.4f} to {high:.4f}); so few tell little"
    )
    assert re.fullmatch(
        rf"{re.escape(str(model))}: written in \d+ s; 'ffe info '{re.escape(str(model))}'' shows all scores and trials", written
    )
    assert following == f"Next: ffe predict '{model}' PHOTO"
    text = _run("info", model).stdout  # all the rest
    assert (
        "\n4 trials (--json has all). Spread: deviation over the folds; fit: one fit; size: the head alone. "
        "1: the one chosen; 1=: no different by more than chance from what scored highest, the least log loss first.\n"
    ) in text
    assert "\nanswers      calibration error " in text
    assert "\nFirst two heads: no real difference between " in text
    assert f"\nValidation: 5-fold cross-validation on 33 rows; {choice.strip()}\n" in text
    assert "\nTogether: " not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("tune", "FEATURES", "-o", "m.ffe", "--heads", "logistic", "--trials", 2),
        ("extract", "PHOTOS", "-o", "f.h5", "--backbone", "fake"),
        ("scan", "PHOTOS", "--report", "s.html"),
        ("verify", "FEATURES"),
    ],
)
def test_quiet_prints_results_alone(
    fake_store: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...]
) -> None:
    """And the next command in the same process is as talkative as ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ffe.cli.progress.PLAIN_SECONDS", 0.0)
    command = [{"FEATURES": fake_store, "PHOTOS": pictures}.get(word, word) for word in arguments]
    loud = _run(*command)
    assert (loud.exit_code, loud.stderr != "") == (0, True)
    for file in tmp_path.iterdir():
        file.unlink()
    quiet = _run(*command, "--quiet")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    results = [line for line in loud.stdout.splitlines() if not line.startswith("Next:")]  # which is advice
    assert len(quiet.stdout.splitlines()) == len(results)
    assert _run(*command).stderr != "" or arguments[0] == "extract"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_quiet(name: str) -> None:
    assert "--quiet" in _run(name, "--help").stdout


def test_train_takes_settings(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    result = _run("train", fake_store, "-o", model, "--head", "svm", "--set", "C=3", "--set", "kernel = linear", "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["head"] == "svm"
    assert value["parameters"] == {"pooling": "avg", "scaling": "sqrt_l2", "pca": False, "kernel": "linear", "C": 3.0}
    (trial,) = value["leaderboard"]
    assert (trial["head"], trial["parameters"]) == ("svm", value["parameters"])
    assert (value["rivals"], value["comparison"]) == ([], None)
    assert value["validation"] == "5-fold cross-validation on 33 rows"
    assert Bundle(model).manifest.head.parameters == value["parameters"]


def test_train_scores_its_head_once(fake_store: Path, tmp_path: Path) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", "--head", "logistic", "--test-fraction", "0.25")
    assert result.exit_code == 0
    assert re.match(r"logistic: validation accuracy 0\.\d{4} \(5-fold cross-validation on 32 rows\)\n", result.stdout)
    assert "\n  pooling=avg scaling=sqrt_l2 C=100\n" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("text", ["C", "=3", ""])
def test_a_setting_without_name_or_value_is_a_usage_error(fake_store: Path, tmp_path: Path, text: str) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", "--head", "svm", "--set", text)
    assert result.exit_code == 2
    assert f"'{text}' is not NAME=VALUE; write, for example, --set C=10." in result.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--head", "svm", "--set", "c=1"),
            "ffe: The head 'svm' has no parameter 'c'; it has pooling, scaling, pca, components, kernel, C, gamma. "
            "Did you mean 'C'?\n",
        ),
        (("--head", "svm", "--set", "C=x"), "ffe: The parameter 'C' cannot be 'x'; it takes 0.001 to 1000.\n"),
    ],
)
def test_train_refuses_what_no_head_has(fake_store: Path, tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", sentence)


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        ("train", ("--head", "tree"), "There is no head 'tree'; choose from svm, logistic, dense, forest."),
        ("tune", ("--heads", "svm,tree"), "There is no head 'tree'; choose from svm, logistic, dense, forest."),
        *(
            (command, options, "An ensemble is made of the heads that a search found; ask for one with 'ffe tune --ensemble 3'.")
            for command, options in (("train", ("--head", "ensemble")), ("tune", ("--heads", "svm,ensemble")))
        ),
    ],
)
def test_an_unknown_head_is_a_usage_error(
    fake_store: Path, tmp_path: Path, command: str, options: tuple[str, str], sentence: str
) -> None:
    result = _run(command, fake_store, "-o", tmp_path / "m.ffe", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Usage: cli {command} ")
    assert result.stderr.endswith(f"Error: Invalid value for '{options[0]}': {sentence}\n")


def test_tune_refuses_an_empty_list(fake_store: Path, tmp_path: Path) -> None:
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", ",")
    assert (result.exit_code, result.stderr) == (
        3,
        "ffe: a search needs at least one head; name some with --heads, or leave that out for all.\n",
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``ffe tune`` asks of the library, which then stops."""
    options: dict[str, Any] = {}

    def tune(*arguments: Any, **given: Any) -> None:
        options.update(given)
        raise DataError("enough")

    monkeypatch.setattr("ffe.commands.tune.tune", tune)
    return options


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("90", 90), ("5m", 300), ("2min", 120), ("1h", 3600), ("1.5h", 5400), (" 2 m", 120)]
)
def test_a_budget_is_a_time(asked: dict[str, Any], text: str, seconds: float) -> None:
    assert _run("tune", "f.h5", "-o", "m.ffe", "--budget", text).stderr == "ffe: enough\n"
    assert asked["budget"] == seconds


@pytest.mark.parametrize("text", ["nonsense", "0s", "-5m", "5 days", "", "s", "nan", "inf", "1e9h", "5mm"])
def test_a_budget_that_is_no_time_is_a_usage_error(asked: dict[str, Any], text: str) -> None:
    result = _run("tune", "f.h5", "-o", "m.ffe", f"--budget={text}")
    assert (result.exit_code, result.stdout, asked) == (2, "", {})
    assert f"'{text}' is no time; write, for example, --budget 60s, 5m or 1h." in result.stderr


def test_a_search_by_time_says_so_and_makes_one_trial_at_least(fake_store: Path, tmp_path: Path) -> None:
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", "logistic", "--budget", "0.001s", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "searching logistic: as many trials as fit, each fitted 5 times on about 26 rows; the search takes about 1 s"
    )
    assert len(json.loads(result.stdout)["leaderboard"]) == 1
    assert Bundle(tmp_path / "m.ffe").manifest.search["seconds"] == 0.001


def test_a_search_by_time_and_trials_says_how_many_there_are_at_the_most(fake_store: Path, tmp_path: Path) -> None:
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", "svm,logistic", "--trials", 2, "--budget", "5m")
    assert result.exit_code == 0
    assert result.stderr.startswith("searching svm, logistic: up to 4 trials, each fitted 5 times on about 26 rows; the search ")
    assert "the search takes about 5 min" not in result.stderr
    assert "\n4 trials, " in result.stderr  # in the end, whenever the line before it was shown


def test_what_is_set_is_not_searched(fake_store: Path, tmp_path: Path) -> None:
    """In every head that has it, and wherever it exists."""
    settings = ("--set", "scaling=l2", "--set", "gamma = 3", "--set", "pca=false")
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", "svm,logistic", "--trials", 20, *settings, "--json")
    assert result.exit_code == 0
    found = [trial["parameters"] for trial in json.loads(result.stdout)["leaderboard"]]
    assert len(found) == 40
    assert {parameters["scaling"] for parameters in found} == {"l2"}
    assert {parameters["pca"] for parameters in found} == {False}
    assert {parameters["gamma"] for parameters in found if parameters.get("kernel") == "rbf"} == {3.0}
    assert {parameters.get("kernel") for parameters in found} == {None, "rbf", "linear"}
    assert len({parameters["C"] for parameters in found}) > 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ("depth=3",),
            "None of the heads has a parameter 'depth': svm has pooling, scaling, pca, components, kernel, C, gamma; "
            "forest has pooling, trees, max_features, min_samples_leaf.",
        ),
        (("C=many",), "The parameter 'C' cannot be 'many'; it takes 0.001 to 1000."),
        (("C=0",), "The parameter 'C' cannot be '0'; it takes 0.001 to 1000."),
        (
            ("pooling=sum",),
            "The parameter 'pooling' cannot be 'sum'; it takes flat, avg, max, avgmax, gem, cls, mean or cls+mean.",
        ),
        (("trees=150",), "The parameter 'trees' cannot be '150'; it takes 100, 200 or 400."),
        (
            ("components=64",),
            "The parameter 'components' of the head 'svm' exists only where 'pca' is True; set that too, "
            "or leave 'components' out.",
        ),
    ],
)
def test_a_setting_that_fits_no_head_is_refused_at_once(tmp_path: Path, settings: tuple[str, ...], sentence: str) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    result = _run("tune", tmp_path / "never-read.h5", "-o", tmp_path / "m.ffe", "--heads", "svm,forest", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"ffe: {sentence}\n")


def test_the_oracle_is_kept_and_decides(fake_store: Path, tmp_path: Path) -> None:
    tried = {}
    for oracle in ("bayesian", "random"):
        model = tmp_path / f"{oracle}.ffe"
        result = _run("tune", fake_store, "-o", model, "--heads", "logistic", "--trials", 60, "--oracle", oracle, "--json")
        assert result.exit_code == 0
        tried[oracle] = [trial["parameters"] for trial in json.loads(result.stdout)["leaderboard"]]
        assert len(tried[oracle]) == 60
        assert Bundle(model).manifest.search["oracle"] == oracle
    assert tried["bayesian"] != tried["random"]
    assert "'grid' is not one of" in _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--oracle", "grid").stderr


def test_hyperband_takes_the_trials_that_it_needs(fake_store: Path, tmp_path: Path) -> None:
    """From a few epochs to all of them, for dense heads; the others are searched as ever."""
    options = ("--heads", "dense,logistic", "--oracle", "hyperband", "--epochs", 4, "--json")
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", *options)
    assert result.exit_code == 0
    board = json.loads(result.stdout)["leaderboard"]
    assert result.stderr.startswith(f"searching dense, logistic: {len(board)} trials, each fitted 5 times")
    epochs = [trial["parameters"]["epochs"] for trial in board if trial["head"] == "dense"]
    assert len(epochs) >= 8
    assert max(epochs) > 2
    assert any(trial["head"] == "logistic" for trial in board)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
def test_another_metric_ranks_and_is_named(fake_store: Path, tmp_path: Path, metric: str) -> None:
    model = tmp_path / "m.ffe"
    result = _run("tune", fake_store, "-o", model, "--heads", "svm,logistic", "--trials", 3, "--metric", metric)
    assert result.exit_code == 0
    text = _run("info", model).stdout
    header, _, board = text[text.index("rank  head") :].split("\n6 trials")[0].partition("\n----")
    rows = [line for line in board.splitlines() if line[:4].strip().rstrip("=").isdigit()]
    assert len(rows) == 6
    assert all(word in header for word in metric.split("_"))
    shown = [float(row.split()[2]) for row in rows[:6]]
    assert min(shown) > 0
    tied = 1 + sum(row.split()[0] == "1=" for row in rows)
    assert [row.split()[0] for row in rows] == ["1", *["1="] * (tied - 1), *map(str, range(tied + 1, 7))]
    best = sorted(shown, reverse=metric != "log_loss")
    highest = max(Bundle(model).manifest.leaderboard, key=lambda trial: (trial["score"], -trial["size"]))["head"]
    assert shown[tied:] == best[tied:]  # those that chance cannot explain follow by score
    assert f"validation {metric.replace('_', ' ')} {shown[0]:.4f}" in result.stdout
    assert result.stderr.splitlines()[-1].endswith(f"validation {metric.replace('_', ' ')} {best[0]:.4f} ({highest})")
    assert Bundle(model).manifest.search["metric"] == metric
    assert Bundle(model).manifest.leaderboard[0]["score"] == pytest.approx(
        (-1 if metric == "log_loss" else 1) * shown[0], abs=1e-4
    )


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature file of 40 cats and 8 dogs."""
    folder = tmp_path_factory.mktemp("uneven")
    draw_folder(folder / "photos", 40, (48, 48))
    for file in sorted((folder / "photos" / "dog").iterdir())[8:]:
        file.unlink()
    assert _run("extract", folder / "photos", "-o", folder / "f.h5", "--backbone", "fake").exit_code == 0
    return folder / "f.h5"


AIMED = "so the search aims at balanced accuracy, in which every class counts alike (--metric accuracy: every photo)\n"
RARE = "the class 'dog' is rare, so classes are weighted to count the same (--class-weights none: as they are)\n"


@pytest.mark.parametrize(("choice", "weighted"), [("auto", True), ("balanced", True), ("none", False)])
def test_rare_classes_are_weighted_and_that_is_said(uneven: Path, tmp_path: Path, choice: str, weighted: bool) -> None:
    model = tmp_path / "m.ffe"
    result = _run("train", uneven, "-o", model, "--head", "logistic", "--class-weights", choice, "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert (RARE in result.stderr) == (choice == "auto")
    assert (value["class_weights"] is not None) == weighted
    if weighted:
        counts = [sum(split == "train" for split in _splits(model, name)) for name in ("cat", "dog")]
        np.testing.assert_allclose(value["class_weights"], [sum(counts) / 2 / count for count in counts])
    assert Bundle(model).manifest.search["class_weights"] == choice


@pytest.mark.parametrize(("options", "metric"), [((), "balanced_accuracy"), (("--metric", "accuracy"), "accuracy")])
def test_where_classes_are_weighted_the_search_aims_at_balanced_accuracy(
    uneven: Path, tmp_path: Path, options: tuple[str, ...], metric: str
) -> None:
    model, page = tmp_path / "m.ffe", tmp_path / "r.html"
    result = _run("tune", uneven, "-o", model, "--heads", "logistic", "--trials", 2, "--report", page, *options)
    assert result.exit_code == 0
    assert (RARE + AIMED in result.stderr) == (metric == "balanced_accuracy")
    manifest = Bundle(model).manifest
    assert manifest.search["metric"] == metric
    test, name = manifest.evaluation["test"], METRIC_NAMES[metric]
    assert re.search(rf"^Test on \d+ images not seen before: {name} {test[metric]:.4f} ", result.stdout, re.M)
    assert f"validation {name} {manifest.leaderboard[0]['score']:.4f}" in result.stdout
    leads = "of the test photos of a class, on average over the classes, named rightly"
    assert (leads in page.read_text("utf-8")) == (metric == "balanced_accuracy")


def test_even_classes_are_aimed_at_by_accuracy(fake_store: Path, tmp_path: Path) -> None:
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--heads", "logistic", "--trials", 1, "--json")
    assert json.loads(result.stdout)["metric"] == "accuracy"
    assert AIMED not in result.stderr


def _splits(model: Path, name: str) -> list[str]:
    return [row.split for row in Bundle(model).splits() if row.path.startswith(name)]


def test_even_classes_are_not_weighted(fake_store: Path, tmp_path: Path) -> None:
    result = _run("train", fake_store, "-o", tmp_path / "m.ffe", "--head", "logistic", "--class-weights", "auto", "--json")
    assert json.loads(result.stdout)["class_weights"] is None
    assert result.stderr == ""


def _noisy(folder: Path) -> Path:
    """Write features on which an average of two heads wins."""
    from ffe.backbones.resolve import make_spec
    from ffe.base.digests import bytes_digest
    from ffe.store.schema import Row
    from ffe.store.writer import write_store

    def features(row: Row) -> np.ndarray:
        number = int(row.path[:4])
        values = np.random.default_rng([1, number]).uniform(0, 1, (4, 4, 3))
        values[:, :, number % 2] += 0.1
        return values.reshape(-1).astype(np.float32)

    rows = [Row(f"{i:04d}.png", bytes_digest(b"%d" % i), i % 2, "") for i in range(80)]
    spec = make_spec("fake")[0]
    write_store(
        folder / "f.h5",
        spec=spec,
        layout=FeatureLayout.of_shape((4, 4, 3)),
        class_names=("cat", "dog"),
        rows=rows,
        features=features,
    )
    return folder / "f.h5"


def test_an_ensemble_that_wins_is_the_model(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.tuning.choosing._CHANCE", 1.0)  # so few rows would rather keep the defaults
    model = tmp_path / "m.ffe"
    options = ("--heads", "svm,logistic", "--trials", 4, "--ensemble", 3, "--seed", 0)
    result = _run("tune", _noisy(tmp_path), "-o", model, *options, "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["head"] == "ensemble"
    assert value["leaderboard"][0]["log_loss"] < value["leaderboard"][1]["log_loss"]
    assert 2 <= len(value["parameters"]["members"]) <= 3
    assert value["rivals"][0] == "ensemble"
    head, predictor = Bundle(model).head(), Predictor(model, batch_size=8)
    with FeatureStore(tmp_path / "f.h5") as store:
        features, labels = store.features(), store.labels
        tested = [i for i, path in enumerate(store.paths) if _split_of(model)[path] == "test"]
    probabilities = predictor.probabilities(features)
    np.testing.assert_array_equal(
        probabilities, with_temperature(head.predict_proba(features), Bundle(model).manifest.temperature)
    )
    right = probabilities[tested].argmax(axis=1) == labels[tested]
    assert right.mean() == pytest.approx(value["evaluation"]["test"]["accuracy"])
    images = sorted(pictures.glob("*/*.png"))[:5]
    np.testing.assert_allclose(
        [list(answer.probabilities.values()) for answer in predictor.predict(images)],
        predictor.probabilities(predictor.features(images)),
        atol=1e-12,
    )
    text = _run("info", model).stdout
    assert re.match(r"head         ensemble of [23] heads:\n {13}(logistic|svm) \(pooling=.*\)\n {13}(logistic|svm) \(", text)


def _split_of(model: Path) -> dict[str, str]:
    return {row.path: row.split for row in Bundle(model).splits()}


def test_an_ensemble_that_does_not_win_is_left_alone(fake_store: Path, tmp_path: Path) -> None:
    options = ("--heads", "svm,logistic", "--trials", 4, "--ensemble", 3, "--json")
    value = json.loads(_run("tune", fake_store, "-o", tmp_path / "m.ffe", *options).stdout)
    assert "ensemble" not in {trial["head"] for trial in value["leaderboard"]}


def test_a_model_tuned_to_reject_says_that_it_is_not_sure(fake_store: Path, pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    train = ("--heads", "logistic", "--trials", 1)
    assert _run("tune", fake_store, "-o", model, *train).exit_code == 0
    images = sorted(pictures.glob("*/*.png"))
    middle = round(float(np.median([max(answer.probabilities.values()) for answer in Predictor(model).predict(images)])), 3)
    options = (*train, "--reject", middle, "--overwrite")
    result = _run("tune", fake_store, "-o", model, *options)
    assert result.exit_code == 0
    assert f"\n'Not sure' below {middle:g}: " in result.stdout
    assert json.loads(_run("tune", fake_store, "-o", model, *options, "--json").stdout)["answered"]["threshold"] == middle
    lines = _run("predict", model, pictures).stdout.splitlines()
    answers = list(Predictor(model).predict(images))
    assert {answer.sure for answer in answers} == {True, False}
    for line, answer in zip(lines, answers, strict=True):
        assert (": not sure (" in line) == (max(answer.probabilities.values()) < middle) == (not answer.sure)
    assert f"\n'Not sure' below {middle:g}: " in _run("evaluate", model, fake_store).stdout
    assert f"\nnot sure     below {100 * middle:.1f} %\n" in _run("info", model).stdout


def test_reject_out_of_range_is_a_usage_error(tmp_path: Path) -> None:
    result = _run("tune", "f.h5", "-o", tmp_path / "m.ffe", "--reject", "1")
    assert result.exit_code == 2
    assert "--reject" in result.stderr


def test_the_report_names_what_was_tuned(fake_store: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    options = ("--heads", "dense,logistic", "--trials", 2, "--epochs", 3, "--report", report)
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", *options)
    assert result.exit_code == 0
    assert f"\n{report}: the report, with all scores and the mistakes\n" in result.stdout
    html = report.read_text("utf-8")
    assert "<title>cat or dog</title>" in html
    for part in (
        "Leaderboard",
        "The first dense head of the leaderboard, epoch by epoch",
        "Would more photos help?",
        "fake at 32x32",
        "dense, logistic",
    ):
        assert part in html
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.ffe", "r.html"]


def test_the_report_of_one_head(fake_store: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    assert _run("train", fake_store, "-o", tmp_path / "m.ffe", "--head", "svm", "--report", report).exit_code == 0
    html = report.read_text("utf-8")
    assert "The head and its parameters were given, and scored once on validation rows." in html
    assert "No dense head was trained, so there are no learning curves." in html


def test_a_report_that_cannot_be_written_is_refused_before_the_search(fake_store: Path, tmp_path: Path) -> None:
    report = tmp_path / "none" / "r.html"
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--report", report)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"ffe: The report '{report}' lies in a folder that does not exist ('{report.parent}'); "
        "create it, or choose another place.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_groups_of_a_csv_stay_on_one_side(pictures: Path, tmp_path: Path) -> None:
    lines = [
        f"{pictures / kind / f'{kind}_{i:03d}.png'},{kind},burst {kind} {i // 4}" for kind in ("cat", "dog") for i in range(20)
    ]
    (tmp_path / "list.csv").write_text("path,label,group\n" + "\n".join(lines) + "\n")
    assert _run("extract", tmp_path / "list.csv", "-o", tmp_path / "f.h5", "--backbone", "fake").exit_code == 0
    model = tmp_path / "m.ffe"
    result = _run("tune", tmp_path / "f.h5", "-o", model, "--heads", "logistic", "--trials", 1, "--folds", 3, "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    leak = value["leak"]
    assert (leak["groups"], leak["images"], leak["links"]["named"]) == (10, 40, 30)
    split_of = _split_of(model)
    sides = {line.rsplit(",", 1)[1]: set() for line in lines}
    for line in lines:
        path, _, group = line.split(",")
        sides[group].add(next(split for name, split in split_of.items() if name.endswith(Path(path).name)))
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "test"}
    assert value["evaluation"]["test"]["groups"] == sum(found == {"test"} for found in sides.values())


def test_probabilities_are_calibrated_in_the_file_and_in_answers(fake_store: Path, pictures: Path, tmp_path: Path) -> None:
    """What the summary scores, what the file holds and what predict answers are the same numbers."""
    model = tmp_path / "m.ffe"
    result = _run("tune", fake_store, "-o", model, "--heads", "logistic", "--trials", 4, "--json")
    value, bundle = json.loads(result.stdout), Bundle(model)
    assert bundle.manifest.calibration == value["calibration"]
    assert bundle.manifest.temperature == value["calibration"]["temperature"] != 1
    with FeatureStore(fake_store) as store:
        paths, labels = store.paths, store.labels
        expected = with_temperature(bundle.head().predict_proba(store.features()), bundle.manifest.temperature)
    answers = [list(a.probabilities.values()) for a in Predictor(model).predict(pictures / path for path in paths)]
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    tested = [i for i, path in enumerate(paths) if _split_of(model)[path] == "test"]
    loss = -np.log(expected[tested, labels[tested]]).mean()
    assert loss == pytest.approx(value["evaluation"]["test"]["log_loss"], abs=1e-6)


def test_a_dense_head_travels_as_a_keras_model_too(pictures: Path, tmp_path: Path) -> None:
    """Beside the backbone; other programs load it without ffe."""
    import keras

    features, model = tmp_path / "f.h5", tmp_path / "m.ffe"
    options = ("--backbone", "mobilenet_0.25", "--size", "32", "--weights", "random")
    assert _run("extract", pictures, "-o", features, *options).exit_code == 0
    result = _run("train", features, "-o", model, "--head", "dense", "--set", "epochs=3", "--weights", "random")
    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(model) as archive:
        archive.extract("head.keras", tmp_path)
    loaded = keras.models.load_model(tmp_path / "head.keras", safe_mode=True)
    with FeatureStore(features) as store:
        stored = store.features()
    np.testing.assert_allclose(loaded.predict(stored, verbose=0), Bundle(model).head().predict_proba(stored), atol=1e-5)
    result = _run("train", features, "-o", model, "--head", "svm", "--weights", "random", "--overwrite")
    assert "head.keras" not in zipfile.ZipFile(model).namelist()


def _damaged(store: Path, folder: Path, change: Callable[[np.ndarray], None]) -> Path:
    path = folder / "f.h5"
    shutil.copy(store, path)
    with h5py.File(path, "r+") as file:
        features = file["features"][()]
        change(features)
        file["features"][...] = features
        seal(file)
    return path


def _nan(features: np.ndarray) -> None:
    features[3, 7] = np.nan


def _infinite(features: np.ndarray) -> None:
    features[3, 7] = -np.inf


def _constant(features: np.ndarray) -> None:
    features[...] = 0.5


@pytest.mark.parametrize("command", [("tune",), ("train", "--head", "svm")], ids=lambda command: command[0])
@pytest.mark.parametrize("change", [_nan, _infinite, _constant], ids=lambda change: change.__name__.strip("_"))
def test_features_that_nothing_can_be_learnt_from(
    fake_store: Path, tmp_path: Path, change: Callable[[np.ndarray], None], command: tuple[str, ...]
) -> None:
    features = _damaged(fake_store, tmp_path, change)
    with FeatureStore(fake_store) as store:
        third = store.paths[3]
    name, *options = command
    result = _run(name, features, "-o", tmp_path / "m.ffe", *options)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"ffe: All 40 rows of '{features}' hold the same features, so nothing can be learnt from them; "
        "check that the images differ, and make the features again with 'ffe extract --overwrite'.\n"
        if change is _constant
        else f"ffe: The features of '{third}' hold NaN or infinity; make them again with 'ffe extract --overwrite'.\n"
    )
    assert list(tmp_path.iterdir()) == [features]


@pytest.mark.parametrize(
    ("folds", "sentence"),
    [
        (30, "The class 'cat' has 14 different images for 30 folds; add images of it, or use fewer --folds."),
        (34, "There are 34 folds, but only 33 groups of images to deal into them; use fewer --folds, or add other images."),
    ],
)
def test_more_folds_than_the_rows_allow(fake_store: Path, tmp_path: Path, folds: int, sentence: str) -> None:
    result = _run("tune", fake_store, "-o", tmp_path / "m.ffe", "--folds", folds)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"ffe: {sentence}\n")


class _Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


def _trial(head: str, score: float, **parameters: Any) -> Trial:
    return Trial(head, parameters, score, 0.01, 0.5, 2048)


def _progress(done: int) -> SearchProgress:
    trials = [_trial("svm", 0.9, C=10.0), _trial("logistic", 0.8125, C=1.0)][:done]
    return SearchProgress(trials, trials[-1:], done, 4, 30.0, None)


def test_a_terminal_shows_a_leaderboard_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    with TrialsProgress() as view:
        print("the cost", file=sys.stderr)
        view(_progress(1))
        view(_progress(2))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "the first trials are on their way, 0 s" in text
    assert "the cost\n" in text
    assert "1 of 4 trials, 0 s, about 1 min 30 s left" in text
    assert "2 of 4 trials, 0 s, about 30 s left" in text
    assert re.search(r"1 │ svm +│ 0\.9000 +│ C=10", text)
    assert re.search(r"2 │ logistic │ 0\.8125 +│ C=1", text)
    assert "which one is chosen is settled at the end" in text
    assert "[1/4]" not in text


@pytest.mark.parametrize(("total", "said"), [(1, "1 of 1 trial, "), (None, "1 trial, ")])
def test_one_trial_is_no_trials(total: int | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    with TrialsProgress() as view:
        view(replace(_progress(1), total=total))
    assert said in terminal.getvalue()
    assert sys.stderr is terminal
    assert terminal.getvalue().endswith("\x1b[2K")  # nothing of it stays


def test_a_bar_on_a_terminal_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    decoded = EpochProgress().callbacks["on_decoded"]
    decoded(1, 3)
    decoded(3, 3)
    assert "3/3 images decoded" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert sys.stderr is terminal
    assert terminal.getvalue().endswith("\x1b[2K")  # nothing of it stays


def test_elsewhere_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with TrialsProgress() as view:
        view(_progress(1))
        view(replace(_progress(2), total=2))
        assert capsys.readouterr().err == "2 trials, highest validation accuracy 0.9000 (svm)\n"
        monkeypatch.setattr("ffe.cli.progress.PLAIN_SECONDS", 0.0)
        view(_progress(1))
        view(replace(_progress(2), total=None, budget=60.0))
    assert capsys.readouterr().err == (
        "1 of 4 trials, highest validation accuracy 0.9000 (svm), about 1 min 30 s left\n"
        "2 trials, highest validation accuracy 0.9000 (svm), about 30 s left\n"
    )
