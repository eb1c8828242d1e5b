"""What ``requirements-predict.txt`` names is enough to predict, and what ``docs/deploy/Dockerfile`` does works."""

from __future__ import annotations

import importlib.metadata
import json
import lzma
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements-predict.txt"
WRITTEN = ROOT / "tests" / "nets" / "written"
PICTURES = ROOT / "data" / "pictures"
MODELS = ("svm", "logistic", "dense", "forest", "ensemble", "svm_landmarks", "int8", "finetuned", "schema1_logistic")
UNWANTED = {"tensorflow", "keras", "keras-tuner", "tensorboard", "nncf", "torch", "scikit-learn", "scipy", "numba"}
MOST_BYTES = 700 << 20
TOKEN = "abcdefgh12"


def requirements() -> list[str]:
    lines = (line.strip() for line in REQUIREMENTS.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """Return what is installed of the requirements, and of what these require in turn."""
    found: dict[str, importlib.metadata.Distribution] = {}
    open_ends = requirements()
    while open_ends:
        requirement = Requirement(open_ends.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or (name := canonical(requirement.name)) in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        open_ends += found[name].requires or []
    return found


def test_bounds_are_those_of_the_project_and_nothing_heavy_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    assert set(requirements()) <= {line.partition(";")[0].strip() for line in known}
    assert set(project["optional-dependencies"]["serve"]) <= set(requirements())
    assert UNWANTED.isdisjoint(distributions())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in (*(f"{model}.ffe" for model in MODELS), "schema4.h5"):
        (folder / name).write_bytes(lzma.decompress((WRITTEN / f"{name}.xz").read_bytes()))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that sees of all that is installed here only what the requirements bring."""
    folder = tmp_path_factory.mktemp("site")
    for distribution in distributions().values():
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
    (folder / "ffe").symlink_to(ROOT / "ffe")
    cache = str(folder / "no" / "such" / "folder")
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "FFE_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": "1"}


# all in one process: each of these commands loads OpenVINO
RUN = """
import contextlib, io, json, sys
from ffe.cli import cli
for arguments in json.loads(sys.stdin.read()):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            cli(arguments)
        except SystemExit as done:
            code = done.code
    print(json.dumps([code, printed.getvalue()]), flush=True)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def run_alone(code: str, commands: list[list[str]], env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` on some commands in a Python that has nothing but what prediction needs."""
    given = json.dumps(commands)
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 300, "env": env, "cwd": folder}
    return subprocess.run([sys.executable, "-S", "-c", code], input=given, check=False, **options)


def test_predict_explain_and_info_run_with_nothing_else(models: Path, alone: dict[str, str], tmp_path: Path) -> None:
    asked = ("cat/cat_000.png", "dog/dog_005.png")
    photos = [str(PICTURES / name) for name in asked]
    commands = [["info", str(models / "schema4.h5"), "--json"]]
    for model in MODELS:
        file = str(models / f"{model}.ffe")
        commands += [["predict", file, *photos, "--json"], ["info", file], ["explain", file, *photos, "--json"]]
    commands += [["predict", str(models / "svm.ffe"), *photos, "--tta", "2", "--augment", "flip,zoom", "--csv", "a.csv"]]
    done = run_alone(RUN, commands, alone, tmp_path)
    assert done.returncode == 0, done.stderr
    *found, loaded = map(json.loads, done.stdout.splitlines())
    assert [command for command, (code, _) in zip(commands, found, strict=True) if code] == [], done.stderr
    assert "openvino" in loaded
    assert set(loaded).isdisjoint({"tensorflow", "keras", "torch", "sklearn", "scipy", "numba", "nncf"})
    stored: dict[str, Any] = json.loads((WRITTEN.parent / "answers.json").read_text("utf-8"))
    for command, (_, printed) in zip(commands, found, strict=True):
        if command[0] == "predict" and "--json" in command:
            label, _, probabilities = stored[Path(command[1]).name]["predict"][0]
            answer = json.loads(printed.splitlines()[0])
            assert answer["label"] == label
            tolerance = 0.05 if "int8" in command[1] else 2e-3
            assert answer["probabilities"] == pytest.approx(probabilities, abs=tolerance)


def test_serve_runs_with_nothing_else(models: Path, alone: dict[str, str]) -> None:
    command = [sys.executable, "-S", "-m", "ffe", "serve", str(models / "finetuned.ffe"), "--port", "0"]
    _check_server(command, PICTURES / "cat" / "cat_000.png", env={**alone, "FFE_TOKEN": TOKEN})


def test_what_is_not_installed_is_named(models: Path, alone: dict[str, str], tmp_path: Path) -> None:
    """A graphics card makes nobody ask Keras, which is not there; what cannot be done says what it lacks."""
    photo, model = str(PICTURES / "cat" / "cat_000.png"), str(models / "svm.ffe")
    commands = [
        ["predict", model, photo],
        ["predict", str(models / "finetuned.ffe"), photo, "--engine", "keras"],
        ["evaluate", model, str(PICTURES), "--json"],
        ["train", str(models / "schema4.h5"), "-o", "m.ffe", "--head", "logistic", "--without-backbone"],
    ]
    code = f"import ffe.engines.factory as factory\nfactory.may_have_gpu = lambda: True\n{RUN}"
    done = run_alone(code, commands, alone, tmp_path)
    assert [json.loads(line)[0] for line in done.stdout.splitlines()[:-1]] == [0, 3, 3, 3], done.stderr
    assert "ffe: The engine keras needs the packages keras and tensorflow, which are not installed" in done.stderr
    assert "ffe: 'ffe evaluate' needs the package scipy, which is not installed; install it with 'pip " in done.stderr
    assert "images/s" not in done.stderr  # before photos are asked about
    assert re.search(r"ffe: 'ffe train' needs the package [\w-]+, which is not installed; install it with 'pip ", done.stderr)
    assert "or install ffe with all that it needs." in done.stderr


def lines_of_dockerfile() -> Iterator[tuple[str, str]]:
    """Yield (instruction, rest) of each line of the Dockerfile, continued lines joined."""
    text = (ROOT / "docs" / "deploy" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            yield instruction, rest


@pytest.mark.slow
def test_the_container_answers_as_any_user_on_a_disk_that_can_only_be_read(models: Path) -> None:
    """Do by hand what Docker does: its lines in their order, below a folder; then a mount that can only be read, an unknown user.

    It needs a package index, and root on Linux.
    """
    assert sys.platform == "linux", "mounts and users of Linux are wanted"
    assert os.geteuid() == 0, "only root may mount and become another user; run this as root"
    with tempfile.TemporaryDirectory(prefix="ffe-container-", dir="/var/tmp") as name:
        _prove(Path(name), models)


def _prove(root: Path, models: Path) -> None:
    root.chmod(0o755)
    environment: dict[str, str] = {}
    user = start = ""
    for instruction, rest in lines_of_dockerfile():
        here = re.sub(r"(?<![\w./])/(opt|src)\b", f"{root}/\\1", rest)
        if instruction == "COPY" and not rest.startswith("--from"):
            *sources, target = here.split()
            for source in sources:
                place = Path(target) / source if target.endswith("/") else Path(target)
                place.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, place)
        elif instruction == "RUN":
            words = shlex.split(here)
            words[:1] = {"python": [sys.executable], "pip": [sys.executable, "-m", "pip"]}[words[0]]
            subprocess.run(words, check=True, timeout=900, cwd="/")
        elif instruction == "ENV":
            environment = dict(pair.split("=", 1) for pair in here.split())
        elif instruction == "USER":
            user = rest
        elif instruction == "ENTRYPOINT":
            start = json.loads(rest)[0]
    installed = subprocess.run(["du", "-sb", root / "opt"], capture_output=True, text=True, check=True, timeout=100)
    size = int(installed.stdout.split()[0])
    print(f"\ninstalled: {size / 2**20:.0f} MiB, {user=}")
    for folder in sorted((root / "opt").glob("ffe/lib/python*/site-packages/*"), key=_bytes, reverse=True)[:12]:
        print(f"{_bytes(folder) / 2**20:8.1f} MiB  {folder.name}")
    assert size < MOST_BYTES
    shutil.copytree(models, root / "models")
    shutil.copytree(PICTURES, root / "pictures")
    model, photo = root / "models" / "finetuned.ffe", root / "pictures" / "cat" / "cat_000.png"
    subprocess.run(["chmod", "-R", "a+rX", root], check=True, timeout=100)
    for command in (["predict", model, photo], ["info", model], ["info", root / "models" / "schema4.h5"]):
        done = subprocess.run(
            _contained(root, environment, start, *command), capture_output=True, text=True, timeout=100, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    explained = _contained(root, environment, start, "explain", model, photo, "--json")
    done = subprocess.run(explained, capture_output=True, text=True, timeout=100, check=False)
    assert json.loads(done.stdout)["label"] in {"cat", "dog"}, done.stderr
    _check_server(_contained(root, environment, start, "serve", model, "--host", "0.0.0.0", "--port", 0), photo)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def _contained(root: Path, environment: dict[str, str], *command: object) -> list[str]:
    """Return what runs a command as a user that nobody knows, without a home, where no disk can be written to."""
    words = shlex.join(map(str, command))
    own = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    python = shlex.quote(sys.base_prefix)  # it may lie in root's home, which others cannot enter: then that is covered
    open_to_all = f"mkdir -p {root}/python && mount --bind {python} {root}/python && mount -t tmpfs -o mode=755 none /root"
    open_to_all += f" && mkdir -p {python} && mount --bind {root}/python {python}"
    mounts = "awk '{print $2}' /proc/self/mounts"
    read_only = f'{mounts} | while read -r place; do mount -o remount,bind,ro "$place" 2>/dev/null; done'
    check = "for place in / /tmp /var/tmp /dev/shm; do ! touch $place/x 2>/dev/null || exit 99; done"
    become = "setpriv --reuid 12345 --regid 12345 --clear-groups --no-new-privs"
    script = f"{open_to_all} || exit 98; {read_only}; {check}; cd /; exec {become} env -i {own} FFE_TOKEN={TOKEN} {words}"
    return ["unshare", "--mount", "sh", "-c", script]


def _check_server(command: list[str], photo: Path, **options: Any) -> None:
    """Start the server, on any port that is free, and ask it; the token is in its environment."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            port = re.search(r":(\d+)", said)
            assert port, said + server.stdout.read()
            address = f"http://127.0.0.1:{port[1]}"
            with urllib.request.urlopen(f"{address}/health", timeout=20) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"{address}/", timeout=20) as answer:  # its template is installed too
                assert b"<html" in answer.read()
            request = urllib.request.Request(f"{address}/predict", photo.read_bytes(), {"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert b'"label"' in answer.read()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
