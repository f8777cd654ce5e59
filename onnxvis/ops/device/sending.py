"""From the host's memory to a place on the device, while nobody waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["Sender"]

TO_DEVICE = 1  # cudaMemcpyHostToDevice
THREADS = 4


class Sender:
    """Sends arrays to one place, by way of page-locked memory.

    That is free again once the stream has come so far: until then no other array may be sent.
    """

    # Bytes that are on their way while the next are copied; from LARGE on by several threads, more at once.
    AT_ONCE, LARGE = 2**18, 2**20

    def __init__(self, gpu: Gpu, place: Any) -> None:
        self.gpu, self.place = gpu, place
        self._by = gpu.room(place.shape, place.dtype).reshape(-1)
        self._large = self._by.nbytes > self.LARGE
        source, target, size = self._by.ctypes.data, place.data.ptr, place.dtype.itemsize
        step = (self.LARGE if self._large else self.AT_ONCE) // size
        self._slices, self._parts, self._copies = [], [], []
        for first in range(0, self._by.size, step):
            part = slice(first, min(first + step, self._by.size))
            at, count = first * size, (part.stop - first) * size
            self._slices.append(part)
            self._parts.append(self._by[part])
            self._copies.append((target + at, source + at, count, TO_DEVICE, gpu.stream.ptr))

    def __call__(self, array: np.ndarray[Any, Any]) -> None:
        """Send it: one of the place's shape and dtype."""
        numbers, send = array.reshape(-1), self.gpu.xp.cuda.runtime.memcpyAsync
        spread = _threads().map if self._large else map
        filled = spread(np.copyto, self._parts, [numbers[part] for part in self._slices])
        for _, copy in zip(filled, self._copies, strict=True):
            send(*copy)


@cache
def _threads() -> ThreadPoolExecutor:
    """That copy, and stay: one does not use the memory's whole speed."""
    return ThreadPoolExecutor(THREADS, "copies to a GPU")
