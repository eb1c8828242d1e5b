"""Imports only look down, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ffe"

HEAVY = {
    *(
        "tensorflow",
        "keras",
        "sklearn",
        "h5py",
        "numpy",
        "PIL",
        "rich",
        "openvino",
        "matplotlib",
        "keras_tuner",
        "keras_hub",
        "scipy",
    ),
    *(
        "joblib",
        "cv2",
        "filelock",
        "simplejpeg",
        "nncf",
        "numba",
        "psutil",
        "platformdirs",
        "jinja2",
        "hdf5plugin",
        "isal",
        "keras_hub",
    ),
    *("ai_edge_litert", "coremltools", "onnx", "onnxruntime", "tf2onnx"),
    *("torch", "torchvision", "timm", "transformers", "huggingface_hub", "safetensors", "pyarrow", "ray"),
    *("starlette", "uvicorn", "python_multipart"),
    *("fsspec", "s3fs", "gcsfs", "adlfs", "aiohttp", "botocore"),
}

# lowest first; the packages of one layer do not import each other
LAYERS = (
    {"_version", "redaction"},
    {"errors"},
    {"base"},
    {"specs"},
    {"evaluation"},
    {"images", "splits", "store", "heads"},
    {"backbones"},
    {"engines"},
    {"dataset", "wording"},
    {"extraction", "bundle", "tuning"},
    {"predictor"},
    {"finetuning", "explaining", "exporting"},
    {"comparing", "labelling"},
    {"report"},
    {"serving"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

FILES = sorted(PACKAGE.rglob("*.py"))


def loaded_by(code: str) -> set[str]:
    """Run code in a new process, and return the top-level modules that it loaded."""
    code += "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True, cwd=PACKAGE.parent
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_the_standard_library_only() -> None:
    before = loaded_by("pass")
    loaded = loaded_by("import ffe\nassert ffe.__version__\ndir(ffe)") - before
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name not in sys.stdlib_module_names} == {"ffe"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import runpy, sys\nsys.argv = ['ffe', '--help']\n"
        "try:\n    runpy.run_module('ffe', run_name='__main__')\n"
        "except SystemExit as done:\n    assert not done.code, done.code"
    )
    loaded = loaded_by(code)
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_nothing_is_loaded_by_an_unknown_name() -> None:
    loaded = loaded_by("import ffe\nassert not hasattr(ffe, 'nothing')")
    assert loaded & HEAVY == set()


def is_type_checking(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a module, but for what only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield other
                yield from nodes(other)
        else:
            yield child
            yield from nodes(child)


def imports_of(file: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name inside ffe, line) of every import, also inside functions and by name."""
    for node in nodes(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "ffe")


def unit_of(file: Path) -> str:
    """Return the layer's member that a file belongs to: ``images``, ``splits``; empty for ``ffe/__init__.py``."""
    part = file.relative_to(PACKAGE).parts[0]
    return "" if part == "__init__.py" else part.removesuffix(".py")


def test_every_module_has_its_layer() -> None:
    assert {unit_of(file) for file in FILES} - {"", "testing"} == set(LEVEL)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_look_down(file: Path) -> None:
    unit = unit_of(file)
    wrong = []
    for name, line in imports_of(file):
        target = name.split(".")[1]
        if unit == "":
            allowed = target == "_version"
        elif unit == "testing":
            allowed = target == "testing" or LEVEL.get(target, len(LAYERS)) < LEVEL["predictor"]
        else:
            allowed = target == unit or LEVEL.get(target, len(LAYERS)) < LEVEL[unit]
        if not allowed:
            wrong.append(f"line {line}: {name}")
    assert wrong == []


def test_the_rule_sees_imports_inside_functions(tmp_path: Path) -> None:
    """So that the test above can fail."""
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nimport numpy\nif TYPE_CHECKING:\n    from ffe.cli import main\n"
        "def f():\n    import ffe.commands\n    if f:\n        from ffe.heads.base import Head\n"
    )
    assert list(imports_of(file)) == [("ffe.commands", 6), ("ffe.heads.base.Head", 8)]


def files_below(package: Path) -> dict[str, set[str]]:
    """Return, for the module of each file below ``package``, the modules of the files that it imports.

    Everything counts: imports inside functions, and what only type checkers see.
    """
    files = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    graph: dict[str, set[str]] = {name: set() for name in files}
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                while name and name not in files:
                    name = name.rpartition(".")[0]
                if name not in ("", module):
                    graph[module].add(name)
    return graph


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return every set of two files or more that reach each other by imports."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        open_ends = [start]
        while open_ends:
            new = graph[open_ends.pop()] - seen
            seen |= new
            open_ends += new
        return seen

    behind = {module: reached(module) for module in graph}
    return {
        frozenset(other for other in behind[module] if module in behind[other]) for module in graph if module in behind[module]
    }


def test_no_circles_of_files() -> None:
    assert circles(files_below(PACKAGE)) == set()


def test_the_rule_sees_circles(tmp_path: Path) -> None:
    """So that the test above can fail."""
    for name, text in {
        "__init__": "",
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ffe.b import B\n",
        "b": "def f():\n    import ffe.c\n",
        "c": "from ffe import a\n",
        "d": "from ffe.a import A\nfrom ffe.d import D\n",
        "e/__init__": "from ffe.e.f import F\n",
        "e/f": "from ffe.d import D\n",
    }.items():
        file = tmp_path / "ffe" / f"{name}.py"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)
    assert circles(files_below(tmp_path / "ffe")) == {frozenset({"ffe.a", "ffe.b", "ffe.c"})}
    (tmp_path / "ffe" / "d.py").write_text("from ffe.e import G\n")
    assert frozenset({"ffe.d", "ffe.e", "ffe.e.f"}) in circles(files_below(tmp_path / "ffe"))


@pytest.mark.parametrize("module", ["ffe", "ffe.errors", "ffe.testing"])
def test_public_names_are_sorted_and_there(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__all__ == sorted(found.__all__)
    assert len(set(found.__all__)) == len(found.__all__)
    for name in found.__all__:
        assert getattr(found, name) is not None
    assert dir(found) == found.__all__ or set(found.__all__) <= set(dir(found))


def test_lazy_names_are_the_public_ones() -> None:
    import ffe

    assert set(ffe._HOMES) | {"__version__"} == set(ffe.__all__)
    with pytest.raises(AttributeError, match="module 'ffe' has no attribute 'nothing'"):
        _ = ffe.nothing
