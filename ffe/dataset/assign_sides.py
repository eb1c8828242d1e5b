"""Who trains, who validates, and who tests."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from ffe.base.text import counted, few, quoted
from ffe.dataset.class_checks import too_few
from ffe.dataset.leaks import warn_of_leaks
from ffe.dataset.table import ImageTable
from ffe.errors import DataError
from ffe.splits.groups import Groups
from ffe.splits.holdout import LEFT_OUT, TEST, TRAIN, VALID, HoldOut, hold_out

log = logging.getLogger("ffe")

_OTHER_DRAW = 2**31  # seeds are smaller, so an image draws anew for the validation


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images, and the side of each."""

    images: ImageTable  # N images
    groups: Groups  # which of those that have labels belong together
    # str (N,), ``train``, ``valid``, ``test``, or empty: left out, as all without a label are, and images that would test and
    # belong together with one that validates
    side: np.ndarray

    @cached_property
    def ids(self) -> np.ndarray:
        """int64 (N,), equal for images that belong together; those without labels stand alone."""
        ids = np.arange(len(self.groups.ids), len(self.groups.ids) + len(self.images))
        ids[self.images.labels >= 0] = self.groups.ids
        return ids

    def rows(self, side: str) -> np.ndarray:
        """Return int64 (n,), the images of a side, ascending."""
        return np.flatnonzero(self.side == side)

    def labels(self, side: str) -> np.ndarray:
        """Return int64 (n,), the labels of a side."""
        return self.images.labels[self.rows(side)]

    def together(self, side: str) -> np.ndarray | None:
        """Return ``ids`` of a side; None where every image of it stands alone."""
        ids = self.ids[self.rows(side)]
        return ids if len(np.unique(ids)) < len(ids) else None

    def counts(self) -> dict[str, int]:
        """Return how many images stand on each side."""
        return {side or "left_out": int((self.side == side).sum()) for side in (TRAIN, VALID, TEST, LEFT_OUT)}

    def anonymous(self) -> Self:
        """Return the same split of images without names, digests and files."""
        return replace(self, images=self.images.anonymous())


def drawn_sides(
    images: ImageTable, groups: Groups, test_fraction: float, seed: int, tested: Collection[str] = ()
) -> tuple[np.ndarray, HoldOut]:
    """Return the sides, str (N,), that the source gives, or else the training, and what was drawn where it gives no test.

    ``groups``, and what was drawn, are of the images that have labels; the others are left out. ``tested``: digests of images
    that tested in the model that is replaced, and test again.
    """
    side = np.asarray([given or TRAIN for given in images.given], "U5")
    side[images.labels < 0] = LEFT_OUT
    if (side == TEST).any():
        return side, HoldOut(side)
    used = np.flatnonzero(images.labels >= 0)
    labelled, valid = images.take(used), side[used] == VALID
    drawn = hold_out(
        *(labelled.labels, labelled.sha256, groups.ids, test_fraction, seed),
        names=labelled.named,
        training=valid,
        tested=tested,
    )
    side[used] = np.where(valid, VALID, drawn.side)
    _say_moved(drawn)
    return side, drawn


