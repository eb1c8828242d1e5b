"""``ffe bench`` and ``ffe doctor``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from ffe.cli import cli
from ffe.cli.show import quiet
from ffe.extraction.run import extract

pytestmark = pytest.mark.usefixtures("quick_measures")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str]]]:
    """Runs ``ffe extract`` of the bench in this process; returns the arguments of each, and the int8 models that it found."""
    from ffe.commands import bench

    started = []

    def run(command: list[str], *, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        module, *arguments = command[2:]
        if module != "ffe":
            return subprocess.run(command, env=env, **options)
        assert {env[name] for name in ("TMPDIR", "TEMP", "TMP")} == {str(Path(env["FFE_CACHE_DIR"]).parent)}
        started.append((arguments, [path.name for path in Path(env["FFE_CACHE_DIR"]).rglob("*-int8.zip")]))
        with monkeypatch.context() as patch:
            patch.setenv("FFE_CACHE_DIR", env["FFE_CACHE_DIR"])
            done = CliRunner().invoke(cli, arguments)
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    monkeypatch.setattr(bench, "subprocess", SimpleNamespace(run=run))
    return started


def test_bench_measures_every_way(
    pictures: Path,
    processes: list[tuple[list[str], list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Figures of a few drawn pictures mean nothing; that every way ran and was counted does."""
    options = ["--backbone", "mobilenet_0.25", "--size", "32", "--weights", "random", "--slow-photos", "2", "--repeats", "1"]
    layer = ["--layer", "conv_pw_2_relu"]
    before = os.environ["FFE_CACHE_DIR"]
    monkeypatch.setattr("ffe.engines.fastest._SECONDS", 0.01)
    steps: list[tuple[str, str]] = []
    monkeypatch.setattr("ffe.cli.bench.note", lambda step: None if quiet() else steps.append((step, caplog.text)))
    result = CliRunner().invoke(cli, ["bench", str(pictures), *options, *layer, "--json"])
    assert result.exit_code == 0, result.output
    assert os.environ["FFE_CACHE_DIR"] == before
    (announced, _), (converting, _), (first, logged), *_ = steps
    assert re.fullmatch(
        r"it will take about \d+ (s|min): 1 round of every way on 40 photos, one at a time on 2 of them", announced
    )
    assert converting == "converting and calibrating, into a temporary folder"
    assert first.startswith("1/1 one at a time")
    assert "kept" not in logged  # for all of it goes
    value = json.loads(result.stdout)
    assert (value["backbone"], value["size"], value["photos"], value["repeats"]) == ("mobilenet_0.25", [32, 32], 40, 1)
    ways = [(row["way"], row["scope"]) for row in value["rows"]]
    chosen = ways[4][0].split()[-1]
    assert chosen in {"2", "4", "8", "16"}
    assert ways == [
        ("one at a time", "whole process"),
        ("ffe extract", "whole process"),
        ("ffe extract, int8, calibration included", "whole process"),
        ("ffe extract, int8, calibration cached, fast decode", "whole process"),
        (f"openvino, float32, batches of {chosen}", "backbone alone"),
        ("openvino, int8", "backbone alone"),
        ("keras, batches of 32", "backbone alone"),
        ("decode exact", "decode alone"),
        ("decode fast", "decode alone"),
        ("converting the backbone", "once"),
        ("choosing engine and batches", "once"),
        ("calibrating int8", "once"),
    ]
    for row in value["rows"]:
        assert row["seconds"] > 0
        if row["scope"] != "once":
            assert row["images_per_second"] == pytest.approx(40 / row["seconds"])
            assert row["slowest"] <= row["images_per_second"] <= row["fastest"]
            assert row["ratio"] == pytest.approx(value["rows"][0]["seconds"] / row["seconds"])
    assert all(arguments[arguments.index("--layer") :][:2] == layer for arguments, _ in processes)
    # calibration is included where there is no int8 model yet, and cached means cached
    assert [(bool(models), "int8" in arguments, "fast" in arguments) for arguments, models in processes] == [
        (True, False, False),
        (False, True, False),
        (True, True, True),
    ]


