"""Backbones in ``.keras`` files that others made: nothing runs from one, and nothing is read beside it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ffe.backbones.catalog import CATALOG
from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.backbones.safe_load import check_keras_file, load_model
from ffe.errors import BackboneError

QUICK = ("mobilenet_0.25", "efficientnetlite0", "vgg16", "efficientnetv2b0", "mobilenetv3small", "convnexttiny")


def save(name: str, path: Path) -> Path:
    row = CATALOG[name]
    spec, weights = make_spec(name, row.min_size, weights="random")
    build(spec, weights).save(path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backbone, saved; treat it as read-only."""
    return save("mobilenet_0.25", tmp_path_factory.mktemp("saved") / "backbone.keras")


@pytest.mark.parametrize("name", QUICK)
def test_backbones_of_the_catalogue_pass(name: str, tmp_path: Path) -> None:
    check_keras_file(save(name, tmp_path / "b.keras"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CATALOG) - set(QUICK) - {"fake"}))
def test_all_backbones_of_the_catalogue_pass(name: str, tmp_path: Path) -> None:
    check_keras_file(save(name, tmp_path / "b.keras"))


def changed(saved: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the file again with another description."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return path


def layer(config: dict[str, Any]) -> dict[str, Any]:
    return config["config"]["layers"][3]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: layer(c).update(module="keras.layers", class_name="Lambda"), "keras.layers.Lambda"),
        (lambda c: layer(c).update(module="os", class_name="system"), "os.system"),
        (lambda c: layer(c).update(module="keras.layers", class_name="TFSMLayer"), "keras.layers.TFSMLayer"),
        (lambda c: layer(c).update(registered_name="somebody>Conv2D"), "keras.layers."),
        (lambda c: c.update(module="keras.src.utils.file_utils", class_name="get_file"), "keras.src.utils.file_utils.get_file"),
        (
            lambda c: layer(c)["config"].update(activation={"module": "builtins", "class_name": "function", "config": "eval"}),
            "builtins.function",
        ),
        (lambda c: layer(c)["config"].update(activation={"class_name": "__lambda__", "config": {}}), "__lambda__"),
    ],
    ids=["lambda", "os.system", "a saved TensorFlow model", "a registered name", "a download", "a function", "code"],
)
def test_what_no_backbone_is_made_of_is_refused_before_keras_sees_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    monkeypatch.setattr("keras.saving.load_model", lambda *rest, **more: pytest.fail("Keras has seen it"))
    path = changed(saved, tmp_path / "b.keras", change)
    with pytest.raises(BackboneError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"The saved backbone cannot be used: it names {named}")
    assert str(caught.value).endswith("of which no backbone is made; make the model again.")


def _with_member(saved: Path, path: Path) -> None:
    path.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../outside.py", "")


def _deflated(saved: Path, path: Path) -> None:
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def _other_weights(saved: Path, path: Path, write: Callable[[h5py.File], None]) -> None:
    weights = path.with_suffix(".h5")
    with h5py.File(weights, "w") as file:
        write(file)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, weights.read_bytes() if name.endswith(".h5") else old.read(name))


def _external_link(saved: Path, path: Path) -> None:
    _other_weights(saved, path, lambda file: file.__setitem__("layers", h5py.ExternalLink("/etc/passwd", "/x")))


def _external_storage(saved: Path, path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("vars", (4,), "u1", external=[("/etc/passwd", 0, 4)])

    _other_weights(saved, path, write)


def _claims(saved: Path, path: Path) -> None:
    _other_weights(saved, path, lambda file: file.create_dataset("vars", (1 << 40,), "f4", chunks=(1 << 16,)) and None)


def _many_names(saved: Path, path: Path) -> None:
    """Groups of groups, each reached by eight names: 8**12 paths."""

    def write(file: h5py.File) -> None:
        group: h5py.Group = file
        for _ in range(11):
            below = group.create_group("0")
            for i in range(1, 8):
                group[str(i)] = below
            group = below

    _other_weights(saved, path, write)


def _objects(saved: Path, path: Path) -> None:
    _other_weights(saved, path, lambda file: file.create_dataset("vars", data=["x"], dtype=h5py.string_dtype()) and None)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_with_member, "its members are not those of a Keras model"),
        (_deflated, "its members are compressed"),
        (_external_link, "'layers' is a link to somewhere else, which ffe never follows"),
        (_external_storage, "'vars' keeps its values in another file, which ffe never reads"),
        (_claims, "'vars' claims 4,398,046,511,104 bytes, which the file does not hold"),
        (_many_names, "'0/0/0/0/0/0/0/0/0/0/1' is in it under another name too"),
        (_objects, "its texts are stored as ffe never stored them"),
        (lambda saved, path: path.write_bytes(saved.read_bytes()[:-500]), ""),
        (lambda saved, path: path.write_bytes(b"no zip"), "it is damaged, or no file that Keras 3 saved; make the model again."),
    ],
)
def test_a_file_that_is_more_or_less_than_a_backbone(
    saved: Path, tmp_path: Path, make: Callable[[Path, Path], None], why: str
) -> None:
    path = tmp_path / "b.keras"
    make(saved, path)
    with pytest.raises(BackboneError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"The saved backbone cannot be used: {why}")
    assert str(caught.value).endswith("; make the model again.")


def test_a_description_that_keras_cannot_follow(saved: Path, tmp_path: Path) -> None:
    path = changed(saved, tmp_path / "b.keras", lambda config: layer(config)["config"].update(kernel_size=[[]]))
    with pytest.raises(BackboneError, match=r"The saved backbone cannot be used: .*; make the model again\."):
        load_model(path)


def test_what_is_sound_is_loaded(saved: Path) -> None:
    pixels = np.zeros((1, 32, 32, 3), np.float32)
    spec, weights = make_spec("mobilenet_0.25", 32, weights="random")
    np.testing.assert_array_equal(load_model(saved)(pixels), build(spec, weights)(pixels))