@dataclass(frozen=True)
class Splitter:
    """How the images that a network is trained on are split."""

    class_names: Sequence[str]  # for messages
    # share of those that train which validates, where no image does; None = then none does, for trials are cross-validated
    valid_fraction: float | None
    seed: int  # of every choice
    # digest -> ``train``, ``valid`` or ``test``, which settles it: all other images are left out. None = see ``split_anew`` and
    # ``split_as_before``
    split: Mapping[str, str] | None = None

    def split_anew(
        self, images: ImageTable, groups: Groups, test_fraction: float, *, once: bool = False, tested: Collection[str] = ()
    ) -> ImageSplit:
        """Split images as ``drawn_sides`` does; a DataError where a class has no image on one of the sides.

        ``once``: copies of an image that the source puts on several sides stay on the first of training, validation and test.
        """
        if self.split is not None:
            return self._as_split(images, groups, self.split)
        side, _ = drawn_sides(images, groups, test_fraction, self.seed, tested)
        assigned = self._with_validation(ImageSplit(images, groups, side))
        return self._checked(_without_copies(assigned) if once else assigned)

    def split_as_before(self, images: ImageTable, groups: Groups, known: Mapping[str, str]) -> ImageSplit:
        """Split images as they were when a model was made; ``known`` has the side of each digest of it.

        Other images train, unless the source gives them another side, or they belong together with images that test or
        validate: then so do they, or are left out where those stand on several sides, or the source wants them elsewhere.
        """
        if self.split is not None:
            return self._as_split(images, groups, self.split)
        side = np.asarray([known.get(s, given or TRAIN) for s, given in zip(images.sha256, images.given, strict=True)], "U5")
        side[images.labels < 0] = LEFT_OUT
        used = np.flatnonzero(images.labels >= 0)
        new = np.asarray([images.sha256[i] not in known for i in used], bool)
        free = new & np.asarray([not images.given[i] for i in used], bool)
        for holding, what, others in ((TEST, "test", (TRAIN, VALID)), (VALID, "validate", (TRAIN,))):
            there = np.bincount(groups.ids, side[used] == holding) > 0
            elsewhere = np.bincount(groups.ids, np.isin(side[used], others) & ~new) > 0
            together = new & np.isin(side[used], others) & there[groups.ids]
            follows = together & free & ~elsewhere[groups.ids]
            side[used[follows]] = holding
            side[used[together & ~follows]] = LEFT_OUT
            follow, left = (f"{what}s too", f"{what} too"), ("is left out", "are left out")
            for rows, (one, many) in ((follows, follow), (together & ~follows, left)):
                if count := int(rows.sum()):
                    does = counted(count, f"new image {one}", f"new images {many}")
                    belong = f"{'it belongs' if count == 1 else 'they belong'} together with images that {what}"
                    log.info("%s: %s (%s)", does, belong, few(quoted(sorted(images.paths[i] for i in used[rows].tolist()))))
        if joined := int((side[used[new]] == TRAIN).sum()):
            are = "image is new to the model; it takes" if joined == 1 else "images are new to the model; they take"
            log.info("%d %s part in the training", joined, are)
        return self._checked(self._with_validation(ImageSplit(images, groups, side)))

    def _as_split(self, images: ImageTable, groups: Groups, split: Mapping[str, str]) -> ImageSplit:
        side = np.asarray([split.get(sha256, LEFT_OUT) for sha256 in images.sha256], "U5")
        side[images.labels < 0] = LEFT_OUT
        return self._checked(ImageSplit(images, groups, side))

    def _with_validation(self, assigned: ImageSplit) -> ImageSplit:
        """Let a share of the images that train validate, where none do."""
        rows = assigned.rows(TRAIN)
        if self.valid_fraction is None or (assigned.side == VALID).any() or not len(rows):
            return assigned
        train, seed = assigned.images.take(rows), _OTHER_DRAW + self.seed
        drawn = hold_out(train.labels, train.sha256, assigned.ids[rows], self.valid_fraction, seed, names=train.named)
        side = assigned.side.copy()
        side[rows[drawn.side == TEST]] = VALID
        return replace(assigned, side=side)

    def _checked(self, assigned: ImageSplit) -> ImageSplit:
        """Make sure that every class has images on every side, and warn of those that leak."""
        crossed = self.valid_fraction is None and not (assigned.side == VALID).any()
        for name, wanted in (("training", TRAIN), ("validation", VALID), ("test", TEST)):
            if crossed and wanted == VALID:
                continue
            if missing := list(too_few(Counter(assigned.labels(wanted).tolist()), self.class_names, 1)):
                one = len(missing) == 1
                what = f"The class {few(quoted(missing))} has" if one else f"The classes {few(quoted(missing))} have"
                how = "give the images that the model was made from, or add" if wanted == TEST else "add"
                of = "this class" if one else "these classes"
                raise DataError(f"{what} no {name} images; {how} different images of {of}.")
        used = np.flatnonzero(assigned.images.labels >= 0)
        warn_of_leaks(assigned.side[used], assigned.groups, assigned.images.take(used), self.class_names)
        return assigned


def _say_moved(sides: HoldOut) -> None:
    """Say in the log what became of images otherwise than by their draw."""
    if sides.kept:
        stay, them = ("stays", "it") if sides.kept == 1 else ("stay", "them")
        log.info("%s %s in the test, where the model that is replaced had %s", counted(sides.kept, "image"), stay, them)
    if moved := abs(sides.moved):
        way, size = ("into", "small") if sides.moved > 0 else ("out of", "large")
        log.info(
            "%s moved %s the test, whose share chance had made too %s; more images may move %s back",
            counted(moved, "image was", "images were"),
            way,
            size,
            "it" if moved == 1 else "them",
        )


def _without_copies(assigned: ImageSplit) -> ImageSplit:
    """Leave images out of the validation and the test whose very file trains, and those out of the test that validate."""
    side, sha256 = assigned.side.copy(), assigned.images.sha256
    taken: set[str] = set()
    for name in (TRAIN, VALID, TEST):
        rows = assigned.rows(name)
        side[[i for i in rows if sha256[i] in taken]] = LEFT_OUT
        taken.update(sha256[i] for i in rows)
    if left_out := np.flatnonzero(side != assigned.side).tolist():
        log.warning(
            "%s left out: the same file trains, or validates, and also stands on another side (%s)",
            counted(len(left_out), "image is", "images are"),
            few(quoted(sorted(assigned.images.paths[i] for i in left_out))),
        )
    return replace(assigned, side=side)
