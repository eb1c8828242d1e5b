"""``ffe predict`` and ``ffe evaluate``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.cli.predict import prediction_text
from ffe.predictor import Prediction, Predictor
from ffe.store.reader import FeatureStore


def _run(*arguments: object, stdin: bytes | str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


def _answers(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def cat(pictures: Path) -> Path:
    return pictures / "cat" / "cat_000.png"


@pytest.fixture
def dog(pictures: Path) -> Path:
    return pictures / "dog" / "dog_000.png"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"no picture")
    return path


def test_predict_json_is_one_object_a_line(fake_bundle: Path, cat: Path, dog: Path) -> None:
    result = _run("predict", fake_bundle, cat, dog, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    expected = Predictor(fake_bundle, batch_size=2).predict([cat, dog])
    for value, wanted in zip(_answers(result), expected, strict=True):
        assert list(value) == ["path", "label", "sure", "probabilities", "error"]
        assert value == wanted.to_json()


def test_predict_text_is_one_line_an_image(fake_bundle: Path, cat: Path, dog: Path) -> None:
    result = _run("predict", fake_bundle, cat, dog, "--top", 1)
    assert result.exit_code == 0
    labels = [answer["label"] for answer in _answers(_run("predict", fake_bundle, cat, dog, "--json"))]
    for line, path, label in zip(result.stdout.splitlines(), (cat, dog), labels, strict=True):
        assert line.startswith(f"{path}: {label} ")
        assert line.endswith("%")
        assert line.count("%") == 1
    both = _run("predict", fake_bundle, cat).stdout
    assert both.count("%") == 2


def test_predict_takes_folders(fake_bundle: Path, pictures: Path) -> None:
    result = _run("predict", fake_bundle, pictures / "dog", "--json")
    assert result.exit_code == 0
    assert [value["path"] for value in _answers(result)] == sorted(str(file) for file in (pictures / "dog").iterdir())
    assert len(_answers(_run("predict", fake_bundle, pictures, "--json"))) == 40


def test_predict_takes_an_image_on_standard_input(fake_bundle: Path, cat: Path) -> None:
    (value,) = _answers(_run("predict", fake_bundle, "-", "--json", stdin=cat.read_bytes()))
    (wanted,) = _answers(_run("predict", fake_bundle, cat, "--json"))
    assert value == {**wanted, "path": "-"}


@pytest.mark.parametrize("end", ["\n", "\r\n", ""], ids=repr)
def test_predict_takes_a_list_of_paths_on_standard_input(fake_bundle: Path, cat: Path, dog: Path, end: str) -> None:
    lines = f"{cat}\n\n{dog}{end}"
    result = _run("predict", fake_bundle, "-", "--json", stdin=lines.encode())
    assert result.exit_code == 0
    assert [value["path"] for value in _answers(result)] == [str(cat), str(dog)]


def test_predict_takes_a_list_longer_than_one_read(fake_bundle: Path, cat: Path) -> None:
    result = _run("predict", fake_bundle, "-", "--json", stdin=f"{cat}\n" * 200)
    assert [value["path"] for value in _answers(result)] == [str(cat)] * 200


def test_predict_goes_on_past_bad_files(fake_bundle: Path, cat: Path, dog: Path, bad: Path) -> None:
    result = _run("predict", fake_bundle, cat, "none.jpg", bad, dog, "--json")
    assert result.exit_code == 0
    values = _answers(result)
    assert [value["path"] for value in values] == [str(cat), "none.jpg", str(bad), str(dog)]
    assert values[1] == {"path": "none.jpg", "label": None, "sure": False, "probabilities": {}, "error": "no such file"}
    assert values[2]["error"] == "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture"
    assert values[3]["error"] is None
    assert "none.jpg: cannot be read: no such file\n" in result.stderr
    assert _run("predict", fake_bundle, cat, "none.jpg", "--strict").exit_code == 1


def test_predict_text_keeps_bad_files_out_of_stdout(fake_bundle: Path, cat: Path, bad: Path) -> None:
    result = _run("predict", fake_bundle, bad, cat)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == f"{bad}: cannot be read: it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture\n"


@pytest.mark.parametrize("options", [(), ("--json",), ("--strict",)])
def test_predict_with_no_good_image_is_refused(fake_bundle: Path, bad: Path, options: tuple[str, ...]) -> None:
    result = _run("predict", fake_bundle, bad, *options)
    assert result.exit_code == 3
    assert result.stderr.endswith("ffe: No image could be read; give JPEG, PNG or other picture files.\n")


def test_predict_with_names_of_nothing_says_so(fake_bundle: Path, bad: Path) -> None:
    none = bad.with_name(f"{bad.stem}x{bad.suffix}")
    result = _run("predict", fake_bundle, none)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.splitlines() == [
        f"{none}: cannot be read: no such file",
        f"ffe: There is no file or folder '{none}'; check the path. Did you mean '{bad}'?",
    ]
    result = _run("predict", fake_bundle, none, "qqqq.jpg", "--json")
    assert result.stderr.endswith(f"ffe: '{none}' and 'qqqq.jpg' are not there; check the paths.\n")
    assert "No image could be read" in _run("predict", fake_bundle, none, bad).stderr


def test_predict_with_an_empty_list_is_refused(fake_bundle: Path) -> None:
    result = _run("predict", fake_bundle, "-", stdin=b"")
    assert (result.exit_code, result.stdout) == (3, "")
    said = "Standard input is empty; send one image to it, or a list of paths with one on each line."
    assert result.stderr == f"ffe: {said}\n"


def test_predict_without_images_is_a_usage_error(fake_bundle: Path) -> None:
    assert _run("predict", fake_bundle).exit_code == 2


SCORES = {
    "n",
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "auc",
    "confusion",
    "precision",
    "recall",
    "class_names",
    "expected_calibration_error",
    "groups",
    "resamples",
    "intervals",
    "precision_intervals",
    "recall_intervals",
    "confusion_intervals",
}


def test_evaluate_json_has_the_keys_of_the_test(fake_bundle: Path, fake_store: Path) -> None:
    result = _run("evaluate", fake_bundle, fake_store, "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert set(value) == SCORES | {"seen_in_training", "left_out", "skipped", "skipped_files", "answered"}
    assert set(Bundle(fake_bundle).manifest.evaluation["test"]) == SCORES
    assert (value["n"], value["seen_in_training"], value["skipped"]) == (40, 33, 0)
    always = {"threshold": 0.0, "share": 1.0, "accuracy": value["accuracy"], "n": 40}
    assert {name: value["answered"][name] for name in always} == always
    assert value["class_names"] == ["cat", "dog"]
    assert [sum(row) for row in value["confusion"]] == [20, 20]


def test_evaluate_on_training_features_warns_and_unseen_leaves_them_out(fake_bundle: Path, fake_store: Path) -> None:
    seen = _run("evaluate", fake_bundle, fake_store)
    assert seen.exit_code == 0
    assert seen.stderr == (
        "warning: 33 of the 40 images were used to fit or choose this model, so the scores are too good; "
        "--unseen leaves them out\n"
    )
    assert seen.stdout.startswith("40 images\naccuracy ")
    assert "Not sure" not in seen.stdout
    unseen = _run("evaluate", fake_bundle, fake_store, "--unseen", "--json")
    assert unseen.stderr == "33 of the 40 images were used to fit or choose this model; they are left out\n"
    value = json.loads(unseen.stdout)
    assert (value["n"], value["seen_in_training"], value["left_out"]) == (7, 0, 33)
    assert value["confusion"] == Bundle(fake_bundle).manifest.evaluation["test"]["confusion"]


def test_evaluate_takes_a_folder_and_says_what_it_left_out(fake_bundle: Path, cat: Path, dog: Path, tmp_path: Path) -> None:
    for file in (cat, dog):
        (tmp_path / "new" / file.parent.name).mkdir(parents=True)
        shutil.copy(file, tmp_path / "new" / file.parent.name)
    (tmp_path / "new" / "cat" / "bad.png").write_bytes(b"no picture")
    result = _run("evaluate", fake_bundle, tmp_path / "new", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["n"] == 2
    assert "1 file was left out ('cat/bad.png'): no label, or not readable\n" in result.stderr
    assert json.loads(result.stdout)["skipped_files"] == ["cat/bad.png"]
    (tmp_path / "new" / "cat" / cat.name).unlink()
    lost = _run("evaluate", fake_bundle, tmp_path / "new")
    assert (lost.exit_code, lost.stdout) == (3, "")
    assert lost.stderr.splitlines()[-1] == (
        "ffe: The only file of the class 'cat' cannot be read ('cat/bad.png': it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, "
        "JPEG 2000 or PNM picture); mend them, or take what cannot be read out of the source."
    )


def test_predict_takes_every_file_below_a_folder(fake_bundle: Path, cat: Path, dog: Path, tmp_path: Path) -> None:
    """Folders have no meaning here: neither classes nor splits."""
    folder = tmp_path / "new"
    (folder / "test").mkdir(parents=True)
    shutil.copy(cat, folder / "a.png")
    shutil.copy(dog, folder / "test" / "b.png")
    answers = _answers(_run("predict", fake_bundle, folder, "--json"))
    assert [Path(str(answer["path"])).relative_to(folder).as_posix() for answer in answers] == ["a.png", "test/b.png"]
    assert all(answer["error"] is None for answer in answers)


def test_a_list_whose_first_name_starts_like_a_pnm_file_is_a_list(
    fake_bundle: Path, cat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(cat, tmp_path / "P1010001.PNG")
    monkeypatch.chdir(tmp_path)
    (answer,) = _answers(_run("predict", fake_bundle, "-", "--json", stdin="P1010001.PNG\n"))
    assert (answer["path"], answer["error"]) == ("P1010001.PNG", None)


def test_predict_says_that_it_is_not_sure(fake_bundle: Path, cat: Path, dog: Path) -> None:
    plain = _run("predict", fake_bundle, cat, dog).stdout.splitlines()
    result = _run("predict", fake_bundle, cat, dog, "--reject", 0.9999999)
    assert result.exit_code == 0
    for line, image, answer in zip(result.stdout.splitlines(), (cat, dog), plain, strict=True):
        assert line == f"{image}: not sure ({answer.removeprefix(f'{image}: ')})"
    values = _answers(_run("predict", fake_bundle, cat, dog, "--reject", 0.9999999, "--json"))
    assert [value["sure"] for value in values] == [False, False]
    assert [value["label"] for value in values] == [
        answer["label"] for answer in _answers(_run("predict", fake_bundle, cat, dog, "--json"))
    ]


def test_the_text_of_an_answer() -> None:
    shares = {"cat": 0.54, "dog": 0.46}
    assert prediction_text(Prediction("photo.jpg", "cat", False, shares, None)) == "photo.jpg: not sure (cat 54.0%, dog 46.0%)"
    assert prediction_text(Prediction("photo.jpg", "cat", True, shares, None)) == "photo.jpg: cat 54.0%, dog 46.0%"
    certain = Prediction("photo.jpg", "cat", True, {"cat": 1.0, "dog": 0.0}, None)
    assert prediction_text(certain) == "photo.jpg: cat >99.9%, dog <0.1%"


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize("reject", ["1", "-0.1", "high"])
def test_reject_out_of_range_is_a_usage_error(fake_bundle: Path, cat: Path, command: str, reject: str) -> None:
    result = _run(command, fake_bundle, cat, "--reject", reject)
    assert result.exit_code == 2
    assert "--reject" in result.stderr


def test_evaluate_says_what_the_reject_option_brings(fake_bundle: Path, fake_store: Path) -> None:
    with FeatureStore(fake_store) as store:
        best = Predictor(fake_bundle).probabilities(store.features()).max(axis=1)
    middle = round(float(np.median(best)), 6)
    count = int((best >= middle).sum())
    result = _run("evaluate", fake_bundle, fake_store, "--reject", middle, "--json")
    found = json.loads(result.stdout)["answered"]
    assert set(found) == {"threshold", "share", "accuracy", "n", "interval"}
    assert (found["threshold"], found["share"], found["n"]) == (middle, count / 40, count)
    text = _run("evaluate", fake_bundle, fake_store, "--reject", middle).stdout.splitlines()[-1]
    assert text.startswith(f"'Not sure' below {middle:g}: {100 * count / 40:.1f} % of the images are answered ({count}), ")


def test_copies_of_an_image_are_one_group(fake_bundle: Path, cat: Path, dog: Path, tmp_path: Path) -> None:
    for file in (cat, dog):
        (tmp_path / "new" / file.parent.name).mkdir(parents=True)
        for copy in "ab":
            shutil.copy(file, tmp_path / "new" / file.parent.name / f"{copy}.png")
    value = json.loads(_run("evaluate", fake_bundle, tmp_path / "new", "--json").stdout)
    assert (value["n"], value["groups"]) == (4, 2)