def test_bench_of_too_few_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    result = CliRunner().invoke(cli, ["bench", str(tmp_path), "--backbone", "fake"])
    assert result.exit_code == 3
    assert f"'{tmp_path}' has 1 file; a bench needs at least 20 photos." in result.stderr


@pytest.fixture
def doctor_cache(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_doctor_before_the_first_extraction(doctor_cache: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 0, result.output
    for word in (
        "machine",
        "cores",
        "engine openvino  works",
        "engine keras     works: on tensorflow",
        "engine winograd  works: on ",
        "none",
        str(doctor_cache),
    ):
        assert word in result.stdout, word
    assert "No backbone is in the cache yet; after the first 'ffe extract' this says what to expect of it." in result.stdout


def test_doctor_says_what_to_expect(doctor_cache: Path, pictures: Path, tmp_path: Path) -> None:
    for precision in ("float32", "int8"):
        options = {"backbone": "mobilenet_0.25", "size": 32, "weights": "random", "precision": precision}
        extract(pictures, tmp_path / f"{precision}.h5", **options)  # type: ignore[arg-type]
    (doctor_cache / "models" / "broken.zip").write_text("no model")
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert [engine["name"] for engine in value["engines"]] == ["openvino", "winograd", "keras", "torch"]
    assert all(engine["works"] for engine in value["engines"] if engine["installed"])
    assert value["cached_models"] == 3
    expected = {row["precision"]: row for row in value["expected"]}
    assert set(expected) == {"float32", "int8"}
    for row in expected.values():
        assert (row["backbone"], row["size"]) == ("mobilenet_0.25", [32, 32])
        assert (row["engine"], row["batch_size"]) == ("openvino", 8)
        assert row["rate"] < min(row["backbone_rate"], row["decode_rate"])
        assert row["limit"] == ("backbone" if row["backbone_rate"] < row["decode_rate"] else "decode")
    assert result.stderr.splitlines()[-5:] == [
        "decoding is measured, for about two seconds",
        *(f"backbone {number} of 3 in the cache is measured, for about a second" for number in (1, 2, 3)),
        "the engines are tried; loading TensorFlow takes a few seconds",
    ]
    table = CliRunner().invoke(cli, ["doctor"]).stdout
    assert "What to expect, in images a second" in table
    assert "mobilenet_0.25" in table


@pytest.mark.parametrize(("there", "said"), [(True, "a GPU and its driver are there"), (False, "none found")])
def test_doctor_says_in_common_words_whether_there_is_a_gpu(
    there: bool, said: str, doctor_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffe.commands.doctor.may_have_gpu", lambda: there)
    printed = CliRunner().invoke(cli, ["doctor"]).stdout
    assert f"\nGPU              {said}\n" in printed
    assert "images/s per core" in printed


def test_doctor_says_what_int8_brings(doctor_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setattr("ffe.base.system.platform.machine", lambda: "x86_64")
    assert json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)["vnni"] is False
    monkeypatch.setattr("ffe.base.system.platform.machine", lambda: "aarch64")
    assert (
        "int8             what int8 brings on this kind of processor is not measured"
        in CliRunner().invoke(cli, ["doctor"]).stdout
    )


def test_doctor_says_what_does_not_work(doctor_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr("ffe.base.openvino_ir.import_openvino", broken)
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 0
    assert "DOES NOT WORK: ImportError: libtbb.so.12: cannot open shared object file" in result.stdout


def test_doctor_says_of_pytorch_whether_it_is_there_and_works(doctor_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> str:
        printed = CliRunner().invoke(cli, ["doctor"]).stdout
        return " ".join(printed.partition("engine torch")[2].partition("weights")[0].split())

    pytest.importorskip("torch", reason="PyTorch is not installed")
    assert state().startswith("works: on PyTorch 2.")
    monkeypatch.setattr("ffe.commands.doctor.torch_device", lambda: 1 / 0)
    assert state() == "DOES NOT WORK: ZeroDivisionError: division by zero"
    monkeypatch.setattr("ffe.commands.doctor.has_torch", lambda: False)
    assert state() == "not installed: for backbones of timm and Hugging Face on a GPU; 'pip install torch' brings it"
