"""Pictures that ffe draws itself: for the demo, for tests, and for the check inside a bundle."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Literal, get_args

from PIL import Image, ImageDraw

Kind = Literal["cat", "dog"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_FUR = ((150, 105, 70), (205, 160, 105), (95, 85, 80), (235, 215, 185), (175, 120, 60), (120, 120, 125))
_WALLS = ((150, 190, 220), (220, 200, 160), (165, 205, 165), (220, 175, 180), (190, 180, 215), (215, 215, 210))
_SCALE = 4


def draw(kind: Kind, number: int, size: tuple[int, int] = (128, 128)) -> Image.Image:
    """Draw the head of a cat or of a dog in RGB, of (height, width): the same for the same arguments, on every machine."""
    rng = random.Random(f"{kind} {number}")
    height, width = size
    canvas = Image.new("RGB", (width * _SCALE, height * _SCALE), rng.choice(_WALLS))
    pen = ImageDraw.Draw(canvas)
    unit = min(size) * _SCALE / 100
    floor = canvas.height * rng.uniform(0.7, 0.9)
    pen.rectangle((0, floor, canvas.width, canvas.height), fill=_shade(rng.choice(_WALLS), 0.7))
    for _ in range(rng.randint(2, 5)):  # things in the background
        x, y, r = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height), rng.uniform(3, 12) * unit
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((x - r, y - r, x + r, y + r), fill=_shade(rng.choice(_WALLS), rng.uniform(0.6, 1.1)))
    fur = _shade(rng.choice(_FUR), rng.uniform(0.85, 1.1))
    x, y = canvas.width * rng.uniform(0.4, 0.6), canvas.height * rng.uniform(0.45, 0.6)
    head = _Head(pen, x, y, unit * rng.uniform(0.75, 1.05), rng.uniform(-0.25, 0.25))
    (_cat if kind == "cat" else _dog)(head, fur, rng)
    return canvas.resize((width, height), Image.Resampling.LANCZOS)


def draw_folder(folder: Path, count: int, size: tuple[int, int] = (128, 128)) -> None:
    """Draw ``count`` pictures of each kind into ``folder/cat`` and ``folder/dog``, as PNG files."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            draw(kind, number, size).save(folder / kind / f"{kind}_{number:03d}.png", optimize=True)


class _Head:
    """Draws in the coordinates of a head: the origin between the eyes, a unit a hundredth of the picture."""

    def __init__(self, pen: ImageDraw.ImageDraw, x: float, y: float, unit: float, tilt: float) -> None:
        self._pen, self._x, self._y, self._unit = pen, x, y, unit
        self._cos, self._sin = math.cos(tilt), math.sin(tilt)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        right, down = x * self._cos - y * self._sin, x * self._sin + y * self._cos
        return self._x + self._unit * right, self._y + self._unit * down

    def polygon(self, points: list[tuple[float, float]], fill: tuple[int, ...]) -> None:
        self._pen.polygon([self._at(x, y) for x, y in points], fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: tuple[int, ...]) -> None:
        turns = [i * math.tau / 48 for i in range(48)]
        self.polygon([(x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns], fill)

    def line(self, points: list[tuple[float, float]], fill: tuple[int, ...], width: float) -> None:
        self._pen.line([self._at(x, y) for x, y in points], fill=fill, width=max(1, round(width * self._unit)))


def _cat(head: _Head, fur: tuple[int, ...], rng: random.Random) -> None:
    spread = rng.uniform(0.9, 1.1)
    for side in (-1, 1):
        head.polygon([(side * 9, -20), (side * 26 * spread, -42), (side * 28, -8)], fur)
        head.polygon([(side * 13, -20), (side * 24 * spread, -35), (side * 24, -12)], (225, 150, 150))
    head.ellipse(0, 2, 29, 25, fur)
    for side in (-1, 1):
        head.ellipse(side * 11, -3, 6, 5, (190, 210, 90))
        head.ellipse(side * 11, -3, 1.5, 5, (20, 20, 20))
    head.polygon([(-3, 7), (3, 7), (0, 11)], (215, 120, 120))
    head.line([(-5, 15), (0, 11), (5, 15)], _shade(fur, 0.5), 1)
    for side in (-1, 1):
        for y in (9, 12, 15):
            head.line([(side * 8, y), (side * 34, y + (y - 12) * 1.5)], (245, 245, 245), 0.7)


def _dog(head: _Head, fur: tuple[int, ...], rng: random.Random) -> None:
    droop = rng.uniform(0.9, 1.15)
    head.ellipse(0, -2, 25, 25, fur)
    for side in (-1, 1):
        head.ellipse(side * 25, 4, 8, 24 * droop, _shade(fur, 0.65))
        head.ellipse(side * 10, -6, 4, 4, (250, 250, 250))
        head.ellipse(side * 10, -5.5, 3, 3, (30, 20, 15))
    head.ellipse(0, 26, 5, 10, (225, 95, 110))
    head.ellipse(0, 14, 14, 12, _shade(fur, 1.25))
    head.ellipse(0, 8, 6, 4.5, (25, 20, 20))
    head.line([(0, 12), (0, 20)], (60, 40, 35), 1)


def _shade(colour: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(min(255, round(channel * factor)) for channel in colour)
