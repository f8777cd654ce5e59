"""A model's large weights, apart from its structure.

A protocol buffer is copied whole whenever it is parsed or written; the weights are nearly all of it.
So they stay where they lie (see ``stored``), and what remains (the *stub*) is small.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from .stored import Array, Place, Source, Weight, Weights

__all__ = ["LARGE", "attach", "detach", "detach_file", "detached", "find_external", "is_detached", "locate"]

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
    if not path.stat().st_size:
        return b"", {}
    source = Source(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _detached(view, lambda start, dtype, shape: Place(source, start, dtype, shape))


def detach(data: bytes) -> tuple[bytes, Weights]:
    """The stub of a serialized model and its large weights; ValueError where it is none."""

    def read(start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape).copy()

    return _detached(data, read)


def is_detached(tensor: onnx.TensorProto) -> bool:
    """True for a tensor of a stub whose numbers are elsewhere."""
    return bool(uses_external_data(tensor)) and ExternalDataInfo(tensor).location == ELSEWHERE


def attach(stub: bytes, weights: Mapping[str, Weight]) -> onnx.ModelProto:
    """The whole model again."""
    model = onnx.load_model_from_string(stub)
    for tensor in model.graph.initializer:
        if is_detached(tensor):
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = weights[tensor.name].numbers.tobytes()
    return model


def find_external(tensor: onnx.TensorProto, source: Source) -> Place | None:
    """Where in another file a tensor's numbers are, marked as detached; None for types NumPy lacks."""
    if tensor.data_type not in _PLAIN:
        return None
    info = ExternalDataInfo(tensor)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    _state(tensor, location=ELSEWHERE)
    return Place(source, info.offset or 0, dtype, tuple(tensor.dims))


def locate(tensor: onnx.TensorProto, weight: Weight, place: Place | None) -> None:
    """Let a tensor of a stub say where the runtime finds its numbers (None: it is handed them)."""
    if place is None:
        _state(tensor, location=ELSEWHERE)
    else:
        _state(tensor, location=place.source.path.name, offset=place.offset, length=weight.nbytes)


def detached(name: str, weight: Weight) -> onnx.TensorProto:
    """A tensor of a stub."""
    data_type = helper.np_dtype_to_tensor_dtype(weight.dtype)
    tensor = onnx.TensorProto(name=name, data_type=data_type, dims=weight.shape)
    _state(tensor, location=ELSEWHERE)
    return tensor


def _state(tensor: onnx.TensorProto, **entries: Any) -> None:
    """What a tensor says of where its numbers are."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


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


# What becomes of numbers that begin at a byte and have this dtype and shape.
Take = Callable[[int, np.dtype[Any], tuple[int, ...]], Array | Place]


def _detached(view: Any, take: Take) -> tuple[bytes, Weights]:
    weights: Weights = {}

    def tensor(start: int, end: int) -> bytes | None:
        return _tensor(view, start, end, weights, take) if end - start > LARGE else None

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


def _tensor(view: Any, start: int, end: int, weights: Weights, take: Take) -> bytes | None:
    """A TensorProto without its numbers, which go to ``weights``; None where it stays whole."""
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
    weights[stub.name] = Weight(take(data[0].content, dtype, tuple(stub.dims)))
    _state(stub, location=ELSEWHERE)
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
