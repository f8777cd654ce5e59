"""Work on many things at the same time, in order and with few of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Failure", "drawn", "overlapped"]

T = TypeVar("T")
R = TypeVar("R")


def overlapped(
    function: Callable[[T], R], items: Iterable[T], ahead: int = 2, workers: int = 1
) -> Iterator[R]:
    """``function`` of each item, in order, computed by threads while the caller does something else.

    The calling thread draws the items, never more than ``ahead`` + 1 that it has not been given back yet.
    An error, of the function or of what yields the items, is raised in its turn.
    """
    with ThreadPoolExecutor(workers, "onnxvis") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in drawn(items):
                if isinstance(item, Failure):
                    yield from (future.result() for future in waiting)
                    raise item.error
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class Failure:
    """What an iterator raised in place of its next item."""

    error: Exception


def drawn(items: Iterable[T]) -> Iterator[T | Failure]:
    """The items; an error that comes instead of one as the last of them, to be raised when it is due."""
    try:
        yield from items
    except Exception as error:
        yield Failure(error)
