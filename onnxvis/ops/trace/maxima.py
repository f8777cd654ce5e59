"""The way back through max pooling, in plain operators on whole planes.

One axis after the other: to the first row that holds a window's maximum, there to the first column.
That takes the sum of the kernel's sides in comparisons, not their product, and all of it runs on
contiguous memory: onnxruntime's own indices come from a loop over single numbers and are several times
slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from onnxvis.ops.primitives import Shape
from onnxvis.ops.window import Window

from .movement import Movement
from .values import Traced

__all__ = ["max_route"]

Phase = tuple[int, ...]  # a position inside a cell, along the first axes


@dataclass(frozen=True)
class Cells:
    """The input as a grid of cells, each as large as a stride; a window begins with its own cell.

    Numbers at one position inside all cells (a *phase*) form a plane.  Planes are flat, so that what
    the windows see at one kernel position is one span of a plane.  Spans run across the ends of rows:
    what windows see there is never used, since nothing arrives at them.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    count: Shape  # cells along each axis

    @classmethod
    def of(cls, window: Window) -> Cells:
        """The cells of a window; a single window along an axis has one cell."""
        reach = [(k - 1) * d for k, d in zip(window.kernel, window.dilations, strict=True)]
        outputs = zip(window.size_out, window.strides, reach, strict=True)
        strides = tuple(r + 1 if n == 1 else s for n, s, r in outputs)
        count = tuple(n + r // s for n, s, r in zip(window.size_out, strides, reach, strict=True))
        return cls(window.kernel, strides, window.dilations, window.before, count)

    @property
    def size(self) -> Shape:
        """Input positions that the cells cover, padding in front included."""
        return tuple(n * s for n, s in zip(self.count, self.strides, strict=True))

    def seen(self, axis: int) -> list[tuple[int, int]]:
        """For every kernel position along an axis: cells ahead of the window's own, position inside."""
        return [divmod(i * self.dilations[axis], self.strides[axis]) for i in range(self.kernel[axis])]

    def pitch(self, axis: int) -> int:
        """How far apart neighbouring cells along an axis lie in a plane."""
        return math.prod(self.count[axis + 1 :])

    def length(self, axis: int) -> int:
        """How much of a plane remains once windows are reduced along this axis and those behind it."""
        ahead = (self.seen(i)[-1][0] * self.pitch(i) for i in range(axis, len(self.count)))
        return math.prod(self.count) - sum(ahead)


def max_route(ops: Movement, g: Traced, x: Traced, window: Window, positive: bool = False) -> Traced:
    """Adjoint of max pooling at x (see ``Ops.max_route``).

    ``positive``: to maxima > 0 alone.
    """
    cells = Cells.of(window)
    planes, stages = _planes(ops, x, cells), []
    for axis in reversed(range(len(cells.count))):
        rows = dict.fromkeys(phase[:axis] for phase in planes)
        seen = {phase: _views(ops, planes, phase, cells, axis) for phase in rows}
        planes = {phase: reduce(ops.maximum, views) for phase, views in seen.items()}
        stages.append((seen, planes))
    arriving = _flat(ops, g, cells)
    routed: dict[Phase, Traced] = {(): ops.where(planes[()] > 0, arriving) if positive else arriving}
    for axis, (seen, highest) in enumerate(reversed(stages)):
        routed = {
            (*phase, inside): share
            for phase, arriving in routed.items()
            for inside, share in _shares(ops, arriving, seen[phase], highest[phase], cells, axis).items()
        }
    return _joined(ops, routed, cells, x.shape)


def _planes(ops: Movement, x: Traced, cells: Cells) -> dict[Phase, Traced]:
    """x as (samples·channels)×cells, for every phase."""
    samples, channels = x.shape[:2]
    parts: dict[Phase, Traced] = {(): _covered(ops, x, cells)}
    step, rank = cells.strides[0], len(cells.count)
    if rank == 2 and cells.strides == (step, step) and step > 1:
        blocks = (samples, step * step * channels, *cells.count)
        stacked = ops.emit("SpaceToDepth", [parts[()]], blocks, signs=x.signs, blocksize=step)
        phases = [(i, j) for i in range(step) for j in range(step)]
        parts = {
            phase: ops.slice(stacked, _along(1, 4, slice(i * channels, (i + 1) * channels)))
            for i, phase in enumerate(phases)
        }
    else:
        for axis, step in enumerate(cells.strides):
            parts = {
                (*phase, inside): ops.slice(part, _along(axis + 2, rank + 2, slice(inside, None, step)))
                for phase, part in parts.items()
                for inside in range(step)
            }
    flat = (samples * channels, math.prod(cells.count))
    return {phase: ops.reshape(part, flat) for phase, part in parts.items()}


def _covered(ops: Movement, x: Traced, cells: Cells) -> Traced:
    """What the cells cover of x, among −∞: padding never wins."""
    spatial = zip(x.shape[2:], cells.before, cells.size, strict=True)
    x = ops.slice(x, (slice(None), slice(None), *(slice(0, min(n, m - b)) for n, b, m in spatial)))
    after = [m - n - b for n, b, m in zip(x.shape[2:], cells.before, cells.size, strict=True)]
    if not any(cells.before) and not any(after):
        return x
    pads = ops.indices([0, 0, *cells.before, 0, 0, *after])
    return ops.emit("Pad", [x, pads, ops.constant(np.array(-np.inf))], (*x.shape[:2], *cells.size))


def _views(ops: Movement, planes: dict[Phase, Traced], phase: Phase, cells: Cells, axis: int) -> list[Traced]:
    """What the windows see at each kernel position along an axis."""
    return [
        _span(ops, planes[*phase, inside], ahead * cells.pitch(axis), cells.length(axis))
        for ahead, inside in cells.seen(axis)
    ]


def _span(ops: Movement, plane: Traced, start: int, length: int) -> Traced:
    return ops.slice(plane, (slice(None), slice(start, start + length)))


def _flat(ops: Movement, g: Traced, cells: Cells) -> Traced:
    """g as windows lie in a plane; nothing arrives at those across the ends of rows."""
    key = tuple(slice(0, n) for n in g.shape)
    g = ops.unslice(g, key, (*g.shape[:2], *cells.count))
    g = ops.reshape(g, (math.prod(g.shape[:2]), math.prod(cells.count)))
    return _span(ops, g, 0, cells.length(0))


def _shares(
    ops: Movement, g: Traced, views: list[Traced], highest: Traced, cells: Cells, axis: int
) -> dict[int, Traced]:
    """g to the first view that is the highest; sums for every position inside a cell along the axis."""
    sums: dict[int, Traced] = {}
    for view, (ahead, inside) in zip(views, cells.seen(axis), strict=True):
        share = g if view is views[-1] else ops.where(view == highest, g)
        g = g - share
        start = ahead * cells.pitch(axis)
        key = (slice(None), slice(start, start + share.shape[1]))
        placed = ops.unslice(share, key, (share.shape[0], cells.length(axis + 1)))
        sums[inside] = sums[inside] + placed if inside in sums else placed
    return sums


def _joined(ops: Movement, parts: dict[Phase, Traced], cells: Cells, shape: Shape) -> Traced:
    """The planes of all phases as one array of x's shape."""
    outer, inner = shape[0] * shape[1] * math.prod(cells.count), 1
    for axis in reversed(range(len(cells.count))):
        step = cells.strides[axis]
        unseen = ops.zeros((outer, 1, inner))
        stacked = {
            phase: [
                ops.reshape(parts[*phase, i], (outer, 1, inner)) if (*phase, i) in parts else unseen
                for i in range(step)
            ]
            for phase in dict.fromkeys(phase[:axis] for phase in parts)
        }
        parts = {phase: ops.concat(arrays, 1) for phase, arrays in stacked.items()}
        outer, inner = outer // cells.count[axis], inner * step * cells.count[axis]
    whole = ops.reshape(parts[()], (*shape[:2], *cells.size))
    spatial = (slice(b, b + n) for b, n in zip(cells.before, shape[2:], strict=True))
    return ops.fitted(ops.slice(whole, (slice(None), slice(None), *spatial)), shape)


def _along(axis: int, rank: int, part: slice) -> tuple[slice, ...]:
    """A key that cuts one axis."""
    return tuple(part if i == axis else slice(None) for i in range(rank))
