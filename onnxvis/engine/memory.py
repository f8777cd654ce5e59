"""What is freed while a session is built goes back to the system at once.

Onnxruntime makes weights of weights, step by step.  Glibc keeps freed blocks of that size for later, where
the blocks that come next do not fit: a ResNet-50's session had a peak of 440 MB so, and has one of 380.
Other C libraries have nothing to be asked.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["given_back"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h
APART = 128 << 10  # bytes from which on a block is a mapping of its own, with which it goes
LARGEST = 32 << 20  # the same as glibc has it once a program has freed a block of 32 MB


@contextmanager
def given_back() -> Iterator[None]:
    """While this is on, large blocks are given back when they are freed, and at its end what else is free.

    Glibc raises the size from which on it does so whenever a larger block is freed, up to ``LARGEST``:
    that is what remains.  Where the environment sets it, it is left alone.
    """
    library = _glibc()
    if library is None:
        yield
        return
    changed = not _set_by_user()
    if changed:
        library.mallopt(MMAP_THRESHOLD, APART)
    try:
        yield
    finally:
        if changed:
            library.mallopt(MMAP_THRESHOLD, LARGEST)
            library.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
        library.malloc_trim(0)


def _set_by_user() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in tunables


@cache
def _glibc() -> Any:
    """The C library, where it is glibc."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such handle
        return None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
