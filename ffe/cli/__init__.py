"""The command line: options -> one library call -> print. Commands load when they are asked for."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from ffe._version import __version__
from ffe.base.stopping import stop_as_by_ctrl_c
from ffe.base.text import did_you_mean, plain, url_refusal
from ffe.cli.streams import ANSWERS, hold_standard_streams, unprinted
from ffe.errors import is_unwritten, missing, sentence_of, unwritten

COMMANDS = (
    *("scan", "preview", "extract", "info", "verify", "pack", "forget", "tune", "train", "finetune", "scratch", "compare"),
    *("evaluate", "predict", "explain", "serve", "label", "similar", "suggest", "export"),
    *("bakeoff", "backbones", "bench", "cache", "doctor", "demo"),
)

DONE_BUT_SKIPPED = 1
REFUSED = 3
INTERRUPTED = 130
BROKEN = 70  # EX_SOFTWARE: an error of ours

_LONGEST_MESSAGE = 4000
ARGUMENTS = "ffe.arguments"

_AFTER_INTERRUPTION = {
    **dict.fromkeys(("extract", "tune", "compare", "bakeoff"), "; run the same command again to go on"),
    **dict.fromkeys(("finetune", "scratch"), "; no model was written"),
    "serve": "; requests that had come were answered",
}

_LESS_MEMORY = {
    "scan": "move the largest photos away",
    "preview": "give a smaller --size, or fewer --views",
    "extract": "give a smaller --size, --batch-size or --max-pixels, or fewer --workers",
    "tune": "take fewer values of each photo with --set pooling=avg, or fewer --heads",
    "train": "take fewer values of each photo with --set pooling=avg",
    "finetune": "give a smaller --batch-size, or let fewer layers learn with --unfreeze",
    "scratch": "give a smaller --batch-size or --size",
    "compare": "give a smaller --size, or fewer --views",
    "bakeoff": "take smaller backbones, or fewer --workers",
    **dict.fromkeys(("evaluate", "predict", "serve"), "give a smaller --batch-size or --max-pixels, or fewer --workers"),
}


# import names of packages that are called otherwise on the package index
_PACKAGES = {"cv2": "opencv-python-headless", "keras_tuner": "keras-tuner", "sklearn": "scikit-learn"}


class UrlOrPath(click.Path):
    """A path, which may be a URL where it is one to read images from."""


class _Commands(click.Group):
    """Loads each command from the module of its name, and turns errors into one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ffe.cli.{cmd_name}").command
        if not any(parameter.name == "debug" for parameter in command.params):
            for parameter in command.params:
                if isinstance(parameter.type, click.Path):
                    parameter.callback = _local(parameter.callback)
            quiet = "Print results, warnings and errors alone: no progress, no notes."
            command.params.append(_flag(["--quiet"], callback=_hush, help=quiet))
            command.params.append(_flag(["--debug"], callback=_remember_debug, help="Show the traceback of an error."))
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], COMMANDS) or " 'ffe --help' lists the commands."
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(dict)
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            for path in ctx.meta[ARGUMENTS]:
                if path.startswith(error.option_name) and os.path.lexists(path):
                    raise click.UsageError(f"'{path}' begins with a dash, as options do; write './{path}'.", error.ctx) from error
            raise
        except click.UsageError as error:
            from ffe.cli.examples import completed

            name = ctx.invoked_subcommand or ""
            command = self.get_command(ctx, name)
            if command is None or (text := completed(error, name, command, ctx.meta[ARGUMENTS])) is None:
                raise
            raise click.UsageError(text, error.ctx) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, OSError) and (error.errno == errno.EPIPE or error.filename == ANSWERS):
                raise
            if debug := "debug" in ctx.obj:
                traceback.print_exception(error)
            message, code = _sentence(error, ctx.invoked_subcommand or "", debug)
            click.echo(f"ffe: {plain(message, _LONGEST_MESSAGE)}", err=True)  # names in it may hold anything
            ctx.exit(code)


