"""``ffe.explain``: the heat lies where the label was decided, and nowhere where labels mean nothing."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ffe
from ffe.base.openvino_ir import import_openvino
from ffe.bundle.io import Bundle
from ffe.errors import ModelMismatchError, ReportError, WeightsError
from ffe.explaining.area import Window
from ffe.explaining.explanations import covered
from ffe.explaining.heatmap import HeatMap
from ffe.images.drawings import KINDS, draw
from ffe.predictor import Predictor
from ffe.report.redact import without_photos

Places = dict[Path, tuple[int, int]]

SIDE, CELLS = 64, 4
COLOURS = ((20, 120, 235), (235, 120, 20))


def draw_patches(folder: Path, count: int, seed: int) -> Places:
    """Draw soft noise with a patch on one of 4x4 places, whose colour is the class: even numbers blue, odd ones orange."""
    rng, places, step = np.random.default_rng(seed), {}, SIDE // CELLS
    folder.mkdir()
    for i in range(count):
        noise = Image.fromarray(rng.uniform(60, 200, (8, 8, 3)).astype(np.uint8)).resize((SIDE, SIDE))
        row, column = rng.integers(0, CELLS, 2).tolist()
        noise.paste(COLOURS[i % 2], (column * step, row * step, (column + 1) * step, (row + 1) * step))
        file = folder / f"{i:03d}.png"
        noise.save(file)
        places[file] = row, column
    return places


def cells_network(path: Path, side: int) -> Path:
    """Write an IR model that gives the mean colours of areas of 8x8 pixels: float32 (N, 3, side, side) -> (N, 3, h, w)."""
    ov = import_openvino()
    from openvino import opset13 as ops

    source = ops.parameter([-1, 3, side, side], ov.Type.f32, "pixels")
    kernel = np.zeros((3, 3, 8, 8), np.float32)
    kernel[[0, 1, 2], [0, 1, 2]] = 1 / 64
    model = ov.Model([ops.relu(ops.convolution(source, kernel, [8, 8], [0, 0], [0, 0], [1, 1]))], [source], "cells")
    for name in ("mean", "std"):
        model.set_rt_info("0 0 0" if name == "mean" else "1 1 1", name)
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def model_of(tmp_path: Path, places: Places, names: list[str], head: str, **settings: object) -> Path:
    table, model = tmp_path / "photos.csv", tmp_path / f"{head}.ffe"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((place, name) for place, name in zip(places, names, strict=True))])
    ffe.extract(table, tmp_path / "f.h5", backbone="fake", size=SIDE, overwrite=True)
    ffe.train(tmp_path / "f.h5", model, head=head, settings=settings, test_fraction=0.1)
    return model


@pytest.mark.parametrize(
    ("head", "settings", "way", "times"),
    [
        ("svm", {}, "features", 5),
        ("logistic", {"pooling": "avg", "scaling": "standard", "C": 0.01}, "exact", 5),
        ("dense", {"pooling": "avg"}, "features", 5),
        ("forest", {"pooling": "avg"}, "features", 2),  # too few photos to calibrate it: it is too sure
    ],
)
def test_the_patch_that_decides_gets_the_heat_and_shuffled_labels_give_none(
    head: str, settings: dict[str, object], way: str, times: float, tmp_path: Path
) -> None:
    places, new = draw_patches(tmp_path / "old", 64, 0), draw_patches(tmp_path / "new", 24, 1)
    (tmp_path / "told").mkdir()
    told = list(ffe.explain(model_of(tmp_path / "told", places, ["blue", "orange"] * 32, head, **settings), list(new)))
    hits = []
    for found, (row, column) in zip(told, new.values(), strict=True):
        assert found.error is None
        assert found.way == way
        assert found.cells is not None
        peak = np.unravel_index(found.cells.argmax(), (CELLS, CELLS))
        hits.append(max(abs(peak[0] - row), abs(peak[1] - column)) <= (way != "exact"))
    assert np.mean(hits) >= 0.7  # the best of 16 cells, or one beside it; the exact one alone where cells are exact
    (tmp_path / "shuffled").mkdir()
    names = [*["one"] * 2, *["two"] * 2] * 16  # as many of each colour
    shuffled = list(ffe.explain(model_of(tmp_path / "shuffled", places, names, head, **settings), list(new)))

    def most(explanations: list[ffe.commands.explain.Explanation]) -> float:
        return float(np.median([np.abs(found.cells).max() for found in explanations if found.cells is not None]))

    assert most(told) > times * most(shuffled)


def test_on_the_default_backbone_the_heat_lies_on_the_head_that_is_drawn(tmp_path: Path) -> None:
    """Drawn heads in one quarter of a grey picture: the peak is in that quarter, and more than half of the heat."""
    rng = np.random.default_rng(0)
    quarters: Places = {}
    for i in range(36):
        kind = KINDS[i % 2]
        row, column = rng.integers(0, 2, 2).tolist()
        picture = Image.new("RGB", (224, 224), (128, 128, 128))
        picture.paste(draw(kind, i, (112, 112)), (112 * column, 112 * row))
        file = tmp_path / ("photos" if i < 28 else "new") / kind / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
        quarters[file] = row, column
    ffe.extract(tmp_path / "photos", tmp_path / "f.h5")
    ffe.train(tmp_path / "f.h5", tmp_path / "m.ffe", head="svm", test_fraction=0.1)
    hits, shares = [], []
    for found in ffe.explain(tmp_path / "m.ffe", list(quarters)[28:]):
        assert found.cells is not None
        assert found.cells.shape == (7, 7)
        row, column = quarters[Path(found.path)]
        heat = np.kron(np.abs(found.cells), np.ones((2, 2)))
        part = heat[7 * row : 7 * row + 7, 7 * column : 7 * column + 7]
        hits.append(part.max() == heat.max())
        shares.append(part.sum() / heat.sum())
    assert np.mean(hits) >= 0.8
    assert np.mean(shares) > 0.5  # by chance 0.25


def test_an_explanation_says_what_prediction_says(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    files = sorted(pictures.glob("*/*.png"))[::7]
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    found = list(ffe.explain(fake_bundle, [*files, bad, files[0].read_bytes()]))
    answers = list(Predictor(fake_bundle).predict([*files, bad, files[0].read_bytes()]))
    assert [one.path for one in found] == [one.path for one in answers]
    for one, answer in zip(found, answers, strict=True):
        assert (one.label, one.error) == (answer.label, answer.error)
        if answer.error is not None:
            assert one.to_json()["cells"] is None
            continue
        assert one.label is not None
        assert one.class_name == one.label
        assert one.probability == pytest.approx(answer.probabilities[one.label])
        assert one.log_odds == pytest.approx(np.log(one.probability / (1 - one.probability)), abs=1e-4)
        assert one.picture is None
        assert one.pixels is not None
        assert one.pixels.shape == (32, 32, 3)
        assert one.to_json()["way"] == "features"
        assert len(one.to_json()["cells"]) == 4
    np.testing.assert_array_equal(found[0].cells, found[-1].cells)


def test_of_two_classes_one_map_is_the_other_with_its_signs_turned(fake_bundle: Path, pictures: Path) -> None:
    photo = pictures / "cat" / "cat_000.png"
    (cat,) = ffe.explain(fake_bundle, photo, class_name="cat")
    (dog,) = ffe.explain(fake_bundle, photo, class_name="dog")
    assert cat.label == dog.label
    assert cat.cells is not None
    assert dog.cells is not None
    np.testing.assert_allclose(cat.cells, -dog.cells, atol=1e-5)
    assert np.abs(cat.cells).max() > 1e-3


def test_a_head_that_looks_at_no_places_is_asked_with_parts_of_the_picture_covered(
    fake_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = pictures / "dog" / "dog_001.png"
    (before,) = ffe.explain(fake_bundle, photo, class_name="dog")

    def nowhere(*arguments: object) -> HeatMap | None:
        return None

    monkeypatch.setattr("ffe.explaining.explanations.heat_map", nowhere)
    (found,) = ffe.explain(fake_bundle, photo, class_name="dog")
    assert found.way == "pixels"
    assert found.cells is not None
    assert found.cells.shape == (7, 7)
    assert found.log_odds == pytest.approx(before.log_odds, abs=1e-5)
    assert np.abs(found.cells).max() > 1e-3


def test_a_model_of_several_backbones_has_one_map_of_all_that_they_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second, a network in a file, is given the middle of a wide photo; its model covers and leaves out the same places."""
    places, new = draw_patches(tmp_path / "old", 64, 0), draw_patches(tmp_path / "new", 24, 1)
    (tmp_path / "told").mkdir()
    model_of(tmp_path / "told", places, ["blue", "orange"] * 32, "svm")
    network = cells_network(tmp_path / "cells.xml", SIDE)
    ffe.extract(tmp_path / "told" / "photos.csv", tmp_path / "b.h5", backbone=str(network), resize="shortest", crop=0.75)
    ffe.train([tmp_path / "told" / "f.h5", tmp_path / "b.h5"], tmp_path / "m.ffe", head="svm", test_fraction=0.1)
    found = list(ffe.explain(tmp_path / "m.ffe", list(new), output=tmp_path / "why"))
    hits = []
    for one, (row, column) in zip(found, new.values(), strict=True):
        assert (one.error, one.way) == (None, "features")
        assert one.cells is not None
        assert one.cells.shape == (CELLS, CELLS)
        assert one.pixels is not None
        assert one.pixels.shape == (SIDE, SIDE, 3)
        peak = np.unravel_index(one.cells.argmax(), (CELLS, CELLS))
        hits.append(max(abs(peak[0] - row), abs(peak[1] - column)) <= 1)
    assert np.mean(hits) >= 0.7
    assert found[0].picture is not None
    assert Path(found[0].picture).is_file()
    monkeypatch.setattr("ffe.explaining.explanations.heat_map", lambda *given: None)
    (covered_,) = ffe.explain(tmp_path / "m.ffe", Path(found[0].path), class_name=found[0].class_name)
    assert covered_.way == "pixels"
    assert covered_.log_odds == pytest.approx(found[0].log_odds, abs=1e-3)
    row, column = new[Path(found[0].path)]
    peak = np.unravel_index(covered_.cells.argmax(), (7, 7))  # type: ignore[union-attr]
    assert max(abs(peak[0] - row * 7 / CELLS - 0.4), abs(peak[1] - column * 7 / CELLS - 0.4)) <= 2


