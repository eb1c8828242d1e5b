"""Values -> text for people: tables, and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ffe.bundle.manifest import Manifest


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Return columns of text under a header.

    Args:
        header: titles.
        rows: cells.
        right: positions of the columns that are flush right.
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return "  ".join(padded).rstrip()

    return "\n".join([line(cells[0]), line(["-" * width for width in widths]), *(line(row) for row in cells[1:])])


def bytes_text(count: float) -> str:
    """Return a size for people: ``812 B``, ``1.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Return ``kernel=rbf C=10``; switches that are off are left out."""
    shown = {k: v for k, v in parameters.items() if v is not False}
    return " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in shown.items())


def leaderboard_text(leaderboard: Sequence[Mapping[str, Any]], top: int = 10) -> str:
    """Return the best trials as a table: the first ``top``, and the best of every head that is not among them."""
    shown: list[tuple[int, Mapping[str, Any]]] = []
    heads: set[str] = set()
    for rank, trial in enumerate(leaderboard, start=1):
        if rank <= top or trial["head"] not in heads:
            shown.append((rank, trial))
        heads.add(trial["head"])
    rows = [
        (
            str(rank),
            trial["head"],
            f"{trial['score']:.4f}",
            "" if trial["spread"] is None else f"{trial['spread']:.4f}",
            f"{trial['fit_seconds']:.2f} s",
            bytes_text(trial["size"]),
            parameters_text(trial["parameters"]),
        )
        for rank, trial in shown
    ]
    return table(("rank", "head", "validation", "spread", "fit", "size", "parameters"), rows, right=(0, 2, 3, 4, 5))


def evaluation_text(evaluation: Mapping[str, Any]) -> str:
    """Return scores and the confusion matrix."""
    auc = evaluation["auc"]
    scores = (
        f"accuracy {evaluation['accuracy']:.4f}, balanced accuracy {evaluation['balanced_accuracy']:.4f}, "
        f"log loss {evaluation['log_loss']:.4f}, AUC {'undefined' if auc is None else format(auc, '.4f')}, "
        f"{evaluation['n']} images"
    )
    names = list(evaluation["class_names"])
    rows = [
        (name, *map(str, row), *("" if v is None else f"{v:.3f}" for v in (precision, recall)))
        for name, row, precision, recall in zip(
            names, evaluation["confusion"], evaluation["precision"], evaluation["recall"], strict=True
        )
    ]
    header = ("true \\ predicted", *names, "precision", "recall")
    return f"{scores}\n\n{table(header, rows, right=range(1, len(header)))}"


def model_card(manifest: Manifest) -> str:
    """Return the model card that travels in a bundle, Markdown."""
    spec, test = manifest.spec, manifest.evaluation["test"]
    height, width = spec.preprocess.size
    random = " (UNTRAINED, random weights: for trying things out only)" if spec.backbone.weights == "random" else ""
    return f"""# Image classifier: {", ".join(manifest.class_names)}

Made with ffe {manifest.ffe_version}. Backbone `{spec.backbone.name}`{random} at {height}x{width} pixels, frozen;
head `{manifest.head.name}` ({parameters_text(manifest.head.parameters)}).

## Test

{test["n"]} images that the model had not seen:

```
{evaluation_text(test)}
```

## Use

    ffe predict MODEL.ffe IMAGE

The model knows the classes above and nothing else: it answers with one of them for any picture at all. Its scores
hold for pictures like those that it was made from. Where the classes describe people, they are a guess from looks,
with the biases of the photos and of the labels; do not use it to decide about anybody.
"""
