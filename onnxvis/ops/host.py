"""The host executor: the primitives on NumPy arrays.

The readable reference that the other executors are held to.  Windows are handled one kernel offset
at a time: a shifted, strided view of the padded input, and one matrix product for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .primitives import Array, Key, Ops, Shape
from .window import Window

__all__ = ["HostOps"]


class HostOps(Ops):
    """The primitives on NumPy arrays."""

    def constant(self, array: Any) -> Array:
        array = np.asarray(array)
        return array if array.dtype.kind in "biu" else array.astype(self.dtype, copy=False)

    def zeros(self, shape: Shape) -> Array:
        return np.zeros(shape, self.dtype)

    def numbers(self, x: Array) -> Array:
        return x.astype(self.dtype, copy=False)

    def where(self, condition: Array, a: Array | float, b: Array | float = 0.0) -> Array:
        return np.where(condition, *(np.asarray(v, self.dtype) for v in (a, b)))

    def maximum(self, a: Array, b: Array | float) -> Array:
        return np.maximum(a, b)

    def minimum(self, a: Array, b: Array | float) -> Array:
        return np.minimum(a, b)

    def abs(self, x: Array) -> Array:
        return np.abs(x)

    def exp(self, x: Array) -> Array:
        return np.exp(x)

    def log(self, x: Array) -> Array:
        return np.log(x)

    def sqrt(self, x: Array) -> Array:
        return np.sqrt(x)

    def tanh(self, x: Array) -> Array:
        return np.tanh(x)

    def sin(self, x: Array) -> Array:
        return np.sin(x)

    def erf(self, x: Array) -> Array:
        from scipy.special import erf  # 0.2 s to import, and few nets need it

        return np.asarray(erf(x), x.dtype)  # of float16 SciPy makes float32

    def power(self, a: Array, b: Array | float) -> Array:
        return np.power(a, b)

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
        return np.sum(x, axis=tuple(axes), keepdims=keepdims, dtype=x.dtype)

    def argmax(self, x: Array, axis: int) -> Array:
        return np.argmax(x, axis=axis, keepdims=True)

    def reshape(self, x: Array, shape: Shape) -> Array:
        return np.reshape(x, shape)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return np.transpose(x, axes)

    def expand(self, x: Array, shape: Shape) -> Array:
        return np.broadcast_to(x, shape)

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return np.concatenate(arrays, axis)

    def slice(self, x: Array, key: Key) -> Array:
        return x[key]

    def unslice(self, g: Array, key: Key, shape: Shape) -> Array:
        result = np.zeros(shape, g.dtype)
        result[key] = g
        return result

    def take(self, x: Array, rows: Array) -> Array:
        return x[rows]

    def put(self, g: Array, rows: Array, count: int) -> Array:
        result = np.zeros((count, *g.shape[1:]), g.dtype)
        np.add.at(result, rows, g)
        return result

    def matmul(self, a: Array, b: Array) -> Array:
        return np.matmul(a, b)

    def conv(self, x: Array, w: Array, window: Window, group: int = 1) -> Array:
        samples, filters = x.shape[0], w.shape[0]
        x = _pad(x, window, 0.0)
        x = x.reshape(samples, group, -1, *x.shape[2:])
        w = w.reshape(group, filters // group, -1, window.count)
        result = np.zeros((samples, group, filters // group, np.prod(window.size_out, dtype=int)), x.dtype)
        for k, view in enumerate(_views(x, window)):
            result += w[..., k] @ view.reshape(*view.shape[:3], -1)
        return result.reshape(samples, filters, *window.size_out)

    def conv_transpose(self, g: Array, w: Array, window: Window, group: int = 1) -> Array:
        samples, filters = g.shape[0], w.shape[0]
        g = g.reshape(samples, group, filters // group, -1)
        w = w.reshape(group, filters // group, -1, window.count)
        result = _padded_zeros((samples, group, w.shape[2]), window, g.dtype)
        for k, view in enumerate(_views(result, window)):
            view += (w[..., k].swapaxes(1, 2) @ g).reshape(view.shape)
        return _crop(result, window).reshape(samples, -1, *window.size_in)

    def window_sum(self, x: Array, window: Window) -> Array:
        views = _views(_pad(x, window, 0.0), window)
        result = next(views).copy()
        for view in views:
            result += view
        return result

    def window_spread(self, g: Array, window: Window) -> Array:
        result = _padded_zeros(g.shape[:2], window, g.dtype)
        for view in _views(result, window):
            view += g
        return _crop(result, window)

    def max_route(self, g: Array, x: Array, window: Window) -> Array:
        padded = _pad(x, window, -np.inf)
        highest = np.full(g.shape, -np.inf, x.dtype)
        first = np.zeros(g.shape, np.int64)
        for k, view in enumerate(_views(padded, window)):
            first[view > highest] = k
            highest = np.maximum(highest, view)
        result = _padded_zeros(g.shape[:2], window, g.dtype)
        for k, view in enumerate(_views(result, window)):
            view += np.where(first == k, g, np.zeros((), g.dtype))
        return _crop(result, window)


def _pad(x: Array, window: Window, value: float) -> Array:
    """x with the window's padding; input that no window sees is cut off."""
    ends = [max(0, a) for a in window.after]
    widths = [(0, 0)] * (x.ndim - len(ends)) + list(zip(window.before, ends, strict=True))
    return np.pad(x, widths, constant_values=value) if any(map(any, widths)) else x


def _padded_zeros(leading: Shape, window: Window, dtype: Any) -> Array:
    sizes = zip(window.before, window.size_in, window.after, strict=True)
    return np.zeros((*leading, *(b + n + max(0, a) for b, n, a in sizes)), dtype)


def _crop(padded: Array, window: Window) -> Array:
    """Undo ``_pad``."""
    spatial = [slice(b, b + n) for b, n in zip(window.before, window.size_in, strict=True)]
    return padded[(..., *spatial)]


def _views(padded: Array, window: Window) -> Iterator[Array]:
    """For every kernel offset in row-major order: what all output positions see there."""
    for offset in itertools.product(*map(range, window.kernel)):
        spatial = (
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(offset, window.dilations, window.size_out, window.strides, strict=True)
        )
        yield padded[(..., *spatial)]
