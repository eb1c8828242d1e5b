"""The rows of the catalogue, against keras.applications."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from ffe.backbones.catalog import CATALOG, FAKE, LITE0, check_size, find
from ffe.errors import BackboneError

# (backbone, input size): quick ones of most schemes of file names, at sizes with and without weights of their own
QUICK = (
    ("vgg16", (32, 32)),
    ("mobilenet", (128, 128)),
    ("mobilenet_0.25", (96, 96)),
    ("mobilenetv2_0.35", (96, 96)),
    ("mobilenetv3small", (32, 32)),
    ("efficientnetb0", (32, 32)),
    ("efficientnetv2b0", (32, 32)),
    ("resnet50v2", (32, 32)),
    ("xception", (71, 71)),
    ("convnexttiny", (32, 32)),
)
ALL = tuple((row.name, (row.min_size, row.min_size)) for row in CATALOG.values() if row.name != LITE0)


class _AskedError(Exception):
    """Stands for the download that a factory would start now."""


def asked_for(monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]) -> str:
    """Return the name under which Keras looks for the ImageNet weights in its cache."""
    import keras
    from keras.src.utils import file_utils

    names: list[str] = []

    def get_file(fname: str, *rest: Any, cache_subdir: str, **options: Any) -> str:
        assert cache_subdir == "models"
        names.append(fname)
        raise _AskedError

    monkeypatch.setattr(file_utils, "get_file", get_file)
    row = CATALOG[name]
    options: dict[str, Any] = {} if row.alpha is None else {"alpha": row.alpha}
    factory = functools.partial(getattr(keras.applications, row.application), include_top=False, weights="imagenet")
    with pytest.raises(_AskedError):
        factory(input_shape=(*size, 3), **options)
    keras.backend.clear_session()
    return names[0]


@pytest.mark.parametrize(("name", "size"), QUICK)
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_cache_name_is_what_keras_asks_for(monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]) -> None:
    assert asked_for(monkeypatch, name, size) == CATALOG[name].keras_cache_name(size)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), ALL)
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_cache_name_of_every_row(monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]) -> None:
    """All rows at their smallest size, which Keras must take as well; over two minutes."""
    assert asked_for(monkeypatch, name, size) == CATALOG[name].keras_cache_name(size)


def test_cache_name_follows_the_resolution() -> None:
    row = CATALOG["mobilenetv2_1.4"]
    prefix = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4"
    assert row.keras_cache_name((160, 160)) == f"{prefix}_160_no_top.h5"
    assert row.keras_cache_name((150, 150)) == f"{prefix}_224_no_top.h5"
    assert row.keras_cache_name((160, 192)) == f"{prefix}_224_no_top.h5"


def test_every_row_names_a_keras_application() -> None:
    import keras

    for row in CATALOG.values():
        assert row.name == LITE0 or callable(getattr(keras.applications, row.application, None)), row.name


def test_no_keras_application_is_missing() -> None:
    """Every factory of this version of Keras has a row (those with a width multiplier have several)."""
    import keras

    factories = {name for name in dir(keras.applications) if name[0].isupper()}
    assert factories == {row.application for row in CATALOG.values()} - {CATALOG[LITE0].application}


def test_rows_are_sound() -> None:
    for name, row in CATALOG.items():
        assert row.name == name == name.lower()
        assert row.size >= row.min_size > 0
        assert row.licence
        assert row.weights_file == f"{name}_imagenet_no_top.weights.h5"
        check_size(row, (row.size, row.size))
    files = [row.cache_file for row in CATALOG.values()]
    assert len(set(files)) == len(files)
    assert FAKE not in CATALOG


def test_names_are_found_in_any_case() -> None:
    assert find("VGG19") is CATALOG["vgg19"]
    assert find("EfficientNetB0") is CATALOG["efficientnetb0"]
    assert find(FAKE).name == FAKE


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(
        BackboneError, match=r"There is no backbone 'resnet5'; 'ffe backbones' lists all of them\. Did you mean 'resnet50'\?"
    ):
        find("resnet5")


def test_unknown_name_with_nothing_near() -> None:
    with pytest.raises(BackboneError, match=r"There is no backbone 'qqq'; 'ffe backbones' lists all of them\."):
        find("qqq")


def test_size_below_the_smallest() -> None:
    with pytest.raises(
        BackboneError, match=r"'xception' takes pictures of at least 71 pixels; choose --size 71 or more instead of 70"
    ):
        check_size(CATALOG["xception"], (100, 70))
    check_size(CATALOG["xception"], (71, 71))
