"""A forward pass as a CUDA graph of onnxruntime's: one launch instead of one for every operator."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any

import numpy as np

from onnxvis.ops.device import DTYPES, lies_on_gpu

__all__ = ["ForwardGraph"]

TOLERANCE = 1e-3


class ForwardGraph:
    """One set of outputs, for inputs of one shape; ValueError where it cannot be, or is wrong.

    ``session``: its own, built for a CUDA graph.  A replay looks at no binding: it reads and writes the
    places that were bound when it was captured, and computes nothing on the CPU any more.  So inputs are
    written to theirs before each run, and whether what it leaves is right is tried once, with other numbers
    than those of the capture: ``expected`` is what the outputs are for ``feeds``.
    """

    def __init__(
        self,
        module: Any,
        session: Any,
        index: int,
        outputs: Sequence[str],
        feeds: Mapping[str, Any],
        expected: Sequence[Any],
    ) -> None:
        def place(value: Any) -> Any:
            dtype = np.dtype(DTYPES[value.data_type()]).type
            return module.OrtValue.ortvalue_from_shape_and_type([*value.shape()], dtype, "cuda", index)

        if any(not lies_on_gpu(value) for value in expected):
            raise ValueError("an output lies on the CPU")
        self.session, self.binding = session, session.io_binding()
        self._inputs = {name: place(value) for name, value in feeds.items()}
        for name, value in self._inputs.items():
            self.binding.bind_ortvalue_input(name, value)
        for name, value in zip(outputs, expected, strict=True):
            self.binding.bind_ortvalue_output(name, place(value))
        self._thread = get_ident()  # whose graph onnxruntime keeps
        self._holders: list[weakref.ref[Any]] = []
        self._launch({name: np.zeros_like(value.numpy()) for name, value in feeds.items()})
        for ours, theirs in zip(self.run(feeds), expected, strict=True):
            _compare(ours.numpy(), theirs.numpy())

    @property
    def free(self) -> bool:
        """True where nobody holds what the last run left, and this thread may run it."""
        return self._thread == get_ident() and all(holder() is None for holder in self._holders)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs, where they always are."""
        values = self._launch({name: value.numpy() for name, value in feeds.items()})
        self._holders = [weakref.ref(value) for value in values]
        return values

    def _launch(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[Any]:
        for name, place in self._inputs.items():
            place.update_inplace(inputs[name])
        self.session.run_with_iobinding(self.binding)
        return [*self.binding.get_outputs()]


def _compare(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    largest = abs(theirs * 1.0).max(initial=0)
    if not np.allclose(ours, theirs, rtol=0, atol=TOLERANCE * largest, equal_nan=True):
        raise ValueError("a replay gives other numbers than a run")
