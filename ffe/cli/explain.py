"""``ffe explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ffe.base.text import plain
from ffe.cli.options import engine_option, images_options, json_option, strict_option, weights_option
from ffe.cli.predict import batch_of, check_images, images_arguments, leave, named_pictures, say_unread, surety
from ffe.cli.show import print_json
from ffe.cli.stdin import LONGEST_LINE

if TYPE_CHECKING:
    from ffe.explaining.explanations import Explanation


@click.command(short_help="Show where on photos a model saw what it says.")
@click.argument("model", type=click.Path())
@images_arguments
@click.option("-o", "--output", type=click.Path(), help="A folder for the pictures; made if missing.")
@click.option("--class", "class_name", metavar="NAME", help="The class to explain.  [default: the most probable one]")
@weights_option(help="Where the backbone's weights are, for a model without its backbone.")
@engine_option()
@images_options
@strict_option()
@json_option(help="Print one JSON object a line: path, label, class, probability, log_odds, cells, and how they were found.")
def command(
    model: str, images: tuple[str, ...], null: bool, output: str | None, strict: bool, as_json: bool, **options: Any
) -> None:
    """Show what each part of photos adds to a class: files, whole folders, or - for standard input.

    Each picture has the photo as the network sees it, and the same in grey under
    its heat map: red speaks for the class, blue against it, and both are about
    there, for the network sees in coarse cells. Any model can be asked. Pictures
    of ffe are replaced, other files never.
    """
    from ffe.commands.explain import Explainer
    from ffe.explaining.explanations import Explanation

    check_images(model, images, "explain")
    if output is None and not as_json:
        raise click.UsageError("Nothing would be written or printed; name a folder for the pictures with -o, or add --json.")
    options["batch_size"] = options["batch_size"] or batch_of(images)
    explainer = Explainer(model, output=output, **options)
    left_out: list[tuple[str, str]] = []
    failed: set[bool] = set()

    def say(found: Explanation) -> None:
        failed.add(found.error is not None)
        if as_json:
            print_json(found.to_json())
        if found.error is not None:
            say_unread(found.path, found.error)
        elif not as_json:
            said = f"{found.class_name} {surety(found.probability or 0.0)}"
            click.echo(plain(f"{found.path}: {said}: {found.picture}", LONGEST_LINE))

    for found in explainer.explain(named_pictures(images, null, explainer.predictor.limits.bytes, left_out)):
        say(found)
    for path, why in left_out:
        say(Explanation(path, error=why))
    leave(failed, images, strict)
