"""What was built, kept for the next time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["kept"]

T = TypeVar("T")
_ABSENT: Any = object()


def kept(cache: OrderedDict[Hashable, T], key: Hashable, limit: int, build: Callable[[], T]) -> T:
    """The cached value, built where it is not there; the least recently used are let go of.

    Threads that ask at the same time may both build it.
    """
    found: T = cache.pop(key, _ABSENT)
    if found is _ABSENT:
        found = build()
    cache[key] = found  # the last that was asked for is the last
    while len(cache) > limit:
        cache.popitem(last=False)
    return found
