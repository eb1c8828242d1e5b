"""Exit codes, sentences, and help."""

from __future__ import annotations

import shlex
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ffe._version import __version__
from ffe.cli import COMMANDS, cli
from ffe.cli.examples import EXAMPLES
from ffe.errors import StoreError
from ffe.extraction.run import extract


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def _group(pictures: Path, folder: Path, **counts: int) -> Path:
    """Copy some of the drawn pictures into class folders."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for file in sorted((pictures / name).iterdir())[:count]:
            shutil.copy(file, folder / name)
    return folder


def _features(pictures: Path, folder: Path, size: int = 32, **counts: int) -> Path:
    extract(_group(pictures, folder / "photos", **counts), folder / "f.h5", backbone="fake", size=size)
    return folder / "f.h5"


Case = Callable[[Path, Path, Path], tuple[tuple[object, ...], str]]


def _no_such_folder(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    return ("extract", here / "none", "-o", here / "o.h5", "--backbone", "fake"), (
        f"There is no file or folder '{here / 'none'}'; check the path."
    )


def _empty_folder(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    (here / "empty").mkdir()
    return ("extract", here / "empty", "-o", here / "o.h5", "--backbone", "fake"), (
        f"There are no images in '{here / 'empty'}'; expected one folder per class with image files inside."
    )


def _csv_without_labels(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    (here / "list.csv").write_text("path,class\na.png,cat\n")
    return ("extract", here / "list.csv", "-o", here / "o.h5", "--backbone", "fake"), (
        f"The CSV '{here / 'list.csv'}' has no 'label' column (found: path, class); "
        "its first line must name the columns path,label and, if you like, split and group."
    )


def _only_broken_images(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    (here / "photos").mkdir()
    (here / "photos" / "a.jpg").write_bytes(b"no picture")
    return ("extract", here / "photos", "-o", here / "o.h5", "--backbone", "fake"), (
        f"The only file could not be read (the first, '{here / 'photos' / 'a.jpg'}': "
        "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture); "
        "check the paths, and that they are pictures."
    )


def _output_with_another_spec(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    output = _features(pictures, here, cat=3, dog=3)
    return ("extract", here / "photos", "-o", output, "--backbone", "fake", "--size", 48), (
        f"'{output}' holds other features than these (preprocess.size: stored 32x32, asked 48x48); "
        "choose another output, or replace it with --overwrite (in Python overwrite=True)."
    )


def _unknown_backbone(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    return ("extract", pictures, "-o", here / "o.h5", "--backbone", "vgg91"), (
        "There is no backbone 'vgg91'; 'ffe backbones' lists all of them. Did you mean 'vgg19'?"
    )


def _one_class(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    features = _features(pictures, here, cat=6)
    return ("tune", features, "-o", here / "m.ffe"), (
        f"All labelled rows of '{features}' are of one class ('cat'); a head needs images of at least two classes."
    )


def _class_with_one_image(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    features = _features(pictures, here, cat=6, dog=1)
    return ("tune", features, "-o", here / "m.ffe"), (
        f"The class 'dog' has only 1 image in '{features}'; give every class at least 3 different images, or leave the class out."
    )


def _no_features(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    return ("tune", here / "none.h5", "-o", here / "m.ffe"), (
        f"There is no feature file '{here / 'none.h5'}'; make one with 'ffe extract SOURCE -o {here / 'none.h5'}'."
    )


def _model_for_other_features(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    features = _features(pictures, here, size=48, cat=3, dog=3)
    return ("evaluate", bundle, features), (
        f"The model '{bundle}' was made for other features than '{features}' holds "
        "(preprocess.size: the file has 48x48, the model needs 32x32); "
        "extract with the options of the model (int8 with --like its feature file), or tune a new one."
    )


def _no_model(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    return ("predict", here / "none.ffe", "a.png"), (
        f"There is no model file '{here / 'none.ffe'}'; make one with 'ffe tune FEATURES.h5 -o {here / 'none.ffe'}'."
    )


def _features_as_a_model(pictures: Path, bundle: Path, here: Path) -> tuple[tuple[object, ...], str]:
    features = _features(pictures, here, cat=3, dog=3)
    return (
        "predict",
        features,
        "a.png",
    ), f"'{features}' is a feature file or another HDF5 file, not a model; give a .ffe file that 'ffe tune' wrote."


CASES: tuple[Case, ...] = (
    _no_such_folder,
    _empty_folder,
    _csv_without_labels,
    _only_broken_images,
    _output_with_another_spec,
    _unknown_backbone,
    _one_class,
    _class_with_one_image,
    _no_features,
    _model_for_other_features,
    _no_model,
    _features_as_a_model,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.strip("_"))
def test_bad_input_is_one_sentence_and_code_3(pictures: Path, fake_bundle: Path, tmp_path: Path, case: Case) -> None:
    arguments, sentence = case(pictures, fake_bundle, tmp_path)
    result = _run(*arguments)
    assert result.exit_code == 3
    assert result.stdout == ""
    *progress, last = result.stderr.splitlines()
    assert last == f"ffe: {sentence}"
    assert all(" images, " in line or " to compute, " in line or line.endswith(" free") for line in progress)


def test_an_image_that_is_no_image_is_skipped_and_named(pictures: Path, tmp_path: Path) -> None:
    photos = _group(pictures, tmp_path / "photos", cat=3, dog=3)
    (photos / "dog" / "notes.txt").write_text("no picture")
    result = _run("extract", photos, "-o", tmp_path / "f.h5", "--backbone", "fake")
    assert result.exit_code == 0
    assert "6 rows, 6 computed, 1 skipped" in result.stdout
    assert "dog/notes.txt" in _run("info", tmp_path / "f.h5").stdout


USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "no argument": (("extract",), "Missing argument 'SOURCE'; write, for example, 'ffe extract photos -o features.h5'."),
    "no output": (
        ("tune", "my f.h5", "--trials=3"),
        "Missing option '-o' / '--output'; write, for example, 'ffe tune 'my f.h5' --trials=3 -o model.ffe'.",
    ),
    "no head": (
        ("train", "f.h5", "-o", "m.ffe"),
        "Missing option '--head'; write, for example, 'ffe train f.h5 -o m.ffe --head svm'.",
    ),
    "two are missing": (
        ("preview", "a.jpg"),
        "Missing option '-o' / '--output'; write, for example, 'ffe preview a.jpg -o grid.png --augment flip,rotate=15'.",
    ),
    "no list": (
        ("suggest", "m.ffe", "photos", "--wrong"),
        "Missing option '-o' / '--output'; write, for example, 'ffe suggest m.ffe photos --wrong -o list.csv'.",
    ),
    "no changes": (
        ("predict", "m.ffe", "a.jpg", "--tta", "4", "--augment"),
        "Option '--augment' requires an argument; write, for example, '--augment flip,rotate=15'.",
    ),
    "no choice": (
        ("extract", "a", "-o", "f.h5", "--decode"),
        "Option '--decode' requires an argument; write, for example, '--decode fast'.",
    ),
    "no number": (
        ("predict", "m.ffe", "a.jpg", "--top"),
        "Option '--top' requires an argument; write, for example, '--top 3'.",
    ),
    "no layer": (("extract", "a", "-o", "f.h5", "--layer"), "Option '--layer' requires an argument."),
    "two sources": (
        ("extract", "cats", "dogs", "-o", "f.h5"),
        "Got unexpected extra argument (dogs); write, for example, 'ffe extract photos -o features.h5'.",
    ),
    "several archives": (
        ("scan", "a/shard-000.tar", "a/shard-001.tar"),
        "Several archives are one source: give the folder that holds them, or a pattern in quotes, such as "
        '"shard-{000..009}.tar".',
    ),
    "letters in a number": (
        ("serve", "m.ffe", "--port", "80x"),
        "Invalid value for '--port': '80x' is no whole number; write, for example, '--port 8000'.",
    ),
    "no rows": (
        ("verify", "f.h5", "--recompute"),
        "Option '--recompute' requires an argument; write, for example, '--recompute 100'.",
    ),
    "no roads": (
        ("compare", "photos", "-o", "roads", "--roads"),
        "Option '--roads' requires an argument; write, for example, '--roads frozen,scratch'.",
    ),
    "unknown option": (("info", "f.h5", "--jsn"), "No such option"),
    "bad number": (("tune", "f.h5", "-o", "m.ffe", "--trials", "0"), "0 is not in the range x>=1"),
    "bad choice": (("extract", "a", "-o", "f.h5", "--dtype", "int8"), "'int8' is not one of"),
    "near command": (("extrat",), "There is no command 'extrat'. Did you mean 'extract'?"),
    "far command": (("qqqq",), "There is no command 'qqqq'. 'ffe --help' lists the commands."),
}


@pytest.mark.parametrize("case", USAGE)
def test_usage_errors_are_code_2(case: str) -> None:
    arguments, sentence = USAGE[case]
    result = _run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_every_example_of_a_command_is_whole() -> None:
    """And every command that cannot do without something has one."""
    needy, parent = set(), click.Context(cli, **cli.context_settings)  # a command keeps the first names of --help
    for name in COMMANDS:
        command = cli.get_command(parent, name)
        assert command is not None
        if any(parameter.required for parameter in command.params):
            needy.add(name)
            command.make_context(f"ffe {name}", shlex.split(EXAMPLES[name]), parent=parent)
    assert needy == EXAMPLES.keys()


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException, name: str = "ffe.commands.evaluate.evaluate") -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(name, broken)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("ffe.commands.evaluate.evaluate", ("evaluate", "m.ffe", "f.h5"), "ffe: interrupted"),
        (
            "ffe.extraction.run.extract",
            ("extract", "photos", "-o", "f.h5"),
            "ffe: interrupted; run the same command again to go on",
        ),
        ("ffe.commands.tune.tune", ("tune", "f.h5", "-o", "m.ffe"), "ffe: interrupted; run the same command again to go on"),
        ("ffe.commands.tune.train", ("train", "f.h5", "-o", "m.ffe", "--head", "svm"), "ffe: interrupted"),
    ],
)
def test_an_interruption_is_code_130(
    monkeypatch: pytest.MonkeyPatch, name: str, arguments: tuple[str, ...], sentence: str
) -> None:
    _raising(monkeypatch, KeyboardInterrupt(), name)
    result = _run(*arguments)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.strip() == sentence


def test_an_error_of_ours_is_code_70_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, ZeroDivisionError("division\nby zero"))
    result = _run("evaluate", "m.ffe", "f.h5")
    assert (result.exit_code, result.stdout) == (70, "")
    assert result.stderr == (
        "ffe: this should not happen: ZeroDivisionError: division by zero; --debug shows where, please report it.\n"
    )


def test_an_error_of_the_system_is_code_3_with_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, OSError(28, "No space left on device", "f.h5"))
    result = _run("evaluate", "m.ffe", "f.h5")
    assert (result.exit_code, result.stdout) == (3, "")
    full = f"the disk of '{Path.cwd()}' is full; make room there, or choose another place."
    assert result.stderr == f"ffe: The file 'f.h5' cannot be written: {full}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ZeroDivisionError("division"), 70),
        (OSError(28, "full"), 3),
        (KeyError("k"), 70),
        (StoreError("There is no file."), 3),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_debug_shows_the_traceback_and_is_not_proposed_again(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    _raising(monkeypatch, error)
    plain, shown = _run("evaluate", "m.ffe", "f.h5"), _run("evaluate", "m.ffe", "f.h5", "--debug")
    assert (plain.exit_code, shown.exit_code, plain.stdout, shown.stdout) == (code, code, "", "")
    assert shown.stderr.startswith("Traceback (most recent call last):\n")
    sentence = plain.stderr.replace("--debug shows where, please report it.", "please report it with the traceback above.")
    assert shown.stderr.endswith(f"{''.join(traceback.format_exception_only(error))}{sentence}")


def test_version_and_help() -> None:
    assert _run("--version").stdout == f"ffe, version {__version__}\n"
    shown = _run("--help")
    assert shown.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in shown.stdout
    assert _run("-h").stdout == shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_has_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    assert command.short_help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden]
    assert "debug" in [option.name for option in options]
    for option in options:
        assert option.help, f"{name} {option.opts[0]} has no help"
    shown = _run(name, "--help")
    assert shown.exit_code == 0
    for option in options:
        assert option.opts[-1] in shown.stdout


def test_messages_of_the_library_are_printed_once(fake_bundle: Path, fake_store: Path) -> None:
    """However often the command line is entered in one process."""
    for _ in range(3):
        result = _run("evaluate", fake_bundle, fake_store)
    assert result.stderr.count("warning: ") == 1
