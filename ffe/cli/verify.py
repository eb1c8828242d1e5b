"""``ffe verify``."""

from __future__ import annotations

import sys
from functools import partial

import click

from ffe.base.text import counted
from ffe.cli import UrlOrPath
from ffe.cli.options import engine_option, json_option, refuse_picture, weights_option
from ffe.cli.progress import Display
from ffe.cli.show import note, print_json


@click.command(short_help="Check every promise of a feature file or a model, and repair features.")
@click.argument("file", metavar="FEATURES|MODEL", type=click.Path())
@click.option(
    "--recompute",
    type=click.IntRange(0),
    default=0,
    show_default=False,
    metavar="N",
    help="Also put N rows, drawn at random, through the backbone again, and compare.",
)
@click.option("--source", type=UrlOrPath(), help="Where the pictures are now.  [default: where they were extracted from]")
@weights_option(help="imagenet, or the path of a weights file.")
@engine_option()
@click.option("--repair", is_flag=True, help="Make damaged rows again, from pictures whose content is still the same.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Draws other rows for --recompute.")
@json_option(help="Print the findings as JSON.")
def command(file: str, as_json: bool, **options: object) -> None:
    """Check every promise of a feature file or a model file, and name what is damaged.

    Of a feature file: that it is whole, that its tables and every row of
    features are the very bytes that were written, that features are numbers,
    and the int8 model. Of a model: the digest of every member, and its answers
    for the golden pictures inside. Leaves with code 3 if something is wrong.
    """
    from ffe.commands.verify import verify

    refuse_picture(file, "verify")
    with Display() as display:
        found = verify(file, progress=partial(display.count, "rows checked"), **options)  # type: ignore[arg-type]
    if as_json:
        print_json(found.to_json())
    else:
        if found.repaired:
            click.echo(f"{file}: {counted(found.repaired, 'row')} made again from pictures")
        for problem in found.problems:
            click.echo(problem.text())
        for text in found.notes:
            note(f"note: {text}")
        what = "rows" if found.kind == "features" else "golden pictures"
        again = f"; {found.recomputed} {what} computed again" if found.recomputed else ""
        checked = f"{counted(found.rows, 'row') if found.rows is not None else 'the file'} checked"
        verdict = f"all right, {checked}" if found.checksums else f"nothing wrong to be seen, but it has no checksums; {checked}"
        if not found.ok:
            verdict = f"NOT RIGHT, {counted(len(found.problems), 'problem')}"
        click.echo(f"{file}: {verdict}{again}")
    if not found.ok:
        sys.exit(3)
