"""Sliding windows without weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from onnxvis.ops.primitives import Shape
from onnxvis.ops.window import Window

from .linear import LinearMaps
from .values import Traced

__all__ = ["Pooling"]

FEW = 16  # kernel positions up to which comparing them one by one beats onnxruntime's indices


class Pooling(LinearMaps):
    """Sums over windows and the way back through a maximum."""

    def window_sum(self, x: Traced, window: Window) -> Traced:
        return self._per_channel(
            x, window.size_in, window.size_out, lambda v: self.conv(v, *_box(self, window))
        )

    def window_spread(self, g: Traced, window: Window) -> Traced:
        shape = (*g.shape[:2], *window.size_in)
        if g.zero:
            return self.zeros(shape)
        one, padded = math.prod(window.size_out) == 1, any(window.before + window.after)
        if one and not padded and window.kernel == window.size_in:
            return self.expand(g, shape)
        if window.plain:
            return self._repeat(g, window, shape)
        return self._per_channel(
            g, window.size_out, window.size_in, lambda v: self.conv_transpose(v, *_box(self, window))
        )

    def _per_channel(
        self, x: Traced, size_in: Shape, size_out: Shape, function: Callable[[Traced], Traced]
    ) -> Traced:
        """Apply a map of one channel to every channel by itself."""
        samples, channels = x.shape[:2]
        result = function(self.reshape(x, (samples * channels, 1, *size_in)))
        return self.reshape(result, (samples, channels, *size_out))

    def _repeat(self, g: Traced, window: Window, shape: Shape) -> Traced:
        """Every g to its whole window, where windows tile the input."""
        split = [*g.shape[:2]]
        wide = [*g.shape[:2]]
        for n, k in zip(window.size_out, window.kernel, strict=True):
            split += [n, 1]
            wide += [n, k]
        g = self.expand(self.reshape(g, tuple(split)), tuple(wide))
        tiled = (n * k for n, k in zip(window.size_out, window.kernel, strict=True))
        return self.fitted(self.reshape(g, (*shape[:2], *tiled)), shape)

    def max_route(self, g: Traced, x: Traced, window: Window) -> Traced:
        if g.zero:
            return self.zeros((*g.shape[:2], *window.size_in))
        return self._by_offset(g, x, window) if window.count <= FEW else self._by_index(g, x, window)

    def _by_offset(self, g: Traced, x: Traced, window: Window) -> Traced:
        """One kernel offset after the other takes what is left of g where its x is the maximum.

        Elementwise on whole planes, on all threads: faster than ``_by_index`` for the usual kernels.
        """
        padded = self._padded(x, window)
        highest = self._max_pool(padded, g.shape, window)
        left, taken = g, []
        offsets = [*itertools.product(*map(range, window.kernel))]
        for offset in offsets[:-1]:
            seen = self._everywhere(padded, window, offset)
            share = self.where(seen == highest, left)
            taken.append(share)
            left = left - share
        return self._interleaved(dict(zip(offsets, [*taken, left], strict=True)), window, g.shape[:2])

    def _everywhere(self, padded: Traced, window: Window, offset: tuple[int, ...]) -> Traced:
        """What all windows see at one kernel offset.

        First the grid of every stride-th position, one axis at a time (offsets share these slices), then
        a plain part of it: several times faster than one slice with steps along all axes.
        """
        starts = []
        for axis in reversed(range(len(offset))):
            cell, phase = divmod(offset[axis] * window.dilations[axis], window.strides[axis])
            key = [slice(None)] * len(padded.shape)
            key[axis + 2] = slice(phase, None, window.strides[axis])
            padded = self.slice(padded, tuple(key))
            starts.append(cell)
        spatial = (slice(a, a + n) for a, n in zip(reversed(starts), window.size_out, strict=True))
        return self.slice(padded, (slice(None), slice(None), *spatial))

    def _interleaved(self, shares: dict[tuple[int, ...], Traced], window: Window, leading: Shape) -> Traced:
        """Sum what each offset sends to the input position that it sees.

        Offsets that differ by whole strides meet on one grid of cells, one cell a stride; the grids of
        the remainders are woven together at the end.
        """
        strides = window.strides
        cells = tuple(-(-n // s) for n, s in zip(_padded_size(window), strides, strict=True))
        grids: dict[tuple[int, ...], Traced] = {}
        for offset, share in shares.items():
            reach = [k * d for k, d in zip(offset, window.dilations, strict=True)]
            phase = tuple(r % s for r, s in zip(reach, strides, strict=True))
            start = (r // s for r, s in zip(reach, strides, strict=True))
            spatial = (slice(a, a + n) for a, n in zip(start, window.size_out, strict=True))
            placed = self.unslice(share, (slice(None), slice(None), *spatial), (*leading, *cells))
            grids[phase] = grids[phase] + placed if phase in grids else placed
        for axis in reversed(range(len(strides))):
            grids = self._woven(grids, axis, strides[axis])
        spatial = (slice(b, b + n) for b, n in zip(window.before, window.size_in, strict=True))
        return self.slice(grids[()], (slice(None), slice(None), *spatial))

    def _woven(
        self, grids: dict[tuple[int, ...], Traced], axis: int, stride: int
    ) -> dict[tuple[int, ...], Traced]:
        """Grids whose phases differ along the last axis left, as one: neighbours in turn."""
        woven = {}
        at = axis + 3  # behind samples, channels and the axis itself
        for rest in {phase[:axis] for phase in grids}:
            parts = [grids.get((*rest, phase)) for phase in range(stride)]
            shape = next(part.shape for part in parts if part is not None)
            stacked = [
                self.reshape(self.zeros(shape) if part is None else part, (*shape[:at], 1, *shape[at:]))
                for part in parts
            ]
            joined = self.concat(stacked, at)
            woven[rest] = self.reshape(joined, (*shape[: at - 1], shape[at - 1] * stride, *shape[at:]))
        return woven

    def _by_index(self, g: Traced, x: Traced, window: Window) -> Traced:
        """Where onnxruntime says that the maximum was."""
        padded = self._padded(x, window)
        first = self._max_pool(padded, g.shape, window, output=1)
        flat = [self.reshape(v, (math.prod(g.shape),)) for v in (first, g)]
        empty = self.expand(self.constant(np.zeros(1)), (math.prod(padded.shape),))
        routed = self.emit(
            "ScatterElements", [empty, *flat], empty.shape, axis=0, reduction="add", signs=g.signs
        )
        spatial = (slice(b, b + n) for b, n in zip(window.before, window.size_in, strict=True))
        return self.slice(self.reshape(routed, padded.shape), (slice(None), slice(None), *spatial))

    def _padded(self, x: Traced, window: Window) -> Traced:
        """x among −∞: padding never wins."""
        after = [max(0, a) for a in window.after]
        if not any(window.before) and not any(after):
            return x
        pads = self.indices([0, 0, *window.before, 0, 0, *after])
        shape = (*x.shape[:2], *_padded_size(window))
        return self.emit("Pad", [x, pads, self.constant(np.array(-np.inf))], shape)

    def _max_pool(self, x: Traced, shape: Shape, window: Window, output: int = 0) -> Traced:
        return self.emit(
            "MaxPool",
            [x],
            shape,
            dtype=np.int64 if output else self.dtype,
            output=output,
            kernel_shape=[*window.kernel],
            strides=[*window.strides],
            dilations=[*window.dilations],
        )


def _padded_size(window: Window) -> tuple[int, ...]:
    sizes = zip(window.before, window.size_in, window.after, strict=True)
    return tuple(b + n + max(0, a) for b, n, a in sizes)


def _box(ops: Pooling, window: Window) -> tuple[Traced, Window]:
    """A kernel of ones, as convolutions over one channel take it."""
    return ops.constant(np.ones((1, 1, *window.kernel))), window
