"""The way back through max pooling, in plain operators on whole arrays.

One axis after the other: to the first row that holds a window's maximum, there to the first column.
That takes the sum of the kernel's sides in comparisons, not their product; onnxruntime's own indices come
from a loop over single numbers and are several times slower.  Arrays are turned before, so that what windows
see at a kernel position is copied in long pieces, or is there as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from onnxvis.ops.primitives import Shape
from onnxvis.ops.window import Window

from .movement import Movement
from .values import Traced

__all__ = ["max_route"]

PIECE = 16  # channels that lie together: many more are slow to transpose, fewer are slow to copy
LANES = 4  # columns taken apart at once: onnxruntime transposes four as fast as it copies


@dataclass(frozen=True)
class Line:
    """The windows along one axis of an array.

    From the first on, numbers a stride apart form a plane, and so do those from the second on, and so on:
    what the windows see at one kernel position is a plane, moved.
    """

    axis: int
    size: int
    count: int  # windows
    stride: int
    starts: Shape  # what the first window sees at each kernel position; outside of the array is padding

    @classmethod
    def of(cls, window: Window, i: int, axis: int) -> Line:
        """A window's i-th axis, as this axis of an array."""
        before, apart = window.before[i], window.dilations[i]
        starts = tuple(k * apart - before for k in range(window.kernel[i]))
        alone = window.size_out[i] == 1  # a single window steps nowhere: let its planes be single numbers
        stride = max(starts[-1] + 1, 1) if alone else window.strides[i]
        return cls(axis, window.size_in[i], window.size_out[i], stride, starts)

    @property
    def seen(self) -> int:
        """How many numbers of the array lie no further than the last window."""
        return min(self.size, self.starts[-1] + (self.count - 1) * self.stride + 1)

    def views(self, ops: Movement, x: Traced) -> list[Traced]:
        """What the windows see at each kernel position: −∞ as padding, which never wins."""
        return [self._view(ops, x, start) for start in self.starts]

    def _view(self, ops: Movement, x: Traced, start: int) -> Traced:
        stop = start + (self.count - 1) * self.stride + 1
        if start >= 0 and stop <= self.size:
            return self.cut(ops, x, slice(start, stop, self.stride))
        ahead, inside = divmod(start, self.stride)
        plane = self.cut(ops, x, slice(inside, None, self.stride))
        return self.moved(ops, plane, -ahead, self.count, -np.inf)

    def routed(self, ops: Movement, g: Traced, views: Sequence[Traced], highest: Traced) -> Traced:
        """g to the first view that is the highest: what arrives at the array."""
        shares = []
        for view in views[:-1]:
            shares.append(ops.where(view == highest, g))
            g = g - shares[-1]
        shares.append(g)
        length, rest = divmod(self.seen, self.stride)
        # A plane's last number that others have no more is appended: cheaper than to fill them up and cut.
        parts = [self._arriving(ops, shares, inside, length, 1) for inside in range(rest)]
        if length:
            planes = [self._arriving(ops, shares, inside, 0, length) for inside in range(self.stride)]
            parts = [self._woven(ops, planes), *parts]
        return ops.fitted(ops.concat(parts, self.axis), self.resized(g, self.size))

    def _arriving(self, ops: Movement, shares: list[Traced], inside: int, first: int, length: int) -> Traced:
        """What arrives at one of the planes: at so many numbers from the first on."""
        places = (divmod(start, self.stride) for start in self.starts)
        arriving = [
            self.moved(ops, share, ahead - first, length, 0.0)
            for share, (ahead, at) in zip(shares, places, strict=True)
            if at == inside
        ]
        return reduce(ops.add, arriving, ops.zeros(self.resized(shares[0], length)))

    def _woven(self, ops: Movement, planes: list[Traced]) -> Traced:
        """One number from each plane in turn."""
        shape, axis = planes[0].shape, self.axis + 1
        apart = [ops.reshape(plane, (*shape[:axis], 1, *shape[axis:])) for plane in planes]
        return ops.reshape(ops.concat(apart, axis), self.resized(planes[0], len(planes) * shape[self.axis]))

    def resized(self, x: Traced, length: int) -> Shape:
        """x's shape with another length along the axis."""
        return (*x.shape[: self.axis], length, *x.shape[self.axis + 1 :])

    def cut(self, ops: Movement, x: Traced, part: slice) -> Traced:
        """A part of x along the axis."""
        return ops.slice(x, tuple(part if i == self.axis else slice(None) for i in range(len(x.shape))))

    def moved(self, ops: Movement, x: Traced, by: int, length: int, fill: float) -> Traced:
        """x moved along the axis and cut or filled up to a length, in one node."""
        had, shape = x.shape[self.axis], self.resized(x, length)
        if not -had < by < length:
            return ops.expand(ops.constant(np.array(fill)), shape) if fill else ops.zeros(shape)
        if by <= 0 and length <= had + by:
            return self.cut(ops, x, slice(-by, length - by))
        outer, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        pads = ops.indices([0, by * inner, 0, (length - by - had) * inner])
        inputs = [ops.reshape(x, (outer, had * inner)), pads, ops.constant(np.array(fill))]
        padded = ops.emit("Pad", inputs, (outer, length * inner), signs=0 if fill else x.signs)
        return ops.reshape(padded, shape)


