"""A forward pass as a CUDA graph of onnxruntime's: one launch instead of one for every operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any

import numpy as np

from onnxvis.ops.device import DTYPES, Gpu, lies_on_gpu, on_host

from .bound import Bound

__all__ = ["ForwardGraph"]

TOLERANCE = 1e-3


class ForwardGraph(Bound):
    """One set of outputs, for inputs of one shape; ValueError where it cannot be, or is wrong.

    ``session``: its own, built for a CUDA graph.  A replay looks at no binding: it reads and writes the
    places that were bound when it was captured, and computes nothing on the CPU any more.  So whether what it
    leaves is right is tried once, with other numbers than those of the capture: ``expected`` is what the
    outputs are for ``feeds``.
    """

    waits = False

    def __init__(
        self,
        module: Any,
        session: Any,
        gpu: Gpu,
        outputs: Sequence[str],
        feeds: Mapping[str, Any],
        expected: Sequence[Any],
    ) -> None:
        if any(not lies_on_gpu(value) for value in expected):
            raise ValueError("an output lies on the CPU")
        super().__init__(module, session, gpu, feeds)
        if len(self._places) < len(feeds):
            raise ValueError("an input is not of numbers that CuPy knows")
        with gpu.running():
            self._left = [gpu.xp.empty(tuple(value.shape()), DTYPES[value.data_type()]) for value in expected]
        for name, place in zip(outputs, self._left, strict=True):
            self.output_at(name, place)
        self._thread = get_ident()  # whose graph onnxruntime keeps
        nothing = {name: np.zeros_like(on_host(value)) for name, value in feeds.items()}
        super().run({name: module.OrtValue.ortvalue_from_numpy(array) for name, array in nothing.items()})
        for ours, theirs in zip(self.run(feeds)[0], expected, strict=True):
            _compare(ours.numpy(), theirs.numpy())

    @property
    def free(self) -> bool:
        """True where nobody holds what the last run left, and this thread may run it."""
        return self._thread == get_ident() and super().free


def _compare(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    largest = abs(theirs * 1.0).max(initial=0)
    if not np.allclose(ours, theirs, rtol=0, atol=TOLERANCE * largest, equal_nan=True):
        raise ValueError("a replay gives other numbers than a run")
