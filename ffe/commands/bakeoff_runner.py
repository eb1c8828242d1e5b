"""How a bake-off shares its time between backbones: first what the features take, then what is left for the searches."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffe.backbones.registry import FILES
from ffe.backbones.resolve import make_spec
from ffe.backbones.trained import is_model_file
from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.file_stat import read_note, write_note
from ffe.base.text import duration_text
from ffe.bundle.io import Bundle
from ffe.commands.tune import tune
from ffe.comparing.answers import answers_of
from ffe.comparing.bakeoff_options import BakeoffOptions
from ffe.comparing.bakeoff_result import Contestant
from ffe.comparing.reasons import reason_of
from ffe.dataset.assign_sides import ImageSplit
from ffe.errors import BackboneError, BundleError, FfeError, SpecError, WeightsError
from ffe.evaluation.scores import evaluate_probabilities
from ffe.extraction.run import ExtractSummary, extract
from ffe.extraction.stage_times import Progress, no_progress
from ffe.extraction.throughput_log import LEAST_IMAGES, remembered
from ffe.specs import ExtractSpec, spec_digest
from ffe.splits.holdout import TEST
from ffe.store.journal_records import has_rows
from ffe.store.reader import FeatureStore
from ffe.tuning.keras_tuner import warm_up

log = logging.getLogger("ffe")

_FOR_SEARCHES = 0.3  # of the time, kept free of extraction where all backbones are searched for
_TELLING_SECONDS = 3.0  # of extraction, after which its rate tells how long it will take
_LEAST_SECONDS = 1.0  # of a search
_AFTERWARDS = 0.35  # of a search's time, for what comes after it, until the first has shown how long that takes


class TooSlowError(Exception):
    """The features of a backbone would take longer than it may have; ``needed``: seconds that they would take from now on."""

    def __init__(self, needed: float) -> None:
        super().__init__()
        self.needed = needed


@dataclass
class Entrant:
    """One backbone on its way through a bake-off; its files bear the digest of its spec."""

    name: str  # as the user named it
    weights: str  # as ``make_spec`` takes them
    spec: ExtractSpec | None = None  # what its features are made by; None = its weights are not known yet
    reason: str = ""  # why it has no result; empty = nothing speaks against it yet
    folder: Path = Path()
    reused: bool = False  # whether its features were there already
    note: dict[str, Any] = field(default_factory=dict)  # what earlier runs learnt of it

    @property
    def stem(self) -> str:
        """Begin of the names of its files: what it is called, and the first digits of the digest."""
        assert self.spec is not None
        name = re.sub(r"[^a-z0-9.-]+", "-", self.spec.backbone.name.lower()).strip("-")
        return f"{name[:60]}_{spec_digest(self.spec)[:12]}"

    def file(self, suffix: str) -> Path:
        """Return its feature file (``h5``), its model (``ffe``) or what is known of it (``json``)."""
        return self.folder / f"{self.stem}.{suffix}"

    @property
    def has_features(self) -> bool:
        """Whether an earlier run has made its feature file."""
        return self.spec is not None and self.file("h5").exists()

    def resolve(self, *, download: bool) -> None:
        """Find the spec, and what earlier runs learnt; an unknown name, or another wish that cannot be met, is raised."""
        try:
            self.spec, _ = make_spec(self.name, None, self.weights, download=download)
        except WeightsError as error:
            self.reason = str(error)
        except (BackboneError, SpecError):
            raise
        except FfeError as error:
            self.reason = str(error)
        else:
            self.reason = ""
            self.note = read_note(self.file("json"))

    def remember(self, **more: Any) -> None:
        """Keep what was learnt for the next run."""
        self.note |= more
        write_note(self.file("json"), self.note)


class BakeoffRunner:
    """Extracts, splits and searches, within the time."""

    def __init__(self, options: BakeoffOptions) -> None:
        self.options = options
        self.interrupted = False
        # seconds by which a search was longer than its share, for its winner is fitted, tested and written; None = not known yet
        self._afterwards: float | None = None
        self.entrants = [
            Entrant(name, name if _is_file(name) else options.weights, folder=options.output) for name in options.backbones
        ]

    def resolve(self) -> None:
        """Find out what every name means, before anything slow; weights that are not here are looked for elsewhere later."""
        for entrant in self.entrants:
            entrant.resolve(download=False)
        known: dict[str, Entrant] = {}
        for entrant in self.entrants:
            if entrant.spec is not None and (other := known.setdefault(entrant.stem, entrant)) is not entrant:
                raise SpecError(f"'{other.name}' and '{entrant.name}' are the same backbone; name it once.")

    def extract(self, listing: Path) -> Iterator[Entrant]:
        """Extract the features of every backbone that fits the time; yield each that has them.

        Each has an equal share of the time that there is for extraction when its turn comes. What needs more is put off, and
        tried again with what the others have left, that which needs least first.
        """
        waiting, ready = [(0.0, entrant) for entrant in self.entrants], 0
        for again in (False, True):
            put_off: list[tuple[float, Entrant]] = []
            for number, (needed, entrant) in enumerate(waiting):
                searched = (ready + 1) / len(self.entrants) if again else 1.0
                left = self.options.seconds * (1 - _FOR_SEARCHES * searched) - self.options.clock.elapsed
                if needed > left or (left <= 0 and not entrant.has_features):
                    entrant.reason = self._no_time(needed, left)
                    continue
                try:
                    self._extract(entrant, listing, left if again else left / (len(waiting) - number))
                except TooSlowError as error:
                    if again:
                        entrant.reason = self._no_time(error.needed, left)
                    put_off.append((error.needed, entrant))
                except Exception as error:
                    entrant.reason = reason_of(error, "take a smaller backbone")
                    log.debug("the backbone %s", entrant.name, exc_info=error)
                else:
                    if not entrant.reason:
                        ready += 1
                        yield entrant
            waiting = sorted(put_off, key=lambda pair: pair[0])

    def _no_time(self, needed: float, left: float) -> str:
        need = f"need about {duration_text(max(needed, 1.0))} more, and" if needed else "have not begun:"
        return (
            f"its features {need} {duration_text(max(left, 0.0))} of {self.options.seconds:g} s are left for features; "
            "what was computed is kept, so run the same command again, or give more with --seconds"
        )

    def _extract(self, entrant: Entrant, listing: Path, seconds: float) -> None:
        """Extract the features of a backbone, or say in ``reason`` why its weights are not to be had."""
        if entrant.spec is None:
            entrant.resolve(download=True)
            if entrant.spec is None:
                return
        log.info("features of %s", entrant.name)
        began, first = time.monotonic(), list[float]()

        def watch(progress: Progress) -> None:
            self.options.progress(progress)
            now = time.monotonic()
            first.append(now) if not first else None
            if progress.done >= progress.total:
                return
            spent = now - began
            told = now - first[0] >= _TELLING_SECONDS and progress.rate > 0
            if spent >= seconds or (told and spent + progress.remaining > seconds):
                raise TooSlowError(progress.remaining)

        begun, done = entrant.file("h5").exists() or has_rows(entrant.file("h5")), None
        try:
            done = self.read(entrant, listing, watch)
        finally:
            if done is None or done.computed:
                spent = time.monotonic() - began
                entrant.remember(extract_seconds=entrant.note.get("extract_seconds", 0.0) + spent)
        entrant.reused = begun and done.computed < done.images
        if done.computed and (2 * done.computed >= done.images or "rate" not in entrant.note):
            entrant.remember(rate=done.images_per_second, rate_images=done.computed)

    def read(self, entrant: Entrant, listing: Path, progress: Callable[[Progress], None] = no_progress) -> ExtractSummary:
        """Bring the feature file of a backbone up to date with the list of images."""
        return extract(
            listing,
            entrant.file("h5"),
            backbone=entrant.name,
            weights=entrant.weights,
            workers=self.options.workers,
            prune=True,
            progress=progress,
            **self.options.limits.keywords,
        )

    def search(self, entrants: Sequence[Entrant], assigned: ImageSplit, classes: Sequence[str]) -> dict[str, Contestant]:
        """Search over heads for each backbone that has features, all with the same time; name -> what each came to."""
        asked = self._asked(assigned)
        tested = assigned.images.take(assigned.rows(TEST)).sha256
        found: dict[str, Contestant] = {}
        old = [entrant for entrant in entrants if _is_searched(entrant, asked)]
        new = [entrant for entrant in entrants if entrant not in old]
        equal = min((float(entrant.note["search"]["share"]) for entrant in old), default=self.options.seconds)
        if new:
            warm_up(wait=True)  # before the first of the searches, which would seem slow with it
        for number, entrant in enumerate([*old, *new]):
            if self.interrupted:
                entrant.reason = "interrupted before its turn"
                continue
            try:
                if number >= len(old):
                    equal = self._search(entrant, asked, equal, len(old) + len(new) - number)
                if not entrant.reason:
                    found[entrant.name] = self._judge(entrant, assigned, classes, tested, before=number < len(old))
            except KeyboardInterrupt:
                if not found:
                    raise
                self.interrupted, entrant.reason = True, "interrupted"
            except Exception as error:
                entrant.reason = reason_of(error, "take a smaller backbone")
                log.debug("the backbone %s", entrant.name, exc_info=error)
        return found

    def _search(self, entrant: Entrant, asked: str, equal: float, waiting: int) -> float:
        """Search for one of those that wait, for no longer than the others had; return how long it might."""
        clock, seconds = self.options.clock, self.options.seconds
        if clock.is_over:
            entrant.reason = (
                f"no time left for its search: all {seconds:g} s were over before its turn; its features are kept, so "
                "run the same command again, or give more with --seconds"
            )
            return equal
        turn = (seconds - clock.elapsed) / waiting
        afterwards = _AFTERWARDS * turn if self._afterwards is None else self._afterwards
        share = min(equal, max(_LEAST_SECONDS, turn - afterwards))
        log.info("heads for %s, up to %.0f s", entrant.name, share)
        began = time.monotonic()
        tune(
            entrant.file("h5"),
            entrant.file("ffe"),
            overwrite=True,
            trials=self.options.trials,
            metric="accuracy",
            budget=share,
            test_fraction=self.options.test_fraction,
            seed=self.options.seed,
            weights=entrant.weights,
            on_progress=self.options.on_trials,
        )
        spent = time.monotonic() - began
        self._afterwards = max(self._afterwards or 0.0, spent - share)
        entrant.remember(search={"asked": asked, "share": share, "seconds": spent})
        return share

    def _asked(self, assigned: ImageSplit) -> str:
        """Return a digest of all that a search hangs on, but for the features."""
        columns = (assigned.images.sha256, assigned.images.labels.tolist(), assigned.side.tolist())
        options = self.options
        asked = [sorted(zip(*columns, strict=True)), options.seed, options.trials, options.seconds, options.test_fraction]
        return bytes_digest(canonical_json(asked))

    def _judge(
        self, entrant: Entrant, assigned: ImageSplit, classes: Sequence[str], tested: Sequence[str], *, before: bool
    ) -> Contestant:
        """Return what the model of a backbone is worth on the test images."""
        assert entrant.spec is not None
        features, model = entrant.file("h5"), entrant.file("ffe")
        bundle = Bundle(model)
        manifest = bundle.manifest
        probabilities = answers_of(bundle.head(), manifest.temperature, features, tested)
        with FeatureStore(features) as store:
            dims = store.dims
        rate, rough = entrant.note.get("rate"), entrant.note.get("rate_images", LEAST_IMAGES) < LEAST_IMAGES
        if (rate is None or rough) and (measured := remembered(entrant.spec, "auto")[1]) is not None:
            rate, rough = measured, False
        return Contestant(
            entrant.name,
            evaluation=evaluate_probabilities(probabilities, assigned.labels(TEST), classes, groups=assigned.together(TEST)),
            images_per_second=rate,
            rate_is_rough=rough,
            features=dims,
            bytes_per_photo=dims * (2 if entrant.spec.dtype == "float16" else 4),
            size=entrant.spec.preprocess.size,
            model=model,
            model_bytes=model.stat().st_size,
            features_file=features,
            head=manifest.head.name,
            trials=len(manifest.leaderboard),
            extract_seconds=float(entrant.note.get("extract_seconds", 0.0)),
            search_seconds=float(entrant.note["search"]["seconds"]),
            reused=entrant.reused,
            searched_before=before,
            probabilities=probabilities,
        )

    def contestants(self, found: Mapping[str, Contestant]) -> tuple[Contestant, ...]:
        """Return all backbones in the order in which they were named, those without a result with the reason."""
        return tuple(found.get(entrant.name) or Contestant(entrant.name, entrant.reason) for entrant in self.entrants)


def _is_file(name: str) -> bool:
    """Return whether a backbone is named by a file that has its weights, too."""
    return is_model_file(name) or Path(name).suffix.lower() in FILES


def _is_searched(entrant: Entrant, asked: str) -> bool:
    """Return whether an earlier run has made the very model that is asked for."""
    assert entrant.spec is not None
    search = entrant.note.get("search")
    if not isinstance(search, dict) or search.get("asked") != asked or not {"share", "seconds"} <= set(search):
        return False
    with suppress(BundleError):
        return Bundle(entrant.file("ffe")).manifest.spec_digest == spec_digest(entrant.spec)
    return False
