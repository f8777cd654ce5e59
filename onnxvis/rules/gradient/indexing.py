"""Operators that pick numbers by indices: what goes back is added where it came from.

Indices may be constants or be computed by the model; they are no numbers to differentiate by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


@rule("Gather", needs="x1", inputs=(0,))
def gather(step: Step, g: Array) -> Array:
    """Slices along an axis."""
    shape, indices = step.shape(), step.shape(1)
    axis = step.attribute("axis", 0) % len(shape)
    before, length, after = shape[:axis], shape[axis], shape[axis + 1 :]
    part = _as_slice(step.graph.constant(step.node.inputs[1]), length)
    if part is not None:
        g = step.reshape(g, (*before, math.prod(indices), *after))
        return step.unslice(g, (*(slice(None),) * axis, part, *(slice(None),) * len(after)), shape)
    rows = step.reshape(g, (math.prod(before), math.prod(indices), math.prod(after)))
    rows = step.reshape(step.transpose(rows, (1, 0, 2)), (math.prod(indices), math.prod(before + after)))
    found = step.put(rows, step.reshape(step.input(1), (math.prod(indices),)), length)
    found = step.reshape(found, (length, math.prod(before), math.prod(after)))
    return step.reshape(step.transpose(found, (1, 0, 2)), shape)


def _as_slice(indices: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None, length: int) -> slice | None:
    """The slice that picks the same, None where there is none."""
    if indices is None or not indices.size:
        return None
    places = indices.ravel() % length
    if places.size == 1:
        return slice(int(places[0]), int(places[0]) + 1)
    steps = set(np.diff(places).tolist())
    if len(steps) > 1 or min(steps) <= 0:
        return None
    return slice(int(places[0]), int(places[-1]) + 1, steps.pop())


@rule("GatherElements", needs="x1", inputs=(0,))
def gather_elements(step: Step, g: Array) -> Array:
    """One index a number, along an axis."""
    shape = step.shape()
    rows = element_rows(step, step.input(1), shape)
    found = step.put(step.reshape(g, (math.prod(step.shape(1)), 1)), rows, math.prod(shape))
    return step.reshape(found, shape)


@rule("GatherND", needs="x1", inputs=(0,))
def gather_nd(step: Step, g: Array) -> Array:
    """The last axis of the indices holds a place along the first axes of the data."""
    shape, batched = step.shape(), step.attribute("batch_dims", 0)
    depth = batched + step.shape(1)[-1]
    rows = place_rows(step, step.input(1), shape, batched)
    g = step.reshape(g, (rows.shape[0], math.prod(shape[depth:])))
    return step.reshape(step.put(g, rows, math.prod(shape[:depth])), shape)


def element_rows(step: Step, indices: Array, shape: Sequence[int]) -> Array:
    """Where in the flat data each entry of GatherElements' or ScatterElements' indices points."""
    axis = step.attribute("axis", 0) % len(shape)
    strides = _strides(shape)
    others = [0 if i == axis else stride for i, stride in enumerate(strides)]
    offsets = np.tensordot(others, np.indices(indices.shape), 1).astype(indices.dtype)
    rows = _from_front(step, indices, shape[axis]) * strides[axis] + step.constant(offsets)
    return step.reshape(rows, (math.prod(indices.shape),))


def place_rows(step: Step, indices: Array, shape: Sequence[int], batched: int = 0) -> Array:
    """Where in the flattened first axes each entry of GatherND's or ScatterND's indices points."""
    depth, count = indices.shape[-1], math.prod(indices.shape[:-1])
    strides = _strides(shape[: batched + depth])
    offsets = np.tensordot(strides[:batched], np.indices(indices.shape[:batched]), 1)
    offsets = np.repeat(np.ravel(offsets), count // max(offsets.size, 1)).astype(indices.dtype)
    table, rows = step.reshape(indices, (count, depth)), step.constant(offsets)
    for i, stride in enumerate(strides[batched:]):
        column = step.reshape(step.slice(table, (slice(None), slice(i, i + 1))), (count,))
        rows = rows + _from_front(step, column, shape[batched + i]) * stride
    return rows


def _strides(shape: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis lie in the flat array."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _from_front(step: Step, indices: Array, length: int) -> Array:
    """Indices that count from the end (negative ones) as they count from the front."""
    return indices - step.minimum(step.maximum(indices, -1), 0) * length


@rule("Where", needs="x0", inputs=(1, 2))
def where(step: Step, g: Array) -> tuple[Array | None, ...]:
    """To the branch that was taken."""
    a = step.unbroadcast(step.where(step.x, g), step.shape(1)) if step.wants(1) else None
    b = step.unbroadcast(step.where(~step.x, g), step.shape(2)) if step.wants(2) else None
    return None, a, b
