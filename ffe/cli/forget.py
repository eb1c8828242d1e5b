"""``ffe forget``."""

from __future__ import annotations

from pathlib import Path

import click

from ffe.base.text import counted, plain
from ffe.cli.options import json_option
from ffe.cli.show import print_json

_FEW = 10


@click.command(short_help="Take photos out of feature files, models and reports.")
@click.argument("named", metavar="PHOTO... FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done.")
@json_option()
def command(named: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Take photos out of what ffe has written: rows, names, digests, pictures.

    A PHOTO is a path (it need not exist any more), a folder of photos, or a
    SHA-256 digest; copies of it go too. A FILE ends in .h5, .ffe or .html.
    What a model has learnt from a photo stays in it until it is made again;
    that is said, with the command.
    """
    from ffe.commands.forget import OURS, forget

    files = [one for one in named if Path(one).suffix.lower() in OURS]
    result = forget([one for one in named if one not in files], files, dry_run=dry_run)
    for photo in result.unknown:
        click.echo(plain(f"warning: none of the files knows '{photo}'", 1000), err=True)
    if as_json:
        print_json(result.to_json())
        return
    verb = "forgot" if result.written else "would forget"
    for found in result.files:
        if not found.photos:
            click.echo(f"{found.file}: knows none of them")
            continue
        rows = f", {counted(found.rows, 'row')}" if found.rows else ""
        click.echo(f"{found.file}: {verb} {counted(len(found.photos), 'photo')}{rows}: {_names(found.photos)}")
        if found.near:
            looks = "looks much like one of them and stays" if len(found.near) == 1 else "look much like them and stay"
            click.echo(f"  {_names(found.near)} {looks}; name it too, if it is to go")
        if found.stays:
            click.echo(f"  {found.stays}")


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return plain(", ".join(names[:_FEW]), 2000) + more
