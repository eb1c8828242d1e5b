"""What was meant: names that are nearly right, per cent, arguments in the wrong order, URLs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import ffe
from ffe.base.text import did_you_mean
from ffe.cli import COMMANDS, UrlOrPath, cli
from ffe.cli.examples import EXAMPLES
from ffe.errors import BundleError, FfeError, SpecError, StoreError, WeightsError


def said(*arguments: object) -> tuple[int, str]:
    """Return the exit code, and what is said on standard error, on one line."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("tune", ("--heads", "smv"), "There is no head 'smv'; choose from svm, logistic, dense, forest. Did you mean 'svm'?"),
        ("tune", ("--heads", "SVM"), "Did you mean 'svm'?"),
        ("train", ("--head", "logistics"), "Did you mean 'logistic'?"),
        ("train", ("--head", "svm", "--set", "gama=1"), "Did you mean 'gamma'?"),
        ("train", ("--head", "svm", "--set", "kernel=rfb"), "it takes linear or rbf. Did you mean 'rbf'?"),
        ("tune", ("--heads", "svm,dense", "--set", "poling=flat"), "Did you mean 'pooling'?"),
        ("tune", ("--heads", "zebra"), "There is no head 'zebra'; choose from svm, logistic, dense, forest."),
    ],
)
def test_names_that_are_nearly_right(
    command: str, options: tuple[str, ...], message: str, fake_store: Path, tmp_path: Path
) -> None:
    code, text = said(command, fake_store, "-o", tmp_path / "m.ffe", *options)
    assert (code, text.endswith(message)) == (3 if "--set" in options else 2, True), text


def test_roads_engines_and_weights(pictures: Path, fake_bundle: Path, tmp_path: Path) -> None:
    code, text = said("compare", pictures, "-o", tmp_path / "o", "--roads", "frozen,finetune")
    assert (code, text.endswith("Did you mean 'finetuning'?")) == (3, True), text
    assert said("predict", fake_bundle, pictures, "--engine", "openvno")[1].endswith("Did you mean 'openvino'?")
    asked = ("extract", pictures, "-o", tmp_path / "f.h5", "--weights", "imagnet")
    assert said(*asked)[1].endswith("'imagenet' or 'random'. Did you mean 'imagenet'?")


def test_only_what_is_near_is_offered() -> None:
    assert did_you_mean("Logistik", ["svm", "logistic"]) == " Did you mean 'logistic'?"
    assert did_you_mean("zebra", ["svm", "logistic"]) == ""


@pytest.mark.parametrize(
    ("arguments", "value", "share"),
    [
        (("tune", "f.h5", "-o", "m.ffe", "--reject"), "80", "0.8"),
        (("tune", "f.h5", "-o", "m.ffe", "--test-fraction"), "20%", "0.2"),
        (("predict", "m.ffe", "a.jpg", "--reject"), "95%", "0.95"),
        (("evaluate", "m.ffe", "f.h5", "--reject"), "99.5", "0.995"),
        (("scratch", "p", "-o", "m.ffe", "--valid-fraction"), "25", "0.25"),
        (("finetune", "p", "--from", "m.ffe", "-o", "n.ffe", "--unfreeze", "1", "--dropout"), "50", "0.5"),
    ],
)
def test_per_cent_is_named(arguments: tuple[str, ...], value: str, share: str) -> None:
    code, text = said(*arguments, value)
    assert code == 2
    assert text.endswith(f"'{value}' is a percentage, but a share is wanted; write {share}.")


