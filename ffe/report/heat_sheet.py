"""The explanation of one photo as a picture: what the network sees, beside it the same under its map, and what that means."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ffe.base.text import number, percent, plain
from ffe.explaining.explanations import Explanation
from ffe.explaining.overlay import overlay
from ffe.report.contact_sheet import Strip, Tile, contact_sheet

_MOST = 20.0  # log-odds: more are no figure that means anything


def heat_sheet(found: Explanation, *, several: bool = False) -> Image.Image:
    """Return the picture of a photo that could be read; ``several``: by several backbones."""
    assert found.cells is not None
    assert found.pixels is not None
    assert found.probability is not None
    name = plain(found.class_name, 40)
    said = f"{name} {percent(found.probability)}"
    if found.label != found.class_name:
        said += f" (the answer is {plain(found.label, 40)})"
    tiles = [
        Tile(found.pixels, ("what the networks see together" if several else "what the network sees",)),
        Tile(overlay(found.pixels, found.cells, exact=found.way == "exact"), legend(name, found.cells)),
    ]
    return contact_sheet(said, plain(found.path), [Strip("", tiles)], 2)


def legend(class_name: str, cells: np.ndarray) -> tuple[str, ...]:
    """Return what the map of a class, float32 (h, w) in log-odds, shows: a few words that may stand on lines of their own."""
    most = float(cells.flat[np.abs(cells).argmax()])
    times = number(math.exp(min(abs(most), _MOST)), 2)
    strongest = f"reddest: odds {times} times higher" if most > 0 else f"bluest: odds {times} times lower"
    return f"red speaks for {class_name}", "blue against it", "about here", strongest
