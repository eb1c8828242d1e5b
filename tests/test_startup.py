"""What a warm start does not load: TensorFlow, Keras, and what only a search needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ffe.commands.tune import train
from ffe.extraction.run import extract

NEVER = {"tensorflow", "keras", "keras_tuner", "tensorboard", "nncf", "jax", "torch", "rich", "joblib", "jinja2"}
NOT_TO_PREDICT = NEVER | {"sklearn", "scipy", "h5py"}


def loaded_by(*commands: Sequence[str]) -> tuple[set[str], str]:
    """Run lines of ``ffe`` in a new process; return the top-level modules that they loaded, and what they printed."""
    code = (
        "import json, sys\nfrom ffe.cli import main\n"
        f"for arguments in {[list(command) for command in commands]}:\n    sys.argv = ['ffe', *arguments]\n"
        "    try:\n        main()\n    except SystemExit as done:\n        assert not done.code, (arguments, done.code)\n"
        "names = {name.partition('.')[0] for name, module in sys.modules.items() if module is not None}\n"
        "print('\\n' + json.dumps(sorted(names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    *printed, modules = done.stdout.strip().splitlines()
    return set(json.loads(modules)), "\n".join(printed)


@pytest.fixture(scope="module", params=["float32", "int8"])
def store(request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "features.h5"
    extract(pictures, path, backbone="mobilenet_0.25", size=32, weights="random", precision=request.param)
    return path


def test_extraction_with_a_warm_cache(store: Path, pictures: Path, tmp_path: Path) -> None:
    from ffe.store.reader import FeatureStore

    with FeatureStore(store) as file:
        precision = file.spec.precision
    options = ("--backbone", "mobilenet_0.25", "--size", "32", "--weights", "random", "--precision", precision, "--json")
    modules, printed = loaded_by(("extract", str(pictures), "-o", str(tmp_path / "f.h5"), *options))
    assert json.loads(printed)["computed"] == 40
    assert json.loads(printed)["engine"] == "openvino"
    assert modules & (NEVER | {"sklearn"}) == set()
    assert "openvino" in modules


@pytest.mark.parametrize("store", ["float32"], indirect=True)
def test_a_search_beyond_its_first_trials(store: Path, tmp_path: Path) -> None:
    """KerasTuner is in a process of its own, and so is Keras, which writes the model; scikit-learn brings rich and joblib."""
    options = ("-o", str(tmp_path / "model.ffe"), "--heads", "logistic", "--trials", "12", "--json")
    modules, printed = loaded_by(("tune", str(store), *options))
    assert len(json.loads(printed)["leaderboard"]) == 12
    assert modules & (NEVER - {"rich", "joblib"}) == set()


def test_prediction(store: Path, pictures: Path) -> None:
    """With every head, one after the other: all of them are arrays."""
    commands = []
    for head in ("svm", "forest", "logistic", "dense"):
        model = store.with_name(f"{head}.ffe")
        train(store, model, head=head, settings={"epochs": 2} if head == "dense" else None)
        commands.append(("predict", str(model), str(pictures / "cat" / "cat_000.png"), "--json"))
    modules, printed = loaded_by(*commands)
    assert [json.loads(line)["label"] in {"cat", "dog"} for line in printed.splitlines()] == 4 * [True]
    assert modules & NOT_TO_PREDICT == set()


def test_tensorflow_greets_nobody_and_swallows_nothing(tmp_path: Path) -> None:
    """Whatever is said while it is imported beside other work is heard; what it says itself is not."""
    (tmp_path / "tensorflow.py").write_text(
        "import os, time\nos.write(2, b'I0000 00:00:17.29 41 port.cc:153] greetings\\nworth knowing\\n')\n"
        "open('importing', 'w').close()\nwhile not os.path.exists('printed'):\n    time.sleep(0.01)\n"
    )
    code = (
        "import os, sys, threading, time\nsys.path.insert(0, '.')\nfrom ffe.base.stopping import watch_imports\n"
        "watch_imports()\nthread = threading.Thread(target=lambda: __import__('tensorflow'))\nthread.start()\n"
        "while not os.path.exists('importing'):\n    time.sleep(0.01)\n"
        "print('heard', file=sys.stderr)\nopen('printed', 'w').close()\nthread.join()\nos.write(2, b'after\\n')"
    )
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "heard\nworth knowing\nafter\n")


def run_python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that has ffe."""
    path = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
        env={**os.environ, **path, **environment},
    )