def test_a_photo_that_goes_while_it_is_explained_is_said(
    fake_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes((pictures / "cat" / "cat_000.png").read_bytes())
    asked = Predictor.answers

    def gone(self: Predictor, files: Any) -> Any:
        for batch in asked(self, files):
            photo.unlink()
            yield batch

    monkeypatch.setattr(Predictor, "answers", gone)
    (found,) = ffe.explain(fake_bundle, photo)
    assert (found.path, found.error, found.cells) == (str(photo), "no such file", None)


def test_what_is_covered_takes_the_mean_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 14, 3), dtype=np.uint8)
    areas = np.zeros((2, 7, 7), bool)
    areas[1, 2, 3] = True
    same, changed = covered(pixels, areas, Window((21, 14)))
    np.testing.assert_array_equal(same, pixels)
    assert (changed[6:9, 6:8] == pixels.mean(axis=(0, 1)).round()).all()
    assert (changed == pixels).all(axis=2).sum() >= 21 * 14 - 6


def test_what_cannot_be_explained_is_refused(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError, match=r"has no class 'dgo'; it knows 'cat' and 'dog'\. Did you mean 'dog'\?$"):
        ffe.explain(fake_bundle, pictures / "cat" / "cat_000.png", class_name="dgo")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="is a file; name a folder for the pictures with -o"):
        ffe.explain(fake_bundle, [], output=tmp_path / "file")
    with pytest.raises(ReportError, match=r"lies in a folder that does not exist .*; create it first"):
        ffe.explain(fake_bundle, [], output=tmp_path / "no" / "folder")
    assert not (tmp_path / "no").exists()
    for suffix in (".PNG", ".h5"):
        refusal = rf"^The output is written as a folder, not as '\{suffix}'; name the output '.*why'\.$"
        with pytest.raises(ReportError, match=refusal):
            ffe.explain(fake_bundle, [], output=tmp_path / f"why{suffix}")
        assert not (tmp_path / f"why{suffix}").exists()
    (tmp_path / "old.png").mkdir()
    assert not list(ffe.explain(fake_bundle, [], output=tmp_path / "old.png"))


