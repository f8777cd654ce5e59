"""A model's large weights, apart from its structure.

A protocol buffer is copied whole whenever it is parsed or written; the weights are nearly all of it.
So they are read once, straight from where they lie into arrays, and what remains (the *stub*) is small.
Runtime sessions are given the arrays themselves: every session of a model shares them.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

__all__ = ["LARGE", "Weights", "attach", "detach", "detach_file", "is_detached", "read_external"]

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]

LARGE = 4096  # bytes from which on a tensor is taken out
ELSEWHERE = "memory"  # what stubs state as the file that holds a tensor: it is handed to the session

# Types whose numbers NumPy and the runtime hold alike, as they lie in the file.
_PLAIN = {
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL,
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}  # fmt: skip


def detach_file(path: Path) -> tuple[bytes, Weights]:
    """The stub of a file and its large weights; ValueError where it is no protocol buffer."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return b"", {}
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:

            def read(start: int, array: Array) -> None:
                file.seek(start)
                _fill(file, array)

            return _detached(view, read)


def _fill(file: BufferedReader, array: Array) -> None:
    if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
        raise ValueError("the file is cut off")


def detach(data: bytes) -> tuple[bytes, Weights]:
    """The stub of a serialized model and its large weights; ValueError where it is none."""

    def read(start: int, array: Array) -> None:
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8, array.nbytes, start)

    return _detached(data, read)


def is_detached(tensor: onnx.TensorProto) -> bool:
    """True for a tensor of a stub whose numbers are elsewhere."""
    return bool(uses_external_data(tensor)) and ExternalDataInfo(tensor).location == ELSEWHERE


def attach(stub: bytes, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The whole model again."""
    model = onnx.load_model_from_string(stub)
    for tensor in model.graph.initializer:
        if is_detached(tensor):
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = weights[tensor.name].tobytes()
    return model


def read_external(tensor: onnx.TensorProto, folder: Path) -> Array | None:
    """The numbers of a tensor in a file of its own, marked as detached; None for types NumPy lacks."""
    if tensor.data_type not in _PLAIN:
        return None
    info = ExternalDataInfo(tensor)
    array = np.empty(tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))
    with (folder / info.location).open("rb") as file:
        file.seek(info.offset or 0)
        _fill(file, array)
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=ELSEWHERE)
    return array


# ---- the wire format (protobuf.dev/programming-guides/encoding) -----------------------------------

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DOUBLE_DATA, _LOCATION = 1, 2, 4, 8, 9, 10, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: its number and wire type, where it begins, its content and its end."""

    number: int
    kind: int
    start: int
    content: int
    end: int


def _detached(view: Any, read: Callable[[int, Array], None]) -> tuple[bytes, Weights]:
    weights: Weights = {}

    def tensor(start: int, end: int) -> bytes | None:
        return _tensor(view, start, end, weights, read) if end - start > LARGE else None

    def graph(start: int, end: int) -> bytes:
        return _rewritten(view, start, end, _INITIALIZER, tensor)

    return _rewritten(view, 0, len(view), _GRAPH, graph), weights


def _rewritten(
    view: Any, start: int, end: int, number: int, change: Callable[[int, int], bytes | None]
) -> bytes:
    """A message with the content of one kind of field changed (None: left as it is)."""
    parts: list[bytes] = []
    for field in _fields(view, start, end):
        new = None
        if field.number == number and field.kind == _BYTES:
            new = change(field.content, field.end)
        parts.append(view[field.start : field.end] if new is None else _bytes_field(number, new))
    return b"".join(parts)


def _tensor(
    view: Any, start: int, end: int, weights: Weights, read: Callable[[int, Array], None]
) -> bytes | None:
    """A TensorProto without its numbers, which are put into ``weights``; None where it stays whole."""
    fields = [*_fields(view, start, end)]
    data = [f for f in fields if f.number in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and f.kind == _BYTES]
    names = [f for f in fields if f.number == _NAME]
    if len(data) != 1 or len(names) != 1:
        return None
    rest = b"".join(view[f.start : f.end] for f in fields if f is not data[0])
    stub = onnx.TensorProto.FromString(rest)
    if stub.data_location == onnx.TensorProto.EXTERNAL or stub.data_type not in _PLAIN:
        return None
    dtype = helper.tensor_dtype_to_np_dtype(stub.data_type)
    size = int(np.prod(stub.dims, dtype=np.int64)) * dtype.itemsize
    if size != data[0].end - data[0].content or size < LARGE or stub.name in weights:
        return None
    array = np.empty(tuple(stub.dims), dtype)
    read(data[0].content, array)
    weights[stub.name] = array
    stub.data_location = onnx.TensorProto.EXTERNAL
    stub.external_data.add(key="location", value=ELSEWHERE)
    content: bytes = stub.SerializeToString()
    return content


def _fields(view: Any, start: int, end: int) -> Iterator[Field]:
    at = start
    while at < end:
        begin = at
        key, at = _varint(view, at, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            content = at
            _, at = _varint(view, at, end)
        elif kind == _BYTES:
            length, content = _varint(view, at, end)
            at = content + length
        elif kind in (_FIXED32, _FIXED64):
            content, at = at, at + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"field of unknown wire type {kind}")
        if at > end or not number:
            raise ValueError("the message is cut off")
        yield Field(number, kind, begin, content, at)


def _varint(view: Any, at: int, end: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("the message is cut off")


def _bytes_field(number: int, content: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
