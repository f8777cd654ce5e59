"""Arrays that 64-bit indices count, against their halves, which 32-bit ones do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from onnxvis.ops.device import DeviceOps
from onnxvis.ops.device.geometry import LIMIT
from onnxvis.ops.window import Window

from .correctness import Row, compared

__all__ = ["large"]

SIDE, BYTES = 64, 32  # of a map; of the device's memory for each number of an array
Use = Callable[..., Any]


def large(ops: DeviceOps, numbers: int = LIMIT) -> Iterator[Row]:
    """Primitives whose arrays have so many numbers and more; all is made and compared on the device."""
    if 16 * ops.gpu.share < BYTES * numbers:
        yield {"what": f"{numbers} numbers", "passed": True, "why": "the GPU has too little memory"}
        return
    for what, use, shapes, axis in _cases(ops, numbers):
        yield compared(f"{what} of {numbers} numbers and more", partial(_by_halves, ops, use, shapes, axis))


def _cases(ops: DeviceOps, numbers: int) -> Iterator[tuple[str, Use, list[tuple[int, ...]], int]]:
    """What is computed: of arrays of which shapes, and along which axis these and the result are halved."""
    plain = DeviceOps(ops.gpu, ops.dtype)  # without cuDNN the convolutions are our own kernels
    channels = numbers // (2 * SIDE**2) + 1
    maps, above = ((2, channels, side, side) for side in (SIDE, SIDE // 2))
    bias, weights = waves(ops, 1, channels, 1, 1), waves(ops, 2, 4, 2, 2)
    yield "quotient", lambda r, z: ops.quotient(r, z, 0.5, bias), [maps, maps], 0
    some, point = channels // 2 + 1, _tiles((SIDE, SIDE), 1)
    v, w = (waves(ops, 3, some, 1, 1) * factor for factor in (1, 2))
    both: Use = lambda g, x, y: ops.conv_transpose_product(g, [(x, v), (y, w)], point)  # noqa: E731
    shapes: list[tuple[int, ...]] = [(2, count, SIDE, SIDE) for count in (3, some, some)]
    yield "conv_transpose_product", both, shapes, 0
    rows = ops.constant(np.array([0, 2, 2, 1]))
    yield "put", lambda g: ops.put(g, rows, 3), [(4, numbers // 4 + 4)], 1
    for kernel in (3, 4):
        sizes = (SIDE, SIDE), (SIDE // 2, SIDE // 2)
        window = Window((kernel, kernel), (2, 2), (1, 1), (1, 1), *sizes)
        for kind, shape in (("sum", maps), ("spread", above)):
            use: Use = partial(getattr(ops, f"window_{kind}"), window=window)
            yield f"window_{kind} {kernel}×{kernel}", use, [shape], 0
        yield f"max_route {kernel}×{kernel}", partial(ops.max_route, window=window), [above, maps], 0
    height = numbers // (4 * SIDE) // 4 * 4 + 4
    yield "conv", lambda x: plain.conv(x, weights, _tiles(x.shape[2:])), [(1, 4, height, SIDE)], 2
    low = (1, 2, height // 2, SIDE // 2)
    back: Use = lambda g: plain.conv_transpose(g, weights, _tiles([2 * n for n in g.shape[2:]]))  # noqa: E731
    yield "conv_transpose", back, [low], 2


def waves(ops: DeviceOps, *shape: int) -> Any:
    """Whole numbers from −504 to 504."""
    numbers = ops.xp.arange(math.prod(shape)) * 7919 % 1009 - 504
    return numbers.astype(ops.dtype).reshape(shape)


def _tiles(size: Any, side: int = 2) -> Window:
    """2×2 numbers each, or others."""
    return Window((side, side), (side, side), (1, 1), (0, 0), tuple(size), tuple(n // side for n in size))


def _by_halves(ops: DeviceOps, use: Use, shapes: list[tuple[int, ...]], axis: int) -> tuple[Any, Any]:
    """1, and by how much of the largest number the whole differs from its halves; and 1."""
    with ops.gpu.running():
        arrays = [waves(ops, *shape) for shape in shapes]
        whole = use(*arrays)
        halves = [use(*(_half(array, axis, first) for array in arrays)) for first in (True, False)]
        parts = ops.concat(halves, axis)
        distance = ops.xp.max(ops.xp.abs(whole - parts)) / ops.xp.max(ops.xp.abs(parts))
        return 1 + ops.gpu.download(distance), np.ones((), ops.dtype)


def _half(array: Any, axis: int, first: bool) -> Any:
    middle = array.shape[axis] // 2
    key = (slice(None),) * axis + (slice(middle) if first else slice(middle, None),)
    return array[key].copy()
