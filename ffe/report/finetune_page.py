"""What a training came to -> the page that shows it."""

from __future__ import annotations

import math

import numpy as np

from ffe._version import __version__
from ffe.base.text import last_layers
from ffe.dataset.assign_sides import ImageSplit
from ffe.evaluation.reject import selective_scores
from ffe.evaluation.temperature import with_temperature
from ffe.finetuning.training_options import TrainingOptions
from ffe.finetuning.training_result import Stage, TrainingResult
from ffe.finetuning.unfreeze import ALL
from ffe.images.augment_text import augment_text
from ffe.report.projection import choose_rows, project_rows
from ffe.report.search_page import write_page
from ffe.report.values import Curves, Page, coverage_of, duplicates_of, photos_fact, pictures_of, suspects_of, title_of
from ffe.specs import ExtractSpec, TrainingSpec
from ffe.splits.holdout import TEST, VALID
from ffe.wording.results import answered_text, comparison_text, kept_text, parameters_text, stage_text


def write_training_report(
    options: TrainingOptions,
    result: TrainingResult,
    features: ExtractSpec,
    assigned: ImageSplit,
    pooled: np.ndarray,
    reject: float = 0.0,
) -> None:
    """Write the page of a training where its options say.

    ``features`` are of the backbone before it; ``pooled`` float32 (N, C) are those of the images as it is now, averaged over
    their places; with ``reject``, a best probability below is "not sure".
    """
    assert options.report is not None
    spec = options.spec
    images, judged = assigned.images, result.judged
    testing, choosing = assigned.rows(TEST), assigned.rows(VALID)
    used, copies = np.flatnonzero(images.labels >= 0), assigned.groups.levels["copies"]
    record = result.to_json()
    stages = [f"stage {stage['number']}: {stage_text(stage, features.backbone.name)}" for stage in record["stages"]]
    compared = record["comparison"]
    verdict = None if compared is None else comparison_text(compared, "the fine-tuned model", "the model before")
    height, width = features.preprocess.size
    calibrated = with_temperature(judged.valid, judged.calibration.factor)
    predicted = np.full(len(images), -1)
    predicted[choosing], predicted[testing] = judged.valid.argmax(axis=1), judged.test.argmax(axis=1)
    chosen = used[choose_rows(len(used), spec.seed)]
    write_page(
        options.report,
        Page(
            title=title_of(result.classes),
            facts={
                "backbone": f"{features.backbone.name} at {height}x{width}",
                "photos": photos_fact(result.rows),
                "head": f"{result.head.name} ({parameters_text(result.head.parameters)})",
                "trained": "nothing: it is the model that was given"
                if result.unchanged
                else ", then ".join(_learnt(stage) for stage in result.stages),
                "ffe": __version__,
            },
            class_names=result.classes,
            evaluation=record["evaluation"]["test"],
            comparison=None if verdict is None else f"{verdict[:1].upper()}{verdict[1:]}.",
            curves=_curves(result),
            pictures=pictures_of(images, testing, judged.test),
            label_issues=suspects_of(images, choosing, calibrated, copies[np.searchsorted(used, choosing)]),
            calibration=judged.calibration,
            coverage=coverage_of(calibrated, images.labels[choosing]),
            duplicates=duplicates_of(assigned.groups, images.take(used)),
            map=project_rows(pooled[chosen], chosen, images, predicted, spec.seed),
            not_grown="'ffe tune' and 'ffe train' do so, for heads on stored features",
            trained=True,
            unsure=answered_text(selective_scores(judged.test, assigned.labels(TEST), reject).to_json()) if reject else "",
            made={"source": str(options.source), "stages": "; ".join(stages), **_options(spec)},
        ),
    )


def _learnt(stage: Stage) -> str:
    if stage.unfreeze == ALL:
        return "all of it"
    return last_layers(stage.layers) if stage.layers else "the head"


def _curves(result: TrainingResult) -> Curves:
    epochs, parts = result.epochs, ["epoch 0: before the first"]
    for stage in dict.fromkeys(epoch.stage for epoch in epochs if epoch.epoch):
        first, *others = (i for i, epoch in enumerate(epochs) if epoch.epoch and epoch.stage == stage)
        parts.append(f"stage {stage}: epochs {first} to {others[-1]}" if others else f"stage {stage}: epoch {first}")
    kept = kept_text(result.best.to_json(), result.rows["valid"], unchanged=result.unchanged)
    return Curves(
        train_loss=[math.nan if epoch.loss is None else epoch.loss for epoch in epochs],
        valid_loss=[epoch.valid_loss for epoch in epochs],
        train_accuracy=[math.nan if epoch.accuracy is None else epoch.accuracy for epoch in epochs],
        valid_accuracy=[epoch.valid_accuracy for epoch in epochs],
        over_time=[(epoch.elapsed, epoch.valid_accuracy) for epoch in epochs],
        note=f"The whole network, epoch by epoch; {'; '.join(parts)}. {kept} A star marks them in the charts.",
        first=0,
        kept=epochs.index(result.best),
    )


def _options(spec: TrainingSpec) -> dict[str, str]:
    """Return the options of a training for people."""
    values = {name: value for name, value in spec.to_json().items() if value not in (None, False)}
    if spec.augment is not None:
        values["augment"] = augment_text(spec.augment)
    return {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        for name, value in values.items()
    }
