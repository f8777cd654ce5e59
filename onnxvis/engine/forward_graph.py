"""A forward pass as a CUDA graph of onnxruntime's: one launch instead of one for every operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any

import numpy as np

from onnxvis.ops.device import DTYPES, Gpu, lies_on_gpu, on_host

from .bound import Bound, OnGpu

__all__ = ["ForwardGraph"]

TOLERANCE = 1e-3


class ForwardGraph(Bound):
    """One set of outputs, for inputs of one shape; ValueError where it cannot be, or is wrong.

    ``session``: its own, built for a CUDA graph.  A replay looks at no binding: it reads and writes the
    places that were bound when it was captured, and computes nothing on the CPU any more.  So inputs are
    copied to their places, on the stream on which it computes, and a run ends when its work is handed over.
    Whether what it leaves is right is tried once, with other numbers than those of the capture: ``expected``
    is what the outputs are for ``feeds``.
    """

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
        if any(value.data_type() not in DTYPES for value in feeds.values()):
            raise ValueError("an input is not of numbers that CuPy knows")
        super().__init__(session, gpu)
        self.options = module.RunOptions()
        self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        bind = self.binding
        self._places = {name: self._place(bind.bind_input, name, value) for name, value in feeds.items()}
        self._left = [
            self._place(bind.bind_output, *output) for output in zip(outputs, expected, strict=True)
        ]
        self._thread = get_ident()  # whose graph onnxruntime keeps
        nothing = {name: np.zeros_like(on_host(value)) for name, value in feeds.items()}
        self.run({name: module.OrtValue.ortvalue_from_numpy(array) for name, array in nothing.items()})
        for ours, theirs in zip(self.run(feeds)[0], expected, strict=True):
            _compare(ours.numpy(), theirs.numpy())

    def _place(self, bind: Callable[..., None], name: str, like: Any) -> Any:
        """Memory for an input or output."""
        with self.gpu.running():
            place = self.gpu.xp.empty(tuple(like.shape()), DTYPES[like.data_type()])
        bind(name, "cuda", self.gpu.index, place.dtype.type, [*place.shape], place.data.ptr)
        return place

    def give(self, feeds: Mapping[str, Any]) -> dict[str, OnGpu]:
        """The inputs, in their places."""
        for name, place in self._places.items():
            place.set(on_host(feeds[name]), stream=self.gpu.stream)
        return {n: OnGpu(feeds[n], place.data.ptr, place) for n, place in self._places.items()}

    @property
    def free(self) -> bool:
        """True where nobody holds what the last run left, and this thread may run it."""
        return self._thread == get_ident() and super().free


def _compare(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    largest = abs(theirs * 1.0).max(initial=0)
    if not np.allclose(ours, theirs, rtol=0, atol=TOLERANCE * largest, equal_nan=True):
        raise ValueError("a replay gives other numbers than a run")
