"""Forward passes on a GPU that begin before Python knows that it needs them.

What leads to a forward pass (the target, the plan, the session) takes Python some time, in which a GPU could
compute.  So a call like one before begins with the pass that that one asked for first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from threading import local
from typing import Any

import numpy as np

from .forward import Forward, Record

__all__ = ["Ahead"]

Feeds = Mapping[str, np.ndarray[Any, Any]]


class Ahead:
    """Runs of a model file, of which some have begun already."""

    KNOWN = 64

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self._asked: OrderedDict[Hashable, tuple[str, ...]] = OrderedDict()  # by calls, what they ran first
        self._thread = local()  # with the call that it is in

    def of(self, call: Hashable | None, feeds: Feeds) -> AbstractContextManager[object]:
        """Inside is such a call (None: like no other), over these inputs: what it asked for the last time is
        computed from here on, where a GPU does it.  A pass that is not asked for, after all, is let go of.
        """
        if call is None or self.forward.runtime.device == "cpu":
            return nullcontext()
        return _Call(self, (call, *((name, array.shape) for name, array in feeds.items())), feeds)

    def run(self, feeds: Feeds, names: tuple[str, ...]) -> Record:
        """As ``Forward.run``."""
        call = self.current
        if call is None or call.feeds is not feeds:
            return self.forward.run(feeds, names)
        self.current = None  # what it asks for next is not known
        record, call.record = call.record, None  # which nobody else is to hold
        if record is None or call.names != names:
            del record
            self._asked[call.key] = names
            while len(self._asked) > self.KNOWN:
                self._asked.popitem(last=False)
            return self.forward.run(feeds, names)
        return record

    def asked(self, key: Hashable) -> tuple[str, ...] | None:
        """What such a call ran first, the last time."""
        return self._asked.get(key)

    @property
    def current(self) -> _Call | None:
        """The call that this thread is in, until it has run something."""
        return getattr(self._thread, "call", None)

    @current.setter
    def current(self, call: _Call | None) -> None:
        self._thread.call = call


class _Call:
    """What a thread is about to ask for: ``names`` of these inputs, which are being computed."""

    def __init__(self, ahead: Ahead, key: Hashable, feeds: Feeds) -> None:
        self.ahead, self.key, self.feeds = ahead, key, feeds
        self.names = ahead.asked(key)
        self.record: Record | None = None

    def __enter__(self) -> None:
        if self.names is not None:
            self.record = self.ahead.forward.run(self.feeds, self.names)
        self.outer, self.ahead.current = self.ahead.current, self

    def __exit__(self, *error: object) -> None:
        self.ahead.current = self.outer
