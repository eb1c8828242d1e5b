"""Read everything of a feature file or of a model, as ffe does: an answer, or one sentence of ffe's own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.errors import FfeError
from ffe.images.drawings import draw
from ffe.predictor import Predictor
from ffe.store.check import check_store
from ffe.store.reader import FeatureStore


def outcome(use: Callable[[Path], None], path: Path) -> str:
    """Return ``sound`` or ``refused``; what is neither is raised.

    Raises:
        Exception: what ffe must not raise.
        AssertionError: a refusal is no plain sentence.
    """
    with np.errstate(all="ignore"):
        try:
            use(path)
        except FfeError as error:
            text = str(error)
            assert text.endswith("."), text
            return "refused"
    return "sound"


def use_store(path: Path) -> None:
    """Read a feature file by every way that there is."""
    with FeatureStore(path, verify=False) as store:
        check_store(store)
    _show(path)
    with FeatureStore(path) as store:
        assert np.shape(store.features()) == (len(store), store.dims)
        store.rows(), store.summary(), store.quantized()
        for features, labels in (*store.batches(7), *store.shuffled(7)):
            assert len(features) == len(labels)
        for row in range(min(3, len(store))):
            store.raw_row(row)


def use_bundle(path: Path) -> None:
    """Use every part of a model, and let it answer."""
    with contextlib.suppress(FfeError):
        _show(path, "--splits")
    bundle = Bundle(path)
    bundle.splits(), bundle.card(), bundle.golden()
    head = bundle.head()
    dims = bundle.manifest.layout.dims
    answers = head.predict_proba(np.random.default_rng(0).random((3, dims), np.float32))
    assert answers.shape == (3, len(bundle.manifest.class_names))
    bundle.ir()
    with bundle.keras_file():
        pass
    list(Predictor(path).predict_bytes([_picture()]))


def _show(path: Path, *options: str) -> None:
    for more in ((), ("--json",)):
        result = CliRunner().invoke(cli, ["info", str(path), *options, *more])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in {0, 2, 3}, result.output


@cache
def _picture() -> bytes:
    buffer = io.BytesIO()
    draw("cat", 0, (40, 30)).save(buffer, "PNG")
    return buffer.getvalue()
