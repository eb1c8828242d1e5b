"""A network in OpenVINO's intermediate representation: XML that points into one block of constants; reading it runs no code.

https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

from __future__ import annotations

import json
import math
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.feature_layout import FeatureLayout
from ffe.base.text import counted
from ffe.errors import EngineError, one_line

GRAPH = "graph.xml"
WEIGHTS = "weights.bin"
RECORD = "record.json"

OTHER_ENGINES = "use --engine keras for a backbone of Keras, --engine torch for one of timm or Hugging Face"

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER = 30
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, LookupError, TypeError, AttributeError, EOFError, RuntimeError)

_OPERATIONS = re.compile(r"opset\d{1,3}")  # OpenVINO's own; others come from libraries that a user loads
_CONTROL = {"Loop", "TensorIterator", "If", "ReadValue", "Assign"}  # no backbone has them, and they need not end
_BITS = {
    **dict.fromkeys(("f64", "i64", "u64"), 64),
    **dict.fromkeys(("f32", "i32", "u32"), 32),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 16),
    **dict.fromkeys(("i8", "u8", "boolean", "f8e4m3", "f8e5m2"), 8),
    **dict.fromkeys(("i4", "u4"), 4),
    "u1": 1,
}


def import_openvino() -> Any:
    """Import OpenVINO without its usage reports: where the package that sends them is missing, they are not sent.

    https://docs.openvino.ai/2026/about-openvino/additional-resources/telemetry.html
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except Exception as error:  # a missing system library shows as ImportError or OSError, an old CPU as others
        raise EngineError(
            f"OpenVINO does not work on this machine ({one_line(error)}); 'ffe doctor' shows more, or {OTHER_ENGINES}."
        ) from error
    return openvino


@dataclass(frozen=True, eq=False)
class IrModel:
    """A network from uint8 (N, H, W, 3), RGB, not yet scaled, to float32 features of any rank."""

    xml: bytes  # the graph
    weights: np.ndarray  # uint8 (n,), its constants
    record: Mapping[str, Any] = field(default_factory=dict)  # what made it, as JSON values; no part of the digest

    @cached_property
    def sha256(self) -> str:
        """Digest of graph and constants, 64 hexadecimal digits."""
        return digest_of_parts(bytes_digest(self.xml), bytes_digest(self.weights.data))


def digest_of_parts(xml: str, weights: str) -> str:
    """Return ``IrModel.sha256`` from the digests of graph and constants."""
    return bytes_digest((xml + weights).encode())


def write_ir(path: Path, model: IrModel) -> None:
    """Write one file; neither atomic nor synced: see ``ffe.base.atomic.atomic_write``."""
    with zipfile.ZipFile(path, "w") as archive:
        record = canonical_json({**model.record, "sha256": model.sha256})
        for name, data in ((RECORD, record), (GRAPH, model.xml), (WEIGHTS, model.weights.data)):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


def read_ir(path: Path) -> IrModel:
    """Read a file that ``write_ir`` wrote, and check its digest; a ValueError says that it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            xml, record = archive.read(GRAPH), json.loads(archive.read(RECORD))
        sha256 = record.pop("sha256")
        model = IrModel(xml, map_member(path, WEIGHTS), record)
        if sha256 != model.sha256:
            raise ValueError("its content was changed")
    except _DAMAGED as error:
        raise ValueError(f"it is damaged ({error!r})") from error
    return model


def map_member(path: Path, name: str) -> np.ndarray:
    """Return a member of a zip as uint8 (n,); one that is stored plainly is read when it is used. A KeyError: there is none."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size == 0:
            return np.frombuffer(archive.read(name), np.uint8)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name_length, extra_length = struct.unpack("<26xHH", file.read(_LOCAL_HEADER))
    start = info.header_offset + _LOCAL_HEADER + name_length + extra_length
    return np.memmap(path, np.uint8, "c", start, (info.file_size,))


def check_graph(model: IrModel) -> None:
    """Raise a ValueError unless a graph is plain XML without entities, its operations end, its constants lie in their block."""
    if b"<!" in model.xml or not model.xml.lstrip().startswith((b"<?xml", b"<net")):
        raise ValueError("its graph is not the XML that ffe writes")
    try:
        root = ElementTree.fromstring(model.xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"its graph is damaged ({error})") from error
    if root.tag != "net" or any("{" in element.tag for element in root.iter()):
        raise ValueError("its graph has names that ffe does not write")  # OpenVINO takes no notice of namespaces
    for layer in root.iter("layer"):
        _check_operation(layer.get("type", ""), layer.get("version", ""))
    for data in root.iter("data"):
        if "offset" in data.attrib or "size" in data.attrib:
            offset, size = (int(data.get(name, "-1")) for name in ("offset", "size"))
            if offset < 0 or size < 0 or offset + size > len(model.weights):
                raise ValueError("its graph asks for constants that it does not hold")
            bits, values = _BITS.get(data.get("element_type", ""), 0), [int(n) for n in data.get("shape", "").split(",") if n]
            if min(values, default=0) < 0 or -(-bits * math.prod(values) // 8) != size:
                raise ValueError("its graph has constants of another shape than their bytes")


def check_operations(model: Any) -> None:
    """Raise a ValueError unless all operations of an ``openvino.Model`` are OpenVINO's own, and end."""
    for node in model.get_ops():
        _check_operation(node.get_type_name(), node.get_type_info().version_id)


def _check_operation(kind: str, version: str) -> None:
    if not _OPERATIONS.fullmatch(version) or kind in _CONTROL:
        raise ValueError(f"its graph has the operation '{kind}', which ffe does not run")


def layout_of(model: IrModel, shape: Sequence[int]) -> FeatureLayout:
    """Return how the features of one image lie in a row, which have this shape; ValueError where the record says otherwise."""
    if len(shape) > 1 or "layout" not in model.record:
        return FeatureLayout.of_shape(shape)
    layout = FeatureLayout.from_json(model.record["layout"])  # parts side by side
    if layout.dims != shape[0]:
        raise ValueError(f"it gives {counted(shape[0], 'value')}, and its record says {layout.dims}")
    return layout
