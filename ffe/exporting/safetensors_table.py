"""For PyTorch: a ``.safetensors`` file, which ``safetensors.torch.load_file`` opens; neither package is needed to write it.

It is a header of JSON and the arrays behind it, so it can be written block by block; PyTorch's own format is a pickle, whose
tensors would have to be whole in memory. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ffe.exporting.feature_table import ABOUT, FEATURES, FeatureTable, TableFormat

_TYPES = {"float32": "F32", "float16": "F16", "int64": "I64", "uint64": "U64", "uint8": "U8"}


def write(table: FeatureTable, file: BinaryIO) -> None:
    """Write numbers, features and texts, which are uint8 (N, longest), UTF-8 with zeros behind it."""
    widths = {name: max(1, *(len(text.encode()) for text in column), 1) for name, column in table.texts.items()}
    tensors = [(name, column.dtype, column.shape) for name, column in table.numbers.items()]
    tensors.append((FEATURES, table.dtype, table.shape))
    tensors += [(name, np.dtype(np.uint8), (len(table), width)) for name, width in widths.items()]
    header: dict[str, Any] = {"__metadata__": {ABOUT: table.about_json().decode()}}
    end = 0
    for name, dtype, shape in tensors:
        start, end = end, end + dtype.itemsize * int(np.prod(shape))
        header[name] = {"dtype": _TYPES[dtype.name], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for block in _blocks(table, widths):
        file.write(np.ascontiguousarray(block).data)


def _blocks(table: FeatureTable, widths: dict[str, int]) -> Iterator[np.ndarray]:
    yield from table.numbers.values()
    yield from map(table.features, table.slices())
    for name, column in table.texts.items():
        for rows in table.slices():
            yield np.asarray([text.encode() for text in column[rows]], f"S{widths[name]}")


TORCH = TableFormat("torch", ".safetensors", write)
