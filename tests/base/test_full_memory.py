"""Lack of memory is called so, whichever library raises it; what surely does not fit is refused at once."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from joblib.externals.loky.process_executor import TerminatedWorkerError

import ffe
from ffe.base.system import free_memory
from ffe.cli import cli
from ffe.errors import BackboneError, DecodeError, EngineError, FfeError, SpecError, WeightsError, ran_out_of_memory
from ffe.images.decode import decode, read_image
from ffe.images.drawings import draw
from ffe.specs import PreprocessSpec

ERRORS = [
    MemoryError("Unable to allocate 5.46 TiB for an array with shape (750000000000,) and data type float64"),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("float64")),  # type: ignore[attr-defined]
    RuntimeError("std::bad_alloc"),
    RuntimeError("Exception from src/inference/src/cpp/core.cpp:112: [ GENERAL_ERROR ] Failed to allocate 99 bytes of memory"),
    RuntimeError("could not create a primitive, out_of_memory"),
    cv2.error("OpenCV(4.13.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 99 bytes"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError("Can't synchronously write data (memory allocation failed for chunk)"),
    type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor with shape[32,999]"),
    TerminatedWorkerError("A worker process managed by the executor was unexpectedly terminated."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_library_is_understood(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ran_out_of_memory(error)
    monkeypatch.setattr("ffe.extraction.run.extract", _raising(error))
    result = CliRunner().invoke(cli, ["extract", str(tmp_path), "-o", str(tmp_path / "f.h5")])
    assert result.exit_code == 3
    said = f" ({error})" if isinstance(error, MemoryError) and str(error) else ""
    assert result.stderr == (
        f"ffe: There is not enough memory{said}; give a smaller --size, --batch-size or --max-pixels, or fewer --workers, "
        "or close other programs.\n"
    )


def _raising(error: Exception) -> Callable[..., None]:
    def fail(*values: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOSPC, "full"), KeyError("memory"), EngineError("none")])
def test_all_else_is_not(error: Exception) -> None:
    assert not ran_out_of_memory(error)


def test_an_error_of_ours_that_only_memory_caused(monkeypatch: pytest.MonkeyPatch, fake_bundle: Path, pictures: Path) -> None:
    def fail(*values: object, **options: object) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise WeightsError("The weights file does not fit; give another.") from error

    monkeypatch.setattr("ffe.predictor.Predictor.predict", fail)
    result = CliRunner().invoke(cli, ["predict", str(fake_bundle), str(pictures / "cat" / "cat_000.png")])
    assert result.exit_code == 3
    assert result.stderr == (
        "ffe: There is not enough memory; give a smaller --batch-size or --max-pixels, or fewer --workers, "
        "or close other programs.\n"
    )


@pytest.mark.parametrize("command", ["doctor", "backbones"])
def test_a_command_without_a_knob(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = {"doctor": "ffe.commands.doctor.checkup", "backbones": "ffe.cli.backbones.print_json"}[command]
    monkeypatch.setattr(home, _raising(MemoryError()))
    result = CliRunner().invoke(cli, [command, "--json"])
    assert (result.exit_code, result.stderr) == (3, "ffe: There is not enough memory; close other programs.\n")


@pytest.mark.parametrize("error", [MemoryError(), OSError("decoder error -9: out of memory error when reading image file")])
def test_a_picture_that_does_not_fit_is_not_called_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    draw("cat", 0, (48, 48)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr("ffe.images.decode._to_rgb", _raising(error))
    with pytest.raises(DecodeError, match=r"^not enough memory to decode it$") as caught:
        decode(data, PreprocessSpec((8, 8), "none"))
    assert caught.value.reason == "too-large"
    monkeypatch.setattr("ffe.images.decode.kind_of", _raising(MemoryError()))
    with pytest.raises(DecodeError, match=r"^not enough memory to read it$"):
        read_image(tmp_path / "a.png")


GIB = r"[\d,.]+ GiB of memory, and [\d.]+ [KMG]iB are free; "
BATCH = (
    r"A batch of 1,000,000,000 pictures of 32x32 pixels takes at least " + GIB + r"give a smaller --batch-size or leave it out\."
)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda photos, model, out: ffe.scratch(photos, out, size=8000),
            r"The small network for pictures of 8000x8000 pixels, in steps of 20, takes at least "
            + GIB
            + r"give a smaller --size or --batch-size\.",
        ),
        (
            lambda photos, model, out: ffe.extract(photos, out.with_suffix(".h5"), backbone="fake", batch_size=10**9),
            BATCH,
        ),
        (
            lambda photos, model, out: ffe.Predictor(model, batch_size=10**9),
            BATCH,
        ),
        (
            lambda photos, model, out: ffe.FeatureExtractor("fake", batch_size=10**9).fit([]),
            BATCH,
        ),
    ],
)
def test_what_surely_does_not_fit_is_refused_at_once(
    pictures: Path,
    fake_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Path, Path, Path], object],
    sentence: str,
) -> None:
    monkeypatch.setattr("ffe.images.decode.decode", _raising(AssertionError("nothing is decoded")))
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: min(free_memory(), 64 << 30))
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        call(pictures, fake_bundle, tmp_path / "out.ffe")
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_are_too_large_for_the_memory(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: 1 << 30)
    with pytest.raises(
        SpecError,
        match=r"^A picture of 8192x8192 pixels takes at least 3\.9 GiB of memory, and 1\.0 GiB are free; give a smaller",
    ):
        ffe.extract(pictures, tmp_path / "f.h5", backbone="fake", size=8192)
    with pytest.raises(
        SpecError, match=r"^A picture of 8192x8192 pixels with its views takes at least 37\.5 GiB of memory, and 1\.0 GiB"
    ):
        ffe.preview(pictures, tmp_path / "a.png", augment="flip", size=8192, views=199)


def test_a_layer_that_is_not_there_is_refused_before_anything_is_read(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffe.backbones.keras_build.fill_randomly", _raising(AssertionError("no weights are made")))
    sentence = (
        r"^The backbone 'mobilenet_0\.25' has no layer 'conv_pw_13_rel'; its last layers are .* Did you mean 'conv_pw_13_relu'\?$"
    )
    options = {"backbone": "mobilenet_0.25", "weights": "random", "size": 32, "layer": "conv_pw_13_rel"}
    with pytest.raises(BackboneError, match=sentence):
        ffe.extract(pictures, tmp_path / "f.h5", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_such_an_error_is_one_of_ours() -> None:
    assert issubclass(SpecError, FfeError)
