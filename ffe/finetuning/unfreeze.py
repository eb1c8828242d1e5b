"""Which layers of a backbone learn."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffe.base.text import counted, did_you_mean
from ffe.errors import BackboneError, SpecError

if TYPE_CHECKING:
    import keras

ALL = "all"


def count_unfrozen(model: keras.Model, wanted: str, backbone: str) -> int:
    """Return how many layers are meant, as in ``model.layers[-n:]``, the input and layers without weights included.

    ``wanted`` is a number; ``all``; the name of a layer; or the beginning of the names of a block, such as ``block5``:
    the first layer that has it, and all behind it. Messages name the ``backbone``.
    """
    names = [layer.name for layer in model.layers]
    if wanted == ALL:
        return len(names)
    if wanted.isdecimal() and int(wanted) <= len(names):
        return int(wanted)
    if wanted.isdecimal():
        raise BackboneError(
            f"The backbone '{backbone}' has {counted(len(names), 'layer')}, so {wanted} of them cannot be unfrozen; "
            f"give at most {len(names)}, or '{ALL}'."
        )
    with contextlib.suppress(ValueError):
        float(wanted)
        raise BackboneError(
            f"{wanted} layers of the backbone '{backbone}' cannot be unfrozen; "
            f"give a whole number from 0 (the head alone) to {len(names)}, or '{ALL}'."
        )
    pattern = re.compile(re.escape(wanted) + r"(?!\d)")  # block1 is not block10
    places = [i for i, name in enumerate(names) if name == wanted] or [i for i, n in enumerate(names) if pattern.match(n)]
    if not places:
        raise BackboneError(
            f"The backbone '{backbone}' has no layer or block '{wanted}'; its last layers are {', '.join(names[-8:])}."
            f"{did_you_mean(wanted, names)}"
        )
    return len(names) - places[0]


def count_stages(model: keras.Model, wanted: Sequence[str], backbone: str) -> list[int]:
    """Return how many layers each stage unfreezes; see ``count_unfrozen`` and ``check_growing``."""
    counts = [count_unfrozen(model, each, backbone) for each in wanted]
    check_growing(wanted, counts)
    return counts


def check_growing(wanted: Sequence[str], counts: Sequence[int]) -> None:
    """Make sure that each stage unfreezes at least as many layers as the one before it; else a SpecError says what to write."""
    for i in range(1, len(counts)):
        if counts[i] < counts[i - 1]:
            rising = ",".join(wanted[j] for j in sorted(range(len(counts)), key=lambda j: counts[j]))
            raise SpecError(
                f"Stage {i + 1} unfreezes {counted(counts[i], 'layer')}, fewer than the {counts[i - 1]} of the stage before it, "
                f"but what has learnt stays unfrozen; write --unfreeze {rising}."
            )


def unfreeze_layers(model: keras.Model, count: int, *, batchnorm: bool = False) -> list[keras.layers.Layer]:
    """Let the last layers of a backbone learn, and no other; return those that have something to learn.

    With ``batchnorm``, batch normalisations among them learn, and use the batch's statistics; else they keep their own.
    """
    import keras

    chosen = {id(layer) for layer in (model.layers[-count:] if count else ())}
    for layer in model.layers:
        frozen_norm = isinstance(layer, keras.layers.BatchNormalization) and not batchnorm
        layer.trainable = id(layer) in chosen and not frozen_norm
    return [layer for layer in model.layers if layer.trainable_weights]
