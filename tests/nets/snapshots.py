"""What must stay as it is, as plain values: public signatures, help texts, keys of ``--json``.

No names of modules stand in them, so that files may move; nor anything that
differs from one machine to another.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import click
from click.testing import CliRunner

import ffe
import ffe.errors
import ffe.testing
from ffe.cli import COMMANDS, cli

_PATH = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])")  # of a module, before a name

WIDTH = 80


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))
    return _PATH.sub("", text)


def _default(value: Any) -> str:
    if callable(value):
        return "<function>"
    assert value is None or isinstance(value, bool | int | float | str | tuple), value  # others may differ between machines
    return repr(value)


def parameters(function: Any) -> list[str]:
    """Return the parameters of a function and what it returns, a line each."""
    signature = inspect.signature(function)
    lines = []
    for parameter in signature.parameters.values():
        line = f"{parameter.kind.name.lower()} {parameter.name}"
        if parameter.annotation is not parameter.empty:
            line += f": {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            line += f" = {_default(parameter.default)}"
        lines.append(line)
    if signature.return_annotation is not signature.empty:
        lines.append(f"-> {_annotation(signature.return_annotation)}")
    return lines


def _ours(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.split(".")[0] == "ffe"]


def _set_on_self(kind: type) -> set[str]:
    """Return the names that the methods of a class, and of its bases, set on ``self``."""
    tree = ast.parse("\n".join(textwrap.dedent(inspect.getsource(base)) for base in _ours(kind)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def members(kind: type) -> set[str]:
    """Return the public names of a class: methods, properties, fields, and what it sets on itself."""
    names = _set_on_self(kind)
    for base in _ours(kind):
        names |= {*vars(base), *vars(base).get("__annotations__", {})}
    return {name for name in names if not name.startswith("_")}


def _class(kind: type) -> dict[str, Any]:
    """Return the bases of a class and its public members, with their parameters and types."""
    content: dict[str, Any] = {"bases": [base.__name__ for base in kind.__bases__]}
    if any("__init__" in vars(base) for base in _ours(kind)):
        content["__init__"] = parameters(kind.__init__)  # type: ignore[misc]
    types: dict[str, Any] = {}
    for base in reversed(_ours(kind)):
        types |= vars(base).get("__annotations__", {})
    for name in sorted(members(kind)):
        value = inspect.getattr_static(kind, name, None)
        if isinstance(value, property):
            content[name] = ["property", *parameters(value.fget)]
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            content[name] = parameters(getattr(kind, name))
        else:
            content[name] = f"attribute: {_annotation(types[name])}" if name in types else "attribute"
    return content


def _returned() -> Iterator[type]:
    """Yield the classes of ffe that its public functions say they return."""
    functions = [value for name in ffe.__all__ if inspect.isfunction(value := getattr(ffe, name))]
    names = set(re.findall(r"\w+", " ".join(function.__annotations__["return"] for function in functions)))
    for module in pkgutil.walk_packages(ffe.__path__, "ffe."):
        if module.name == "ffe.__main__":
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name in names and inspect.isclass(value) and value.__module__ == module.name:
                yield value


def signatures() -> dict[str, Any]:
    """Return every public name with its signature, and the public members of what public functions return."""
    found: dict[str, Any] = {}
    for module in (ffe, ffe.errors, ffe.testing):
        for name in set(module.__all__) - {"__version__"}:
            value = getattr(module, name)
            found[f"{module.__name__}.{name}"] = _class(value) if inspect.isclass(value) else parameters(value)
    for kind in _returned():
        found[f"returned {kind.__name__}"] = sorted(members(kind))
    return found


def groups(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a group of commands, of each command in it, and so on below."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from groups(command, (*path, name))
        else:
            yield (*path, name)


def help_texts() -> dict[str, str]:
    """Return what ``--help`` says of ffe and of each command."""
    assert isinstance(cli, click.Group)
    assert {path[0] for path in groups(cli) if path} == set(COMMANDS)
    texts = {}
    for path in groups(cli):
        result = CliRunner().invoke(cli, [*path, "--help"], prog_name="ffe", terminal_width=WIDTH, max_content_width=WIDTH)
        assert result.exit_code == 0, result.output
        texts[" ".join(("ffe", *path))] = result.stdout
    return texts
