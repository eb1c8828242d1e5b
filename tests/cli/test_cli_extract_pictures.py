"""How pictures are prepared: named at ``ffe extract``, kept in the file, and the same from then on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ffe.backbones.resolve import weights_of
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands.tune import train
from ffe.commands.verify import verify
from ffe.engines.factory import open_engine
from ffe.extraction.run import extract
from ffe.images.decode import decode
from ffe.images.drawings import draw_folder
from ffe.images.sources import scan
from ffe.predictor import Predictor
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

SMALL = ("--backbone", "timm:mobilenetv4_conv_small_035", "--size", "64", "--weights", "random")
PREPARED = (
    *("--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.4", "--resize", "shortest", "--crop", "0.9"),
    *("--interpolation", "lanczos", "--channels", "bgr"),
)
SPEC = PreprocessSpec(
    (64, 64), "normalize", "lanczos", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), resize="shortest", crop=0.9, channels="bgr"
)


def ffe(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw_folder(folder, 10, (50, 90))
    return folder


@pytest.fixture(scope="module")
def features(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("features") / "f.h5"
    result = ffe("extract", photos, "-o", output, *SMALL, *PREPARED)
    assert result.exit_code == 0, result.output
    return output


def test_what_is_named_is_done(photos: Path, features: Path) -> None:
    with FeatureStore(features) as store:
        assert store.spec.preprocess == SPEC
        pixels = np.stack([decode((photos / path).read_bytes(), SPEC) for path in store.paths])
        rows = (engine := open_engine(store.spec, weights_of(store.spec, "random"), batch_size=20)).extract(pixels)
        np.testing.assert_allclose(store.features(), rows, atol=1e-5 * np.abs(rows).max())
        others = engine.extract(pixels[..., ::-1].copy())
        assert np.abs(store.features() - others).max() > 1e-3 * np.abs(rows).max()


def test_it_goes_on_as_it_began(photos: Path, features: Path) -> None:
    for options in ((), PREPARED):
        result = ffe("extract", photos, "-o", features, "--weights", "random", *options)
        assert result.exit_code == 0, result.output
        assert "20 rows, 0 computed" in result.output


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--crop", "0.8"), "preprocess.crop: stored 0.9, asked 0.8"),
        (("--crop", "1"), "preprocess.crop: stored 0.9, asked 1"),
        (("--resize", "stretch"), "preprocess.resize: stored shortest, asked stretch"),
        (("--interpolation", "bicubic"), "preprocess.interpolation: stored lanczos, asked bicubic"),
        (("--channels", "rgb"), "preprocess.channels: stored bgr, asked rgb"),
        (("--mean", "0.4,0.5,0.5"), "preprocess.mean: stored 0.4x0.5x0.6, asked 0.4x0.5x0.5"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_something_else_is_refused(
    photos: Path, features: Path, options: tuple[str, ...], difference: str, dry: tuple[str, ...]
) -> None:
    result = ffe("extract", photos, "-o", features, "--weights", "random", *options, *dry)
    assert result.exit_code == 3
    assert f"holds other features than these ({difference});" in result.output


def test_it_is_said_in_words(features: Path) -> None:
    expected = "64x64, made to cover 71x71, the middle cut out, lanczos, standardised by its own mean and deviation, BGR, decoded"
    told = " ".join(ffe("info", features).output.split())
    assert expected in told
    assert " mean 0.4,0.5,0.6 std 0.2,0.3,0.4 precision " in told


def test_it_is_the_same_at_prediction(photos: Path, features: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.ffe"
    train(features, model, head="logistic")
    assert "\nPictures are made to cover 71x71, the middle cut out, lanczos." in Bundle(model).card()
    assert verify(features, source=photos, recompute=4, weights="random").ok
    head = Bundle(model).head()
    with FeatureStore(features) as store:
        expected = head.predict_proba(store.features())
        paths = store.paths
    found = Predictor(model).predict([photos / path for path in paths])
    for answer, probabilities in zip(found, expected, strict=True):
        assert answer.probabilities["cat"] == pytest.approx(probabilities[0], abs=0.02)  # before it is calibrated


def test_the_short_way_of_decoding(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "fast.h5"
    options = dict(zip(("mean", "std", "resize", "crop"), (SPEC.mean, SPEC.std, SPEC.resize, SPEC.crop), strict=True))
    extract(photos, output, backbone=SMALL[1], size=64, weights="random", decode="fast", **options)  # type: ignore[arg-type]
    with FeatureStore(output) as store:
        assert store.spec.preprocess.decode == "fast"
        assert store.spec.preprocess.crop == 0.9
        assert len(store) == len(scan(photos).records)


def test_a_backbone_of_keras_has_its_own_way(photos: Path, fake_bundle: Path, fake_store: Path, tmp_path: Path) -> None:
    fixed = "is fixed; leave --crop and --mean out."
    for options in (("--backbone", "mobilenet"), (), ("--backbone", fake_bundle), ("--weights", fake_bundle)):
        result = ffe("extract", photos, "-o", tmp_path / "f.h5", "--mean", "0,0,0", "--crop", "0.9", *options)
        assert result.exit_code == 3
        assert fixed in result.output, options
    result = ffe("extract", photos, "-o", fake_store, "--mean", "0,0,0", "--crop", "0.9")
    assert (result.exit_code, fixed in result.output) == (3, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mean", "0.5,x"), "'0.5,x' is no list of numbers; write one for each channel, such as 0.485,0.456,0.406."),
        (
            ("--mean", "123.7,116.8,103.9"),
            "mean is 123.7,116.8,103.9, but must be of values from 0 to 1; divide by 255 what is of bytes.",
        ),
        (("--mean", "0.485", "0.456", "0.406"), "write the numbers with commas and without spaces between them, such as 0.485,"),
        (("--crop", "2"), "'--crop': 2.0 is not in the range 0.01<=x<=1."),
        (("--std", "nan,1,1"), "std is nan,1.0,1.0, but must be of values from 0 to 1;"),
        (("--crop", "87.5"), "'87.5' is a percentage, but a share is wanted; write 0.875."),
        (("--resize", "fit"), "'fit' is not one of 'stretch', 'shortest', 'longest'."),
    ],
)
def test_values_that_make_no_sense(photos: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = ffe("extract", photos, "-o", tmp_path / "f.h5", *options)
    assert result.exit_code in {2, 3}
    assert said in " ".join(result.output.split())


def test_a_number_for_each_channel(photos: Path, tmp_path: Path) -> None:
    result = ffe("extract", photos, "-o", tmp_path / "f.h5", *SMALL, "--mean", "0.5,0.5")
    assert result.exit_code == 3
    assert "mean is 0.5,0.5, but must be 3 numbers, one for each channel." in result.output
