"""Sliding windows at random, and what happens in them written as loops over single positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxvis.ops.window import Window

Array = np.ndarray[Any, Any]
Position = tuple[int, ...]


def random_windows(count: int, pooling: bool = False, seed: int = 0) -> list[Window]:
    """Windows that a node can have, of one to three axes; ``pooling``: no padding as wide as the kernel."""
    rng = np.random.default_rng(seed)
    found: list[Window] = []
    while len(found) < count:
        axes = [_random_axis(rng, pooling) for _ in range(rng.integers(1, 4))]
        kernel, strides, dilations, before, size_in, size_out = zip(*axes, strict=True)
        if np.prod(size_in) * np.prod(size_out) < 5000 and min(size_out) > 0:
            found.append(Window(kernel, strides, dilations, before, size_in, size_out))
    return found


def frequent_windows() -> list[Window]:
    """Those that the device has kernels for (kernels/tiles.cuh), over inputs of less and more than a strip.

    With every padding in front, and ends that cut windows off, leave inputs unseen or windows without any.
    """
    sizes = (
        ((1, 1), (1, 1)), ((17, 7), (17, 1)), ((24, 5), (16, 9)), ((3, 34), (18, 34)), ((9, 6), (13, 5)),
        ((10, 2), (6, 9)),
    )  # fmt: skip
    return [
        Window((k, k), (s, s), (1, 1), (b, (b + 1) % k), size_in, (-(-rows // s), -(-columns // s)))
        for k, s in ((3, 2), (2, 2), (3, 1))
        for b in range(k)
        for size_in, (rows, columns) in sizes
    ] + [Window((1, 3, 3), (1, 2, 2), (1, 1, 1), (0, 1, 1), (3, 9, 5), (3, 5, 3))]


def _random_axis(rng: np.random.Generator, pooling: bool) -> tuple[int, ...]:
    kernel, stride, dilation, size = (int(rng.integers(1, top)) for top in (4, 5, 4, 10))
    before, after = (int(n) for n in rng.integers(0, kernel if pooling else 4, 2))
    room = before + size + after - (kernel - 1) * dilation - 1
    return kernel, stride, dilation, before, size, room // stride + 1 if room >= 0 else 0


def seen(window: Window) -> Iterator[tuple[Position, Position, Position]]:
    """(output position, kernel offset, input position), row-major, without what falls on padding."""
    for out in np.ndindex(*window.size_out):
        for offset in np.ndindex(*window.kernel):
            at = tuple(
                o * s + k * d - b
                for o, s, k, d, b in zip(
                    out, window.strides, offset, window.dilations, window.before, strict=True
                )
            )
            if all(0 <= i < n for i, n in zip(at, window.size_in, strict=True)):
                yield out, offset, at


def dense(window: Window, w: Array, group: int = 1) -> Array:
    """The matrix of a convolution: (M, *size_out, C, *size_in)."""
    filters, channels = w.shape[:2]
    matrix = np.zeros((filters, *window.size_out, channels * group, *window.size_in))
    for m in range(filters):
        first = m // (filters // group) * channels
        for out, offset, at in seen(window):
            matrix[(m, *out, slice(first, first + channels), *at)] += w[(m, slice(None), *offset)]
    return matrix


def conv(x: Array, w: Array, window: Window, group: int = 1) -> Array:
    matrix = dense(window, w, group)
    return np.tensordot(x, matrix, (range(1, x.ndim), range(x.ndim - 1, 2 * x.ndim - 2)))


def conv_transpose(g: Array, w: Array, window: Window, group: int = 1) -> Array:
    return np.tensordot(g, dense(window, w, group), (range(1, g.ndim), range(g.ndim - 1)))


def conv_weight(x: Array, g: Array, window: Window, group: int = 1) -> Array:
    channels, filters = x.shape[1] // group, g.shape[1]
    w = np.zeros((filters, channels, *window.kernel))
    for m in range(filters):
        first = m // (filters // group) * channels
        for out, offset, at in seen(window):
            views = x[(slice(None), slice(first, first + channels), *at)]
            w[(m, slice(None), *offset)] += g[(slice(None), m, *out)] @ views
    return w


def window_sum(x: Array, window: Window) -> Array:
    y = np.zeros((*x.shape[:2], *window.size_out))
    for out, _, at in seen(window):
        y[(..., *out)] += x[(..., *at)]
    return y


def window_spread(g: Array, window: Window) -> Array:
    x = np.zeros((*g.shape[:2], *window.size_in))
    for out, _, at in seen(window):
        x[(..., *at)] += g[(..., *out)]
    return x


def max_route(g: Array, x: Array, window: Window) -> Array:
    """To the first maximum of what each window sees of x."""
    result = np.zeros(x.shape)
    views: dict[Position, list[Position]] = {}
    for out, _, at in seen(window):
        views.setdefault(out, []).append(at)
    for leading in np.ndindex(*x.shape[:2]):
        for out, positions in views.items():
            first = max(positions, key=lambda at: x[(*leading, *at)])  # max returns the first of equals
            result[(*leading, *first)] += g[(*leading, *out)]
    return result
