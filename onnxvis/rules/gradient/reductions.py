"""Sums and means over axes."""

from __future__ import annotations

import math

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


def _reduced(step: Step) -> tuple[int, ...]:
    """Axes that the node reduces: all of them where it names none."""
    rank = len(step.shape())
    axes = step.axes(1, rank)
    if axes:
        return axes
    return () if step.attribute("noop_with_empty_axes", 0) else tuple(range(rank))


def _spread(step: Step, g: Array) -> Array:
    """g back along the reduced axes."""
    axes = _reduced(step)
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(step.shape()))
    return step.expand(step.reshape(g, kept), step.shape())


@rule("ReduceSum", inputs=(0,))
def reduce_sum(step: Step, g: Array) -> Array:
    return _spread(step, g)


@rule("ReduceMean", inputs=(0,))
def reduce_mean(step: Step, g: Array) -> Array:
    return _spread(step, g * (1.0 / math.prod(step.shape()[axis] for axis in _reduced(step))))
