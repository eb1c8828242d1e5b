"""Values -> text for people: tables, and the model card."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ffe.base.text import bytes_text, counted, few, last_layers, listed, plain, share_text, shorten
from ffe.heads import HEADS
from ffe.images.augment_text import augment_text
from ffe.specs import AugmentSpec, ExtractSpec

CAUSES = {"copies": "the same file", "re-encoded": "saved again or resized", "near": "much alike", "named": "named together"}
METRIC_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "log_loss": "log loss"}

FITTED_ON_ALL = "all photos, those of the test too, after the test; the scores are those of the head before"
TIED = " 1: the one chosen; 1=: no different by more than chance from what scored highest, the least log loss first."

_COLUMNS = 100
_NARROWEST = 12  # that a column is made for the sake of the others
_GAP = "  "
_FAR_APART = 0.01  # of the p-value of validation against test
_LEVEL = 0.05  # of the p-value of a comparison, as in ffe.evaluation.comparison
_LONGEST_FACT = 4000
_WORST = 10
_LEARNT = ("loss", "accuracy", "valid_loss", "valid_accuracy")
_SCORE_NAMES = {**METRIC_NAMES, "auc": "AUC", "expected_calibration_error": "calibration error"}


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | tuple[str, ...]]],
    *,
    right: Sequence[int] = (),
    columns: int | None = _COLUMNS,
) -> str:
    """Return columns of text under titles, those at ``right`` flush right; a cell of several lines is a tuple of them.

    Where it would be wider than so many ``columns``, titles, and the widest cells that are not flush right, are broken.
    """
    cells = [[[plain(line) for line in ((cell,) if isinstance(cell, str) else cell)] for cell in row] for row in (header, *rows)]
    widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(header))]
    room = math.inf if columns is None else columns - len(_GAP) * (len(header) - 1)
    # first titles are broken, then cells; numbers stay whole
    whole = [
        max(len(part) for part in [*(line for row in cells[1:] for line in row[i]), *title.split(), ""])
        for i, title in enumerate(header)
    ]
    for least in (whole, [width if i in right else min(width, _NARROWEST) for i, width in enumerate(whole)]):
        while sum(widths) > room and (wide := [i for i, width in enumerate(widths) if width > least[i]]):
            widths[max(wide, key=lambda i: widths[i])] -= 1

    def lines(row: Sequence[Sequence[str]]) -> Iterator[str]:
        parts = [[part for line in cell for part in _broken(line, width)] for cell, width in zip(row, widths, strict=True)]
        for line in itertools.zip_longest(*parts, fillvalue=""):
            padded = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            yield _GAP.join(padded).rstrip()

    rule = _GAP.join("-" * width for width in widths)
    return "\n".join([*lines(cells[0]), rule, *(line for row in cells[1:] for line in lines(row))])


def _broken(line: str, width: int) -> list[str]:
    """Return a line in parts of at most so many characters, broken at spaces where there are some."""
    return [line] if len(line) <= width else textwrap.wrap(line, width, break_on_hyphens=False)


def facts_text(pairs: Sequence[tuple[str, str | None]], width: int = 0) -> str:
    """Return names, in a column of at least ``width``, beside their values, which are broken at spaces alone; None = left out."""
    facts = [(name, value) for name, value in pairs if value is not None]
    width = max(width, *(len(name) for name, _ in facts))
    room = _COLUMNS - width - len(_GAP)
    lines = []
    for name, value in facts:
        whole = [plain(line, _LONGEST_FACT) for line in value.split("\n")]
        parts = [textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""] for line in whole]
        titles = itertools.chain([name], itertools.repeat(""))
        lines += [f"{title:<{width}}{_GAP}{part}".rstrip() for part, title in zip(itertools.chain(*parts), titles, strict=False)]
    return "\n".join(lines)


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Return ``kernel=rbf C=10``; switches that are off, and what is never searched and has its default, are left out."""
    if "members" in parameters:
        return " + ".join(parameters_lines(parameters))
    quiet = {p.name: p.default for head in HEADS.values() for p in head.space if not p.searched and p.name != "epochs"}
    shown = {k: v for k, v in parameters.items() if v is not False and not (k in quiet and v == quiet[k])}
    return " ".join(f"{k}={_value_text(v)}" for k, v in shown.items())


