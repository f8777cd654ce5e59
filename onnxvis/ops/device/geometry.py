"""A window as the kernels take it, how many threads go through it, and the width of the indices it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from onnxvis.ops.window import Window

from .sources import KERNELS

__all__ = ["FixedWindows", "IndexType", "divisor", "fixed_windows", "gathering", "geometry", "index_type"]

AXES = 3  # spatial axes of a kernel
PACK = 16  # bytes that a thread moves at once
ROWS = 4  # of a column, a strip of which is a thread's in kernels that gather
TILE = 8  # inputs, a thread's in kernels for fixed windows
LIMIT = 2**28  # below it, the sum of an index and a grid's stride, or of a few, does not overflow an int


@dataclass(frozen=True)
class IndexType:
    """An integer type of the kernels; called, it makes such an integer."""

    cpp: str
    dtype: Any

    def __call__(self, value: int) -> Any:
        return self.dtype(value)


SHORT, LONG = IndexType("int", np.int32), IndexType("long long", np.int64)


def index_type(*sizes: int, window: Window | None = None) -> IndexType:
    """The type that can count so many numbers, and reach as far as the window does."""
    if window is not None:
        sizes += tuple(map(abs, window.before)) + window.size_in
        sizes += tuple(o * s for o, s in zip(window.size_out, window.strides, strict=True))
        sizes += tuple(k * d for k, d in zip(window.kernel, window.dilations, strict=True))
    return SHORT if max(sizes, default=0) < LIMIT else LONG


def divisor(value: int, index: IndexType) -> np.ndarray[Any, Any]:
    """The struct ``Divisor<I>`` of kernels/windows.cuh: what dividing by a positive number comes down to.

    For n below 2^31, n // value is 2n·magic >> 32 >> shift (Granlund & Montgomery 1994): magic is
    2^(31 + shift) / value, rounded up, where 2^shift is not below value; the error of the product then
    stays below what would change the quotient.  Numbers beyond are divided as they are.
    """
    shift = (value - 1).bit_length()
    magic = -(-(2 ** (31 + shift)) // value) if value < 2**31 else 0
    return np.array((value, magic, shift), _divisor_type(index))


def _divisor_type(index: IndexType) -> list[Any]:
    return [("divisor", index.dtype), ("magic", np.uint32), ("shift", np.int32)]


@lru_cache(maxsize=4096)  # making it takes longer than many kernels
def geometry(window: Window, index: IndexType) -> np.ndarray[Any, Any]:
    """The struct ``Geometry<I>`` of kernels/windows.cuh: an array without axes, passed by value."""
    given = {entry.name: _over_axes(window, entry.name) for entry in fields(window)}
    divided = {"by_stride": given["strides"], "by_out": given["size_out"], "by_in": _strips(window)}
    numbers = [(name, index.dtype, AXES) for name in given]
    result = np.zeros((), [*numbers, *((name, _divisor_type(index), AXES) for name in divided)])
    for name, values in given.items():
        result[name] = values
    for name, values in divided.items():
        # by 1 where there is nothing to divide: an axis of no positions
        result[name] = [divisor(max(1, value), index) for value in values]
    return result


def gathering(planes: int, window: Window) -> int:
    """How many threads go through the inputs of a window: one for each ``Strip`` of kernels/windows.cuh."""
    return planes * math.prod(_strips(window))


def _strips(window: Window) -> tuple[int, ...]:
    """The input's sizes, with strips of ``ROWS`` rows in place of rows."""
    depth, rows, columns = _over_axes(window, "size_in")
    return depth, -(-rows // ROWS), columns


class Owned(NamedTuple):
    """What a kernel of kernels/tiles.cuh is launched with: its variant, the struct ``Sliding``, and how many
    threads own what it reads or writes.
    """

    variant: str
    sliding: np.ndarray[Any, Any]
    threads: int


class FixedWindows(NamedTuple):
    """For kernels whose threads own windows, and for those whose threads own inputs."""

    windows: Owned
    inputs: Owned


def fixed_windows(window: Window, planes: int) -> FixedWindows | None:
    """None where the window needs the general kernels, or there is too much for 32-bit indices."""
    found = _fixed_windows(window)
    if found is None:
        return None
    owned = [each._replace(threads=planes * each.threads) for each in found]
    rows = [planes * math.prod(size[:-1]) for size in (window.size_in, window.size_out)]
    short = index_type(*rows, *(each.threads for each in owned), window=window) is SHORT
    return FixedWindows(*owned) if short else None


@lru_cache(maxsize=4096)
def _fixed_windows(window: Window) -> FixedWindows | None:
    """For one plane of three axes."""
    given = {entry.name: _over_axes(window, entry.name) for entry in fields(window)}
    front, rows, columns = (Window(*((values[axis],) for values in given.values())) for axis in range(AXES))
    stride, variant = rows.strides[0], f"{rows.kernel[0]}, {rows.strides[0]}"
    alike = (rows.kernel, rows.strides) == (columns.kernel, columns.strides)
    near = all(axis.dilations == (1,) and 0 <= axis.before[0] < axis.kernel[0] for axis in (rows, columns))
    apart = front.plain and front.size_in == front.size_out  # sees only itself along the first axis
    if not (variant in KERNELS["window_sum_fixed"].variants and alike and near and apart):
        return None
    # Inputs are a thread's in as many columns as windows lie apart, where rows divide into such.
    together = stride if columns.size_in[0] % stride == 0 else 1
    strips = -(-rows.size_out[0] * stride // TILE)
    inputs = columns.size_in[0] // together, -(-(rows.size_in[0] + rows.before[0]) // (TILE // stride))
    return FixedWindows(
        _owned(variant, given, columns.size_out[0], strips), _owned(f"{variant}, {together}", given, *inputs)
    )


def _owned(variant: str, given: dict[str, tuple[int, ...]], columns: int, strips: int) -> Owned:
    """By a thread for each strip of each column, or of some side by side."""
    names, divided = ("before", "size_in", "size_out"), {"by_column": columns, "by_strip": strips}
    numbers = [(name, np.int32, 2) for name in names]
    result = np.zeros((), [*numbers, *((name, _divisor_type(SHORT)) for name in divided)])
    for name in names:
        result[name] = given[name][1:]
    for name, value in divided.items():
        result[name] = divisor(max(1, value), SHORT)
    return Owned(variant, result, given["size_in"][0] * columns * strips)


def _over_axes(window: Window, name: str) -> tuple[int, ...]:
    """A field of the window, with axes of length 1 in front."""
    given = getattr(window, name)
    assert len(given) <= AXES
    return (0 if name == "before" else 1,) * (AXES - len(given)) + tuple(given)