@dataclass(frozen=True)
class Layout:
    """How arrays lie while windows run over them.

    Either a piece of the channels is innermost, so that rows and columns are copied in pieces; or, where
    windows tile rows and nothing need be moved, some neighbouring columns are outermost.
    """

    lanes: int  # columns that are outermost, or 0

    @classmethod
    def of(cls, window: Window) -> Layout:
        """The layout for some windows."""
        stride, size = window.strides[-1], window.size_in[-1]
        tiled = window.plain and stride > 1 and size == stride * window.size_out[-1]
        fitting = [n for n in range(stride, max(LANES, stride) + 1, stride) if size % n == 0]
        return cls(fitting[-1] if tiled else 0)

    def lines(self, window: Window) -> list[Line]:
        """The windows along each axis, as arrays lie."""
        rank = len(window.kernel)
        if not self.lanes:
            return [Line.of(window, i, i + 1) for i in range(rank)]
        stride = window.strides[-1]
        rows = Line(0, self.lanes, self.lanes // stride, stride, tuple(range(stride)))
        return [*(Line.of(window, i, i + 2) for i in range(rank - 1)), rows]

    def turned(self, ops: Movement, v: Traced, lanes: int) -> Traced:
        """N×C×size as lanes×NC×rows×columns, or as pieces×size×channels."""
        samples, channels, *size = v.shape
        if self.lanes:
            shape = (lanes, samples * channels, *size[:-1], size[-1] // lanes)
            return _transposed(ops, v, (1, -1, lanes), shape)
        piece = next((n for n in range(PIECE, channels) if channels % n == 0), channels)
        pieces = samples * channels // piece
        return _transposed(ops, v, (pieces, piece, -1), (pieces, *size, piece))

    def back(self, ops: Movement, v: Traced, shape: Shape) -> Traced:
        """An array that was turned as N×C×size."""
        split = (1, self.lanes, -1) if self.lanes else (v.shape[0], -1, v.shape[-1])
        return _transposed(ops, v, split, shape)


def _transposed(ops: Movement, v: Traced, split: Shape, shape: Shape) -> Traced:
    """Numbers split into three axes (−1: as many as there are), the last two exchanged."""
    rest = math.prod(v.shape) // abs(math.prod(split))
    apart = ops.reshape(v, tuple(rest if n < 0 else n for n in split))
    return ops.reshape(ops.transpose(apart, (0, 2, 1)), shape)


def max_route(ops: Movement, g: Traced, x: Traced, window: Window, positive: bool = False) -> Traced:
    """Adjoint of max pooling at x (see ``Ops.max_route``).

    ``positive``: to maxima > 0 alone.
    """
    if window.blind:
        return ops.zeros(x.shape)
    layout = Layout.of(window)
    highest, stages = layout.turned(ops, x, layout.lanes), []
    for line in reversed(layout.lines(window)):
        views = line.views(ops, highest)
        highest = reduce(ops.maximum, views)
        stages.append((line, views, highest))
    g = layout.turned(ops, g, layout.lanes // window.strides[-1])
    if positive:
        g = ops.where(highest > 0, g)
    for line, views, highest in reversed(stages):
        g = line.routed(ops, g, views, highest)
    return layout.back(ops, g, x.shape)
