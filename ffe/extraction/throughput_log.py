"""What earlier runs on this machine showed: the shape of a backbone's features, and images a second."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_stat import read_note, write_note
from ffe.base.system import cache_root
from ffe.engines.model_cache import model_key
from ffe.engines.throughput import this_machine
from ffe.specs import ExtractSpec

LEAST_IMAGES = 100  # fewer tell little about a rate: beginning takes too large a share


def remembered(spec: ExtractSpec, engine: str, *, views: bool = False) -> tuple[FeatureLayout | None, float | None]:
    """Return the layout of a spec's features, and images a second on this machine; None = not known yet.

    ``engine`` is as the user named it; ``views``: each file is decoded for several, or, where no such run is known, for one.
    """
    content = read_note(_note(spec))
    layout = rate = None
    with contextlib.suppress(ValueError, TypeError, LookupError):
        layout = FeatureLayout.from_json(content["grid"])
    for alike in sorted({False, views}):  # what is more alike comes last, and counts
        with contextlib.suppress(ValueError, TypeError, LookupError):
            rate = float(content["rates"][_here(spec, engine, alike)])
    return layout, rate if rate is not None and rate > 0 else None


def remember(spec: ExtractSpec, engine: str, layout: FeatureLayout, images: int, rate: float, *, views: bool = False) -> None:
    """Keep what a run of so many images showed: the layout, and images a second unless there were but a few."""
    content = read_note(_note(spec))
    rates = content["rates"] if isinstance(content.get("rates"), dict) else {}
    if images >= LEAST_IMAGES:
        rates = {**rates, _here(spec, engine, views): round(rate, 3)}
    known = {"grid": layout.to_json(), "rates": rates, "name": spec.backbone.name, "size": list(spec.preprocess.size)}
    if known != content:
        write_note(_note(spec), known)


def measured() -> dict[str, tuple[tuple[int, int], FeatureLayout, float]]:
    """Return for each backbone that plain runs on this machine measured its (height, width), layout and images a second.

    Of several sizes or layers of one, that which ran last counts.
    """
    found: dict[str, tuple[tuple[int, int], FeatureLayout, float]] = {}
    with contextlib.suppress(OSError):
        for note in sorted((cache_root() / "runs").glob("*.json"), key=lambda note: note.stat().st_mtime):
            content = read_note(note)
            with contextlib.suppress(ValueError, TypeError, LookupError):
                height, width = (int(n) for n in content["size"])
                rate = float(content["rates"][_plain_run()])
                found[str(content["name"])] = (height, width), FeatureLayout.from_json(content["grid"]), rate
    return found


def _note(spec: ExtractSpec) -> Path:
    return cache_root() / "runs" / f"{model_key(spec)}.json"


def _here(spec: ExtractSpec, engine: str, views: bool) -> str:
    """Return a name for this machine and this way of running a backbone; a cache folder may be shared."""
    return _run(engine, spec.precision, spec.preprocess.decode, *(["views"] if views else []))


def _plain_run() -> str:
    return _run("auto", "float32", "exact")


def _run(*how: str) -> str:
    return this_machine(os.environ.get("KERAS_BACKEND", ""), *how)
