"""A picture -> its views: mirrored, enlarged, turned, lit otherwise; always the same ones for the same content.

All that moves pixels is one matrix and one bilinear interpolation; all that changes their values is one table. One
machine gives equal pixels every time; another processor or release of OpenCV may round a value to the next level.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np

from ffe.images.preprocess import TORCH_RGB_MEAN, TORCH_RGB_STD
from ffe.specs import AugmentSpec, Fill

# the place of a name is the number of its draw, so new ones go to the end
_DRAWS = (
    *("flip", "vflip", "zoom", "zoom x", "zoom y", "crop", "ratio", "crop x", "crop y"),
    *("rotate", "shift x", "shift y", "shear", "brightness", "contrast"),
)
_BORDERS = {
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "constant": cv2.BORDER_CONSTANT,
    "wrap": cv2.BORDER_WRAP,
}
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
_LEAST_DEVIATION = 1.0  # of 255: a flat channel stays flat


@dataclass(frozen=True)
class Change:
    """What was drawn for one view."""

    flip: bool = False  # whether it is mirrored left to right
    vflip: bool = False  # whether it is mirrored upside down
    zoom: float = 1.0  # share of the sides that is shown
    zoom_at: tuple[float, float] = (0.5, 0.5)  # where, (x, y) in [0, 1]: 0.5 = in the middle
    crop: tuple[float, float] = (1.0, 1.0)  # share of the width, and of the height, that is shown
    crop_at: tuple[float, float] = (0.5, 0.5)  # as ``zoom_at``
    rotate: float = 0.0  # degrees, counter-clockwise
    shift: tuple[float, float] = (0.0, 0.0)  # share of the width to the right, and of the height downwards
    shear: float = 0.0  # degrees
    brightness: float = 1.0  # a factor
    contrast: float = 1.0  # a factor
    normalize: bool = False  # whether each channel gets the mean and deviation of ImageNet

    @property
    def words(self) -> tuple[str, ...]:
        """What is changed, for people: ``("mirrored", "zoom ×1.30", "rotate −7°")``; empty where nothing is."""
        right, down = self.shift
        found = (
            (self.flip, "mirrored"),
            (self.vflip, "upside down"),
            (self.zoom != 1, f"zoom ×{1 / self.zoom:.2f}"),
            (self.crop != (1.0, 1.0), f"crop {100 * self.crop[0]:.0f}×{100 * self.crop[1]:.0f} %"),
            (self.rotate != 0, f"rotate {_signed(self.rotate)}°"),
            (self.shift != (0.0, 0.0), f"shift {_signed(100 * right, 0)} {_signed(100 * down, 0)} %"),
            (self.shear != 0, f"shear {_signed(self.shear)}°"),
            (self.normalize, "normalized"),
            (self.brightness != 1, f"brightness ×{self.brightness:.2f}"),
            (self.contrast != 1, f"contrast ×{self.contrast:.2f}"),
        )
        return tuple(words for changed, words in found if changed)


def augment(image: np.ndarray, spec: AugmentSpec, sha256: str, view: int) -> np.ndarray:
    """Return a view of a picture by its number, >= 0, and the digest of its file; arrays as those of ``apply``."""
    return apply(image, draw(spec, sha256, view), spec.fill)


def draw(spec: AugmentSpec, sha256: str, view: int) -> Change:
    """Return what a view does, drawn by digest, view and seed; each change has its own draws. View 0 is the picture itself."""
    if view == 0:
        return Change()
    key = f"view {view} {spec.seed} {sha256}".encode()
    digest = hashlib.shake_256(key).digest(8 * len(_DRAWS))
    numbers = (int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in range(0, len(digest), 8))
    u = dict(zip(_DRAWS, numbers, strict=True))

    def between(name: str, pair: tuple[float, float] | None) -> float:
        return 1.0 if pair is None else pair[0] + u[name] * (pair[1] - pair[0])

    def either_way(name: str, most: float) -> float:
        return (2 * u[name] - 1) * most

    zoom = between("zoom", spec.zoom)
    return Change(
        flip=spec.flip and u["flip"] < 0.5,
        vflip=spec.vflip and u["vflip"] < 0.5,
        zoom=zoom,
        zoom_at=(u["zoom x"], u["zoom y"]) if zoom < 1 else (0.5, 0.5),
        crop=(1.0, 1.0) if spec.crop is None else _sides(between("crop", spec.crop), spec.ratio, u["ratio"]),
        crop_at=(0.5, 0.5) if spec.crop is None else (u["crop x"], u["crop y"]),
        rotate=either_way("rotate", spec.rotate),
        shift=(either_way("shift x", spec.shift), either_way("shift y", spec.shift)),
        shear=either_way("shear", spec.shear),
        brightness=between("brightness", spec.brightness),
        contrast=between("contrast", spec.contrast),
        normalize=spec.normalize,
    )


def _sides(area: float, ratio: tuple[float, float], u: float) -> tuple[float, float]:
    """Return (width, height) of a window of an area, all as shares; of the ratios those that fit into the picture."""
    low, high = (min(max(end, area), 1 / area) for end in ratio)
    drawn = low * (high / low) ** u
    return min(1.0, math.sqrt(area * drawn)), min(1.0, math.sqrt(area / drawn))


def apply(image: np.ndarray, change: Change, fill: Fill = "nearest") -> np.ndarray:
    """Change a picture, uint8 (H, W, 3) in RGB; the very array given comes back where nothing is changed."""
    return _moved(_coloured(image, change), change, fill)


def _coloured(image: np.ndarray, change: Change) -> np.ndarray:
    """Change the values: factor times value plus offset for each channel, cut off at 0 and 255 once."""
    if not change.normalize and change.brightness == change.contrast == 1:
        return image
    factor, offset = np.ones(3), np.zeros(3)
    if change.normalize or change.contrast != 1:
        mean, deviation = (values.ravel() for values in cv2.meanStdDev(image))
    if change.normalize:
        factor = 255 * np.asarray(TORCH_RGB_STD) / np.maximum(deviation, _LEAST_DEVIATION)
        offset = 255 * np.asarray(TORCH_RGB_MEAN) - factor * mean
    factor, offset = change.brightness * factor, change.brightness * offset
    if change.contrast != 1:
        middle = np.dot(_GREY, factor * mean + offset)
        factor, offset = change.contrast * factor, middle + change.contrast * (offset - middle)
    table = np.rint(np.clip(np.arange(256)[:, None] * factor + offset, 0, 255)).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]))


def _moved(image: np.ndarray, change: Change, fill: Fill) -> np.ndarray:
    """Move the pixels; mirrors alone lose nothing, and are quick."""
    height, width, _ = image.shape
    if change.zoom != 1 or change.crop != (1, 1) or change.rotate or change.shift != (0, 0) or change.shear:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix = source_of(change, height, width)
        return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=_BORDERS[fill]))
    if change.flip or change.vflip:
        return np.asarray(cv2.flip(image, -1 if change.flip and change.vflip else int(change.flip)))
    return image


def source_of(change: Change, height: int, width: int) -> np.ndarray:
    """Return where each pixel of a view comes from: float64 (2, 3), (x, y, 1) of the view -> (x, y) of the picture.

    The picture is turned about its centre, shifted, sheared, enlarged, cropped and mirrored, in this order; the first four
    are those of Keras's ``ImageDataGenerator``, and in its order.
    """
    angle, shear = math.radians(change.rotate), math.radians(change.shear)
    cos, sin = math.cos(angle), math.sin(angle)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x_of, y_of = (1.0, 0.0, -middle_x), (0.0, 1.0, -middle_y)  # coefficients of x, y and 1, from the centre

    def step(xx: float, xy: float, yx: float, yy: float, right: float = 0.0, down: float = 0.0) -> None:
        nonlocal x_of, y_of
        a, b = x_of, y_of
        x_of = (xx * a[0] + xy * b[0], xx * a[1] + xy * b[1], xx * a[2] + xy * b[2] + right)
        y_of = (yx * a[0] + yy * b[0], yx * a[1] + yy * b[1], yx * a[2] + yy * b[2] + down)

    def window(wide: float, high: float, at: tuple[float, float]) -> None:
        step(wide, 0, 0, high, (at[0] - 0.5) * (1 - wide) * width, (at[1] - 0.5) * (1 - high) * height)

    step(-1 if change.flip else 1, 0, 0, -1 if change.vflip else 1)
    window(*change.crop, change.crop_at)
    window(change.zoom, change.zoom, change.zoom_at)
    step(1, -math.sin(shear), 0, math.cos(shear))
    step(1, 0, 0, 1, -change.shift[0] * width, -change.shift[1] * height)
    step(cos, -sin, sin, cos)
    return np.asarray([(*x_of[:2], x_of[2] + middle_x), (*y_of[:2], y_of[2] + middle_y)])


def _signed(value: float, small_digits: int = 1) -> str:
    """Return a number with its sign: ``+7``, ``−7``, ``+0.4``."""
    return f"{value:+.{small_digits if abs(value) < 1 else 0}f}".replace("-", "−")
