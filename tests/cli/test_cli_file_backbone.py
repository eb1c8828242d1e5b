"""A file as the backbone of every command, and what is left of it when the file is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ffe.base.openvino_ir import import_openvino
from ffe.cli import cli
from ffe.images.drawings import draw_folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def write_network(path: Path, **metadata: Any) -> None:
    """Write an IR model from float32 (N, 3, 32, 32) to a grid (N, 8, 8, 8) and a vector, with drawn weights."""
    ov = import_openvino()
    from openvino import opset13 as ops

    kernel = np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype(np.float32) / 4
    source = ops.parameter([-1, 3, 32, 32], ov.Type.f32, "pixels")
    grid = ops.relu(ops.convolution(source, kernel, [4, 4], [0, 0], [0, 0], [1, 1]), name="grid")
    vector = ops.reduce_mean(grid, np.array([2, 3]), name="vector")
    model = ov.Model([grid, vector], [source], "network")
    for key, value in metadata.items():
        model.set_rt_info(value, key)
    ov.save_model(model, path, compress_to_fp16=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with drawn photos, a network, and a cache of its own."""
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "photos", 20, (48, 48))
    write_network(tmp_path / "m.xml", mean="0.5 0.5 0.5", std="0.5 0.5 0.5")
    return tmp_path


def remove(folder: Path) -> None:
    for suffix in (".xml", ".bin"):
        (folder / f"m{suffix}").unlink()


def test_all_commands_go_on_without_the_file(place: Path) -> None:
    extract = ("extract", "photos", "-o", "f.h5")
    found = run(*extract, "--backbone", "m.xml")
    assert found.exit_code == 3
    assert found.stderr == "ffe: The network in 'm.xml' has 2 outputs; name those to take with --layer: grid, vector.\n"
    dry = run(*extract, "--backbone", "m.xml", "--layer", "grid", "--dry-run", "--json")
    assert (dry.exit_code, json.loads(dry.stdout)["compute"]) == (0, 40)
    assert run(*extract, "--backbone", "m.xml", "--layer", "grid").exit_code == 0
    remove(place)
    info = json.loads(run("info", "f.h5", "--json").stdout)
    name = info["spec"]["backbone"]["name"]
    assert name == f"openvino:{info['spec']['backbone']['weights_sha256'][:12]}"
    assert (info["grid"], info["dims"]) == ([8, 8, 8], 512)
    assert b"m.xml" not in (place / "f.h5").read_bytes()

    Image.new("RGB", (40, 40), "red").save("photos/cat/more.png")
    again = run(*extract, "--json")
    assert (again.exit_code, json.loads(again.stdout)["computed"]) == (0, 1)
    assert "5 rows computed again" in run("verify", "f.h5", "--recompute", "5").stdout
    assert run("tune", "f.h5", "-o", "m.ffe", "--heads", "logistic", "--trials", "1").exit_code == 0
    shutil.rmtree(place / "cache")
    answers = run("predict", "m.ffe", "photos", "--json")
    assert answers.exit_code == 0
    assert "golden pictures computed again" in run("verify", "m.ffe").stdout
    needed = f"ffe: The backbone '{name}' came as a file, which is needed again; pass the file with --weights model.xml.\n"
    for command in (("tune", "f.h5", "-o", "n.ffe"), ("verify", "f.h5", "--recompute", "1"), extract):
        refused = run(*command)
        assert (refused.exit_code, refused.stderr.splitlines(keepends=True)[-1]) == (3, needed)


def test_several_outputs_views_and_int8(place: Path) -> None:
    both = ("--backbone", "m.xml", "--layer", "vector,grid")
    assert run("extract", "photos", "-o", "v.h5", *both, "--views", "1", "--augment", "flip").exit_code == 0
    assert run("extract", "photos", "-o", "i.h5", *both, "--precision", "int8").exit_code == 0
    with h5py.File("v.h5") as plain, h5py.File("i.h5") as quantized:
        assert (plain["features"].shape, quantized["features"].shape) == ((80, 520), (40, 520))
        rows, views = plain["features"][:], plain["view"][:]
        np.testing.assert_allclose(rows[:, :8], rows[:, 8:].reshape(-1, 64, 8).mean(axis=1), rtol=1e-5, atol=1e-6)
        cosines = (rows[views == 0] * quantized["features"][:]).sum(axis=1)
        cosines /= np.linalg.norm(rows[views == 0], axis=1) * np.linalg.norm(quantized["features"][:], axis=1)
        assert cosines.mean() > 0.99
    remove(place)
    for file in ("v.h5", "i.h5"):
        assert "3 rows computed again" in run("verify", file, "--recompute", "3").stdout


def test_mean_and_deviation_are_asked_for_and_given(place: Path) -> None:
    write_network(place / "m.xml")
    extract = ("extract", "photos", "-o", "f.h5", "--backbone", "m.xml", "--layer", "vector")
    asked = run(*extract)
    assert (asked.exit_code, asked.stderr) == (
        3,
        "ffe: The file 'm.xml' does not say how its network wants pictures: name --mean and --std, for example "
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (mean and deviation are of values from 0 to 1), "
        "or write it into the file's metadata, as 'ffe bakeoff' wants it.\n",
    )
    assert run(*extract, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5").exit_code == 0


def test_a_file_cannot_be_trained(place: Path) -> None:
    assert run("extract", "photos", "-o", "f.h5", "--backbone", "m.xml", "--layer", "vector").exit_code == 0
    assert run("train", "f.h5", "-o", "m.ffe", "--head", "logistic").exit_code == 0
    refused = run("finetune", "photos", "-o", "t.ffe", "--from", "m.ffe", "--unfreeze", "1")
    assert refused.exit_code == 3
    assert "cannot be trained; take one that 'ffe backbones' lists." in refused.stderr
