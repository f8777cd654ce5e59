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
    """Sends arrays to one place.

    Small ones CUDA has read, or copied, from where they lie before it goes on: what copying them first gains
    on the way it takes.  Large ones are ``staged``, they go by way of page-locked memory: that is free again
    once the stream has come so far, and until then no other array may be sent.
    """

    AT_ONCE = 2**20  # bytes, which are on their way while the next are copied

    def __init__(self, gpu: Gpu, place: Any) -> None:
        self.gpu, self.place = gpu, place
        self.staged = place.nbytes > self.AT_ONCE
        self._to, self._stream = place.data.ptr, gpu.stream.ptr
        self._sent: np.ndarray[Any, Any] | None = None  # may be page-locked itself, and be read later
        if self.staged:
            self._stage()

    def _stage(self) -> None:
        by = self.gpu.room(self.place.shape, self.place.dtype).reshape(-1)
        source, size = by.ctypes.data, by.itemsize
        self._slices, self._parts, self._copies = [], [], []
        for first in range(0, by.size, self.AT_ONCE // size):
            part = slice(first, min(first + self.AT_ONCE // size, by.size))
            at, count = first * size, (part.stop - first) * size
            self._slices.append(part)
            self._parts.append(by[part])
            self._copies.append((self._to + at, source + at, count, TO_DEVICE, self._stream))

    def __call__(self, array: np.ndarray[Any, Any]) -> None:
        """Send it: one of the place's shape and dtype."""
        send = self.gpu.xp.cuda.runtime.memcpyAsync
        if not self.staged:
            self._sent = array = np.asarray(array, order="C")
            send(self._to, array.ctypes.data, array.nbytes, TO_DEVICE, self._stream)
            return
        numbers = array.reshape(-1)
        filled = _threads().map(np.copyto, self._parts, [numbers[part] for part in self._slices])
        for _, copy in zip(filled, self._copies, strict=True):
            send(*copy)


@cache
def _threads() -> ThreadPoolExecutor:
    """That copy, and stay: one does not use the memory's whole speed."""
    return ThreadPoolExecutor(THREADS, "copies to a GPU")
