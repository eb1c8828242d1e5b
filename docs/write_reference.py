"""Write the parts of docs/ that follow from the code: commands, Python names, heads, backbones, the tree of packages.

    python docs/write_reference.py

Each part stands in its page between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; the rest of a page is written by hand.
tests/test_reference.py fails where a page is not what this script would write.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

import ffe
from ffe import errors
from ffe.backbones.catalog import CATALOG
from ffe.cli import COMMANDS, cli
from ffe.heads import HEADS

DOCS = Path(__file__).resolve().parent
PACKAGE = Path(ffe.__file__).parent
WIDTH = 100

Section = Callable[[], Iterator[str]]


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    header = list(header)
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"


def commands() -> Iterator[str]:
    """Yield what ``--help`` says of every command."""
    above = click.Context(cli, info_name="ffe", **cli.context_settings)  # with its -h
    for name in COMMANDS:
        command = cli.get_command(above, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=above, terminal_width=WIDTH, max_content_width=WIDTH)
        yield from (f"## ffe {name}", "", "```text", command.get_help(context).rstrip(), "```", "")


def python() -> Iterator[str]:
    """Yield the signature and the docstring of every public name, and of the values that the functions return."""
    results: dict[str, type] = {}
    for name in ffe.__all__:
        thing = getattr(ffe, name)
        if name == "__version__" or thing is ffe.FfeError:
            continue
        yield from (f"## ffe.{name}", "", *described(f"ffe.{name}", thing))
        if inspect.isclass(thing):
            yield from members(thing)
        else:
            results |= {kind.__name__: kind for kind in returned(thing)}
    yield from ("## What the functions return", "")
    for name in sorted(results):
        yield from (f"### {name}", "", *markdown(inspect.getdoc(results[name]) or ""), *fields(results[name]))
    yield from ("## Errors", "", "All of them are in `ffe.errors`.", "", *error_tree(errors.FfeError))


def described(name: str, thing: Any) -> Iterator[str]:
    """Yield the signature of a function or class, then its docstring."""
    yield from ("```py", signature(name, thing), "```", "", *markdown(inspect.getdoc(thing) or ""))


def members(kind: type) -> Iterator[str]:
    """Yield the public methods and properties of a class."""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield from (f"### {kind.__name__}.{name}", "", *markdown(inspect.getdoc(member) or ""))
        elif inspect.isfunction(member):
            yield from (f"### {kind.__name__}.{name}()", "", *described(name, member))


def fields(kind: type) -> Iterator[str]:
    """Yield what the comments on or behind the fields of a class say; one may begin with the names that it is for."""
    found = re.findall(r"^((?:    # .+\n)*)    (\w+): [^#\n]+(?:  # (.+))?$", inspect.getsource(kind), re.MULTILINE)
    said = {name: behind or " ".join(above.replace("    # ", "").split()) for above, name, behind in found}
    if any(said.values()):
        yield from ("**Attributes**", "")
        for name, text in said.items():
            names, colon, rest = text.partition(": ")
            several = colon and name in names.split(", ")
            if text:
                yield f"- `{names if several else name}`: {(rest if several else text).removesuffix('.')}."
        yield ""


def signature(name: str, thing: Any) -> str:
    """Return a signature in as many lines as it needs; a default that is a function is ``...``."""
    parameters, starred = [], False
    found = inspect.signature(thing)
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parameters.append("*")
            starred = True
        default = "..." if callable(parameter.default) else repr(parameter.default)
        given = "" if parameter.default is parameter.empty else f" = {default}"
        parameters.append(f"{parameter.name}: {parameter.annotation}{given}")
    end = "" if inspect.isclass(thing) else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parameters)}){end}"
    if len(line) <= WIDTH:
        return line
    return "\n".join((f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){end}"))


def returned(function: Any) -> Iterator[type]:
    """Yield the classes of ffe that a function returns, alone or in a list."""
    hint = typing.get_type_hints(function).get("return")
    for kind in (hint, *typing.get_args(hint)):
        if inspect.isclass(kind) and kind.__module__.startswith("ffe."):
            yield kind


def markdown(doc: str) -> Iterator[str]:
    """Yield a docstring as Markdown: its sections (``Args:``, ``Raises:``) as lists."""
    for block in re.split(r"\n(?=(?:Args|Attributes|Returns|Yields|Raises):\n)", doc):
        head, _, body = block.partition("\n")
        if not re.fullmatch(r"(Args|Attributes|Returns|Yields|Raises):", head):
            yield from (block.strip(), "")
            continue
        yield from ("**Arguments**" if head == "Args:" else f"**{head[:-1]}**", "")
        if head in {"Returns:", "Yields:"}:
            yield from (inspect.cleandoc(body), "")
            continue
        for entry in re.split(r"\n(?=    \S)", body):
            names, _, text = " ".join(entry.split()).partition(": ")
            yield f"- `{names}`: {text}"
        yield ""


def error_tree(kind: type, depth: int = 0) -> Iterator[str]:
    """Yield an error and those below it, as a nested list."""
    yield f"{'    ' * depth}- `{kind.__name__}`: {(inspect.getdoc(kind) or '').splitlines()[0]}"
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from error_tree(below, depth + 1)


def heads() -> Iterator[str]:
    """Yield a table of the parameters of each head."""
    for name, head in HEADS.items():
        yield from (f"### {name}", "", (inspect.getdoc(head) or "").splitlines()[0], "")
        rows = []
        for one in head.space:
            where = "always" if one.when is None else f"`{one.when[0]}` is {' or '.join(map(str, one.when[1]))}"
            low, high = one.tried or (one.low, one.high)
            searched = "all of them" if one.choices else f"{low:g} to {high:g}{', by its logarithm' if one.log else ''}"
            rows.append((f"`{one.name}`", one.default, one.range_text(), where, searched if one.searched else "no"))
        yield from table(("parameter", "default", "values", "exists where", "searched"), rows)
        yield ""


def backbones() -> Iterator[str]:
    """Yield a table of the catalogue."""
    header = ("name", "top-1", "GFLOPs", "parameters", "channels", "size", "least size", "scaling", "licence")
    yield from table(
        header,
        (
            (
                f"`{row.name}`",
                f"{row.top1:.1f} %",
                f"{row.gflops:.2f}",
                f"{row.parameters:,}",
                f"{row.channels:,}",
                row.size,
                row.min_size,
                row.mode,
                row.licence,
            )
            for row in CATALOG.values()
        ),
    )


def tree() -> Iterator[str]:
    """Yield every package with what its docstring says, and its files with theirs."""
    for folder in (PACKAGE, *sorted(path.parent for path in PACKAGE.glob("*/**/__init__.py"))):
        dotted = ".".join(("ffe", *folder.relative_to(PACKAGE).parts))
        yield from (f"### {dotted}", "", first_line(folder / "__init__.py"), "")
        files = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
        yield from table(("file", "what"), ((f"`{file.name}`", first_line(file)) for file in files))
        yield ""


def first_line(file: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n")[0]


SECTIONS: dict[str, tuple[str, Section]] = {
    "commands": ("reference/cli.md", commands),
    "python": ("reference/python.md", python),
    "heads": ("reference/heads.md", heads),
    "backbones": ("reference/backbones.md", backbones),
    "tree": ("design/architecture.md", tree),
}


def written(name: str) -> tuple[Path, str]:
    """Return a page and its text with the section of this name as it should be."""
    place, section = SECTIONS[name]
    page = DOCS / place
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, _, rest = page.read_text("utf-8").partition(begin)
    body = "\n".join(line.rstrip() for line in section()).strip()
    return page, f"{before}{begin}\n\n{body}\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    for _name in SECTIONS:
        _page, _text = written(_name)
        _page.write_text(_text, "utf-8")
