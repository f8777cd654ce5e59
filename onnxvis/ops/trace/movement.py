"""Sums along axes, and operators that move numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxvis.ops.primitives import Key, Shape

from .values import Traced
from .writer import Writer

__all__ = ["Movement"]


class Movement(Writer):
    """The primitives along axes and those that move data."""

    # ---- along axes ------------------------------------------------------------------------------

    def sum(self, x: Traced, axes: Sequence[int], keepdims: bool = False) -> Traced:
        axes = tuple(axes)
        shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
        if x.value is not None:
            return (
                self.zeros(tuple(shape)) if x.zero else self.constant(self.host.sum(x.value, axes, keepdims))
            )
        inputs = [x, self.indices(axes)]
        return self.emit("ReduceSum", inputs, shape, signs=x.signs, keepdims=int(keepdims)) if axes else x

    def argmax(self, x: Traced, axis: int) -> Traced:
        if x.value is not None:
            return self.constant(self.host.argmax(x.value, axis))
        shape = [1 if i == axis else n for i, n in enumerate(x.shape)]
        return self.emit("ArgMax", [x], shape, dtype=np.int64, axis=axis, keepdims=1)

    # ---- moving data -----------------------------------------------------------------------------

    def _moved(self, x: Traced, shape: Sequence[int], function: Callable[[Any], Any]) -> Traced | None:
        """The result where it needs no node: x is zero, or another constant."""
        if x.value is None:
            return None
        return self.zeros(tuple(shape)) if x.zero else self.constant(function(x.value))

    def reshape(self, x: Traced, shape: Shape) -> Traced:
        if tuple(shape) == x.shape:
            return x
        known = self._moved(x, shape, lambda value: value.reshape(shape))
        if known is not None:
            return known
        return self.emit("Reshape", [x, self.indices(shape)], shape, dtype=x.dtype, signs=x.signs)

    def transpose(self, x: Traced, axes: Sequence[int]) -> Traced:
        if list(axes) == list(range(len(x.shape))):
            return x
        shape = [x.shape[axis] for axis in axes]
        known = self._moved(x, shape, lambda value: np.asarray(value.transpose(axes), order="C"))
        if known is not None:
            return known
        return self.emit("Transpose", [x], shape, dtype=x.dtype, signs=x.signs, perm=[*axes])

    def concat(self, arrays: Sequence[Traced], axis: int) -> Traced:
        if len(arrays) == 1:
            return arrays[0]
        shape = list(arrays[0].shape)
        shape[axis] = sum(array.shape[axis] for array in arrays)
        if all(array.zero for array in arrays):
            return self.zeros(tuple(shape))
        if all(array.value is not None for array in arrays):
            return self.constant(np.concatenate([array.value for array in arrays], axis))
        signs = {array.signs for array in arrays}
        return self.emit(
            "Concat",
            arrays,
            shape,
            dtype=arrays[0].dtype,
            signs=signs.pop() if len(signs) == 1 else 0,
            axis=axis,
        )

    def slice(self, x: Traced, key: Key) -> Traced:
        ranges = [part.indices(n) for part, n in zip(key, x.shape, strict=True)]
        shape = [len(range(*bounds)) for bounds in ranges]
        known = self._moved(x, shape, lambda value: np.asarray(value[key], order="C"))
        moved = zip(ranges, x.shape, strict=True)
        cut = [i for i, (bounds, n) in enumerate(moved) if range(*bounds) != range(n)]
        if known is not None:
            return known
        if not cut:
            return x
        starts, stops, steps = zip(*(ranges[i] for i in cut), strict=True)
        stops = tuple(stop if stop >= 0 else np.iinfo(np.int64).min for stop in stops)
        inputs = [x, *map(self.indices, (starts, stops, cut, steps))]
        return self.emit("Slice", inputs, shape, dtype=x.dtype, signs=x.signs)

    def unslice(self, g: Traced, key: Key, shape: Shape) -> Traced:
        known = self._moved(g, shape, lambda value: self.host.unslice(value, key, shape))
        if known is not None:
            return known
        places = [range(n)[part] for part, n in zip(key, shape, strict=True)]
        backwards = [i for i, place in enumerate(places) if place.step < 0]
        flip = tuple(slice(None, None, -1 if i in backwards else 1) for i in range(len(shape)))
        g = self.slice(g, flip)
        places = [place[::-1] if i in backwards else place for i, place in enumerate(places)]
        g = self.spaced(g, [place.step if len(place) > 1 else 1 for place in places])
        before = [place.start if len(place) else 0 for place in places]
        g = self.slice(g, tuple(slice(0, n - b) for n, b in zip(shape, before, strict=True)))
        after = [n - b - m for n, b, m in zip(shape, before, g.shape, strict=True)]
        if not any(before) and not any(after):
            return g
        return self.emit("Pad", [g, self.indices(before + after)], shape, signs=g.signs)

    def spaced(self, g: Traced, steps: Sequence[int]) -> Traced:
        """Every number followed by step − 1 zeros along each axis."""
        if all(step == 1 for step in steps):
            return g
        wide = [n * step for n, step in zip(g.shape, steps, strict=True)]
        if len(wide) == 4 and steps[0] == steps[1] == 1:
            # Repeated by a vectorised node, then all but the first of each multiplied by 0.
            first = np.zeros(wide[2:])
            first[:: steps[2], :: steps[3]] = 1.0
            return self.repeat(g, steps[2:]) * self.constant(first)
        for axis, step in enumerate(steps):
            if step > 1:
                split = (*g.shape[: axis + 1], 1, *g.shape[axis + 1 :])
                pads = [0] * (2 * len(split))
                pads[len(split) + axis + 1] = step - 1
                apart = (*g.shape[: axis + 1], step, *g.shape[axis + 1 :])
                g = self.emit("Pad", [self.reshape(g, split), self.indices(pads)], apart, signs=g.signs)
                g = self.reshape(g, (*apart[:axis], apart[axis] * step, *apart[axis + 2 :]))
        return g

    def repeat(self, g: Traced, times: Sequence[int]) -> Traced:
        """N×C×size, every number repeated so often along each spatial axis."""
        scales = self.constant(np.array([1, 1, *times], np.float32))
        shape = (*g.shape[:2], *(n * k for n, k in zip(g.shape[2:], times, strict=True)))
        return self.emit(
            "Resize", [g, None, scales], shape, signs=g.signs, mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def fitted(self, x: Traced, shape: Shape) -> Traced:
        """Append zeros until the shape is reached: input positions that no window saw."""
        return self.unslice(x, tuple(slice(0, n) for n in x.shape), shape)

    # ---- rows ------------------------------------------------------------------------------------

    def take(self, x: Traced, rows: Traced) -> Traced:
        shape = (*rows.shape, *x.shape[1:])
        if x.zero:
            return self.zeros(shape)
        if x.value is not None and rows.value is not None:
            return self.constant(self.host.take(x.value, rows.value))
        return self.emit("Gather", [x, rows], shape, dtype=x.dtype, signs=x.signs, axis=0)

    def put(self, g: Traced, rows: Traced, count: int) -> Traced:
        shape = (count, *g.shape[1:])
        if g.zero:
            return self.zeros(shape)
        if g.value is not None and rows.value is not None:
            return self.constant(self.host.put(g.value, rows.value, count))
        zero = self.constant(np.zeros((), g.dtype))
        zeros = self.emit("Expand", [zero, self.indices(shape)], shape, dtype=g.dtype, signs=1)
        rows = self._whole(rows)
        alone = rows.value is not None and len(np.unique(rows.value % count)) == rows.value.size
        reduction = "none" if alone else "add"
        places = self.reshape(rows, (*rows.shape, 1))
        return self.emit("ScatterND", [zeros, places, g], shape, signs=g.signs, reduction=reduction)

    def _whole(self, rows: Traced) -> Traced:
        """As int64, which is all that ScatterND takes."""
        if rows.value is not None:
            return self.constant(rows.value.astype(np.int64))
        if rows.dtype == np.int64:
            return rows
        return self.emit("Cast", [rows], rows.shape, dtype=np.int64, to=np.dtype(np.int64))