def parameters_lines(parameters: Mapping[str, Any]) -> list[str]:
    """Return ``parameters_text`` in lines: of an ensemble one for each member, ``svm (kernel=rbf C=10)``."""
    if "members" in parameters:
        return [f"{member['head']} ({parameters_text(member['parameters'])})" for member in parameters["members"]]
    return [parameters_text(parameters)]


def head_text(name: str, parameters: Mapping[str, Any]) -> str:
    """Return ``svm (kernel=rbf C=10)``; of an ensemble how many heads it has, and each in a line of its own."""
    if "members" not in parameters:
        return f"{name} ({parameters_text(parameters)})"
    return "\n".join([f"{name} of {counted(len(parameters['members']), 'head')}:", *parameters_lines(parameters)])


def _value_text(value: Any) -> str:
    return f"{value:{'.0f' if abs(value) >= 1000 else '.3g'}}" if isinstance(value, float) else str(value)


def score_text(score: float, metric: str = "accuracy") -> str:
    """Return what a trial scored, as the metric is usually written: a log loss is above 0, and less is better."""
    return f"{-score if metric == 'log_loss' else score:.4f}"


def shown_trials(leaderboard: Sequence[Mapping[str, Any]], top: int) -> list[tuple[int, bool, Mapping[str, Any]]]:
    """Return (rank, whether the first of its head, trial): of the first ``top``, and of the first of every other head."""
    shown, heads = [], set()
    for rank, trial in enumerate(leaderboard, start=1):
        first = trial["head"] not in heads
        heads.add(trial["head"])
        if rank <= top or first:
            shown.append((rank, first, trial))
    return shown


def leaderboard_text(leaderboard: Sequence[Mapping[str, Any]], top: int = 10, metric: str = "accuracy") -> str:
    """Return the trials of ``shown_trials`` as a table, from ``Trial.to_json``; ``metric``: what the search aimed at."""
    tied = any(trial.get("tied") for trial in leaderboard[1:])  # models of earlier versions do not know
    rows = [
        (
            rank_text(rank, trial),
            trial["head"],
            score_text(trial["score"], metric),
            "" if trial["spread"] is None else f"{trial['spread']:.4f}",
            *(["" if trial["log_loss"] is None else f"{trial['log_loss']:.4f}"] if tied else []),
            f"{trial['fit_seconds']:.2f} s",
            bytes_text(trial["size"]),
            tuple(parameters_lines(trial["parameters"])),
        )
        for rank, _, trial in shown_trials(leaderboard, top)
    ]
    title = "validation" if metric == "accuracy" else METRIC_NAMES[metric]
    titles = ("rank", "head", title, "spread", *(["log loss"] if tied else []), "fit", "size", "parameters")
    return table(titles, rows, right=(0, *range(2, len(titles) - 1)))


def highest_text(metric: str, score: float, head: str) -> str:
    """Return ``highest validation accuracy 0.9310 (svm)``, of the trial with that score."""
    end = "lowest" if metric == "log_loss" else "highest"
    return f"{end} validation {METRIC_NAMES[metric]} {score_text(score, metric)} ({head})"


