"""What was built, kept for the next time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

__all__ = ["kept"]

T = TypeVar("T")


def kept(cache: OrderedDict[Hashable, T], key: Hashable, limit: int, build: Callable[[], T]) -> T:
    """The cached value, built where it is not there; the least recently used are let go of."""
    if key in cache:
        cache.move_to_end(key)
    else:
        cache[key] = build()
        while len(cache) > limit:
            cache.popitem(last=False)
    return cache[key]