def test_what_is_neither_share_nor_per_cent() -> None:
    much = said("predict", "m.ffe", "a.jpg", "--reject", "much")[1]
    assert much.endswith("'much' is no number; write, for example, '--reject 0.8'."), much
    assert "is not in the range" in said("predict", "m.ffe", "a.jpg", "--reject", "-1")[1]
    assert "is not in the range" in said("tune", "f.h5", "-o", "m.ffe", "--test-fraction", "90")[1]
    with pytest.raises(SpecError, match=r"not 80; did you mean 0\.8\?$"):
        ffe.Predictor("m.ffe", reject=80)


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (("predict", "a.jpg", "m.ffe"), "The model file comes first; write 'ffe predict m.ffe a.jpg'."),
        (("predict", "a.jpg", "b.jpg", "m.ffe"), "The model file comes first; write 'ffe predict m.ffe a.jpg b.jpg'."),
        (("evaluate", "f.h5", "m.ffe"), "The model file comes first; write 'ffe evaluate m.ffe f.h5'."),
        (("tune", "m.ffe", "-o", "f.h5"), "The feature file comes first; write 'ffe tune f.h5 -o m.ffe'."),
        (("train", "m.ffe", "-o", "f.h5", "--head", "svm"), "The feature file comes first; write 'ffe train f.h5 -o m.ffe'."),
        (
            ("tune", "f.h5", "-o", "m.ffe", "--test", "0.2"),
            "'0.2' is a number, but a feature file is wanted; --test-fraction takes a share.",
        ),
    ],
)
def test_the_wrong_order_is_named(arguments: tuple[str, ...], right: str) -> None:
    code, text = said(*arguments)
    assert (code, text.endswith(right)) == (2, True), text


@pytest.mark.parametrize("command", ["predict", "explain", "label"])
def test_lists_and_feature_files_are_no_pictures(
    command: str, fake_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("path,label\na.png,cat\n")
    shutil.copy(fake_store, "f.h5")
    Path("other.ffe").touch()
    model = () if command == "label" else ("m.ffe",)
    paths = f"for paths with one on each line write '{' '.join(('ffe', command, *model))} - < paths.txt'"
    with_labels = ", and for a CSV with labels 'ffe evaluate m.ffe list.csv'" if model else ""
    stored = ", or write 'ffe evaluate m.ffe f.h5'" if model else ""
    for name, sentence in (
        ("list.csv", f"'list.csv' is a list, not a picture; {paths}{with_labels}."),
        ("f.h5", f"'f.h5' is a feature file or another HDF5 file, not a picture; give the photos that it was made of{stored}."),
        ("other.ffe", "'other.ffe' is a model file, not a picture; give photos."),
    ):
        code, text = said(command, *model, name)
        assert (code, text.endswith(sentence)) == (2, True), text


@pytest.mark.parametrize("command", [("extract", "-o", "new.h5"), ("scan",), ("compare", "-o", "roads")], ids=" ".join)
def test_feature_files_and_models_are_no_source(
    command: tuple[str, ...], fake_store: Path, fake_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, name, kind in ((fake_store, "f.h5", "feature file or another HDF5 file"), (fake_bundle, "m.ffe", "model file")):
        shutil.copy(file, name)
        sentence = f"ffe: '{name}' is a {kind}, not a source of images; give the folder that holds the images."
        assert said(command[0], name, *command[1:]) == (3, sentence)


@pytest.mark.parametrize("command", ["info", "verify", "export"])
def test_a_picture_is_neither_features_nor_a_model(command: str, pictures: Path) -> None:
    picture = next(pictures.rglob("*.png"))
    code, text = said(command, picture, *(("-o", "m.onnx") if command == "export" else ()))
    instead = f"write, for example, 'ffe {command} {EXAMPLES[command]}'."
    assert (code, text.endswith(f"'{picture}' is a picture, not a feature file or a model; {instead}")) == (2, True), text


@pytest.mark.parametrize("command", ["predict", "explain", "label"])
def test_an_empty_folder_is_said_to_be_empty(command: str, fake_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    arguments = () if command == "label" else (fake_bundle,)
    sentence = f"ffe: There are no images in '{tmp_path / 'none'}'; give photos, or a folder that holds some."
    assert said(command, *arguments, tmp_path / "none", "--json") == (3, sentence)


@pytest.mark.parametrize("url", ["https://example.org/photos.zip", "s3://bucket/photos", "file:///tmp/photos"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("extract", "photos", "-o", "URL"),
        ("tune", "URL", "-o", "m.ffe"),
        ("tune", "f.h5", "-o", "m.ffe", "--report", "URL"),
        ("predict", "URL", "a.jpg"),
        ("pack", "a.h5", "URL", "-o", "b.h5"),
        ("info", "URL"),
    ],
)
def test_a_url_is_named(arguments: tuple[str, ...], url: str) -> None:
    code, text = said(*(url if argument == "URL" else argument for argument in arguments))
    assert code == 2
    only = f"'{url}' is a URL, and ffe works with files on this machine only"
    wanted = f"{only}; name a file or folder here, and download first what is to be read."
    assert text.endswith(wanted), text


def test_a_url_among_images(fake_bundle: Path, pictures: Path) -> None:
    picture = next(pictures.rglob("*.png"))
    result = CliRunner().invoke(cli, ["predict", str(fake_bundle), str(picture), "memory://none/a.jpg", "memory://none"])
    assert result.exit_code == 0
    nothing = "There is nothing at 'memory://none'; check the names of the bucket and of the folder or file."
    assert result.stderr.splitlines() == [
        "memory://none/a.jpg: cannot be read: no such file",
        f"memory://none: cannot be read: {nothing}",
    ]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda url: ffe.extract(".", "f.h5", weights=url), WeightsError),
        (lambda url: ffe.tune(url, "m.ffe"), StoreError),
        (lambda url: ffe.Predictor(url), BundleError),
    ],
)
def test_a_url_in_python(call: object, error: type[FfeError]) -> None:
    for url in ("https://example.org/x", *((Path("https://example.org/x"),) if error is not WeightsError else ())):
        with pytest.raises(error, match=r"'https:/+example.org/x' is a URL, and ffe works with files on this machine only"):
            call(url)  # type: ignore[operator]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_knows_urls(name: str) -> None:
    """Windows paths are none."""
    import click

    from ffe.base.text import url_refusal

    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter.type, click.Path) and not isinstance(parameter.type, UrlOrPath):
            with pytest.raises(click.BadParameter, match="is a URL"):
                parameter.process_value(
                    click.Context(command), ("http://x/y",) if parameter.multiple or parameter.nargs < 0 else "http://x/y"
                )
    assert url_refusal("C:/photos") is url_refusal("a:b") is url_refusal("photos/http:") is None