def _sentence(error: BaseException, command: str, debug: bool) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        kept = f"; {error}" if error.args else ""
        return f"interrupted{_AFTER_INTERRUPTION.get(command, '')}{kept}", INTERRUPTED
    if (sentence := sentence_of(error, _LESS_MEMORY.get(command, ""))) is not None:
        return sentence, REFUSED
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) not in {"", "ffe"}:
        # as where ffe was installed for prediction alone
        return missing(f"'ffe {command}'", _PACKAGES.get(name, name), instead="install ffe with all that it needs"), REFUSED
    if isinstance(error, OSError):
        if error.filename and is_unwritten(error):
            return unwritten(os.fsdecode(error.filename), error), REFUSED
        where = f" ('{error.filename}')" if error.filename else ""
        return f"{error.strerror or error}{where}; mend that and run the command again.", REFUSED
    text = " ".join(f"{type(error).__name__}: {error}".split())
    what_next = "please report it with the traceback above" if debug else "--debug shows where, please report it"
    return f"this should not happen: {text[:300]}; {what_next}.", BROKEN


def _hush(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        logging.getLogger("ffe").setLevel(logging.WARNING)


def _remember_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().ensure_object(dict)["debug"] = True


_flag = partial(click.Option, is_flag=True, expose_value=False)


def _local(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a callback that names a URL, or a dash for a standard stream, for what it is, and goes on with another one."""

    def check(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        for path in (value,) if isinstance(value, str) else value or ():
            if not path:
                raise click.BadParameter("the path is empty; name a file or folder (is a variable unset?).")
            if os.fspath(path) == "-":
                raise click.BadParameter("'-' would be a standard stream, which cannot be used here; name a file or folder.")
            if not isinstance(parameter.type, UrlOrPath) and (refusal := url_refusal(path)) is not None:
                raise click.BadParameter(refusal)
        return value if callback is None else callback(ctx, parameter, value)

    return check


class _StderrHandler(logging.Handler):
    """Prints what the library has to say to standard error, whichever that is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        # not click.echo, which would write past a live display instead of above it
        print(prefix + plain(record.getMessage(), _LONGEST_MESSAGE), file=sys.stderr)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="ffe")
def cli() -> None:
    """Turn labelled photos into a good classifier, on an ordinary machine.

    ffe extract pushes every image once through a pretrained network and keeps
    the features; ffe tune finds the best head on them, in a while and on a CPU;
    ffe predict answers for new images. Start with: ffe demo
    """
    logger = logging.getLogger("ffe")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
        logger.propagate = False
    logger.setLevel(logging.INFO)  # --quiet raises it, see _hush


def _read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode under old locales, where ``é`` would be two other letters, or no text at all."""
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> None:
    """Run ``ffe`` in a process of its own."""
    import atexit
    import gc
    import warnings

    # else Python looks through all objects once more as it ends: 0.2 s, 0.6 s after TensorFlow. What lies in modules is not
    # finalised then: whoever has something to put in order does it before, or asks ``atexit``
    atexit.register(gc.freeze)
    _read_names_as_utf8()
    stop_as_by_ctrl_c()
    hold_standard_streams()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of functions that are traced anew; each stage has its own
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # which others import, and which tells of a home it cannot write to
    warnings.filterwarnings("ignore", module="PIL")  # damaged files are reported by ffe itself
    warnings.filterwarnings("ignore", module="keras")  # and keras_tuner
    warnings.filterwarnings("ignore", module="ray")  # what is wrong with a cluster is an error of ffe's own
    warnings.filterwarnings("ignore", module="sklearn.svm")  # ffe says itself what has not converged
    try:
        cli(prog_name="ffe", args=sys.argv[1:])
    except OSError as error:  # also of --help and --version
        if error.filename != ANSWERS:
            raise
        print(f"ffe: {unprinted(error)}", file=sys.stderr)
        sys.exit(REFUSED)
