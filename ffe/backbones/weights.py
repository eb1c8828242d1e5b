"""Where the weights of a backbone are: a path > FFE_WEIGHTS_DIR > the installation, or Keras's cache > download."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ffe.backbones import lite0
from ffe.backbones.catalog import CONVNET, FAKE, LITE0, Backbone
from ffe.base.digests import bytes_digest
from ffe.base.file_access import unopened
from ffe.base.file_stat import remembered_digest
from ffe.base.text import did_you_mean, url_refusal
from ffe.errors import WeightsError
from ffe.specs import WeightsKind

WEIGHTS_DIR_VARIABLE = "FFE_WEIGHTS_DIR"
IMAGENET = "imagenet"
RANDOM = "random"
TORCH_SUFFIX = ".pth"  # of the one such file that ffe reads; see ``ffe.backbones.lite0``

# One of the files that keras.applications downloads; asked whether it is there, and not read.
_HOST = "https://storage.googleapis.com/tensorflow/keras-applications"
_PROBE_URL = f"{_HOST}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
_PROBE_SECONDS = 4.0


@dataclass(frozen=True)
class Weights:
    """Weights that were found."""

    kind: WeightsKind  # see ``ffe.specs.BackboneSpec``
    sha256: str  # digest of the file, of the recipe of the random ones, or of the arrays that were learnt
    path: Path | None = None  # weights alone, a whole backbone (``.keras``), or a model file (``.ffe``); None for random weights
    config: Path | None = None  # the description of the network that ``sha256`` covers, where that is in a file of its own


def random_weights(seed: int = 0) -> Weights:
    """Return the seeded, untrained weights; ``ffe.backbones.keras_build`` holds the recipe."""
    return Weights("random", bytes_digest(f"ffe random weights 1, seed {seed}".encode()))


def needed_file(name: str) -> WeightsError:
    """Return the error for a backbone that came as a file, where that is not at hand, nor what ffe made of it."""
    what, file = _CAME_AS[name.partition(":")[0]]
    return WeightsError(f"The backbone '{name}' came as a {what}, which is needed again; pass the {what} with --weights {file}.")


# what a backbone was before it was converted, by how its name begins
_CAME_AS = {
    "onnx": ("file", "model.onnx"),
    "openvino": ("file", "model.xml"),
    "keras": ("file", "model.keras"),
    "keras-hub": ("preset", "FOLDER"),
    "timm": ("weights file", "FILE.safetensors"),
    "hf": ("weights file", "FILE.safetensors"),
}


def candidates(row: Backbone, size: tuple[int, int]) -> list[Path]:
    """Return the files that are looked for, first choice first."""
    cache_name = row.keras_cache_name(size)
    paths = []
    if folder := os.environ.get(WEIGHTS_DIR_VARIABLE):
        paths += [Path(folder) / row.weights_file, Path(folder) / cache_name]
    if row.name != LITE0:
        paths.append(keras_home() / "models" / cache_name)
    elif installed := lite0.installed_file():
        paths.append(installed)
    return paths


def keras_home() -> Path:
    """Return Keras's own folder: ``KERAS_HOME``, or ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"))  # Path.home() fails for a user without a home


def find_file(row: Backbone, size: tuple[int, int]) -> Path | None:
    """Return the weights file on this machine, or None."""
    return next((path for path in candidates(row, size) if path.is_file()), None)


def resolve(
    row: Backbone,
    size: tuple[int, int],
    weights: str = IMAGENET,
    download: Callable[[Backbone, tuple[int, int]], None] | None = None,
) -> Weights:
    """Find the weights of a backbone for an input (height, width): ``imagenet``, ``random``, or the path of a file.

    ``download`` fetches those of ImageNet into Keras's cache; it is tried only where the download host answers. Where there
    are none, a WeightsError says where they were looked for and how to get them.
    """
    if weights == RANDOM or row.name == FAKE:
        return random_weights()
    if weights != IMAGENET:
        return _found(row, given_file(weights, "a Keras .weights.h5 file"))
    if row.name == CONVNET:
        raise WeightsError(
            f"There are no pretrained weights of '{CONVNET}'; give a model file that 'ffe scratch' wrote as --backbone MODEL.ffe."
        )
    if found := find_file(row, size):
        return _found(row, found)
    if row.name == LITE0:
        return _found(row, lite0.needed_file())
    failure = ""
    if download is not None:
        failure = fetched(_PROBE_URL, partial(download, row, size))
        if found := find_file(row, size):
            return _found(row, found)
    looked = ", ".join(f"'{path}'" for path in candidates(row, size))
    raise WeightsError(
        f"The ImageNet weights of '{row.name}' are not on this machine: looked for {looked}"
        f"{f' ({failure})' if failure else ''}; run the command once with a network so that Keras downloads them, "
        f"or put '{row.weights_file}' into a folder that {WEIGHTS_DIR_VARIABLE} names, "
        f"or pass --weights PATH, or take --backbone {LITE0}, whose weights are installed with ffe."
    )


def _found(row: Backbone, path: Path) -> Weights:
    """Return a file as a source of weights; of those that PyTorch wrote, only the published one is."""
    torch = path.suffix == TORCH_SUFFIX
    if torch and row.name != LITE0:
        raise WeightsError(f"'{path}' holds weights of '{LITE0}', not of '{row.name}'; give a Keras .weights.h5 file.")
    return of_file(path, partial(lite0.check_file, digest=remembered_digest) if torch else remembered_digest)


def given_file(weights: str, kind: str) -> Path:
    """Return the file that a user names as weights; a WeightsError says that there is none, and which ``kind`` is wanted."""
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(
            url_refusal(weights)
            or f"There is no weights file '{path}'; give the path of {kind}, 'imagenet' or 'random'."
            f"{did_you_mean(weights, (IMAGENET, RANDOM))}"
        )
    return path


def of_file(path: Path, digest: Callable[[Path], str] = remembered_digest) -> Weights:
    """Return a file as a source of weights."""
    try:
        return Weights("file", digest(path), path)
    except OSError as error:
        raise WeightsError(unopened(path, error)) from error


def fetched(url: str, fetch: Callable[[], object]) -> str:
    """Fetch something, if the host of ``url`` answers within seconds; return what went wrong, empty = nothing."""
    if failure := _unreachable(url):
        return failure
    try:
        fetch()
    except Exception as error:  # Keras raises bare Exception when a download breaks off
        return f"the download failed: {' '.join(str(error).split())}"
    return ""


def _unreachable(url: str) -> str:
    """Return why the download host does not answer; empty if it does. Looking a name up knows no time limit, a thread does."""
    outcome = ["the download host does not answer"]

    def ask() -> None:
        import urllib.request

        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
            outcome[0] = ""
        except Exception as error:  # a broken proxy setting raises other kinds than a broken network
            outcome[0] = f"the download host cannot be reached: {getattr(error, 'reason', error)}"

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return outcome[0]
