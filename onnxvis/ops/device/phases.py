"""A convolution in the plane, or its adjoint, as convolutions whose results lie between each other.

The adjoint of strides leaves zeros between the gradient's numbers, which nobody needs to multiply: positions
of the input that are a whole stride apart see the gradient through the same few of the kernel's offsets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window

__all__ = ["PHASES", "Problem", "problem_of"]

PHASES = 4  # at most: those of strides 2×2


class Taps(NamedTuple):
    """Which of a kernel's offsets: that at (i, j) is first + i·down + j·right."""

    first: int
    down: int
    right: int


class Phase(NamedTuple):
    """A convolution, and where in a plane of the result its first window ends up."""

    window: Window
    taps: Taps
    place: int


class Problem(NamedTuple):
    """Convolutions by rows × channels × offsets weights, at w[row·by_row + channel·by_channel + offset].

    ``phases``: one, or for the adjoint of strides those of which the result is made, the longest first, whose
    windows are ``steps`` apart in planes of this ``size``; ``whole``: no position is left out.
    """

    phases: tuple[Phase, ...]
    rows: int
    channels: int
    by_row: int
    by_channel: int
    size: tuple[int, ...]
    steps: tuple[int, ...]
    whole: bool = True


def problem_of(kind: str, w: Array, window: Window) -> Problem | None:
    """What ``kind``, "conv_fprop" or "conv_dgrad" as cuDNN says, comes down to; None for what it does not.

    w: weights, or what is shaped like them; of a group of channels.
    """
    if len(window.kernel) != 2:
        return None
    (filters, channels), count = w.shape[:2], window.count
    if kind == "conv_fprop":
        phase = Phase(window, Taps(0, window.kernel[1], 1), 0)
        return Problem((phase,), filters, channels, channels * count, count, window.size_out, (1, 1))
    axes = [[*_phases(window, axis)] for axis in range(2)]
    phases = [_both(window, *pair) for pair in product(*axes)]
    if not phases or math.prod(window.strides) > PHASES:
        return None
    if any(s > 1 < d for s, d in zip(window.strides, window.dilations, strict=True)):
        return None
    phases.sort(key=lambda phase: -phase.window.count)
    whole = math.prod(sum(each.positions for each in axis) for axis in axes) == math.prod(window.size_in)
    return Problem(
        tuple(phases), channels, filters, count, channels * count, window.size_in, window.strides, whole
    )


class _Along(NamedTuple):
    """A phase along one axis: a convolution of the gradient by each stride-th offset, the last one first."""

    kernel: int
    before: int
    positions: int
    first_offset: int
    first_position: int


def _phases(window: Window, axis: int) -> Iterator[_Along]:
    """Those of the adjoint.

    Position i gets something through offset k from window (i + before − k·dilation) / stride, where that is
    whole: the same offsets for all positions that are strides apart, and for some of them none.
    """
    names = ("kernel", "strides", "dilations", "before", "size_in")
    kernel, stride, dilation, before, size_in = (getattr(window, name)[axis] for name in names)
    for first in range(min(stride, size_in)):
        start = (first + before) % stride  # the first of its offsets
        count = len(range(start, kernel, stride))
        if count:
            reached = (first + before - start) // stride  # by it, from the first position
            yield _Along(
                count,
                (count - 1) * dilation - reached,
                len(range(first, size_in, stride)),
                start + (count - 1) * stride,
                first,
            )


def _both(window: Window, *axes: _Along) -> Phase:
    """A phase of both axes, whose offsets go from the last to the first."""
    kernel, before, positions, offsets, places = zip(*axes, strict=True)
    turned = Window(kernel, (1, 1), window.dilations, before, window.size_out, positions)
    width, (down, right) = window.kernel[1], window.strides
    taps = Taps(offsets[0] * width + offsets[1], -down * width, -right)
    return Phase(turned, taps, places[0] * window.size_in[1] + places[1])
