"""The predictor, on the fake backbone; tests/parity proves it on Keras."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffe.bundle.io import Bundle, write_bundle
from ffe.errors import BundleError, DecodeError, SourceError, SpecError
from ffe.evaluation.temperature import with_temperature
from ffe.images.drawings import draw
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore


@pytest.fixture
def predictor(fake_bundle: Path) -> Predictor:
    return Predictor(fake_bundle, batch_size=8)


@pytest.fixture
def bad_image(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"this is no picture")
    return path


def test_features_equal_the_stored_rows(predictor: Predictor, fake_store: Path, pictures: Path) -> None:
    with FeatureStore(fake_store) as store:
        features = predictor.features(pictures / path for path in store.paths)
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, store.features())


def test_predictions_are_those_of_the_head_on_the_stored_rows(predictor: Predictor, fake_store: Path, pictures: Path) -> None:
    with FeatureStore(fake_store) as store:
        bundle = Bundle(predictor.bundle.path)
        expected = with_temperature(bundle.head().predict_proba(store.features()), bundle.manifest.temperature)
        answers = list(predictor.predict(pictures / path for path in store.paths))
        assert [answer.path for answer in answers] == [str(pictures / path) for path in store.paths]
    np.testing.assert_allclose([list(answer.probabilities.values()) for answer in answers], expected, atol=1e-6)
    for answer, row in zip(answers, expected, strict=True):
        assert answer.error is None
        assert list(answer.probabilities) == ["cat", "dog"]
        assert answer.label == ("cat", "dog")[row.argmax()]
        assert answer.to_json() == {
            "path": answer.path,
            "label": answer.label,
            "sure": True,
            "probabilities": answer.probabilities,
            "error": None,
        }


def test_the_model_is_worth_asking(predictor: Predictor, tmp_path: Path) -> None:
    """Test rows and pictures that it never saw: better than a coin."""
    assert predictor.bundle.manifest.evaluation["test"]["accuracy"] >= 0.5
    draw("cat", 900, (48, 48)).save(tmp_path / "new.png")
    (answer,) = predictor.predict([tmp_path / "new.png"])
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_bad_images_give_errors_in_their_places(fake_bundle: Path, pictures: Path, bad_image: Path, batch_size: int) -> None:
    good = sorted(pictures.glob("cat/*.png"))[:3]
    images = [good[0], bad_image, good[1], "none.jpg", good[2], bad_image]
    answers = list(Predictor(fake_bundle, batch_size=batch_size).predict(images))
    assert [answer.path for answer in answers] == [str(image) for image in images]
    assert [answer.error is None for answer in answers] == [True, False, True, False, True, False]
    assert answers[1].error == "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture"
    assert answers[3].error == "no such file"
    assert answers[1].label is None
    assert answers[1].probabilities == {}
    alone = list(Predictor(fake_bundle, batch_size=1).predict(good))
    np.testing.assert_allclose(
        [answers[i].probabilities["cat"] for i in (0, 2, 4)], [answer.probabilities["cat"] for answer in alone], atol=1e-6
    )


def test_bytes_are_answered_as_files_are(predictor: Predictor, pictures: Path) -> None:
    file = pictures / "dog" / "dog_000.png"
    (from_file,) = predictor.predict([file])
    from_bytes, broken, empty = predictor.predict_bytes([file.read_bytes(), b"\xff\xd8\xffbroken", b""])
    assert from_bytes.probabilities == pytest.approx(from_file.probabilities)
    assert {answer.path for answer in (from_bytes, broken, empty)} == {"-"}
    assert broken.error == "it starts like a JPEG file, but its header is damaged"
    assert empty.label is None
    assert empty.error


def test_the_same_image_twice_is_answered_twice(predictor: Predictor, pictures: Path) -> None:
    file = pictures / "dog" / "dog_001.png"
    first, second = predictor.predict([file, file])
    assert first == second


def test_nothing_asked_is_nothing_answered(predictor: Predictor) -> None:
    assert list(predictor.predict([])) == []
    assert predictor.predict_bytes([]) == []


def test_answers_come_while_images_are_still_being_named(fake_bundle: Path, pictures: Path) -> None:
    """A long list is not read to its end before the first answer."""
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield pictures / "cat" / "cat_000.png"

    answers = Predictor(fake_bundle, batch_size=2, workers=1).predict(endless())
    assert next(answers).error is None
    assert taken < 50


def test_features_of_a_bad_image_are_an_error(predictor: Predictor, pictures: Path, bad_image: Path) -> None:
    with pytest.raises(DecodeError, match=r"it is no JPEG, PNG, .* picture"):
        predictor.features([pictures / "cat" / "cat_000.png", bad_image])


def test_features_of_nothing_are_an_empty_array(predictor: Predictor) -> None:
    assert predictor.features([]).shape == (0, 48)


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no model file"):
        Predictor(tmp_path / "none.ffe")


@pytest.fixture
def tuned(fake_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a copy of the model with other fields in its manifest."""

    def write(**fields: object) -> Path:
        bundle, path = Bundle(fake_bundle), tmp_path / "tuned.ffe"
        manifest = dataclasses.replace(bundle.manifest, **fields)  # type: ignore[arg-type]
        parts = {"golden": bundle.golden(), "splits": bundle.splits(), "card": bundle.card()}
        write_bundle(path, manifest, head=bundle.head(), **parts)
        return path

    return write


