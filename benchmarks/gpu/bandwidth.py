"""The kernels that only move memory, against a plain copy of as many bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from onnxvis.ops.device import DeviceOps
from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window

from .correctness import Row

__all__ = ["bandwidth"]

Calls = dict[str, tuple[Callable[[], object], int]]  # and the bytes that each moves
GOAL = 0.8
POOLED = 112  # numbers in a row of a ResNet's first pool
REPEAT = 20  # calls between two events: handing one over takes the host some time


def bandwidth(
    ops: DeviceOps, size: int, clock: Callable[[Callable[[], object], int], float]
) -> Iterator[Row]:
    """Gigabytes a second, each input of ``size`` bytes read once and each output written once.

    Windows go over the largest maps that 64 channels have room for, and over those of a ResNet's first pool.
    """
    count = size // 4
    with ops.gpu.running():
        # Numbers of both signs, and none that are the same everywhere.
        wave = ops.sin(ops.numbers(ops.gpu.xp.arange(count)))
        calls = {
            **_by_number(ops, wave),
            **_by_window(ops, wave, math.isqrt(count // 64)),
            **_by_window(ops, wave, POOLED),
        }
        copied = 0.0
        for name, (call, moved) in calls.items():
            rate = moved / clock(call, REPEAT) / 1e6
            copied = copied or rate
            share = rate / copied
            yield {"kernel": name, "GB/s": rate, "of copy": share, "goal": GOAL, "passed": share >= GOAL}


def _by_number(ops: DeviceOps, wave: Array) -> Calls:
    """A copy, and kernels that go number by number."""
    a, b, c = wave + 0.5, wave - 0.5, wave * 2.0
    size = wave.nbytes
    bias = ops.slice(wave, (slice(0, 64),)).reshape((1, 64, 1))
    channels = [array[: wave.size // 64 * 64].reshape((1, 64, -1)) for array in (a, wave)]
    above, below = channels[1][:, :32], channels[1][:, 32:]
    return {
        "copy": (lambda: c.__setitem__(Ellipsis, wave), 2 * size),
        "rectify": (lambda: ops.gate(a, wave, True), 3 * size),
        "between": (lambda: ops.between(a, wave, -0.5, 0.5), 3 * size),
        "split": (lambda: ops.split(wave), 3 * size),
        "stabilize": (lambda: ops.stabilize(wave), 2 * size),
        "quotient": (lambda: ops.quotient(a, wave), 3 * size),
        "quotient_by_channel": (lambda: ops.quotient(*channels, bias=bias), 3 * channels[0].nbytes),
        "proportions": (lambda: ops.proportions(a, wave, [b, c]), 6 * size),
        "add": (lambda: ops.total([a, wave]), 3 * size),
        "multiply": (lambda: ops.sum_of_products((a, wave)), 3 * size),
        "multiply_back": (lambda: ops.sum_of_products((wave, a), (b, c)), 5 * size),
        "multiply_stacked": (lambda: ops._multiply_stacked(above, below, channels[0]), 5 * above.nbytes),
    }


def _by_window(ops: DeviceOps, wave: Array, side: int) -> Calls:
    """Windows over square maps, of which few rows or all begin where a line of memory does."""
    pool = Window((3, 3), (2, 2), (1, 1), (1, 1), (side, side), ((side + 1) // 2,) * 2)
    samples = wave.size // (64 * side * side)
    image = wave[: samples * 64 * side * side].reshape((samples, 64, side, side))
    small = ops.window_sum(image, pool)
    read, pooled = image.nbytes, small.nbytes
    return {
        f"window_sum of {side} × {side}": (lambda: ops.window_sum(image, pool), read + pooled),
        f"window_spread to {side} × {side}": (lambda: ops.window_spread(small, pool), read + pooled),
        # winners, a byte each, are written by one kernel and read by the other
        f"max_first and max_route of {side} × {side}": (
            lambda: ops.max_route(small, image, pool),
            2 * read + pooled + 2 * small.size,
        ),
    }
