"""Pooling over regions of interest: RoiAlign (He et al. 2017) and MaxRoiPool (Girshick 2015).

Which numbers a bin reads is worked out in NumPy: where the model computes the regions, only the host
executor has them.  Nothing goes back to the regions: a detector's boxes are explained by their scores.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

from .sampling import Taps, channels_first, pixels_first, spread

Floats = np.ndarray[Any, np.dtype[np.float64]]
Whole = np.ndarray[Any, np.dtype[np.int64]]


@rule("RoiAlign", needs="xs", inputs=(0,))
def roi_align(step: Step, g: Array) -> Array:
    """The mean of points in each bin; "max": the largest of the points' weighted corners.

    The latter is what onnxruntime and onnx.reference compute, and what it warns of: the paper takes the
    largest of the points.
    """
    taps = _aligned(step)
    rows = pixels_first(step, g)
    if step.attribute("mode", "avg") == "max":
        return _to_largest(step, rows, taps)
    return spread(step, rows, taps, step.shape())


@rule("MaxRoiPool", needs="xs", inputs=(0,))
def max_roi_pool(step: Step, g: Array) -> Array:
    """To the first maximum of each bin; an empty bin is 0 and passes nothing on."""
    return _to_largest(step, pixels_first(step, g), _bins(step))


def _to_largest(step: Step, g: Array, taps: Taps) -> Array:
    """To the first of the weighted numbers that is the largest; a weight of NaN marks what is not there."""
    x, count = pixels_first(step, step.x), math.prod(step.shape()) // step.shape()[1]
    there = ~np.isnan(taps.weights)
    weights, shape = np.where(there, taps.weights, 0.0), (1, *g.shape)
    lowest = np.where(there, 0.0, -np.finfo(np.float32).max)
    read = [
        step.take(x, step.constant(np.ascontiguousarray(taps.rows[:, t])))
        * step.constant(weights[:, t, None])
        + step.constant(lowest[:, t, None])
        for t in range(taps.rows.shape[1])
    ]
    first = step.reshape(step.argmax(step.concat([step.reshape(r, shape) for r in read], 0), 0), g.shape)
    total = step.zeros((count, g.shape[1]))
    for t in range(taps.rows.shape[1]):
        part = step.where(first == step.constant(np.array(t)), g) * step.constant(weights[:, t, None])
        total = total + step.put(part, step.constant(np.ascontiguousarray(taps.rows[:, t])), count)
    return channels_first(step, total, step.shape())


# ---- RoiAlign ------------------------------------------------------------------------------------


def _aligned(step: Step) -> Taps:
    """Four corners of every point of every bin; missing ones (bins with fewer points) weigh NaN or 0."""
    height, width = step.shape()[2:]
    bins = step.attribute("output_height", 1), step.attribute("output_width", 1)
    samples = np.asarray(step.content(2)).astype(np.int64)
    half = step.node.opset >= 16 and (
        step.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    )
    regions = step.content(1).astype(np.float64) * step.attribute("spatial_scale", 1.0) - 0.5 * half
    largest = step.attribute("mode", "avg") == "max"
    found = []
    for (left, top, right, bottom), sample in zip(regions, samples, strict=True):
        extent = (bottom - top, right - left)
        rows_y, weights_y = _lines(top, extent[0], bins[0], height, step, half)
        rows_x, weights_x = _lines(left, extent[1], bins[1], width, step, half)
        points = rows_y.shape[1] * rows_x.shape[1]
        # bins_y × bins_x × points_y × points_x × corners_y × corners_x
        rows = rows_y[:, None, :, None, :, None] * width + rows_x[None, :, None, :, None, :]
        weights = weights_y[:, None, :, None, :, None] * weights_x[None, :, None, :, None, :]
        weights = weights if largest else weights / max(points, 1)
        shape = (math.prod(bins), -1)
        found.append(((rows + sample * height * width).reshape(shape), weights.reshape(shape)))
    return _stacked(found, math.prod(bins), np.nan if largest else 0.0)


def _lines(
    start: float, extent: float, bins: int, length: int, step: Step, half: bool
) -> tuple[Whole, Floats]:
    """Along one axis: the two neighbours of every point of every bin, and their weights (bins×points×2)."""
    extent = extent if half else max(extent, 1.0)
    given = step.attribute("sampling_ratio", 0)
    points = given if given > 0 else max(math.ceil(extent / bins), 0)
    offsets = (np.arange(points) + 0.5) / max(points, 1)
    at = start + (np.arange(bins)[:, None] + offsets) * (extent / bins)
    outside = (at < -1.0) | (at > length)
    at = np.clip(at, 0.0, length - 1.0)
    low = np.floor(at).astype(np.int64)
    rest = at - low
    rows = np.stack([low, np.minimum(low + 1, length - 1)], axis=-1)
    weights = np.stack([1 - rest, rest], axis=-1)
    rows[outside], weights[outside] = 0, 0.0
    return rows, weights


# ---- MaxRoiPool ----------------------------------------------------------------------------------


def _bins(step: Step) -> Taps:
    """Every pixel of every bin: regions and bins end at whole pixels."""
    height, width = step.shape()[2:]
    count_y, count_x = step.attribute("pooled_shape")
    scale, found = step.attribute("spatial_scale", 1.0), []
    for region in step.content(1).astype(np.float64):
        left, top, right, bottom = (int(np.floor(end * scale + 0.5)) for end in region[1:])
        across = _spans(left, right, count_x, width)
        for below in _spans(top, bottom, count_y, height):
            for beside in across:
                rows = (np.array(below)[:, None] * width + np.array(beside, np.int64)[None]).ravel()
                rows = rows.astype(np.int64) + int(region[0]) * height * width
                found.append((rows[None], np.ones((1, rows.size))))
    return _stacked(found, 1, np.nan)


def _spans(first: int, last: int, bins: int, length: int) -> list[range]:
    """The pixels of each bin along one axis; bins of one region may share a pixel."""
    extent = max(last - first + 1, 1) / bins
    ends = [(math.floor(i * extent) + first, math.ceil((i + 1) * extent) + first) for i in range(bins)]
    return [range(min(max(a, 0), length), min(max(b, 0), length)) for a, b in ends]


def _stacked(found: list[tuple[Whole, Floats]], each: int, missing: float) -> Taps:
    """All regions' taps in one table, filled up to the largest number of them."""
    most = max((rows.shape[1] for rows, _ in found), default=0)
    table = np.zeros((each * len(found), max(most, 1)), np.int64)
    weights = np.full(table.shape, missing)
    for i, (rows, numbers) in enumerate(found):
        table[i * each : (i + 1) * each, : rows.shape[1]] = rows
        weights[i * each : (i + 1) * each, : rows.shape[1]] = numbers
    return Taps(table, weights, np.zeros((*table.shape, 0)))