def test_the_temperature_of_the_model_is_applied(
    predictor: Predictor, tuned: Callable[..., Path], fake_store: Path, pictures: Path
) -> None:
    warm = Predictor(tuned(calibration={"temperature": 0.2}), batch_size=8)
    with FeatureStore(fake_store) as store:
        expected = with_temperature(predictor.head.predict_proba(store.features()), 0.2)
        np.testing.assert_array_equal(warm.probabilities(store.features()), expected)
        cold = Predictor(tuned(calibration={"temperature": 1.0}), batch_size=8)
        np.testing.assert_array_equal(cold.probabilities(store.features()), predictor.head.predict_proba(store.features()))
        paths = [pictures / path for path in store.paths]
    answers = list(warm.predict(paths))
    np.testing.assert_allclose([list(answer.probabilities.values()) for answer in answers], expected, atol=1e-6)
    assert [answer.label for answer in answers] == [answer.label for answer in predictor.predict(paths)]


def test_answers_below_the_threshold_are_not_sure(fake_bundle: Path, tuned: Callable[..., Path], pictures: Path) -> None:
    images = sorted(pictures.glob("*/*.png"))
    best = [max(answer.probabilities.values()) for answer in Predictor(fake_bundle, batch_size=8).predict(images)]
    middle = float(np.median(best))
    expected = [value >= middle for value in best]
    assert 0 < sum(expected) < 40
    model = tuned(reject=middle)
    for predictor in (Predictor(model, batch_size=8), Predictor(fake_bundle, batch_size=8, reject=middle)):
        answers = list(predictor.predict(images))
        assert [answer.sure for answer in answers] == expected
        assert all(answer.label == max(answer.probabilities, key=lambda name: answer.probabilities[name]) for answer in answers)
    assert all(answer.sure for answer in Predictor(model, batch_size=8, reject=0).predict(images))


def test_an_image_that_cannot_be_read_is_not_sure(predictor: Predictor, bad_image: Path) -> None:
    (answer,) = predictor.predict([bad_image])
    assert not answer.sure


@pytest.mark.parametrize("reject", [-0.1, 1.0])
def test_a_threshold_out_of_range_is_refused(fake_bundle: Path, reject: float) -> None:
    sentence = rf"^A probability to answer from must be at least 0 and below 1, not {reject:g}; 0 = always answer\.$"
    with pytest.raises(SpecError, match=sentence):
        Predictor(fake_bundle, reject=reject)


