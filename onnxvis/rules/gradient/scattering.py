"""Operators that write numbers at computed places: what arrives is shared between data and updates."""

from __future__ import annotations

import math

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

from .indexing import element_rows, place_rows


@rule("Scatter", "ScatterElements", needs="xs y", inputs=(0, 2))
def scatter_elements(step: Step, g: Array) -> tuple[Array | None, ...]:
    """One place a number, along an axis."""
    rows = element_rows(step, step.input(1), step.shape(), step.attribute("axis", 0))
    return _shares(step, g, rows, (math.prod(step.shape()), 1))


@rule("ScatterND", needs="xs y", inputs=(0, 2))
def scatter_nd(step: Step, g: Array) -> tuple[Array | None, ...]:
    """The last axis of the indices holds a place along the first axes of the data."""
    shape, depth = step.shape(), step.shape(1)[-1]
    rows = place_rows(step, step.input(1), shape)
    return _shares(step, g, rows, (math.prod(shape[:depth]), math.prod(shape[depth:])))


def _shares(step: Step, g: Array, rows: Array, table: tuple[int, int]) -> tuple[Array | None, ...]:
    """What goes to the data and to the updates, with the data as a table of which some rows are written.

    Among equal numbers of a maximum or minimum each gets the same share, as in PyTorch.  Places that
    are written twice without a reduction are not defined by the specification: there each gets all.
    """
    count, width = table
    placed = (rows.shape[0], width)
    g = step.reshape(g, table)
    reduction = step.attribute("reduction", "none")
    if reduction == "none":
        hits = step.put(step.constant(np.ones(placed)), rows, count)
        data, updates = step.where(hits > 0, 0.0, g), step.take(g, rows)
    elif reduction == "add":
        data, updates = g, step.take(g, rows)
    else:
        x, u, y = (step.reshape(a, s) for a, s in ((step.x, table), (step.b, placed), (step.y, table)))
        share = _of_product if reduction == "mul" else _of_extremum
        data, updates = share(step, g, rows, (x, u, y))
    return (
        step.reshape(data, step.shape()) if step.wants(0) else None,
        None,
        step.reshape(updates, step.shape(2)) if step.wants(2) else None,
    )


def _of_extremum(step: Step, g: Array, rows: Array, tensors: tuple[Array, ...]) -> tuple[Array, Array]:
    """To whatever equals the result."""
    x, u, y = tensors
    kept, taken = step.where(x == y, 1.0 + 0.0 * x), step.where(u == step.take(y, rows), 1.0 + 0.0 * u)
    g = g / (kept + step.put(taken, rows, x.shape[0]))
    return g * kept, taken * step.take(g, rows)


def _of_product(step: Step, g: Array, rows: Array, tensors: tuple[Array, ...]) -> tuple[Array, Array]:
    """The product of all other factors.

    y divided by the factor itself; where a factor is 0, the others' product from the sum of their
    logarithms and the number of negative ones among them.
    """
    x, u, y = tensors

    def total(of_factor: Array, of_update: Array) -> Array:
        return of_factor + step.put(of_update, rows, x.shape[0])

    def zeros(a: Array) -> Array:
        return step.where(a == 0, 1.0 + 0.0 * a)

    def size(a: Array) -> Array:
        return step.log(step.abs(a) + zeros(a))

    def negatives(a: Array) -> Array:
        return step.where(a < 0, 1.0 + 0.0 * a)

    absent = total(zeros(x), zeros(u))
    sign = step.cos(total(negatives(x), negatives(u)) * math.pi)
    product = step.where(absent > 0, sign * step.exp(total(size(x), size(u))), y)

    def others(a: Array, product: Array, absent: Array) -> Array:
        return step.where(absent - zeros(a) > 0.5, 0.0, product / (a + zeros(a)))

    return (
        g * others(x, product, absent),
        step.take(g, rows) * others(u, step.take(product, rows), step.take(absent, rows)),
    )