def test_a_model_without_its_backbone_needs_the_weights(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffe.extract(pictures, tmp_path / "f.h5")
    ffe.train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic", with_backbone=False)
    assert not Bundle(tmp_path / "m.ffe").has_backbone
    monkeypatch.setattr("ffe.backbones.lite0.PACKAGE", "no-such-package-of-weights")
    with pytest.raises(WeightsError, match="no-such-package-of-weights"):
        list(ffe.explain(tmp_path / "m.ffe", pictures / "cat" / "cat_000.png"))


def test_mistakes_in_a_report_have_their_maps_from_stored_features(pictures: Path, tmp_path: Path) -> None:
    """Labels that mean nothing make mistakes for sure."""
    photos, features, page = tmp_path / "photos", tmp_path / "f.h5", tmp_path / "r.html"
    for i, file in enumerate(sorted(pictures.glob("*/*.png"))):
        place = photos / ("one", "two")[i // 2 % 2] / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    ffe.extract(photos, features, backbone="fake")
    ffe.extract(photos, tmp_path / "second.h5", backbone="fake", size=48)

    def reported(*more: Path, parts: str | None = None, **options: Any) -> str:
        settings = {"C": 300.0, "gamma": 5.0} | ({} if parts is None else {"parts": parts})
        ffe.train([features, *more], head="svm", settings=settings, test_fraction=0.5, report=page, **options)
        return page.read_text("utf-8")

    text = reported()
    mistakes = text[text.index('id="mistakes"') : text.index('id="labels"' if 'id="labels"' in text else 'id="calibration"')]
    shown = mistakes.count("<figure")
    assert shown >= 3
    assert mistakes.count('alt="Heat map of ') == shown
    assert mistakes.count("data:image/jpeg") == 2 * shown
    assert "red speaks for that class, blue against it, about there" in mistakes
    assert text.count('alt="Heat map of ') == shown  # nowhere else
    assert "Heat map of" not in reported(anonymous=True)
    without = without_photos(text, lambda name: True)
    assert "Heat map of" not in without
    for parts in ("all", "2"):  # joined, and where the winner looks at the second file alone
        text = reported(tmp_path / "second.h5", parts=parts)
        assert text.count('alt="Heat map of ') >= 3
    shutil.rmtree(photos)
    assert "Heat map of" not in reported()
