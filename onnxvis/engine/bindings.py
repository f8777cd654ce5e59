"""Where a session on a GPU leaves its outputs, and that they are left there again the next time."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnxvis.ops.device import DTYPES

__all__ = ["KEPT_BYTES", "Bindings"]

KEPT_BYTES = 256 * 2**20  # of outputs up to which their memory is kept for the next run


class _Bound(NamedTuple):
    """A binding whose outputs have their memory, and who holds what its last run left there."""

    binding: Any
    holders: list[weakref.ref[Any]]

    @property
    def free(self) -> bool:
        return all(holder() is None for holder in self.holders)


class Bindings:
    """The I/O bindings of one session on a GPU.

    A run with outputs and input shapes as before takes the binding of before, if nobody holds its outputs any
    more: onnxruntime then writes them where they lay, so that a CUDA graph that reads them there fits.
    """

    LIMIT = 4  # kept

    def __init__(self, session: Any, index: int) -> None:
        self.session, self.index = session, index
        types = {entry.name: entry.type for entry in session.get_outputs()}
        # Strings, sequences and maps are the host's.
        self._on_gpu = {n for n, kind in types.items() if _is_numeric(kind)}
        self._kept: OrderedDict[Hashable, _Bound] = OrderedDict()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs as OrtValues, on the GPU where it can hold them; complete when this returns."""
        key = (*outputs, *((name, value.data_type(), *value.shape()) for name, value in feeds.items()))
        bound = self._kept.pop(key, None)
        if bound is not None and bound.free:
            try:
                return self._keep(key, bound.binding, self._run(bound.binding, feeds))
            except Exception:  # an output of another shape than before does not fit
                del bound
        binding = self.session.io_binding()
        for name in outputs:
            binding.bind_output(name, *(("cuda", self.index) if name in self._on_gpu else ("cpu",)))
        values = self._run(binding, feeds)
        return self._keep(key, binding, values) if sum(map(_bytes, values)) <= KEPT_BYTES else values

    def _run(self, binding: Any, feeds: Mapping[str, Any]) -> list[Any]:
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)  # which copies it over
        self.session.run_with_iobinding(binding)
        return [*binding.get_outputs()]

    def _keep(self, key: Hashable, binding: Any, values: list[Any]) -> list[Any]:
        self._kept[key] = _Bound(binding, [weakref.ref(value) for value in values])
        while len(self._kept) > self.LIMIT:
            self._kept.popitem(last=False)
        return values


def _is_numeric(kind: str) -> bool:
    return kind.startswith("tensor(") and kind != "tensor(string)"


def _bytes(value: Any) -> int:
    """What a tensor takes on the GPU."""
    dtype = DTYPES.get(value.data_type()) if value.is_tensor() else None
    return math.prod(value.shape()) * np.dtype(dtype).itemsize if dtype else 0