def test_the_whole_is_no_percentage() -> None:
    code, text = said("predict", "m.ffe", "a.jpg", "--reject", "1")
    assert (code, text.endswith("Invalid value for '--reject': 1.0 is not in the range 0<=x<1.")) == (2, True), text


def test_standard_input_is_named_once(fake_bundle: Path) -> None:
    code, text = said("predict", fake_bundle, "-", "-")
    assert (code, text.endswith("Standard input can be read once only; name - once among the images.")) == (2, True), text


@pytest.mark.parametrize(
    "arguments",
    [
        ("extract", "photos", "-o", "-"),
        ("extract", "-", "-o", "f.h5"),
        ("pack", "f.h5", "-o", "-"),
        ("tune", "f.h5", "-o", "m.ffe", "--report", "-"),
        ("train", "f.h5", "-o", "-", "--head", "svm"),
        ("scan", "-"),
        ("evaluate", "-", "photos"),
        ("evaluate", "m.ffe", "photos", "--csv", "-"),
        ("predict", "-", "a.jpg"),
        ("cache", "-"),
    ],
)
def test_a_dash_is_no_file(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said(*arguments)
    assert code == 2
    assert text.endswith("'-' would be a standard stream, which cannot be used here; name a file or folder.")
    assert not list(tmp_path.iterdir())


def test_a_file_that_begins_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-photos").mkdir()
    code, text = said("extract", "-photos", "-o", "f.h5")
    assert (code, text.endswith("'-photos' begins with a dash, as options do; write './-photos'.")) == (2, True), text
    code, text = said("extract", "-pictures", "-o", "f.h5")
    assert (code, text.endswith("No such option '-p'.")) == (2, True), text