def test_one_picture_in_any_form_is_answered_alike(predictor: Predictor, pictures: Path) -> None:
    file = pictures / "dog" / "dog_000.png"
    pixels = np.asarray(Image.open(file).convert("RGB"))
    with file.open("rb") as opened:
        forms = [str(file), file, file.read_bytes(), bytearray(file.read_bytes()), Image.open(file), pixels, opened]
        expected, *alone = [list(predictor.predict(form)) for form in forms]
    names = [answer.path for (answer,) in alone]
    assert names == [str(file), "-", "-", str(file), "-", str(file)]
    for (answer,) in alone:
        assert answer.probabilities == expected[0].probabilities
    together = list(predictor.predict([file, pixels, Image.open(file), io.BytesIO(file.read_bytes())]))
    for answer in together:
        assert answer.probabilities == pytest.approx(expected[0].probabilities, abs=1e-6)
    assert len(list(predictor.predict(np.stack([pixels, pixels])))) == 2
    np.testing.assert_array_equal(predictor.features(pixels), predictor.features([file]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_an_image_in_memory_is_decoded_as_its_file(predictor: Predictor, tmp_path: Path, mode: str) -> None:
    drawn = draw("cat", 5, (48, 64))
    image = (
        Image.fromarray(np.asarray(drawn.convert("L")).astype(np.uint16) << 8)
        if mode == "I;16"
        else drawn.convert({"LA": "RGBA", "RGBa": "RGBA"}.get(mode, mode)).convert(mode)
    )
    assert image.mode == mode
    (answer,) = predictor.predict(image)
    if mode == "F":
        assert answer.error == "floating-point pixels of unknown range; save the picture with 8 or 16 bits"
        return
    assert answer.error is None
    kind = "png" if mode in {"1", "L", "LA", "P", "RGBA", "I;16"} else "tif"
    if kind == "png" or mode in {"CMYK", "I"}:
        image.save(tmp_path / f"x.{kind}")
        np.testing.assert_array_equal(predictor.features(image), predictor.features(tmp_path / f"x.{kind}"))


def test_an_image_in_memory_is_turned_upright(predictor: Predictor, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw("cat", 5, (48, 64)).save(tmp_path / "x.png", exif=exif)
    expected = predictor.features(tmp_path / "x.png")
    np.testing.assert_array_equal(predictor.features(Image.open(tmp_path / "x.png")), expected)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (None, "A NoneType"),
        (7, "An int"),
        ([7], "An int"),
        ({"a.png": 1}, "A dict"),
        (np.zeros((4, 4), np.uint8), r"An array of uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"An array of float32 \(4, 4, 3\)"),
        ([np.zeros((4, 4, 4), np.uint8)], r"An array of uint8 \(4, 4, 4\)"),
        ([["a.png"]], "A list"),
    ],
)
def test_all_else_is_refused_by_name(predictor: Predictor, wrong: object, named: str) -> None:
    sentence = (
        rf"^{named} is no picture; give a path, a PIL\.Image, an array uint8 \(height, width, 3\) in RGB, "
        r"the bytes of an image file, or an open file, or a list of these\.$"
    )
    with pytest.raises(SourceError, match=sentence):
        list(predictor.predict(wrong))  # type: ignore[arg-type]


def test_a_file_open_as_text_is_refused(predictor: Predictor) -> None:
    with pytest.raises(SourceError, match=r"^A file that is open as text is no picture; open it with open\(path, 'rb'\)\.$"):
        predictor.predict(io.StringIO("text"))  # type: ignore[arg-type]


def test_it_can_be_pickled(predictor: Predictor, tuned: Callable[..., Path], pictures: Path) -> None:
    file = pictures / "dog" / "dog_000.png"
    expected = list(predictor.predict(file))
    other = pickle.loads(pickle.dumps(predictor))  # noqa: S301 (our own)
    assert (other.batch_size, list(other.predict(file))) == (8, expected)
    model = tuned()
    saved = pickle.dumps(Predictor(model))
    tuned(calibration={"temperature": 2.0})
    with pytest.raises(BundleError, match="is another model than the one that was pickled"):
        pickle.loads(saved)  # noqa: S301 (our own)


def test_the_working_folder_may_change(
    fake_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = pictures / "cat" / "cat_000.png"
    expected = list(Predictor(fake_bundle).predict(photo))
    monkeypatch.chdir(fake_bundle.parent)
    opened = Predictor(fake_bundle.name)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(opened))  # noqa: S301 (our own)
    assert list(opened.predict(photo)) == list(again.predict(photo)) == expected
    opened.bundle.copy(tmp_path / "copy.ffe")
    assert list(Predictor("copy.ffe").predict(photo)) == expected
    assert str(opened.bundle.path) == fake_bundle.name
