"""How long does an epoch of fine-tuning take from cached activations, against the usual way?

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_finetune.py

The usual way is that of tutorials: ``image_dataset_from_directory`` decodes the
files in every epoch, and ``keras.Model.fit`` sends them through the whole
network, whose lower layers are frozen. Both sides train the same layers from
the same weights, with the same optimizer and batch size, and take turns in one
run; the figure is the ratio of neighbouring epochs, validation left out.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.base.clock import Clock
from ffe.base.feature_layout import FeatureLayout
from ffe.extraction.run import extract
from ffe.finetuning.head_layers import WarmStart
from ffe.finetuning.inputs import Activations
from ffe.finetuning.joined_model import JoinedModel
from ffe.finetuning.split_point import find_cut
from ffe.finetuning.trainer import Trainer
from ffe.finetuning.unfreeze import count_unfrozen, unfreeze_layers
from ffe.heads.transform import FeatureMap
from ffe.specs import TrainingSpec
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.benchmark

ROUNDS = 4
BATCH = 32
RATE = 1e-4


def usual_way(backbone: str, size: int, unfrozen: int, folder: Path) -> tuple[keras.Model, object]:
    """Return a network as tutorials build it, and its images, decoded anew in every epoch."""
    spec, weights = make_spec(backbone, size)
    base = build(spec, weights)
    unfreeze_layers(base, unfrozen)
    outputs = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(base.output))
    model = keras.Model(base.input, outputs)
    model.compile(keras.optimizers.Adam(RATE), keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    scaled = getattr(keras.applications, {"mobilenet": "mobilenet", "vgg19": "vgg19"}[backbone]).preprocess_input
    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=BATCH, label_mode="binary", seed=0, verbose=0
    )
    return model, images.map(lambda x, y: (scaled(x), y), num_parallel_calls=-1).prefetch(-1)


@pytest.mark.parametrize(
    ("backbone", "size", "wanted", "photos", "least"),
    [("mobilenet", 224, "6", 1399, 8.0), ("vgg19", 150, "block5", 320, 1.0)],
)
def test_an_epoch_from_activations_against_keras_fit(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backbone: str,
    size: int,
    wanted: str,
    photos: int,
    least: float,
) -> None:
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
    pictures = tmp_path / "pictures"
    for kind in ("cat", "dog"):
        (pictures / kind).mkdir(parents=True)
        for file in sorted((shared / "images" / "dogs_vs_cats" / kind).glob("*.jpg"))[: (photos + 1) // 2]:
            (pictures / kind / file.name).symlink_to(file)
    spec, weights = make_spec(backbone, size)
    base = build(spec, weights)
    count = count_unfrozen(base, wanted, backbone)
    cut = find_cut(base, unfreeze_layers(base, count))
    started = time.perf_counter()
    extract(pictures, tmp_path / "cut.h5", backbone=backbone, size=size, layer=cut.layer)
    once = time.perf_counter() - started
    layout = FeatureLayout.of_shape(base.output_shape[1:])
    first = (np.random.default_rng(0).normal(0, 0.01, (layout.channels, 1)).astype(np.float32), np.zeros(1, np.float32))
    network = JoinedModel(base, WarmStart(FeatureMap({"pooling": "avg"}, layout), [first], {}, 0.0))
    above = network.above(cut.layer)
    plain, images = usual_way(backbone, size, count, pictures)
    with FeatureStore(tmp_path / "cut.h5") as store:
        source, rows = Activations(store, cut.shape), np.arange(len(store))
        spent: list[float] = []

        def epochs(number: int) -> float:
            """Train so many epochs; return the seconds of one, the first left out: it compiles."""
            training = TrainingSpec(("x",), (number,), (RATE,), patience=0, batch_size=BATCH)
            trainer = Trainer(training, store.labels, np.ones(2), rows, rows[:1], Clock(time.monotonic()))
            trainer.stage(1, above, source)
            return statistics.mean(epoch.seconds for epoch in trainer.epochs if epoch.epoch > 1)

        epochs(2)
        plain.fit(images.take(2), verbose=0)  # both have compiled now
        ratios = []
        for _ in range(ROUNDS):
            before = epochs(3)
            began = time.perf_counter()
            plain.fit(images, verbose=0)
            usual = time.perf_counter() - began
            ours = (before + epochs(3)) / 2
            ratios.append(usual / ours)
            spent.append(usual)
            print(f"  Keras fit {usual:.1f} s, from activations {ours:.2f} s: {ratios[-1]:.1f}x", flush=True)
    gain = statistics.median(ratios)
    print(
        f"{backbone} {size}, {wanted}: {len(rows)} photos, cut at {cut.layer} {cut.shape}; an epoch {gain:.1f}x "
        f"({min(ratios):.1f} to {max(ratios):.1f}); "
        f"the activations took {once:.0f} s, once: {once / statistics.median(spent):.2f} usual epochs"
    )
    assert gain >= least
