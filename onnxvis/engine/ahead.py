"""Forward passes on a GPU that begin before Python knows that it needs them.

What leads to a forward pass (the target, the plan, the session) takes Python some time, in which a GPU could
compute.  So a call like one before begins with the pass that that one asked for first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np

from .forward import Forward, Record

__all__ = ["Ahead"]

Feeds = Mapping[str, np.ndarray[Any, Any]]


@dataclass
class _Call:
    """What a thread is about to ask for: ``names`` of these inputs, which are being computed."""

    key: Hashable
    feeds: Feeds
    names: tuple[str, ...] | None = None
    record: Record | None = None


class Ahead:
    """Runs of a model file, of which some have begun already."""

    KNOWN = 64

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self._asked: OrderedDict[Hashable, tuple[str, ...]] = OrderedDict()  # by calls, what they ran first
        self._thread = local()

    @contextmanager
    def of(self, call: Hashable | None, feeds: Feeds) -> Iterator[None]:
        """Inside is such a call (None: like no other), over these inputs: what it asked for the last time is
        computed from here on, where a GPU does it.  A pass that is not asked for, after all, is let go of.
        """
        if call is None or self.forward.runtime.device == "cpu":
            yield
            return
        outer = self._current
        key = (call, *((name, array.shape) for name, array in feeds.items()))
        self._thread.call = begun = _Call(key, feeds, self._asked.get(key))
        try:
            if begun.names is not None:
                begun.record = self.forward.run(feeds, begun.names)
            yield
        finally:
            self._thread.call = outer

    def run(self, feeds: Feeds, names: tuple[str, ...]) -> Record:
        """As ``Forward.run``."""
        call = self._current
        if call is None or call.feeds is not feeds:
            return self.forward.run(feeds, names)
        self._thread.call = None  # what it asks for next is not known
        record, call.record = call.record, None  # which nobody else is to hold
        if record is None or call.names != names:
            del record
            self._remember(call.key, names)
            return self.forward.run(feeds, names)
        return record

    @property
    def _current(self) -> _Call | None:
        return getattr(self._thread, "call", None)

    def _remember(self, key: Hashable, names: tuple[str, ...]) -> None:
        self._asked[key] = names
        while len(self._asked) > self.KNOWN:
            self._asked.popitem(last=False)
