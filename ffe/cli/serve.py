"""``ffe serve``."""

from __future__ import annotations

from typing import Any

import click

from ffe.base.text import plain
from ffe.cli.options import AUGMENT_HELP, Amount, predict_options
from ffe.serving.options import HOST, MAX_BODY, MAX_PIXELS, PORT, QUEUE


@click.command(short_help="Answer over HTTP, with a page to drop photos on.", epilog=AUGMENT_HELP)
@click.argument("model", type=click.Path())
@click.option("--host", default=HOST, help="The address to listen at; all but this machine's own need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, help="0 = any that is free.")
@click.option(
    "--token",
    envvar="FFE_TOKEN",
    show_envvar=True,
    help="What who asks must send. The variable is the better place: other users of the machine see options.",
)
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Let pages of https://example.org ask; may be given again.")
@click.option("--queue", type=click.IntRange(1), default=QUEUE, help="Requests that may wait; more are answered with 503.")
@click.option(
    "--max-body",
    type=Amount(1024),
    default=MAX_BODY,
    show_default=False,
    help="Bytes of one request, such as 100M; more are answered with 413.  [default: 32M]",
)
@predict_options
def command(model: str, **options: Any) -> None:
    """Answer over HTTP what a model says of photos, until Ctrl-C.

    At / is a page: drop photos on it, or use the camera. POST /predict takes a
    photo as the body, or several as the files of a form, and answers as
    'ffe predict --json' does; POST /explain adds heat maps. There are /health,
    /model and /metrics too, and /openapi.json describes it all. Photos stay in
    memory: none is written to disk, none leaves the machine.
    """
    from ffe.commands.serve import serve

    serve(model, ready=lambda address: click.echo(f"{plain(model)} answers at {address}; Ctrl-C ends it."), **options)


for _option in command.params:  # strangers may send what takes long to decode
    if isinstance(_option, click.Option) and _option.name == "max_pixels":
        _option.default = MAX_PIXELS
        _option.help = f"Refuse pictures of more pixels, such as 200M for 200 million.  [default: {MAX_PIXELS:,}]"
