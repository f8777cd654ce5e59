"""One I/O binding of a session on a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxvis.ops.device import Gpu, lies_on_gpu

__all__ = ["Bound", "Left", "OnGpu"]


class OnGpu:
    """An OrtValue, whose attributes these are too, at an address on the GPU that ``memory`` keeps."""

    def __init__(self, value: Any, address: int, memory: Any) -> None:
        self.value, self.address, self.memory = value, address, memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value, name)

    def device_name(self) -> str:
        """As onnxruntime says it."""
        return "cuda"

    def data_ptr(self) -> int:
        """The address."""
        return self.address


class Left(OnGpu):
    """An OrtValue that a run left on the GPU, where it may still be computed: who reads its numbers waits.

    ``done``: the event that ends the run.  What is handed over behind it is not waited for.
    """

    def __init__(self, value: Any, done: Any) -> None:
        super().__init__(value, value.data_ptr(), value)
        self.done = done
        self._numbers: np.ndarray[Any, Any] | None = None

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy in the host's memory, the same each time."""
        if self._numbers is None:
            self.done.synchronize()
            self._numbers = self.value.numpy()
        return self._numbers


class Bound:
    """A binding of a session, whose runs end when all is computed."""

    options: Any = None  # of a run

    def __init__(self, session: Any, gpu: Gpu) -> None:
        self.session, self.gpu, self.runs = session, gpu, 0
        self.binding = session.io_binding()
        self._holders: list[weakref.ref[OnGpu]] = []

    def output(self, name: str, on_gpu: bool = True) -> None:
        """An output, wherever onnxruntime puts it."""
        self.binding.bind_output(name, *(("cuda", self.gpu.index) if on_gpu else ("cpu",)))

    def give(self, feeds: Mapping[str, Any]) -> dict[str, OnGpu]:
        """The inputs, which onnxruntime copies to where they are read: those that lie in places of ours."""
        for name, value in feeds.items():
            self.binding.bind_ortvalue_input(name, value)
        return {}

    @property
    def free(self) -> bool:
        """True where nobody holds what lies in the memory that the next run writes to."""
        return all(holder() is None for holder in self._holders)

    def run(self, feeds: Mapping[str, Any]) -> tuple[list[Any], dict[str, OnGpu]]:
        """The outputs, in the order in which they were bound, and the inputs in their places."""
        placed = self.give(feeds)
        self.session.run_with_iobinding(self.binding, self.options)
        self.runs += 1
        done = self.gpu.xp.cuda.Event(disable_timing=True)
        done.record(self.gpu.stream)
        values = [Left(value, done) if lies_on_gpu(value) else value for value in self.binding.get_outputs()]
        self._holders = [weakref.ref(value) for value in (*values, *placed.values())]
        return values, placed
