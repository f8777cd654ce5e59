"""Sums, means, norms, products and extremes over axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

from .running import running, shifted


def _reduced(step: Step) -> tuple[int, ...]:
    """Axes that the node reduces: all of them where it names none."""
    rank = len(step.shape())
    axes = step.axes(1, rank)
    if axes:
        return axes
    return () if step.attribute("noop_with_empty_axes", 0) else tuple(range(rank))


def _kept(step: Step, array: Array) -> Array:
    """An array of the output's shape with the reduced axes as axes of length 1."""
    axes = _reduced(step)
    return step.reshape(array, tuple(1 if axis in axes else n for axis, n in enumerate(step.shape())))


def _reduction(op_type: str, needs: str) -> Callable[[Callable[[Step, Array], Array]], object]:
    """Register the rule of a reduction: its g comes with the reduced axes as axes of length 1.

    Over no axes (``noop_with_empty_axes``) it is one number at a time, as in onnxruntime: |x| for L1.
    """

    def register(body: Callable[[Step, Array], Array]) -> object:
        def reduction(step: Step, g: Array) -> Array:
            return body(step, _kept(step, g))

        reduction.__module__, reduction.__qualname__ = body.__module__, body.__qualname__
        return rule(op_type, needs=needs, inputs=(0,))(reduction)

    return register


@_reduction("ReduceSum", needs="")
def reduce_sum(step: Step, g: Array) -> Array:
    return step.expand(g, step.shape())


@_reduction("ReduceMean", needs="")
def reduce_mean(step: Step, g: Array) -> Array:
    return step.expand(g * (1.0 / math.prod(step.shape()[axis] for axis in _reduced(step))), step.shape())


@_reduction("ReduceL1", needs="x")
def reduce_l1(step: Step, g: Array) -> Array:
    return g * step.sign(step.x)


@_reduction("ReduceL2", needs="x y")
def reduce_l2(step: Step, g: Array) -> Array:
    """x/y, and 0 where all numbers are 0."""
    y = _kept(step, step.y)
    return step.x * (g / step.where(y > 0, y, 1.0))


@_reduction("ReduceSumSquare", needs="x")
def reduce_sum_square(step: Step, g: Array) -> Array:
    return step.x * (2.0 * g)


@_reduction("ReduceLogSum", needs="y")
def reduce_log_sum(step: Step, g: Array) -> Array:
    return step.expand(g / step.exp(_kept(step, step.y)), step.shape())


@_reduction("ReduceLogSumExp", needs="x y")
def reduce_log_sum_exp(step: Step, g: Array) -> Array:
    return g * step.exp(step.x - _kept(step, step.y))


@_reduction("ReduceMax", needs="x")
def reduce_max(step: Step, g: Array) -> Array:
    """To the first maximum, in row-major order of the reduced axes."""
    return _to_first_maximum(step, step.x, g)


@_reduction("ReduceMin", needs="x")
def reduce_min(step: Step, g: Array) -> Array:
    """To the first minimum."""
    return _to_first_maximum(step, -step.x, g)


def _to_first_maximum(step: Step, x: Array, g: Array) -> Array:
    x = _lined_up(step, x)
    first = step.argmax(x, 1) == step.constant(np.arange(x.shape[1]))
    return _put_back(step, step.where(first, step.reshape(g, (x.shape[0], 1))))


@_reduction("ReduceProd", needs="x")
def reduce_product(step: Step, g: Array) -> Array:
    """The product of all other numbers: of those before and of those after."""
    x = _lined_up(step, step.x)
    backwards = (slice(None), slice(None, None, -1))
    before = running(step, shifted(step, x, 1, 1.0), 1.0)
    after = step.slice(running(step, shifted(step, step.slice(x, backwards), 1, 1.0), 1.0), backwards)
    return _put_back(step, before * after * step.reshape(g, (x.shape[0], 1)))


def _lined_up(step: Step, x: Array) -> Array:
    """A matrix whose rows hold what is reduced to one number."""
    axes = sorted(_reduced(step))
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    count = math.prod(x.shape[axis] for axis in axes)
    return step.reshape(step.transpose(x, (*kept, *axes)), (math.prod(x.shape) // count, count))


def _put_back(step: Step, rows: Array) -> Array:
    """The inverse of ``_lined_up``."""
    shape, axes = step.shape(), sorted(_reduced(step))
    order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    array = step.reshape(rows, tuple(shape[axis] for axis in order))
    return step.transpose(array, [int(axis) for axis in np.argsort(order)])
