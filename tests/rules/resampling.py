"""Resize and Upsample, number by number.

onnx.reference lacks Upsample and Resize of opset 10 and ``tf_half_pixel_for_nn``, places corners by
output sizes with fractions and ends one pixel early in ``pytorch_half_pixel``; ``test_forward`` holds
this to onnxruntime.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .case import Case

Array = np.ndarray[Any, Any]


def resize(case: Case, x: Array, *_: Array) -> Array:
    """One axis after the other."""
    sizes, scales, roi = _geometry(case, x.shape)
    if sizes == [*x.shape] and not roi:
        return x
    for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True)):
        if scale != 1:
            ends = (roi[axis], roi[axis + x.ndim]) if roi else None
            lines = np.moveaxis(x, axis, -1)
            result = np.empty((*lines.shape[:-1], size))
            for line in np.ndindex(*lines.shape[:-1]):
                for i in range(size):
                    result[(*line, i)] = _number(case, lines[line], i, size, scale, ends)
            x = np.moveaxis(result, -1, axis)
    return x


def _geometry(case: Case, shape: tuple[int, ...]) -> tuple[list[int], list[float], list[float]]:
    """Sizes, scales and region of interest for all axes."""
    given, rank = case.attributes, len(shape)
    inputs = [*case.given[1:], None, None, None][:3]
    roi, factors, lengths = (None, inputs[0], None) if case.opset < 11 else inputs
    factors = given.get("scales", factors)
    axes = [axis % rank for axis in given.get("axes", range(rank))]
    scales, sizes = [1.0] * rank, [*shape]
    if factors is not None and len(factors):
        for axis, factor in zip(axes, factors, strict=True):
            scales[axis] = float(factor)
            sizes[axis] = math.floor(shape[axis] * float(factor))
    else:
        ratios = [float(n) / shape[axis] for n, axis in zip(lengths, axes, strict=True)]
        policy = given.get("keep_aspect_ratio_policy", "stretch")
        for axis, ratio, n in zip(axes, ratios, lengths, strict=True):
            common = {"stretch": ratio, "not_larger": min(ratios), "not_smaller": max(ratios)}[policy]
            scales[axis] = common
            sizes[axis] = int(n) if policy == "stretch" else math.floor(common * shape[axis] + 0.5)
    if given.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return sizes, scales, []
    region = [0.0] * rank + [1.0] * rank
    for i, axis in enumerate(axes):
        region[axis], region[axis + rank] = float(roi[i]), float(roi[i + len(axes)])
    return sizes, scales, region


def _number(
    case: Case, line: Array, i: int, size: int, scale: float, ends: tuple[float, float] | None
) -> float:
    """What stands at position i of a line that is resized."""
    given, last = case.attributes, len(line) - 1
    at = _position(case, i, size, scale, len(line), ends)
    if ends and not 0 <= at <= last:
        return given.get("extrapolation_value", 0.0)
    below = math.floor(at)
    match given.get("mode", "nearest"):
        case "nearest":
            return line[min(max(_rounded(case, at, scale), 0), last)]
        case "linear":
            at = min(max(at, 0.0), float(last))
            below, above = math.floor(at), min(math.floor(at) + 1, last)
            return line[below] + (at - below) * (line[above] - line[below])
    total, weights = 0.0, 0.0
    for k in range(below - 1, below + 3):
        if 0 <= k <= last or not given.get("exclude_outside"):
            weight = keys(at - k, given.get("cubic_coeff_a", -0.75))
            total, weights = total + weight * line[min(max(k, 0), last)], weights + weight
    return total / weights


def _position(
    case: Case, i: int, size: int, scale: float, length: int, ends: tuple[float, float] | None
) -> float:
    transformation = case.attributes.get("coordinate_transformation_mode", "half_pixel")
    match transformation if case.opset >= 11 else "asymmetric":
        case "asymmetric":
            return i / scale
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        case "align_corners":
            return i * (length - 1) / (size - 1) if size > 1 else 0.0
        case "tf_crop_and_resize" if ends:
            start, end = (place * (length - 1) for place in ends)
            return start + i * (end - start) / (size - 1) if size > 1 else (start + end) / 2
        case "pytorch_half_pixel" if size == 1:
            return 0.0
        case "half_pixel_symmetric":
            return length / 2 * (1 - size / (scale * length)) + (i + 0.5) / scale - 0.5
    return (i + 0.5) / scale - 0.5


def _rounded(case: Case, at: float, scale: float) -> int:
    if case.opset < 11:
        return math.ceil(at) if scale < 1 else math.floor(at)
    match case.attributes.get("nearest_mode", "round_prefer_floor"):
        case "floor":
            return math.floor(at)
        case "ceil":
            return math.ceil(at)
        case "round_prefer_ceil":
            return math.floor(at + 0.5)
    return math.ceil(at - 0.5)


def keys(distance: float, a: float) -> float:
    """The cubic kernel of Keys 1981."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0
