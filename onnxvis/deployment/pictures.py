"""Preparation of photos as ONNX nodes: what ``images.Preprocess`` does, in the model itself.

Sizes are computed from the photos' own, with the integer arithmetic of ``images.geometry``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxvis.errors import UnsupportedError
from onnxvis.images import Preprocess

__all__ = ["LAYOUTS", "prepare"]

LAYOUTS = ("NHWC", "NCHW")
# Pillow's filters that Resize has, with antialiasing: within 1 or 2 of 255 levels of Pillow, which rounds
# between rows and columns.  "nearest" is not among them: both round ties as their arithmetic happens to.
_FILTERS: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear", "antialias": 1},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "antialias": 1},
}
_GREY = 114  # padding of "longest"; that of "shortest" is black, as in images.preprocess
_LUMA = (19595, 38470, 7471)  # Pillow's ITU-R 601 weights, of 65536


def prepare(
    preprocess: Preprocess, photos: str, output: str, layout: str, prefix: str
) -> list[onnx.NodeProto]:
    """Nodes from ``photos`` (uint8 RGB in ``layout``, any height and width) to the net's input ``output``.

    Raises UnsupportedError for a filter that ONNX does not have.
    """
    sheet = _Sheet(prefix)
    picture = sheet("Transpose", photos, perm=[0, 3, 1, 2]) if layout == "NHWC" else photos
    if preprocess.color == "L":
        picture = _grey(sheet, picture)
    picture = _placed(sheet, picture, preprocess)
    _encoded(sheet, picture, preprocess, output)
    return sheet.nodes


class _Sheet:
    """Nodes as they are written down: ``sheet("Add", a, 1)``; numbers become constants."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []

    def __call__(self, op_type: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        names = [entry if isinstance(entry, str) else self.constant(entry) for entry in inputs]
        return self._append(helper.make_node(op_type, names, [output or self._free()], **attributes))

    def constant(self, value: Any) -> str:
        """An array; a whole number as an int64 scalar, a list of them as a vector."""
        array = np.asarray(value)
        return self._append(
            helper.make_node("Constant", [], [self._free()], value=numpy_helper.from_array(array))
        )

    def _free(self) -> str:
        return f"{self.prefix}p{len(self.nodes)}"

    def _append(self, node: onnx.NodeProto) -> str:
        node.name = node.output[0]
        self.nodes.append(node)
        return str(node.output[0])


# ---- colour and range ----------------------------------------------------------------------------


def _grey(sheet: _Sheet, picture: str) -> str:
    weighted = sheet(
        "Mul",
        sheet("Cast", picture, to=onnx.TensorProto.INT32),
        np.array(_LUMA, np.int32).reshape(1, 3, 1, 1),
    )
    total = sheet("ReduceSum", weighted, [1], keepdims=1)
    rounded = sheet("Div", sheet("Add", total, np.int32(0x8000)), np.int32(0x10000))
    return sheet("Cast", rounded, to=onnx.TensorProto.UINT8)


def _encoded(sheet: _Sheet, picture: str, preprocess: Preprocess, output: str) -> None:
    """The net's units, layout and dtype, in double precision until the last step as ``Preprocess`` is."""
    if preprocess.color == "BGR":
        picture = sheet("Gather", picture, [2, 1, 0], axis=1)
    low, high = preprocess.range
    values = sheet("Cast", picture, to=onnx.TensorProto.DOUBLE)
    if high - low != 255:
        values = sheet("Div", sheet("Mul", values, np.float64(high - low)), np.float64(255))
    if low:
        values = sheet("Add", values, np.float64(low))
    for op_type, numbers, neutral in (("Sub", preprocess.mean, 0.0), ("Div", preprocess.std, 1.0)):
        if any(number != neutral for number in numbers):
            values = sheet(op_type, values, np.array(numbers, np.float64).reshape(1, -1, 1, 1))
    if preprocess.dtype == "uint8":
        values = sheet("Clip", sheet("Round", values), np.float64(0), np.float64(255))
    if preprocess.layout == "NHWC":
        values = sheet("Transpose", values, perm=[0, 2, 3, 1])
    sheet("Cast", values, output=output, to=helper.np_dtype_to_tensor_dtype(np.dtype(preprocess.dtype)))


# ---- geometry ------------------------------------------------------------------------------------


def _placed(sheet: _Sheet, picture: str, preprocess: Preprocess) -> str:
    """The picture resized and cut to the window (see ``images.geometry.fit``)."""
    if preprocess.size is None and preprocess.resize_to is None:
        return picture
    if preprocess.interpolation not in _FILTERS:
        raise UnsupportedError(
            f"the interpolation {preprocess.interpolation!r} is not an ONNX operator's; a model with photos "
            f"as input can have {', '.join(_FILTERS)}: give a preprocess with one of them, or export without "
            "pictures"
        )
    options = {"coordinate_transformation_mode": "half_pixel", **_FILTERS[preprocess.interpolation]}
    window = None if preprocess.size is None else [sheet.constant(n) for n in preprocess.size]
    height, width = (sheet("Gather", sheet("Shape", picture), axis, axis=0) for axis in (2, 3))
    scaled = _scaled(sheet, (height, width), window, preprocess)
    # All four lengths: onnxruntime's transpose optimizer does not know Resize with axes.
    sizes = sheet("Concat", sheet("Shape", picture, end=2), _vector(sheet, scaled), axis=0)
    resized = sheet("Resize", picture, "", "", sizes, **options)
    if window is None or preprocess.resize == "stretch":
        return resized
    padding = _GREY if preprocess.resize == "longest" else 0
    return _windowed(sheet, resized, scaled, window, padding)


def _vector(sheet: _Sheet, numbers: Sequence[str]) -> str:
    return sheet("Concat", *(sheet("Reshape", number, [1]) for number in numbers), axis=0)


def _scaled(
    sheet: _Sheet, photo: tuple[str, str], window: Sequence[str] | None, preprocess: Preprocess
) -> tuple[str, str]:
    """Height and width after resizing."""
    if preprocess.resize == "stretch" and window is not None:
        return window[0], window[1]
    side = preprocess.resize_to
    (height, width), target = photo, window if side is None else [sheet.constant(side)] * 2
    assert target is not None
    covering = preprocess.resize == "shortest"
    across = sheet("GreaterOrEqual", sheet("Mul", target[1], height), sheet("Mul", target[0], width))
    if not covering:
        across = sheet("LessOrEqual", sheet("Mul", target[1], height), sheet("Mul", target[0], width))
    free = _floor_ratio if covering else _nearest_ratio
    by_width = target[1], free(sheet, target[1], height, width)
    by_height = free(sheet, target[0], width, height), target[0]
    return (
        sheet("Where", across, by_width[1], by_height[1]),
        sheet("Where", across, by_width[0], by_height[0]),
    )


def _floor_ratio(sheet: _Sheet, side: str, other: str, own: str) -> str:
    """side · other // own, for positive numbers."""
    return sheet("Div", sheet("Mul", side, other), own)


def _nearest_ratio(sheet: _Sheet, side: str, other: str, own: str) -> str:
    """side · other / own to the nearest whole number, halves to even, at least 1."""
    product, divisor = (
        sheet("Cast", number, to=onnx.TensorProto.DOUBLE) for number in (sheet("Mul", side, other), own)
    )
    nearest = sheet("Round", sheet("Div", product, divisor))
    return sheet("Max", sheet("Cast", nearest, to=onnx.TensorProto.INT64), 1)


def _windowed(sheet: _Sheet, picture: str, scaled: Sequence[str], window: Sequence[str], padding: int) -> str:
    """The centred window of a picture, padded where it reaches beyond."""
    starts, stops, before, after = [], [], [], []
    for length, side in zip(scaled, window, strict=True):
        surplus = sheet("Sub", length, side)
        half = sheet(
            "Round", sheet("Mul", sheet("Cast", surplus, to=onnx.TensorProto.DOUBLE), np.float64(0.5))
        )
        start = sheet("Max", sheet("Cast", half, to=onnx.TensorProto.INT64), 0)
        lack = sheet("Max", sheet("Neg", surplus), 0)
        first = sheet("Div", lack, 2)
        starts.append(start)
        stops.append(sheet("Min", sheet("Add", start, side), length))
        before.append(first)
        after.append(sheet("Sub", lack, first))
    cut = sheet("Slice", picture, _vector(sheet, starts), _vector(sheet, stops), [2, 3])
    pads = _vector(sheet, [*before, *after])
    return sheet("Pad", cut, pads, np.uint8(padding), [2, 3])
