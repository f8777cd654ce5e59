"""What the allocator keeps for later is given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["give_back"]


def give_back() -> None:
    """Let go of memory that was freed: glibc keeps what lies between blocks that are still in use.

    Other C libraries have nothing to be asked.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], Any] | None:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no such handle
        return None
