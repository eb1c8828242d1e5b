"""Views a second on one core, against what Keras offers; run with -m benchmark -s."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from ffe.images.augment import augment
from ffe.images.augment_text import parse_augment
from ffe.images.drawings import draw

_ARTICLE = "flip,rotate=40,shift=0.2,shear=0.2,zoom=0.2"  # the ImageDataGenerator of the second article
_BATCH = 32


def rate(make: Callable[[], object], views: int = 1) -> float:
    """Return views a second of processor time, all threads together: the best of five."""
    make()
    best = 0.0
    for _ in range(5):
        count, started = 0, time.process_time()
        while time.process_time() - started < 0.5:
            make()
            count += views
        best = max(best, count / (time.process_time() - started))
    return best


@pytest.mark.benchmark
@pytest.mark.parametrize("size", [150, 224])
def test_views_a_second(size: int) -> None:
    import keras
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    image = np.asarray(draw("cat", 0, (size, size)))
    views = iter(range(1, 10**9))

    def ours(text: str) -> float:
        spec = parse_augment(text)
        return rate(lambda: augment(image, spec, "0" * 64, next(views)))

    generator = ImageDataGenerator(
        rotation_range=40, width_shift_range=0.2, height_shift_range=0.2, shear_range=0.2, zoom_range=0.2, horizontal_flip=True
    )
    values = image.astype(np.float32)
    layers = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(40 / 360, fill_mode="nearest"),
            keras.layers.RandomTranslation(0.2, 0.2, fill_mode="nearest"),
            keras.layers.RandomZoom(0.2, fill_mode="nearest"),
        ]
    )
    batch = np.stack([values] * _BATCH)
    found = {
        f"ffe, {_ARTICLE}": ours(_ARTICLE),
        "ffe, zoom,brightness": ours("zoom,brightness"),
        "ffe, all": ours("flip,vflip,zoom,crop,rotate,shift,shear,brightness,contrast,normalize"),
        "ImageDataGenerator": rate(lambda: generator.random_transform(values)),
        "Keras layers, batches of 32": rate(lambda: np.asarray(layers(batch, training=True)), _BATCH),
    }
    for name, value in found.items():
        print(f"{size}x{size}  {name:60} {value:8.0f} views/s and core")
    assert found[f"ffe, {_ARTICLE}"] > found["ImageDataGenerator"]
