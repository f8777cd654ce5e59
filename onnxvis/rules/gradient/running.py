"""Running sums and products along an axis."""

from __future__ import annotations

import math

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

__all__ = ["running", "shifted"]

BACKWARDS = (slice(None), slice(None, None, -1))


@rule("CumSum", inputs=(0,))
def cumulative_sum(step: Step, g: Array) -> Array:
    """The sum of what arrives from here on: a running sum from the other end."""
    rows = step.slice(_lines(step, g), BACKWARDS)
    rows = shifted(step, rows, 1, 0.0) if step.attribute("exclusive", 0) else rows
    return _unlined(step, step.slice(running(step, rows, 0.0), BACKWARDS))


@rule("CumProd", needs="x", inputs=(0,))
def cumulative_product(step: Step, g: Array) -> Array:
    """The product before xⱼ, times sⱼ = gⱼ + xⱼ₊₁·sⱼ₊₁: exact where numbers are 0, too."""
    x, g = _lines(step, step.x), step.slice(_lines(step, g), BACKWARDS)
    before = running(step, shifted(step, x, 1, 1.0), 1.0)
    g = shifted(step, g, 1, 0.0) if step.attribute("exclusive", 0) else g
    factors = shifted(step, step.slice(x, BACKWARDS), 1, 0.0)
    return _unlined(step, before * step.slice(_recurrence(step, factors, g), BACKWARDS))


def _lines(step: Step, array: Array) -> Array:
    """A matrix whose rows run along the node's axis, in the direction in which it adds up."""
    lines, _ = _layout(step)
    rows = step.transpose(step.reshape(array, lines), (0, 2, 1))
    rows = step.reshape(rows, (lines[0] * lines[2], lines[1]))
    return step.slice(rows, BACKWARDS) if step.attribute("reverse", 0) else rows


def _unlined(step: Step, rows: Array) -> Array:
    """The inverse of ``_lines``."""
    _, turned = _layout(step)
    rows = step.slice(rows, BACKWARDS) if step.attribute("reverse", 0) else rows
    return step.reshape(step.transpose(step.reshape(rows, turned), (0, 2, 1)), step.shape())


def _layout(step: Step) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The data as (before, along, after) the axis, and with the axis last."""
    shape = step.shape()
    axis = int(np.ravel(step.known(1))[0]) % len(shape)
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return (before, shape[axis], after), (before, after, shape[axis])


# ---- in log₂ n steps (Hillis & Steele 1986) ------------------------------------------------------


def running(step: Step, rows: Array, neutral: float) -> Array:
    """Running sums (neutral 0) or products (1) along the rows."""
    reach = 1
    while reach < rows.shape[1]:
        earlier = shifted(step, rows, reach, neutral)
        rows = rows * earlier if neutral else rows + earlier
        reach *= 2
    return rows


def _recurrence(step: Step, factors: Array, rows: Array) -> Array:
    """sⱼ = rⱼ + fⱼ·sⱼ₋₁ along the rows."""
    reach = 1
    while reach < rows.shape[1]:
        rows = rows + factors * shifted(step, rows, reach, 0.0)
        factors = factors * shifted(step, factors, reach, 0.0)
        reach *= 2
    return rows


def shifted(step: Step, rows: Array, by: int, neutral: float) -> Array:
    """Rows moved to the right; what becomes free holds the neutral number."""
    count, length = rows.shape
    moved = step.slice(rows, (slice(None), slice(0, length - by)))
    free = step.constant(np.full((count, by), neutral))
    return step.concat([free, moved], 1)