def test_python_is_as_quiet_as_the_command_line(pictures: Path, tmp_path: Path) -> None:
    """The engine keras does load it, so the tests above can fail."""
    code = (
        "import ffe, sys\n"
        f"ffe.extract({str(pictures)!r}, 'f.h5', backbone='mobilenet_0.25', size=32, weights='random', engine='keras')\n"
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    done = run_python(code, tmp_path, TF_CPP_MIN_LOG_LEVEL="3")
    assert (done.returncode, done.stdout) == (0, "True True\n")
    assert done.stderr == "THE BACKBONE IS UNTRAINED (--weights random): its features are for tests alone\n"


@pytest.mark.parametrize(("level", "heard"), [(None, ""), ("3", ""), ("0", "I0000 00:00:17.29 41 port.cc:153] greetings\n")])
def test_who_asks_for_the_greetings_has_them(
    tmp_path: Path, level: str | None, heard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'I0000 00:00:17.29 41 port.cc:153] greetings\\n')\n")
    code = "import sys\nsys.path.insert(0, '.')\nimport ffe\nffe.FeatureStore\nimport tensorflow"
    assert run_python(code, tmp_path, **({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level})).stderr == heard


def test_an_import_that_fails_says_all_it_said(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'I0000 00:00:17.29 41 x] why\\n')\nraise ImportError('no')\n"
    )
    code = "import sys\nsys.path.insert(0, '.')\nimport ffe\nffe.FeatureStore\nimport tensorflow"
    done = run_python(code, tmp_path)
    assert done.returncode == 1
    assert "I0000 00:00:17.29 41 x] why" in done.stderr
    assert "ImportError" in done.stderr


def test_an_import_that_is_interrupted_greets_nobody(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'I0000 00:00:17.29 41 x] greetings\\nworth knowing\\n')\nraise KeyboardInterrupt\n"
    )
    code = (
        "import sys\nsys.path.insert(0, '.')\nimport ffe\nffe.FeatureStore\n"
        "try:\n    import tensorflow\nexcept KeyboardInterrupt:\n    print('interrupted')"
    )
    done = run_python(code, tmp_path)
    assert (done.stdout, done.stderr) == ("interrupted\n", "worth knowing\n")


@pytest.mark.parametrize("level", ["3", "0"])
def test_a_conversion_greets_nobody(tmp_path: Path, level: str) -> None:
    said = (
        "fully_quantize: 0, inference_type: 6\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
        "[2026-11-29 22:43:53,855 W 19222 19222] rpc_client.h:153: Failed to connect to GCS at address a:1 within 5 seconds.\n"
    )
    code = (
        "import os\nfrom ffe.base.tensorflow_log import without_greetings\n"
        f"with without_greetings():\n    os.write(2, {said.encode()!r} + b'worth knowing\\n')"
    )
    done = run_python(code, tmp_path, TF_CPP_MIN_LOG_LEVEL=level)
    assert done.stderr == ("" if level == "3" else said) + "worth knowing\n"


def test_what_ray_warns_of_is_not_heard(tmp_path: Path) -> None:
    """Its client does where no cluster answers, which is an error of ffe's own."""
    code = (
        "import sys, warnings\nimport ffe.cli.cache as module\nfrom ffe.cli import main\n"
        "warned = ('connection timed out', UserWarning, 'worker.py', 335)\n"
        "module.command.callback = lambda **options: warnings.warn_explicit(*warned, module='ray.util.client.worker')\n"
        "sys.argv = ['ffe', 'cache']\nmain()"
    )
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_log_keeps_of_the_import_stays_open(tmp_path: Path) -> None:
    """A handler keeps the stream that standard error is when TensorFlow makes it; it follows standard error ever after."""
    (tmp_path / "tensorflow.py").write_text(
        "import logging\nlogging.getLogger('tensorflow').addHandler(logging.StreamHandler())\n"
    )
    code = (
        "import logging, os, sys\nsys.path.insert(0, '.')\n"
        "from ffe.base.stopping import watch_imports\nwatch_imports()\n"
        "import tensorflow\nlogging.getLogger('tensorflow').warning('heard')\nos.dup2(1, 2)\n"
        "logging.getLogger('tensorflow').warning('moved')"
    )
    done = run_python(code, tmp_path)
    assert (done.stderr, done.stdout) == ("heard\n", "moved\n")


def test_a_closed_standard_error_stops_no_import(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("imported = True\n")
    code = (
        "import os, sys\nos.close(2)\nsys.path.insert(0, '.')\nimport ffe\nffe.FeatureStore\n"
        "import tensorflow\nprint(tensorflow.imported)"
    )
    assert run_python(code, tmp_path).stdout == "True\n"


def test_python_does_not_look_through_all_objects_as_it_ends() -> None:
    """What is asked to be done at the end first is done last: by then all objects are frozen."""
    code = (
        "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); "
        "sys.argv = ['ffe', '--version']; from ffe.cli import main; main()"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split()[-1] == "True"
