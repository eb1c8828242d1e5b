"""What one image file may cost: a value, outside the cache key, because it decides which files give a row and no pixel of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from ffe.errors import SpecError

MAX_PIXELS = 178_956_970  # where Pillow's own guard against bombs ends; cameras of up to 151 megapixels are below
MAX_BYTES = 1 << 30  # such a picture with 16 bits a colour, not compressed

Truncated = Literal["skip", "keep"]


@dataclass(frozen=True)
class Limits:
    """Larger files are skipped before they are decoded (which bounds the time too), and so are pictures that are cut off."""

    pixels: int = MAX_PIXELS  # height times width
    bytes: int = MAX_BYTES  # of the file
    truncated: Truncated = "skip"  # ``keep`` takes pictures that lack pixels, with what their decoder puts in their place

    def __post_init__(self) -> None:
        for option, value in (("max_pixels", self.pixels), ("max_bytes", self.bytes)):
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"{option} is {value!r}, but must be a whole number of at least 1.")
        if self.truncated not in get_args(Truncated):
            raise SpecError(f"truncated is {self.truncated!r}, but must be 'skip' or 'keep'.")

    @classmethod
    def taken_from(cls, keywords: dict[str, Any]) -> Self:
        """Return those among the keywords of a public function, where they are taken out."""
        return cls(*(keywords.pop(name) for name in ("max_pixels", "max_bytes", "truncated")))

    @property
    def keywords(self) -> dict[str, Any]:
        """As the public functions name them."""
        return {"max_pixels": self.pixels, "max_bytes": self.bytes, "truncated": self.truncated}
