"""Convolutions of float32 numbers by tensor cores, as precise as float32: launches of kernels/convolve.cu.

There is a way for each shape of the kernel's blocks, and where these would be few, one in which several
share a sum; which is fastest has to be tried.  What the kernel does not take (other dtypes, groups,
adjoints of strides other than 1×1 kernels', arrays of 2^28 numbers) has no way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window

from .geometry import LIMIT, SHORT, divisor, geometry, index_type

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["TensorCores", "Way"]

CAPABILITY = 80  # the first that multiplies TF32
DEPTH, STAGES, SOME = 16, 3, 4  # of kernels/convolve.cu: a step, steps in shared memory, a thread's channels
RESIDENT = 384  # threads of a multiprocessor, for which there are registers
STEPS = 8  # that a block should take, or filling and emptying the pipeline takes longer


class _Block(NamedTuple):
    """Rows × columns of the result that a block makes: ``Tile`` of kernels/convolve.cu."""

    rows: int
    columns: int

    @property
    def threads(self) -> int:
        return self.rows * self.columns // 64

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return 4 * STAGES * DEPTH * (self.rows + 8 + self.columns + 4)


BLOCKS = (_Block(64, 128), _Block(64, 64))


class _Problem(NamedTuple):
    """A convolution of rows × channels × offsets weights, the adjoint's included.

    They lie at w[row·by_row + channel·by_channel + offset], or from the last offset on where ``flipped``.
    """

    window: Window
    rows: int
    channels: int
    by_row: int
    by_channel: int
    flipped: bool
    spread: Window | None = None  # whose positions the result ends up at, zeros between


class TensorCores:
    """Convolution and its adjoint on one device."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def ways(self, kind: str, x: Array, w: Array, window: Window, shape: tuple[int, ...]) -> list[Way]:
        """Functions of x and w, shaped like these, that make a result of this shape.

        ``kind`` is "conv_fprop" or "conv_dgrad", as cuDNN says; there, x is the gradient.
        """
        problem = _problem(kind, w, window)
        if problem is None or not self._takes(problem, x, w, shape):
            return []
        columns = x.shape[0] * math.prod(problem.window.size_out)
        return [
            Way(self.gpu, block, problem, at_once)
            for block in BLOCKS
            for at_once in self._at_once(block, problem, columns)
        ]

    def _at_once(self, block: _Block, problem: _Problem, columns: int) -> list[int]:
        """How many channels a block sums: all; or so many that the device has work, of ``STEPS`` at least."""
        found = -(-problem.channels // DEPTH) * DEPTH
        blocks = -(-problem.rows // block.rows) * -(-columns // block.columns)
        parts = self.gpu.processors * RESIDENT // block.threads // blocks
        parts = min(parts, found * problem.window.count // DEPTH // STEPS, LIMIT // (problem.rows * columns))
        return [found, _chunks(found, parts)] if parts > 1 else [found]

    def _takes(self, problem: _Problem, x: Array, w: Array, shape: tuple[int, ...]) -> bool:
        window = problem.window
        weights = (problem.channels + DEPTH) * (problem.rows + BLOCKS[0].rows) * window.count
        sizes = (x.size, math.prod(shape), weights, x.shape[0] * math.prod(window.size_out))
        return (
            self.gpu.capability >= CAPABILITY
            and len(window.kernel) == 2
            and x.dtype == w.dtype == np.float32
            and (x.shape[1], shape[1]) == (problem.channels, problem.rows)  # one group
            and min(sizes) > 0
            and index_type(*sizes, window=window) is SHORT
        )


def _problem(kind: str, w: Array, window: Window) -> _Problem | None:
    filters, channels, count = w.shape[0], w.shape[1], window.count
    if kind == "conv_fprop":
        return _Problem(window, filters, channels, channels * count, count, flipped=False)
    transposed = (channels, filters, count, channels * count)
    if max(window.strides) == 1:
        return _Problem(_turned(window), *transposed, flipped=True)
    if count == 1:
        ones = (1,) * len(window.kernel)
        plain = Window(ones, ones, ones, (0,) * len(ones), window.size_out, window.size_out)
        return _Problem(plain, *transposed, flipped=True, spread=window)
    return None


def _turned(window: Window) -> Window:
    """The window by which the adjoint of stride 1 is a convolution."""
    sides = zip(window.kernel, window.dilations, window.before, strict=True)
    before = tuple((k - 1) * d - b for k, d, b in sides)
    ones = window.strides
    return Window(window.kernel, ones, window.dilations, before, window.size_out, window.size_in)


@dataclass(frozen=True)
class Way:
    """A convolution by blocks of one kind: a function of x and w."""

    gpu: Gpu
    block: _Block
    problem: _Problem
    at_once: int  # channels that a block sums

    def __call__(self, x: Array, w: Array) -> Array:
        return self._spread(self._run(x, w, "PLAIN"))

    def product(self, x: Array, w: Array, r: Array) -> Array:
        """The result · r, of its shape."""
        if self.problem.spread:
            return self(x, w) * r
        return self._run(x, w, "TIMES", r)

    def quotient(self, x: Array, w: Array, r: Array, bias: Array, epsilon: float) -> Array:
        """r / stab(result + bias), with r of the result's shape and one bias a filter, of a convolution."""
        assert self.problem.spread is None
        return self._run(x, w, "QUOTIENT", r, bias, epsilon)

    def _run(
        self, x: Array, w: Array, end: str, r: Any = None, bias: Any = None, epsilon: float = 0.0
    ) -> Array:
        rows, size_out = self.problem.rows, self.problem.window.size_out
        result = self.gpu.xp.empty((x.shape[0], rows, *size_out), x.dtype)
        # Null pointers where there is no array.
        r, bias = (np.uint64(0) if array is None else array for array in (r, bias))
        parts = -(-self.problem.channels // self.at_once)
        if parts == 1:
            self._convolve(x, w, result, end, r, bias, epsilon)
            return result
        several = self.gpu.xp.empty((parts, *result.shape), x.dtype)
        self._convolve(x, w, several, "PLAIN", np.uint64(0), np.uint64(0), 0.0)
        self.gpu.launch(
            "add_parts", x.dtype, end, result.size, several, result, r, bias, np.float64(epsilon),
            SHORT(parts), SHORT(rows), divisor(math.prod(size_out), SHORT), SHORT(result.size),
        )  # fmt: skip
        return result

    def _convolve(self, x: Array, w: Array, to: Array, end: str, r: Any, bias: Any, epsilon: float) -> None:
        window, rows, channels = self.problem[:3]
        padded = -(-rows // self.block.rows) * self.block.rows
        columns = x.shape[0] * math.prod(window.size_out)
        variant = f"{self.block.rows}, {self.block.columns}, {str(self._wide(x)).lower()}, {end}"
        blocks = padded // self.block.rows * -(-columns // self.block.columns)
        self.gpu.launch_blocks(
            "convolve", x.dtype, variant, (blocks, -(-channels // self.at_once)), self.block.threads,
            self.block.shared, self._weights(w, padded), x, to, r, bias, np.float64(epsilon),
            geometry(window, SHORT), *map(SHORT, (rows, padded, channels, columns, self.at_once)),
        )  # fmt: skip

    def _wide(self, x: Array) -> bool:
        """True where what neighbouring windows see can be copied 16 bytes at a time."""
        window = self.problem.window
        return bool(
            window.count == max(window.strides) == 1
            and not any(window.before)
            and window.size_in == window.size_out
            and math.prod(window.size_out) % 4 == 0
            and _aligned(x)
        )

    def _weights(self, w: Array, padded: int) -> Array:
        """Chunks × offsets × DEPTH × padded rows."""
        _, rows, channels, by_row, by_channel, flipped, _ = self.problem
        chunks, offsets = -(-channels // DEPTH), self.problem.window.count
        if offsets == by_row == 1 and (rows, channels) == (padded, chunks * DEPTH) and _aligned(w):
            return w  # they lie so already
        numbers = (rows, padded, channels, offsets, by_row, by_channel)

        def lay_out() -> tuple[Array]:
            weights = self.gpu.xp.empty((chunks, offsets, DEPTH, padded), w.dtype)
            count = weights.size // (offsets * SOME)
            given = w, weights, *map(SHORT, (*numbers, count))
            self.gpu.launch("by_offset", w.dtype, str(flipped).lower(), count, *given)
            return (weights,)

        return self.gpu.constants.made_of(w, ("by_offset", *numbers, flipped), lay_out)[0]

    def _spread(self, compact: Array) -> Array:
        """The result of a 1×1 kernel's windows at the positions that they see; zeros elsewhere."""
        window = self.problem.spread
        if window is None:
            return compact
        result = self.gpu.xp.zeros((*compact.shape[:2], *window.size_in), compact.dtype)
        seen, windows = [slice(None)] * 2, [slice(None)] * 2
        axes = zip(window.strides, window.before, window.size_in, window.size_out, strict=True)
        for stride, before, size_in, size_out in axes:
            first = max(0, -(-before // stride))
            last = min(size_out, -(-(size_in + before) // stride))
            windows.append(slice(first, last))
            seen.append(slice(first * stride - before, max(0, last * stride - before), stride))
        result[tuple(seen)] = compact[tuple(windows)]
        return result


def _chunks(channels: int, parts: int) -> int:
    """A part of the channels, in whole steps."""
    return -(-channels // (parts * DEPTH)) * DEPTH


def _aligned(array: Array) -> bool:
    return bool(array.data.ptr % 16 == 0)
