"""Operators that read pictures at given places, where onnx.reference cannot."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .resampling import keys

if TYPE_CHECKING:
    from .case import Case

Array = np.ndarray[Any, Any]
RENAMED = {"bilinear": "linear", "bicubic": "cubic"}  # as opset 20 calls them


def grid_sample(case: Case, x: Array, grid: Array) -> Array:
    """In a picture with a wide frame, which holds what the padding says, no point lies outside."""
    given, frame = case.attributes, 24
    mode = given.get("mode", "linear")
    aligned, mode = given.get("align_corners", 0), RENAMED.get(mode, mode)
    frames = {"zeros": "constant", "border": "edge", "reflection": "reflect" if aligned else "symmetric"}
    widths = [(0, 0), (0, 0), *[(frame, frame)] * (x.ndim - 2)]
    framed = np.pad(x, widths, mode=frames[given.get("padding_mode", "zeros")])
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, *place in np.ndindex(x.shape[0], *grid.shape[1:-1]):
        part = framed[n]
        # One axis after the other, from the last, whose coordinate comes first.
        for g, length in zip(grid[(n, *place)], x.shape[:1:-1], strict=True):
            at = (g + 1) / 2 * (length - 1) if aligned else ((g + 1) * length - 1) / 2
            part = _between(part, at + frame, mode)
        y[(n, slice(None), *place)] = part
    return y


def _between(numbers: Array, at: float, mode: str) -> Array:
    """The number at a place along the last axis."""
    if mode == "nearest":
        return numbers[..., round(at)]
    first, total = math.floor(at), np.zeros(numbers.shape[:-1])
    for k in (first, first + 1) if mode == "linear" else range(first - 1, first + 3):
        total += numbers[..., k] * (1 - abs(at - k) if mode == "linear" else keys(at - k, -0.75))
    return total


def affine_grid(case: Case, theta: Array, size: Array) -> Array:
    """Point by point."""
    _, _, *sizes = size
    y = np.zeros((len(theta), *sizes, len(sizes)))
    for place in np.ndindex(*sizes):
        if case.attributes.get("align_corners", 0):
            point = [2 * i / (n - 1) - 1 for i, n in zip(place, sizes, strict=True)]
        else:
            point = [(2 * i + 1) / n - 1 for i, n in zip(place, sizes, strict=True)]
        y[(slice(None), *place)] = theta @ np.array([*point[::-1], 1.0])
    return y


def roi_align(case: Case, x: Array, regions: Array, samples: Array) -> Array:
    """As opset 16 does on demand."""
    given = {**case.attributes, "coordinate_transformation_mode": "output_half_pixel"}
    return replace(case, opset=16, attributes=given).run([x, regions, samples])[0]


def max_roi_pool(case: Case, x: Array, regions: Array) -> Array:
    count_y, count_x = case.attributes["pooled_shape"]
    scale = case.attributes.get("spatial_scale", 1.0)
    y = np.zeros((len(regions), x.shape[1], count_y, count_x))
    for r, (sample, *ends) in enumerate(regions):
        left, top, right, bottom = (math.floor(end * scale + 0.5) for end in ends)
        height, width = max(bottom - top + 1, 1) / count_y, max(right - left + 1, 1) / count_x
        for i in range(count_y):
            for j in range(count_x):
                rows, columns = _bin(i, height, top), _bin(j, width, left)
                part = x[int(sample), :, rows, columns]
                y[r, :, i, j] = part.max(axis=(1, 2)) if part.size else 0
    return y


def _bin(index: int, size: float, first: int) -> slice:
    ends = math.floor(index * size) + first, math.ceil((index + 1) * size) + first
    return slice(max(0, ends[0]), max(0, ends[1]))


def max_unpool(case: Case, x: Array, places: Array, size: Array) -> Array:
    """Places are counted in what has the size that is asked for."""
    y = np.zeros(int(np.prod(size)))
    for place, number in zip(places.ravel(), x.ravel(), strict=True):
        y[place] = number
    return y.reshape(size)


def global_lp_pool(case: Case, x: Array) -> Array:
    p = case.attributes.get("p", 2)
    return (np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)
