"""What is shown of an explanation, on traced values: what ``Explanation.heatmap`` computes on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxvis.errors import UnsupportedError
from onnxvis.graph.analysis import spatial_axes
from onnxvis.images import resize_map
from onnxvis.ops.trace import Traced, TraceOps

__all__ = ["heatmap", "normalized", "resized"]

TINY = 1e-7  # keeps the denominator of a constant map from 0


def heatmap(ops: TraceOps, values: Traced, shows: str, shape: Sequence[int], channel_axis: int) -> Traced:
    """N×H×W at the input's size: ``Explanation.heatmap`` of ``values``; ``shape``: of the input."""
    if shows == "cam":
        sides = [shape[axis] for axis in spatial_axes(len(shape), channel_axis)]
        return _cam_heatmap(ops, values, sides)
    if shows == "magnitude":
        return _extreme(ops, "ReduceMax", ops.abs(values), (channel_axis,))
    total = ops.sum(values, (channel_axis,))
    return total / float(shape[channel_axis]) if shows == "mean" else total


def _cam_heatmap(ops: TraceOps, values: Traced, sides: Sequence[int]) -> Traced:
    maps = ops.reshape(ops.maximum(values, 0.0), (values.shape[0], *values.shape[2:]))
    axes = tuple(range(1, len(maps.shape)))
    low, high = (_extreme(ops, f"Reduce{which}", maps, axes, keep=True) for which in ("Min", "Max"))
    maps = (maps - low) / (high - low + TINY)
    if len(sides) not in (1, 2):
        raise UnsupportedError(
            f"a map over {len(sides)} axes cannot be drawn; export without heatmap: outputs=['explanation']"
        )
    return resized(ops, maps, sides)


def resized(ops: TraceOps, maps: Traced, sides: Sequence[int]) -> Traced:
    """N×… maps over one or two axes resized to ``sides``: ``images.resize_map``, an axis at a time."""
    for axis, (old, new) in enumerate(zip(maps.shape[1:], sides, strict=True)):
        if old != new:
            weights = resize_map(np.eye(old), (new, old))  # new×old: of one axis alone
            across = axis == len(sides) - 1
            maps = (
                ops.matmul(maps, ops.constant(np.ascontiguousarray(weights.T)))
                if across
                else ops.matmul(ops.constant(weights), maps)
            )
    return maps


def normalized(ops: TraceOps, heat: Traced, signed: bool) -> Traced:
    """The map of each sample in 0..1: from its lowest to its highest number.

    ``signed``: 0 becomes 0.5, and the largest magnitude 0 or 1.
    """
    axes = tuple(range(1, len(heat.shape)))
    if signed:
        largest = _extreme(ops, "ReduceMax", ops.abs(heat), axes, keep=True)
        return heat / ops.maximum(largest * 2.0, 1e-30) + 0.5
    low, high = (_extreme(ops, f"Reduce{which}", heat, axes, keep=True) for which in ("Min", "Max"))
    return (heat - low) / ops.maximum(high - low, 1e-30)


def _extreme(ops: TraceOps, op_type: str, x: Traced, axes: Sequence[int], keep: bool = False) -> Traced:
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
    return ops.emit(op_type, [x, ops.indices(axes)], shape, signs=x.signs, keepdims=int(keep))