def choice_text(leaderboard: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> str:
    """Return what scored highest, and why the first trial was chosen, from ``Trial.to_json``; empty where nothing was chosen."""
    tied = sum(bool(trial.get("tied")) for trial in leaderboard)  # models of earlier versions do not know
    if len(leaderboard) < 2 or not tied:
        return ""
    chosen, top = leaderboard[0], max(leaderboard, key=lambda trial: round(trial["score"], 9))
    text = highest_text(metric, top["score"], top["head"])
    if tied == 1:
        return f"{text}: the one chosen, better than all others by more than chance."
    why = "the one with the least log loss"
    if "members" in chosen["parameters"]:
        why = "an average of several, for its log loss,"
    elif chosen.get("default") and not HEADS[chosen["head"]].random:
        why = "the one with default parameters"
    alike = counted(tied - 1, "other is", "others are")
    if tied == len(leaderboard):
        alike = "the other is" if tied == 2 else f"the other {tied - 1:,} are"
    return f"{text}; {alike} no different from that by more than chance, and of these {tied:,} {why} was chosen."


def rank_text(rank: int, trial: Mapping[str, Any]) -> str:
    """Return the rank of a trial; ``1=`` of one not chosen that is no different from the highest by more than chance."""
    return "1=" if trial.get("tied") and rank > 1 else str(rank)


def never_right_text(evaluation: Mapping[str, Any]) -> str:
    """Return which classes no image of was named rightly, in a sentence; empty = there are none."""
    never = [i for i, recall in enumerate(evaluation["recall"]) if recall == 0]
    shown = [f"'{shorten(evaluation['class_names'][i])}' ({counted(sum(evaluation['confusion'][i]), 'image')})" for i in never]
    return f"No image was named rightly of {few(shown)}." if shown else ""


def evaluation_text(evaluation: Mapping[str, Any]) -> str:
    """Return scores with their intervals (older models have none), and the confusion matrix or, if too wide, the worst of it."""
    intervals = evaluation.get("intervals", {})
    groups = evaluation.get("groups")
    lines = [counted(evaluation["n"], "image") + (f" in {counted(groups, 'group')}" if groups else "")]
    for key, name in _SCORE_NAMES.items():
        if key in evaluation:
            value = "undefined" if evaluation[key] is None else f"{evaluation[key]:.4f}"
            lines.append(f"{name:<17}  {value}{interval_text(intervals.get(key))}")
    if never := never_right_text(evaluation):
        lines.append(never)
    for matrix in (_matrix(evaluation), _matrix(evaluation, numbered=True)):
        if max(map(len, matrix.splitlines())) <= _COLUMNS:
            return "\n".join([*lines, "", matrix])
    return "\n".join([*lines, "", _worst_classes(evaluation), "", _most_confused(evaluation)])


def interval_text(interval: Sequence[float] | None) -> str:
    """Return `` (95 %: 0.9100 to 0.9500)``; empty where there is none."""
    return "" if interval is None else f" (95 %: {interval[0]:.4f} to {interval[1]:.4f})"


def _shares(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return precision and recall of each class, each as ``0.979 (0.95-1.00)``."""

    def texts(name: str) -> Iterator[str]:
        values = evaluation[name]
        for value, interval in zip(values, evaluation.get(f"{name}_intervals") or [None] * len(values), strict=True):
            span = "" if interval is None else f" ({interval[0]:.2f}-{interval[1]:.2f})"
            yield "" if value is None else f"{value:.3f}{span}"

    return list(zip(texts("precision"), texts("recall"), strict=True))


def _matrix(evaluation: Mapping[str, Any], *, numbered: bool = False) -> str:
    """Return the confusion matrix as a table; ``numbered`` has numbers over its columns, which are narrower."""
    names, confusion = list(evaluation["class_names"]), evaluation["confusion"]
    titles = [str(i) for i in range(1, len(names) + 1)] if numbered else names
    width = len(str(len(names)))
    labels = [f"{title:>{width}} {name}" for title, name in zip(titles, names, strict=True)] if numbered else names
    rows = [(label, *map(str, row), *share) for label, row, share in zip(labels, confusion, _shares(evaluation), strict=True)]
    return table(("true \\ predicted", *titles, "precision", "recall"), rows, right=range(1, len(titles) + 1), columns=None)


def _worst_classes(evaluation: Mapping[str, Any]) -> str:
    names, recall = evaluation["class_names"], evaluation["recall"]
    shares = _shares(evaluation)
    worst = sorted((i for i in range(len(names)) if recall[i] is not None), key=lambda i: recall[i])[:_WORST]
    rows = [(shorten(names[i]), str(sum(evaluation["confusion"][i])), *shares[i]) for i in worst]
    title = f"The {len(rows)} classes of {len(names)} that are found least often (the whole matrix: --json):"
    return f"{title}\n\n" + table(("class", "images", "precision", "recall"), rows, right=(1,))


def _most_confused(evaluation: Mapping[str, Any]) -> str:
    names, confusion = evaluation["class_names"], evaluation["confusion"]
    pairs = [(true, guess) for true, row in enumerate(confusion) for guess, count in enumerate(row) if count and true != guess]
    most = sorted(pairs, key=lambda pair: -confusion[pair[0]][pair[1]])[:_WORST]
    if not most:
        return "No image was taken for another class."
    rows = [(shorten(names[true]), shorten(names[guess]), str(confusion[true][guess])) for true, guess in most]
    return "The most frequent confusions:\n\n" + table(("true", "predicted", "images"), rows, right=(2,))


def answered_text(answered: Mapping[str, Any]) -> str:
    """Return what comes of the reject option, from ``SelectiveScores.to_json``."""
    if not answered["n"]:
        return f"'Not sure' below {answered['threshold']:g}: no image is answered."
    low, high = answered["interval"]
    return (
        f"'Not sure' below {answered['threshold']:g}: {share_text(answered['share'])} of the images are answered "
        f"({answered['n']}), {share_text(answered['accuracy'])} of those right (95 %: {share_text(low)} to {share_text(high)})."
    )


def calibration_text(calibration: Mapping[str, Any]) -> str:
    """Return what a temperature did, from ``Calibration.to_json``."""
    factor, before, after = (calibration[key] for key in ("temperature", "error_before", "error_after"))
    if factor == 1:
        return f"calibration error {before:.3f}; kept as they are, no scaling makes them better"
    how = "lowers" if factor < 1 else "raises"
    text = f"calibration error {before:.3f} -> {after:.3f}, by scaling that {how} the model's confidence"
    if after > before and "log_loss_after" in calibration:
        text += f", chosen for the log loss: {calibration['log_loss_before']:.3f} -> {calibration['log_loss_after']:.3f}"
    return text


def leak_text(leak: Mapping[str, Any], accuracy: float) -> str:
    """Return what near copies would have brought, from ``Leak.to_json``, beside the accuracy of the test."""
    extra, valid_leaking = leak.get("extra", {}), leak.get("valid_leaking", 0)  # models of earlier versions have none
    why = [f"{count:,} {CAUSES[cause]}" for cause, count in extra.items() if count]
    count = sum(extra.values())
    groups = counted(leak["groups"], "group")
    stay = "" if leak["test_leaking"] or valid_leaking else "; each group stays on one side"
    sentences = [f"{counted(count, 'image belongs', 'images belong')} to others ({', '.join(why)}), in {groups}{stay}."]
    honest, claimed, clean = leak["honest"], leak["claimed"], leak["test_clean"]
    if claimed is not None:
        what = f"say {claimed:.4f}, which is {'too good' if claimed > honest else 'no better'}"
        sentences.append(f"Cross-validation says {honest:.4f}; with the groups torn apart it would {what}.")
    if valid_leaking:
        what = counted(valid_leaking, "validation image belongs", "validation images belong")
        sentences.append(f"The given split leaks: {what} together with images that train, so the validation is too good.")
    if leak["test_leaking"]:
        without = "" if clean is None else f"; without those images it would say {clean:.4f}"
        what = counted(leak["test_leaking"], "test image belongs", "test images belong")
        sentences.append(
            f"The given split leaks: {what} together with images of the other splits. The test says {accuracy:.4f}{without}."
        )
    return " ".join(sentences)


def comparison_text(comparison: Mapping[str, Any], name_a: str, name_b: str) -> str:
    """Return whether one of two classifiers is better, from ``Comparison.to_json``."""
    a, b, rows = comparison["accuracy_a"], comparison["accuracy_b"], comparison["n"]
    low, high, difference = (100 * number for number in (*comparison["interval"], comparison["difference"]))
    if difference < 0:
        name_a, name_b, a, b, difference, low, high = name_b, name_a, b, a, -difference, -high, -low
    if comparison["real"]:
        verdict = f"{name_a} is better than {name_b}"
    elif low > 0 or comparison["p_value"] < _LEVEL:  # one of the two says so, the other does not
        verdict = f"{name_a} may be better than {name_b}, more photos would tell"
    else:
        verdict = f"no real difference between {name_a} and {name_b}"
    p = "< 0.001" if comparison["p_value"] < 0.001 else f"= {comparison['p_value']:.2g}"
    return (
        f"{verdict}: {share_text(a)} and {share_text(b)} of the same {counted(rows, 'image')} right, "
        f"{difference:.1f} points apart (95 %: {low:z.1f} to {high:z.1f}; p {p})"
    )


def apart_text(valid: tuple[float, int], test: tuple[float, int], p_value: float) -> str:
    """Return that validation and test, each (accuracy, images), are not of one accuracy; empty = they may well be."""
    if p_value >= _FAR_APART:
        return ""
    of_valid, of_test = (f"{share_text(share)} of {counted(count, 'image')}" for share, count in (valid, test))
    return (
        f"Validation ({of_valid} right) and test ({of_test}) are further apart than chance brings once in 100 times. "
        "Believe neither before it was tested on more photos: with a larger --test-fraction, or by ffe evaluate."
    )


def history_text(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the epochs of a training as a table, from ``Epoch.to_json``; a star marks the one kept, 0 is before the first."""
    kept = max((i for i, epoch in enumerate(history) if epoch["best"]), default=-1)
    rows = [
        (
            str(epoch["stage"]),
            f"{epoch['epoch']}{' *' if i == kept else '  '}",
            *("" if epoch[name] is None else f"{epoch[name]:.4f}" for name in _LEARNT),
            "" if epoch["learning_rate"] is None else f"{epoch['learning_rate']:.3g}",
            f"{epoch['seconds']:.1f} s",
            f"{epoch['elapsed']:.0f} s",
        )
        for i, epoch in enumerate(history)
    ]
    header = ("stage", "epoch", "loss", "accuracy", "loss", "accuracy", "rate", "took", "at")
    text = table(header, rows, right=range(1, 9))
    ends = [dashes.end() for dashes in re.finditer("-+", text.splitlines()[1])]
    return f"{'training':>{ends[3]}}{'validation':>{ends[5] - ends[3]}}\n{text}"


def kept_text(best: Mapping[str, Any], valid: int, *, unchanged: bool = False) -> str:
    """Return which weights are kept, of the ``best`` epoch (``Epoch.to_json``) or as given; ``valid``: images that validated."""
    images = counted(valid, "image")
    if unchanged:
        why = f"No epoch had less validation loss than the model had before (*), on {images}"
        return f"{why}: it stays as it was, and the new file is a copy of its file."
    if not best["epoch"]:
        why = f"no epoch had less validation loss, on {images}, so nothing was learnt"
        return f"The weights from before the first epoch are kept (*): {why}."
    return f"The weights of stage {best['stage']}, epoch {best['epoch']} are kept (*): the lowest validation loss, on {images}."


def backbones_text(specs: Iterable[ExtractSpec]) -> str:
    """Return ``mobilenet at 224x224 and vgg19 at 150x150``."""
    return listed([f"{spec.backbone.name} at {'x'.join(map(str, spec.preprocess.size))}" for spec in specs], "and")


def stage_text(stage: Mapping[str, Any], backbone: str) -> str:
    """Return what a stage trained, from ``Stage.to_json``."""
    if not stage["layers"]:
        return f"the head, all of {backbone} as it was"
    below = f"; below {stage['cut']} it stayed as it was" if stage["cut"] else ""
    return f"{last_layers(stage['layers'])} of {backbone}, from {stage['first']} on{below}"


def trained_views_text(views: Mapping[str, Any]) -> str:
    """Return ``4 of each training image (flip,rotate=15)``, and how they train, from ``Manifest.views``."""
    how = {"all": "", "epoch": ", one for each epoch", "none": ", not used"}[views["used"]]
    return f"{views['count']} of each training image ({augment_text(AugmentSpec.from_json(views['augment']))}){how}"
