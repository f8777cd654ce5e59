"""Operators that pick numbers by indices: what goes back is added where it came from.

Indices may be constants or be computed by the model; they are no numbers to differentiate by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxvis.graph.ir import Graph, Node
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
    rows = element_rows(step, step.input(1), shape, step.attribute("axis", 0))
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


@rule("TopK", needs="y1", inputs=(0,))
def top_k(step: Step, g: Array, *_: Array) -> Array:
    """The largest (smallest) numbers along an axis: to where they stand."""
    shape = step.shape()
    rows = element_rows(step, step.tensor(step.node.outputs[1]), shape, step.attribute("axis", -1))
    found = step.put(step.reshape(g, (math.prod(g.shape), 1)), rows, math.prod(shape))
    return step.reshape(found, shape)


def _decided_by_the_data(node: Node, graph: Graph) -> str | None:
    if graph.is_constant(node.inputs[1]):
        return None
    return "the model computes its condition, so the shape of what it keeps depends on the picture"


@rule("Compress", inputs=(0,), refuses=_decided_by_the_data)
def compress(step: Step, g: Array) -> Array:
    """Slices along an axis (of the flat data where it names none), at which a condition holds."""
    shape, axis = step.shape(), step.attribute("axis")
    lines = (1, math.prod(shape), 1)
    if axis is not None:
        axis %= len(shape)
        lines = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    places = np.flatnonzero(step.known(1))
    rows = step.transpose(step.reshape(g, (lines[0], places.size, lines[2])), (1, 0, 2))
    rows = step.reshape(rows, (places.size, lines[0] * lines[2]))
    found = step.reshape(step.put(rows, step.constant(places), lines[1]), (lines[1], lines[0], lines[2]))
    return step.reshape(step.transpose(found, (1, 0, 2)), shape)


@rule("ReverseSequence", needs="x1", inputs=(0,))
def reverse_sequence(step: Step, g: Array) -> Array:
    """The first numbers of every sequence backwards, as many as its length: its own inverse."""
    shape, turned = step.shape(), step.attribute("time_axis", 0) == 0
    order = (1, 0, *range(2, len(shape))) if turned else tuple(range(len(shape)))
    g = step.transpose(g, order)
    batch, time = g.shape[:2]
    lengths = step.reshape(step.input(1), (batch, 1))
    clock = np.arange(time, dtype=lengths.dtype)[None]
    mirrored = lengths - step.constant(clock + 1)  # below 0 past the length, where everything stays
    past = -step.minimum(step.maximum(mirrored, -1), 0)
    start = np.arange(batch, dtype=lengths.dtype)[:, None] * time
    rows = step.maximum(mirrored, 0) + past * step.constant(clock) + step.constant(start)
    found = step.take(
        step.reshape(g, (batch * time, math.prod(g.shape[2:]))), step.reshape(rows, (batch * time,))
    )
    return step.transpose(step.reshape(found, g.shape), order)


def element_rows(step: Step, indices: Array, shape: Sequence[int], axis: int) -> Array:
    """Where in the flat data each index along an axis points (GatherElements, ScatterElements, TopK)."""
    axis %= len(shape)
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
