"""The matrices of Resize and Upsample: every number of the output as weights on those of the input.

Resizing is linear, and each axis is resized by itself (ONNX operators, Resize-19).  Where the
specification leaves room, what onnxruntime does counts: what ``nearest`` rounds to is computed in single
precision, and an axis of scale 1 stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["Axis", "Matrix", "keys", "matrices"]

Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Axis:
    """One axis to resize: its lengths, the scale, and the region of interest (as parts of the length)."""

    length: int
    resized: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def matrices(axis: Axis, opset: int, attributes: Mapping[str, Any]) -> tuple[Matrix, Matrix]:
    """The [resized, length] matrix of one axis and its transpose, both in one piece, for the attributes of a
    Resize or Upsample node.

    In ``tf_crop_and_resize``, what lies outside is a constant: it weighs nothing.
    """
    transformation = attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = attributes.get("nearest_mode", "round_prefer_floor")
    return _of_axis(
        axis,
        attributes.get("mode", "nearest"),
        transformation if opset >= 11 else "asymmetric",
        rounding if opset >= 11 else "first versions",
        attributes.get("cubic_coeff_a", -0.75),
        bool(attributes.get("exclude_outside", 0)),
    )


@lru_cache(maxsize=32)
def _of_axis(
    axis: Axis, mode: str, transformation: str, rounding: str, a: float, exclude: bool
) -> tuple[Matrix, Matrix]:
    """Kept, so that a device does not get them anew in every pass."""
    single = _positions(axis, transformation, np.float32)
    match mode:
        case "nearest":
            weights = _nearest(single, axis, rounding)
        case "linear":
            weights = _linear(_positions(axis, transformation), axis)
        case _:
            weights = _cubic(_positions(axis, transformation), axis, a, exclude)
    if transformation == "tf_crop_and_resize":
        weights[(single < 0) | (single > axis.length - 1)] = 0.0
    found = np.ascontiguousarray(weights), np.ascontiguousarray(weights.T)
    for each in found:
        each.flags.writeable = False  # whoever changed it would change it for all
    return found


def _positions(axis: Axis, transformation: str, number: Any = np.float64) -> Any:
    """Where in the input each number of the output lies."""
    at = np.arange(axis.resized, dtype=number)
    half, scale, last = number(0.5), number(axis.scale), number(axis.length - 1)
    match transformation:
        case "asymmetric":
            return at / scale
        case "tf_half_pixel_for_nn":
            return (at + half) / scale
        case "align_corners":
            return at * last / number(max(axis.resized - 1, 1))
        case "pytorch_half_pixel" if axis.resized == 1:
            return 0 * at
        case "half_pixel_symmetric":
            offset = number(axis.length / 2) * (1 - number(axis.resized) / (scale * number(axis.length)))
            return offset + (at + half) / scale - half
        case "tf_crop_and_resize":
            start, end = number(axis.start), number(axis.end)
            if axis.resized == 1:
                return half * (start + end) * last + 0 * at
            return start * last + at * (end - start) * last / number(axis.resized - 1)
    return (at + half) / scale - half


def _nearest(positions: Matrix, axis: Axis, rounding: str) -> Matrix:
    match rounding:
        case "floor":
            chosen = np.floor(positions)
        case "ceil":
            chosen = np.ceil(positions)
        case "round_prefer_ceil":
            chosen = np.floor(positions + np.float32(0.5))
        case "round_prefer_floor":
            chosen = np.ceil(positions - np.float32(0.5))
        case _:  # without nearest_mode, onnxruntime takes the next one where the picture shrinks
            chosen = np.ceil(positions) if axis.scale < 1 else np.floor(positions)
    return _one_hot(chosen, axis.length)


def _linear(positions: Matrix, axis: Axis) -> Matrix:
    positions = np.clip(positions, 0, axis.length - 1)
    below = np.floor(positions)
    above = (positions - below)[:, None]
    weights = (1 - above) * _one_hot(below, axis.length) + above * _one_hot(below + 1, axis.length)
    return np.asarray(weights)


def _cubic(positions: Matrix, axis: Axis, a: float, exclude_outside: bool) -> Matrix:
    """Keys 1981: four neighbours; those outside repeat the border, or do not count."""
    first = np.floor(positions)
    weights = np.zeros((axis.resized, axis.length))
    for neighbour in (-1, 0, 1, 2):
        at = first + neighbour
        weight = keys(np.abs(positions - at), a)
        if exclude_outside:
            weight = np.where((at < 0) | (at >= axis.length), 0.0, weight)
        weights += weight[:, None] * _one_hot(at, axis.length)
    total = weights.sum(axis=1, keepdims=True) if exclude_outside else 1.0
    return np.asarray(weights / total)


def keys(distance: Matrix, a: float) -> Matrix:
    """The cubic kernel of Keys 1981 at distances ≥ 0."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _one_hot(chosen: Matrix, length: int) -> Matrix:
    """Rows with a 1 at the chosen position, the nearest one where that is outside."""
    inside = np.clip(chosen, 0, length - 1).astype(int)
    return np.asarray(inside[:, None] == np.arange(length), float)
