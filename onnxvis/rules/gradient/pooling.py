"""Pooling over windows or over everything spatial."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


@rule("MaxPool", needs="x")
def max_pool(step: Step, g: Array, *_: Array) -> Array:
    """To the first maximum of each window."""
    return step.max_route(g, step.x, step.window(step.attribute("kernel_shape")))


@rule("GlobalMaxPool", needs="x")
def global_max_pool(step: Step, g: Array) -> Array:
    """To the first maximum of each channel."""
    shape = step.shape()
    positions = int(np.prod(shape[2:]))
    x = step.reshape(step.x, (*shape[:2], positions))
    first = step.argmax(x, 2) == step.constant(np.arange(positions))
    return step.reshape(step.where(first, step.reshape(g, (*shape[:2], 1))), shape)


@rule("AveragePool")
def average_pool(step: Step, g: Array) -> Array:
    """Each window's share of g to all its positions."""
    window = step.window(step.attribute("kernel_shape"))
    return step.window_spread(g * (1.0 / _counts(step, window)), window)


@rule("GlobalAveragePool")
def global_average_pool(step: Step, g: Array) -> Array:
    shape = step.shape()
    return step.expand(g * (1.0 / np.prod(shape[2:])).item(), shape)


@rule("LpPool", needs="x y")
def lp_pool(step: Step, g: Array) -> Array:
    """y = (Σ|x|^p)^(1/p): sign(x)·(|x|/y)^(p−1), and 0 where all numbers of a window are 0."""
    window = step.window(step.attribute("kernel_shape"))
    return step.window_spread(_over_norm(step, g), window) * _power_slope(step)


@rule("GlobalLpPool", needs="x y")
def global_lp_pool(step: Step, g: Array) -> Array:
    """As LpPool over everything spatial."""
    return _over_norm(step, g) * _power_slope(step)


def _over_norm(step: Step, g: Array) -> Array:
    """g / y^(p−1)."""
    y = step.where(step.y > 0, step.y, 1.0)
    return step.where(step.y > 0, g / step.power(y, float(step.attribute("p", 2)) - 1.0))


def _power_slope(step: Step) -> Array:
    """The derivative of |x|^p, over p."""
    x, p = step.x, float(step.attribute("p", 2))
    return x if p == 2 else step.sign(x) * step.power(step.abs(x), p - 1.0)


@rule("MaxUnpool", needs="x1", inputs=(0,))
def max_unpool(step: Step, g: Array) -> Array:
    """To the places that a MaxPool recorded; back it reads there."""
    count, size = math.prod(step.shape()), math.prod(step.output_shape())
    places = step.reshape(step.input(1), (count,))
    arrived = step.take(step.reshape(g, (size, 1)), places)
    if _overlap(step):
        # Several windows may name one place, where the last number stays: only an array tells which it is.
        flat = step.content(1).ravel()
        last = np.full(size, -1)
        last[flat] = np.arange(count)
        arrived = arrived * step.constant((last[flat] == np.arange(count)).astype(float)[:, None])
    return step.reshape(arrived, step.shape())


def _overlap(step: Step) -> bool:
    kernel = step.attribute("kernel_shape")
    return any(k > s for k, s in zip(kernel, step.attribute("strides") or [1] * len(kernel), strict=True))


def _counts(step: Step, window: Window) -> Any:
    """How many numbers each window averages: padding counts only with ``count_include_pad``."""
    rank = len(window.kernel)
    match step.attribute("auto_pad", "NOTSET"):
        case "NOTSET":  # what ceil_mode adds at the end is no padding
            ends = (step.attribute("pads") or (0,) * 2 * rank)[rank:]
        case "VALID":
            ends = (0,) * rank
        case _:
            ends = window.after
    per_axis = []
    for axis in range(rank):
        n, before = window.size_in[axis], window.before[axis]
        offsets = np.arange(window.kernel[axis]) * window.dilations[axis]
        seen = np.arange(window.size_out[axis])[:, None] * window.strides[axis] + offsets - before
        low, high = (-before, n + ends[axis]) if step.attribute("count_include_pad", 0) else (0, n)
        per_axis.append(((seen >= low) & (seen < high)).sum(axis=1))
    counts = functools.reduce(np.multiply.outer, per_axis)
    return float(counts.flat[0]) if (counts == counts.flat[0]).all() else step.constant(counts.astype(float))
