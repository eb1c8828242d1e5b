"""What to type instead of a command that lacks something: an example of each, and the command as it was meant."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence

import click

EXAMPLES = {
    "scan": "photos",
    "preview": "photos -o grid.png --augment flip,rotate=15",
    "extract": "photos -o features.h5",
    "info": "features.h5",
    "verify": "features.h5",
    "pack": "features.h5 -o packed.h5",
    "forget": "anna.jpg features.h5 model.ffe",
    "tune": "features.h5 -o model.ffe",
    "train": "features.h5 -o model.ffe --head svm",
    "finetune": "photos --from model.ffe -o finetuned.ffe --unfreeze 6",
    "scratch": "photos -o model.ffe",
    "compare": "photos -o compared",
    "evaluate": "model.ffe photos",
    "predict": "model.ffe new.jpg",
    "explain": "model.ffe new.jpg",
    "serve": "model.ffe",
    "label": "new.jpg",
    "similar": "features.h5 new.jpg",
    "suggest": "model.ffe photos -o list.csv",
    "export": "model.ffe -o model.onnx",
    "bakeoff": "photos --backbones efficientnetlite0,mobilenet",
    "bench": "photos",
}

# of options that no example has and whose type says nothing
_VALUES = {
    "--augment": "flip,rotate=15",
    "--backbone": "mobilenet",
    "--budget": "5m",
    "--by": "entropy",
    "--engine": "openvino",
    "--heads": "svm,logistic",
    "--recompute": "100",
    "--reject": "0.8",
    "--report": "report.html",
    "--roads": "frozen,scratch",
    "--seed": "1",
    "--set": "C=10",
    "--size": "224",
    "--tta": "4",
    "--views": "4",
}

_NO_NUMBER = re.compile(r"is not a valid (integer|float)(?: range)?(?=\.)")


def completed(error: click.UsageError, name: str, command: click.Command, typed: Sequence[str]) -> str | None:
    """Return what an error of click says, and what to type instead of what was ``typed``, the name of the command included.

    None = it tells of nothing that is missing, too much or no number, or there is no example.
    """
    said, example = error.format_message(), EXAMPLES.get(name)
    text = _NO_NUMBER.sub(lambda found: "is no whole number" if found[1] == "integer" else "is no number", said)
    too_many = text.startswith("Got unexpected extra argument")
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option) and example is not None:
        given = {word.partition("=")[0] for word in typed}
        lacking = [each for each in command.params if isinstance(each, click.Option) and each.required]
        words = list(typed)
        for option in (each for each in lacking if given.isdisjoint(each.opts)):
            words += [option.opts[0], _value(option, name) or option.make_metavar(click.Context(command))]
        instead = shlex.join(["ffe", *words])
    elif text != said and isinstance(error, click.BadParameter) and error.param is not None:
        value = _value(error.param, name)
        if value is None:
            return text
        instead = f"{error.param.opts[-1]} {value}"
    elif isinstance(error, click.BadOptionUsage):
        value = next((_value(each, name) for each in command.params if error.option_name in each.opts), None)
        if value is None:
            return None
        instead = f"{error.option_name} {value}"
    elif too_many and _has_archives(typed):
        pattern = '"shard-{000..009}.tar"'
        return f"Several archives are one source: give the folder that holds them, or a pattern in quotes, such as {pattern}."
    elif example is not None and (isinstance(error, click.MissingParameter) or too_many):
        instead = f"ffe {name} {example}"
    else:
        return None
    return f"{text.rstrip('.')}; write, for example, '{instead}'."


def _has_archives(typed: Sequence[str]) -> bool:
    from ffe.images.archive_sources import is_archive

    return sum(map(is_archive, typed)) > 1  # as a shell makes them of a pattern without quotes


def _value(option: click.Parameter, name: str) -> str | None:
    """Return an example of what an option takes; None = there is none."""
    words = shlex.split(EXAMPLES.get(name, ""))
    for word, following in itertools.pairwise(words):
        if word in option.opts:
            return following
    if isinstance(option.type, click.Choice):
        return str(option.type.choices[-1])
    known = next((value for opt, value in _VALUES.items() if opt in option.opts), None)
    return known or (str(option.default) if option.default and isinstance(option.default, (int, float, str)) else None)
