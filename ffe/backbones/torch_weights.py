"""Weights of networks of PyTorch: a file > the cache of the Hugging Face hub > download; or seeded random ones."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.weights import IMAGENET, RANDOM, Weights, fetched, given_file, of_file
from ffe.base.digests import bytes_digest
from ffe.base.file_access import is_zip, unopened
from ffe.errors import BackboneError, WeightsError, missing, one_line

FILES = ("model.safetensors", "pytorch_model.bin")  # as the hub has them, first choice first
_SAFE = ".safetensors"
_PICKLED = {".bin", ".pth", ".pt"}
_INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model")  # where training programs keep the weights in their files


def find_weights(backbone: str, repository: str | None, weights: str = IMAGENET, *, download: bool = True) -> Weights:
    """Find the weights of a backbone: ``imagenet`` (those in a repository of the hub), ``random``, or the path of a file.

    Raises:
        WeightsError: there are none; the message says where they were looked for and how to get them.
    """
    if weights == RANDOM:
        return Weights("random", bytes_digest(b"ffe random weights of PyTorch networks 1, seed 0"))
    if weights != IMAGENET:
        path = given_file(weights, f"a {_SAFE} file")
        if path.suffix.lower() not in {_SAFE, *_PICKLED}:
            raise WeightsError(
                f"'{path}' is no weights file of PyTorch, by its name; give a {_SAFE} file, or a .pth or .bin file."
            )
        return of_file(path)
    if repository is None:
        raise WeightsError(
            f"There are no pretrained weights of '{backbone}' on the hub; pass --weights FILE, or --weights random."
        )
    found, failure = hub_file(backbone, repository, FILES, download=download)
    if found is None:
        raise WeightsError(
            f"The weights of '{backbone}' are not on this machine: looked for '{repository}' in the cache of Hugging Face, "
            f"'{hub_cache()}'{f' ({failure})' if failure else ''}; run the command once with a network so that they are fetched, "
            f"or pass --weights FILE ({_SAFE}), or try it out with --weights random."
        )
    return of_file(found)


def hub_cache() -> str:
    """Return the folder in which the Hugging Face hub keeps what it fetched."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def hub_file(backbone: str, repository: str, names: Sequence[str], *, download: bool) -> tuple[Path | None, str]:
    """Return the first of some files of a repository that is here, or fetched; else None, and what went wrong.

    The host is asked only where ``download`` says so, and must answer within seconds.
    A ValueError: no repository has such a name.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise BackboneError(missing(f"The backbone {backbone}", "huggingface_hub")) from error
    for name in names:
        if isinstance(path := try_to_load_from_cache(repository, name), str):
            return Path(path), ""
    if not download:
        return None, ""
    if constants.HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE forbids to fetch them"
    paths: list[str] = []

    def fetch() -> None:
        for name in names:
            try:
                paths.append(hf_hub_download(repository, name))
                return
            except EntryNotFoundError:
                if name == names[-1]:
                    raise

    failure = fetched(constants.ENDPOINT, fetch)
    return (Path(paths[0]) if paths else None), failure


def read_tensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a file by name; nothing of it is run.

    A safetensors file is a table and numbers. A pickle is read by PyTorch's own reader, which makes tensors and plain
    values of it and nothing else; the zip around it must hold its members as they are, so that none is larger than it.
    https://docs.pytorch.org/docs/stable/notes/serialization.html#weights-only
    """
    try:
        if path.suffix.lower() == _SAFE:
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ValueError("its members are compressed")
        content = torch.load(path, map_location="cpu", weights_only=True)
        inside = next((content[name] for name in _INSIDE if isinstance(content.get(name), dict)), content)
        tensors = {name: value for name, value in inside.items() if isinstance(value, torch.Tensor)}
        if not tensors or not all(isinstance(name, str) for name in tensors):
            raise ValueError("it holds no tensors by name")
        return tensors
    except OSError as error:
        raise WeightsError(unopened(path, error)) from error
    except Exception as error:  # each library raises its own kinds on what it does not read
        raise WeightsError(
            f"'{path}' cannot be read as weights ({one_line(error)}); give a {_SAFE} file, or a .pth file with tensors alone."
        ) from error


def unfit(backbone: str, path: Path, error: Exception) -> WeightsError:
    """Return the error for weights of another network."""
    return WeightsError(
        f"The weights file '{path}' does not fit the backbone '{backbone}' ({one_line(error)}); give one that was made of it."
    )


def fill_randomly(model: Any) -> None:
    """Give a network seeded values, drawn with numpy by the names and shapes of its parameters: the same on every machine.

    Kernels get normal values whose deviation keeps the size of what goes through (He et al. 2015,
    https://arxiv.org/abs/1502.01852), factors values about 1, all else small ones; also where training starts from
    constants, which would leave blocks of a transformer without effect. Buffers but those of batch norms stay as they are.
    """
    import torch

    tensors = [*model.named_parameters(), *(pair for pair in model.named_buffers() if ".running_" in f".{pair[0]}")]
    with torch.no_grad():
        for name, tensor in tensors:
            generator = np.random.default_rng([0, zlib.crc32(name.encode())])
            last, shape = name.rpartition(".")[2], tuple(tensor.shape)
            if len(shape) > 1 and last == "weight":
                gain = 2 if len(shape) == 4 else 1
                values = generator.standard_normal(shape, np.float32) * np.float32(np.sqrt(gain / np.prod(shape[1:])))
            elif last in {"bias", "running_mean"} or np.prod(shape[1:]) > 1:
                values = generator.standard_normal(shape, np.float32) * np.float32(0.02)
            else:
                values = generator.uniform(0.8, 1.2, shape).astype(np.float32)
            tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))
