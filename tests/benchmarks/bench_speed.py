"""Figures of the fast paths, on real photos.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_speed.py

Each figure is a ratio of two sides that are measured in turn in one run, over
several rounds: rates alone mean little on a shared machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photo_lists import listed

from ffe.backbones.resolve import make_spec
from ffe.commands.tune import train
from ffe.engines.factory import open_engine
from ffe.engines.throughput import images_per_second
from ffe.extraction.run import extract
from ffe.images.loader import ImageStream
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.benchmark

ROUNDS = 5

_KERAS_WAY = """
import sys
import keras, numpy as np
from ffe.images.preprocess import preprocess
model = keras.saving.load_model(sys.argv[1])
head = keras.Sequential([keras.Input(model.output_shape[1:]), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
array = keras.utils.img_to_array(keras.utils.load_img(sys.argv[2], target_size=(224, 224)))[None]
print(head.predict(model.predict(preprocess(array.astype("uint8"), "tf"), verbose=0), verbose=0))
"""


@pytest.fixture(autouse=True)
def weights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))


def listing_of(shared: Path, path: Path, count: int) -> Path:
    """Write a CSV with so many rows; where there are fewer photos they come again, changed by a byte at the end."""
    photos = sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"), key=lambda file: file.name[::-1])  # classes mixed
    files = photos[:count]
    for i in range(len(photos), count):
        file = photos[i % len(photos)]
        copy = path.parent / "copies" / file.parent.name / f"{i}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() + b"%d" % i)  # behind the end of the picture: another file, the same pixels
        files.append(copy)
    return listed(path, files)


_WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def peak_of(*command: str) -> tuple[float, int]:
    """Run a process; return its seconds and its peak memory in MiB.

    A small process starts it: the peak of a child counts from the size of its parent.
    """
    watched = subprocess.run([sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True)
    seconds, peak = watched.stdout.split()
    return float(seconds), int(peak)


@pytest.mark.parametrize(
    ("backbone", "size", "precision", "decode", "photos"),
    [
        ("mobilenet", 224, "float32", "exact", 640),
        ("mobilenet", 224, "float32", "fast", 640),
        ("vgg19", 150, "float32", "exact", 128),
        ("vgg19", 150, "int8", "fast", 640),
        ("mobilenet", 224, "int8", "fast", 1280),
    ],
)
def test_end_to_end_against_the_engine_alone(
    shared: Path, tmp_path: Path, backbone: str, size: int, precision: str, decode: str, photos: int
) -> None:
    """The image loop of extraction against the same engine on images in memory."""
    listing = listing_of(shared, tmp_path / "photos.csv", photos)
    options = {"backbone": backbone, "size": size, "precision": precision, "decode": decode}
    extract(listing, tmp_path / "first.h5", **options)  # type: ignore[arg-type]
    with FeatureStore(tmp_path / "first.h5") as store:
        spec, quantized = store.spec, store.quantized()
    _, found = make_spec(backbone, size)
    engine = open_engine(spec, found, quantized=quantized)
    files = sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"))[:64]
    with ImageStream(files, PreprocessSpec((size, size), "none")) as images:
        pixels = np.stack([item.pixels for item in images if item.pixels is not None])
    ratios = []
    for number in range(ROUNDS):
        before = images_per_second(engine, pixels, 4.0)
        summary = extract(listing, tmp_path / f"{number}.h5", **options)  # type: ignore[arg-type]
        alone = (before + images_per_second(engine, pixels, 4.0)) / 2
        ratios.append(summary.images_per_second / alone)
        core = summary.stages.decode / photos * 1000
        print(f"  alone {alone:.1f}/s, extract {summary.images_per_second:.1f}/s, {ratios[-1]:.3f}; decode {core:.2f} ms a photo")
        (tmp_path / f"{number}.h5").unlink()
    print(f"{backbone} {precision} {decode}: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def test_one_photo_as_a_whole_process(shared: Path, tmp_path: Path) -> None:
    listing = listing_of(shared, tmp_path / "photos.csv", 200)
    extract(listing, tmp_path / "f.h5", backbone="mobilenet")
    train(tmp_path / "f.h5", tmp_path / "m.ffe", head="svm")
    from ffe.bundle.io import Bundle

    photo = str(next((shared / "images" / "dogs_vs_cats").glob("*/*.jpg")))
    ratios = []
    with Bundle(tmp_path / "m.ffe").keras_file() as backbone:
        for _ in range(ROUNDS):
            keras_way, keras_peak = peak_of(sys.executable, "-c", _KERAS_WAY, str(backbone), photo)
            ours, peak = peak_of(sys.executable, "-m", "ffe", "predict", str(tmp_path / "m.ffe"), photo)
            ratios.append(keras_way / ours)
            print(f"  Keras {keras_way:.2f} s, {keras_peak} MiB; ffe predict {ours:.2f} s, {peak} MiB; {ratios[-1]:.1f}x")
    print(f"one photo: median {statistics.median(ratios):.1f}x, {min(ratios):.1f} to {max(ratios):.1f}")
    assert statistics.median(ratios) >= 5
    assert peak < 250


def test_memory_does_not_grow(shared: Path, tmp_path: Path) -> None:
    """Extraction and prediction of 1,000 and of 10,000 photos."""
    model = tmp_path / "m.ffe"
    peaks: dict[str, list[int]] = {"extract": [], "predict": []}
    for count in (1_000, 10_000):
        listing = listing_of(shared, tmp_path / f"{count}.csv", count)
        output = tmp_path / f"{count}.h5"
        command = (sys.executable, "-m", "ffe", "extract", str(listing), "-o", str(output), "--backbone", "mobilenet")
        seconds, peak = peak_of(*command, "--precision", "int8", "--decode", "fast")
        print(f"extract {count}: {count / seconds:.1f}/s, {peak} MiB")
        if not model.exists():
            train(output, model, head="svm")
        output.unlink()
        folder = tmp_path / f"photos-{count}"
        folder.mkdir()
        for i, line in enumerate(listing.read_text().splitlines()[1:]):
            (folder / f"{i:05d}.jpg").symlink_to(line.rpartition(",")[0])
        peaks["extract"].append(peak)
        seconds, peak = peak_of(sys.executable, "-m", "ffe", "predict", str(model), str(folder), "--json")
        peaks["predict"].append(peak)
        print(f"predict {count}: {count / seconds:.1f}/s, {peak} MiB")
    for few, many in peaks.values():
        assert many < few + 100  # MiB: names and digests of 9,000 more photos, and what the allocator keeps


@pytest.mark.parametrize(("dataset", "backbone", "size"), [("dogs_vs_cats", "mobilenet", 224), ("faces", "vgg19", 150)])
def test_int8_is_as_accurate(shared: Path, tmp_path: Path, dataset: str, backbone: str, size: int) -> None:
    """Five folds, the same for both, a linear SVM on features pooled by average, and one on flat ones."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    scores: dict[str, dict[str, float]] = {}
    for name, options in (
        ("float32", {}),
        ("int8", {"precision": "int8"}),
        ("int8, fast decode", {"precision": "int8", "decode": "fast"}),
    ):
        output = tmp_path / f"{name}.h5"
        extract(shared / "images" / dataset, output, backbone=backbone, size=size, **options)  # type: ignore[arg-type]
        with FeatureStore(output) as store:
            features, labels, layout = store.features(), store.labels, store.layout
        pooled = features.reshape(len(features), -1, layout.channels).mean(axis=1)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        scores[name] = {}
        for form, x in (("average", pooled), ("flat", features if features.shape[1] < 10_000 else None)):
            if x is not None:
                head = make_pipeline(StandardScaler(), SVC(kernel="linear", C=0.01))
                scores[name][form] = float(cross_val_score(head, x, labels, cv=folds).mean())
        print(f"{dataset} {backbone} {name}: {json.dumps(scores[name])}")
        output.unlink()
    for form, score in scores["float32"].items():
        assert abs(scores["int8"][form] - score) <= 0.005
