"""Convolutions of float32 numbers by tensor cores, as precise as float32: launches of kernels/convolve.cu.

There is a way for each shape of the kernel's blocks, and where these would be few, one in which several
share a sum; which is fastest has to be tried.  What the kernel does not take (other dtypes, groups,
adjoints of more than four phases, arrays of 2^28 numbers) has no way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window

from .geometry import LIMIT, PACK, SHORT, divisor, geometry, index_type
from .phases import PHASES, Problem, problem_of

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["TensorCores", "Way"]

CAPABILITY = 80  # the first that multiplies TF32
DEPTH, STAGES, SOME = 16, 2, 4  # of kernels/convolve.cu: a step, steps in shared memory, a thread's channels
ROWS = 64  # of the smallest block
STEPS = 8  # that a block should take, or filling and emptying the pipeline takes longer


class _Block(NamedTuple):
    """Rows × columns of the result that a block makes: ``Tile`` of kernels/convolve.cu."""

    rows: int
    columns: int

    @property
    def threads(self) -> int:
        return self.columns

    @property
    def resident(self) -> int:
        """How many there are at a time on a multiprocessor."""
        return (256 if self.columns > 64 else 384) // self.threads

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return 4 * STAGES * DEPTH * (2 * self.rows + self.columns + 4)


BLOCKS = (_Block(128, 128), _Block(64, 128), _Block(64, 64))


class TensorCores:
    """Convolution and its adjoint on one device."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def ways(self, kind: str, x: Array, w: Array, window: Window, shape: tuple[int, ...]) -> list[Way]:
        """Functions of x and w, shaped like these, that make a result of this shape.

        ``kind`` is "conv_fprop" or "conv_dgrad", as cuDNN says; there, x is the gradient.
        """
        problem = problem_of(kind, w, window)
        if problem is None or not self._takes(problem, x, w, shape):
            return []
        taps = _taps(kind, problem)
        return [
            Way(self.gpu, block, problem, at_once, taps)
            for block in BLOCKS
            if block.rows == ROWS or (block.rows < 2 * problem.rows and taps == 1)
            for at_once in self._at_once(block, problem, x.shape[0])
        ]

    def _at_once(self, block: _Block, problem: Problem, samples: int) -> list[int]:
        """How many channels a block sums: all; or so many that the device has work, of ``STEPS`` at least."""
        found = -(-problem.channels // DEPTH) * DEPTH
        if max(problem.steps) > 1:
            return [found]
        ((window, *_),) = problem.phases
        columns = samples * math.prod(window.size_out)
        blocks = -(-problem.rows // block.rows) * -(-columns // block.columns)
        parts = self.gpu.processors * block.resident // blocks
        parts = min(parts, found * window.count // DEPTH // STEPS, LIMIT // (problem.rows * columns))
        some = _chunks(found, parts) if parts > 1 else found
        return [found, some] if some < found else [found]

    def _takes(self, problem: Problem, x: Array, w: Array, shape: tuple[int, ...]) -> bool:
        windows = [phase.window for phase in problem.phases]
        offsets = sum(window.count for window in windows)
        weights = 2 * (problem.channels + DEPTH) * (problem.rows + BLOCKS[0].rows) * offsets
        sizes = (x.size, math.prod(shape), weights)
        return (
            self.gpu.capability >= CAPABILITY
            and x.dtype == w.dtype == np.float32
            and (x.shape[1], shape[1]) == (problem.channels, problem.rows)  # one group
            and min(sizes) > 0
            and all(self._counts(window, x.shape[0], *sizes) for window in windows)
        )

    @staticmethod
    def _counts(window: Window, samples: int, *sizes: int) -> bool:
        columns = samples * math.prod(window.size_out)
        return columns > 0 and index_type(columns, *sizes, window=window) is SHORT


class _Ending(NamedTuple):
    """What becomes of a result, as kernels/convolve.cu says it, and the arrays for it."""

    name: str
    r: Array | None = None
    onto: Array | None = None
    bias: Array | None = None
    epsilon: float = 0.0
    gate: str = ""

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As the kernel takes them."""
        rectified = SHORT(self.gate in ("guided", "deconvnet"))
        return *map(_or_null, self[1:4]), np.float64(self.epsilon), rectified


@dataclass(frozen=True)
class Way:
    """A convolution by blocks of one kind: a function of x and w."""

    gpu: Gpu
    block: _Block
    problem: Problem
    at_once: int  # channels that a block sums
    taps: int = 1  # offsets of a step

    def __call__(
        self, x: Array, w: Array, onto: Array | None = None, gate: str = "", y: Array | None = None
    ) -> Array:
        """The result + onto, which is of its shape; through the gate of a rectifier whose output was y.

        ``gate``: "gradient", "guided", or "deconvnet", which needs no y.
        """
        if not gate:
            return self._run(x, w, _Ending("PLAIN", onto=onto))
        return self._run(x, w, _Ending("GATED", None if gate == "deconvnet" else y, onto, gate=gate))

    def product(self, x: Array, w: Array, r: Array, onto: Array | None = None) -> Array:
        """The result · r + onto, all of its shape."""
        return self._run(x, w, _Ending("TIMES", r, onto))

    def quotient(self, x: Array, w: Array, r: Array, bias: Array, epsilon: float) -> Array:
        """r / stab(result + bias), with r of the result's shape and one bias a filter, of a convolution."""
        return self._run(x, w, _Ending("QUOTIENT", r, bias=bias, epsilon=epsilon))

    def _run(self, x: Array, w: Array, ending: _Ending) -> Array:
        result = self._place(x, ending)
        parts = -(-self.problem.channels // self.at_once)
        if parts == 1:
            self._convolve(x, w, result, ending)
            return result
        several = self.gpu.xp.empty((parts, *result.shape), x.dtype)
        self._convolve(x, w, several, _Ending("PLAIN"))
        positions = divisor(math.prod(result.shape[2:]), SHORT)
        self.gpu.launch(
            "add_parts", x.dtype, ending.name, result.size, several, result, *ending.arguments,
            SHORT(parts), SHORT(result.shape[1]), positions, SHORT(result.size),
        )  # fmt: skip
        return result

    def _place(self, x: Array, ending: _Ending) -> Array:
        """Where the result ends up; what no phase writes is there."""
        shape, onto = (x.shape[0], self.problem.rows, *self.problem.size), ending.onto
        if onto is None and not self.problem.whole:
            return self.gpu.xp.zeros(shape, x.dtype)
        result = self.gpu.xp.empty(shape, x.dtype)
        if self.problem.whole:
            return result
        if ending.gate:
            given = onto, _or_null(ending.r), result, np.int64(result.size)
            self.gpu.launch("rectify", x.dtype, ending.gate.upper(), -(-result.nbytes // PACK), *given)
        else:
            result[...] = onto
        return result

    def _convolve(self, x: Array, w: Array, to: Array, ending: _Ending) -> None:
        phases, rows, channels = self.problem[:3]
        samples = x.shape[0]
        columns = samples * max(math.prod(phase.window.size_out) for phase in phases)
        single = max(self.problem.steps) == 1
        variant = (*self.block, str(self._wide(x)).lower(), ending.name, 1 if single else PHASES, self.taps)
        blocks = -(-rows // self.block.rows) * -(-columns // self.block.columns)
        self.gpu.launch_blocks(
            "convolve", x.dtype, ", ".join(map(str, variant)),
            (blocks, -(-channels // self.at_once) if single else len(phases)), self.block.threads,
            self.block.shared, self._weights(w), x, to, *ending.arguments,
            _phased(self.problem), *map(SHORT, (samples, rows, _padded(rows), channels, self.at_once)),
        )  # fmt: skip

    def _wide(self, x: Array) -> bool:
        """True where what neighbouring windows see can be copied 16 bytes at a time."""
        (window, *_), *others = self.problem.phases
        return bool(
            not others
            and max(self.problem.steps) == window.count == max(window.strides) == 1
            and not any(window.before)
            and window.size_in == window.size_out
            and math.prod(window.size_out) % 4 == 0
            and _aligned(x)
        )

    def _weights(self, w: Array) -> Array:
        """Those of all phases as the kernel takes them: in two parts, in the order in which it does."""
        phases, rows, channels, by_row, by_channel, *_ = self.problem
        padded, chunk = _padded(rows), DEPTH // self.taps
        chunks = -(-channels // chunk)
        sizes = [chunks * -(-phase.window.count // self.taps) * 2 * DEPTH * padded for phase in phases]
        numbers = (rows, padded, channels, by_row, by_channel)

        def lay_out() -> tuple[Array]:
            weights, start = self.gpu.xp.empty((sum(sizes),), w.dtype), 0
            threads = chunks * chunk // SOME * padded
            for (window, taps, _), size in zip(phases, sizes, strict=True):
                given = map(SHORT, (*numbers, *taps, *window.kernel, self.taps, threads))
                self.gpu.launch("by_offset", w.dtype, "", threads, w, weights[start : start + size], *given)
                start += size
            return (weights,)

        key = ("by_offset", self.taps, *numbers, *((taps, window.kernel) for window, taps, _ in phases))
        return self.gpu.constants.made_of(w, key, lay_out)[0]


def _or_null(array: Array | None) -> Any:
    """An array, or a null pointer."""
    return np.uint64(0) if array is None else array


def _taps(kind: str, problem: Problem) -> int:
    """How many offsets a step is for: several of a convolution of few channels."""
    several = kind == "conv_fprop" and problem.phases[0].window.count > 1
    return next((taps for taps in (4, 2) if several and taps * problem.channels <= DEPTH), 1)


@lru_cache(maxsize=4096)
def _phased(problem: Problem) -> np.ndarray[Any, Any]:
    """The struct ``Phases`` of kernels/convolve.cu."""
    single = max(problem.steps) == 1
    structs = [geometry(phase.window, SHORT) for phase in problem.phases]
    phase = [("w", structs[0].dtype), ("weights", np.int32), ("first", np.int32)]
    names = ("steps", np.int32, 2), ("width", np.int32), ("plane", np.int32)
    result = np.zeros((), [("at", phase, 1 if single else PHASES), *names])
    start = 0
    for number, (each, struct) in enumerate(zip(problem.phases, structs, strict=True)):
        result["at"][number] = (struct, start, each.place)
        start += -(-problem.channels // DEPTH) * each.window.count * 2 * DEPTH * _padded(problem.rows)
    result["steps"], result["width"] = problem.steps, problem.size[1]
    result["plane"] = math.prod(problem.size)
    return result


def _padded(rows: int) -> int:
    """With what is missing to whole blocks of all kinds."""
    most = BLOCKS[0].rows if rows > ROWS else ROWS
    return -(-rows // most) * most


def _chunks(channels: int, parts: int) -> int:
    """A part of the channels, in whole steps."""
    return -(-channels // (parts * DEPTH)) * DEPTH


def _aligned(array: Array) -> bool:
    return bool(array.data.ptr % 16 == 0)
