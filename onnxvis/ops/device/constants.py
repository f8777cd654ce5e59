"""What stays the same from pass to pass on a device: weights, small constants, and what is made of them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Constants", "NotCapturableError"]


class NotCapturableError(Exception):
    """Something that a CUDA graph cannot hold: the caller runs it step by step instead."""


class _Made(NamedTuple):
    """What is made of a constant, and of which others."""

    arrays: tuple[Any, ...]
    others: Sequence[Any]


class Constants:
    """Those on one device.

    ``upload``: copies an array there; ``largest``: bytes of a constant of which what is made of it is kept;
    ``held``: while a CUDA graph is captured, those that it reads, which must live as long as it does.
    """

    SMALL, KEPT = 65536, 512  # bytes up to which they are known by content; how many of these stay

    def __init__(self, upload: Callable[[np.ndarray[Any, Any]], Any], largest: Callable[[], int]) -> None:
        self._to_device, self._largest = upload, largest
        self.held: list[Any] | None = None
        self._large: dict[int, tuple[weakref.ref[Any], Any]] = {}
        # By the id of what it is made of, with that, and what else it is made of: none can be another's then.
        self._made: dict[int, tuple[Any, dict[Hashable, _Made]]] = {}
        self._small: OrderedDict[Any, Any] = OrderedDict()

    def of(self, array: np.ndarray[Any, Any], dtype: Any) -> Any:
        """A NumPy array on the device, as ``dtype``.

        Large ones (weights) are known by identity and stay as long as the array lives; small ones, which
        rules often make anew, by content.  Within a CUDA graph nothing can be uploaded: there they must
        be known already (NotCapturableError).
        """
        found = (
            self._by_identity(array, dtype) if array.nbytes > self.SMALL else self._by_content(array, dtype)
        )
        if self.held is not None:
            self.held.append(found)
        return found

    def _by_content(self, array: np.ndarray[Any, Any], dtype: Any) -> Any:
        key = (array.dtype.str, np.dtype(dtype).str, array.shape, array.tobytes())
        if key not in self._small:
            self._small[key] = self._known(self._upload(array, dtype))
            while len(self._small) > self.KEPT:
                self._let_go((self._small.popitem(last=False)[1],))
        self._small.move_to_end(key)
        return self._small[key]

    def _by_identity(self, array: np.ndarray[Any, Any], dtype: Any) -> Any:
        key = id(array)  # nobody else's while the array lives, and forgotten when it dies
        known = self._large.get(key)
        if known is None or known[1].dtype != dtype:
            self._forget(key)
            forget = weakref.ref(array, lambda _: self._forget(key))
            known = self._large[key] = (forget, self._known(self._upload(array, dtype)))
        return known[1]

    def _known(self, constant: Any) -> Any:
        """The same, of which something may be made."""
        self._made.setdefault(id(constant), (constant, {}))
        return constant

    def _forget(self, key: int) -> None:
        known = self._large.pop(key, None)
        if known is not None:
            self._let_go(known[1:])

    def _let_go(self, constants: tuple[Any, ...]) -> None:
        """Forget what was made of these, and of that."""
        for constant in constants:
            _, made = self._made.pop(id(constant), (constant, {}))
            for each in made.values():
                self._let_go(each.arrays)

    def made_of(
        self, constant: Any, key: Hashable, make: Callable[[], tuple[Any, ...]], others: Sequence[Any] = ()
    ) -> tuple[Any, ...]:
        """Arrays that ``make`` makes of a constant, and maybe of others: once, and kept as long as the first.

        They are such constants themselves.  ``key``: equal where the same is made.  Of other arrays it is
        made anew, and so it is of the largest, and while a CUDA graph is captured, if it was not before.
        """
        known, capturing = self._made.get(id(constant)), self.held is not None
        if known is None or any(id(other) not in self._made for other in others):
            return make()
        made, key = known[1], (key, *map(id, others))
        if constant.nbytes > self._largest() or (capturing and key not in made):
            return make()
        if key not in made:
            made[key] = _Made(tuple(map(self._known, make())), others)
        found = made[key].arrays
        if self.held is not None:
            self.held.extend(found)
        return found

    def _upload(self, array: np.ndarray[Any, Any], dtype: Any) -> Any:
        if self.held is not None:
            raise NotCapturableError(f"a constant of shape {array.shape} is made anew in every pass")
        return self._to_device(array.astype(dtype, copy=False))
