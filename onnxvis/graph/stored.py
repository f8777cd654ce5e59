"""Weights that stay where they are until somebody wants them.

Those of a file are read from it when they are asked for, and again when they are asked for later: what
nobody holds any more takes no memory.  Those of a model that came as bytes are kept.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from onnxvis.errors import ModelError

__all__ = ["Array", "Place", "Source", "Weight", "Weights"]

Array = np.ndarray[Any, Any]
Weights: TypeAlias = "dict[str, Weight]"  # by name


class Source:
    """A file that weights are read from: held open, so that it may be deleted or replaced meanwhile.

    Where it was written over, reading raises ModelError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)
        self._lock = Lock()
        self._stamp = _stamp(os.fstat(self._file))

    @property
    def unmoved(self) -> bool:
        """True while its path leads to it, and it is as it was opened."""
        try:
            return _stamp(self.path.stat()) == self._stamp
        except OSError:
            return False

    def read(self, offset: int, array: Array) -> None:
        """Fill an array with the bytes from ``offset`` on."""
        left = array.reshape(-1).view(np.uint8).data
        while left:
            count = self._read_some(offset, left)
            offset, left = offset + count, left[count:]
            if not count:
                break
        if left or _stamp(os.fstat(self._file)) != self._stamp:
            raise ModelError(f"{self.path} was written over after it was opened; load the model again")

    def _read_some(self, offset: int, buffer: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file, [buffer], offset)
        with self._lock:  # Windows
            os.lseek(self._file, offset, os.SEEK_SET)
            data = os.read(self._file, min(len(buffer), 1 << 24))
        buffer[: len(data)] = data
        return len(data)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """What tells a file from another, and from itself after it was written."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Place(NamedTuple):
    """Where numbers lie: from which byte of which file on."""

    source: Source
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Weight:
    """A tensor of a model: its numbers, or the ``place`` that they are read from."""

    def __init__(self, content: Array | Place) -> None:
        self.place = content if isinstance(content, Place) else None
        self.dtype, self.shape = content.dtype, tuple(content.shape)
        self._kept = None if isinstance(content, Place) else content
        self._read: Callable[[], Array | None] = lambda: None

    @property
    def nbytes(self) -> int:
        """The length of the numbers in bytes."""
        return int(math.prod(self.shape) * self.dtype.itemsize)

    @property
    def numbers(self) -> Array:
        """The numbers: read where nobody holds them, else the same array."""
        array = self._read() if self._kept is None else self._kept
        if array is None:
            assert self.place is not None
            array = np.empty(self.shape, self.dtype)
            self.place.source.read(self.place.offset, array)
            self._read = weakref.ref(array)
        return array
