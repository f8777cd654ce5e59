"""One I/O binding of a session on a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxvis.ops.device import DTYPES, Gpu, lies_on_gpu, on_host

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
    """A binding for inputs of one shape.

    Inputs are copied to a place of their own on the GPU, on the stream on which the session computes.
    ``waits``: whether a run ends when all is computed, or as soon as its work is handed over: for sessions
    that compute everything on the GPU.
    """

    waits = True

    def __init__(self, module: Any, session: Any, gpu: Gpu, feeds: Mapping[str, Any]) -> None:
        self.session, self.gpu, self.runs = session, gpu, 0
        self.binding = session.io_binding()
        self._places: dict[str, Any] = {}
        for name, value in feeds.items():
            self._place(name, value)
        self._unwaited = module.RunOptions()
        self._unwaited.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._holders: list[weakref.ref[OnGpu]] = []

    def _place(self, name: str, value: Any) -> None:
        """A place for an input on the GPU, if it is of numbers that CuPy knows."""
        dtype = DTYPES.get(value.data_type())
        if dtype is None or 0 in value.shape():
            return
        with self.gpu.running():
            place = self._places[name] = self.gpu.xp.empty(tuple(value.shape()), dtype)
        self.binding.bind_input(
            name, "cuda", self.gpu.index, place.dtype.type, [*place.shape], place.data.ptr
        )

    def output(self, name: str, on_gpu: bool = True) -> None:
        """An output, wherever onnxruntime puts it."""
        self.binding.bind_output(name, *(("cuda", self.gpu.index) if on_gpu else ("cpu",)))

    def output_at(self, name: str, place: Any) -> None:
        """An output in the memory of an array, which is to live as long as this."""
        self.binding.bind_output(
            name, "cuda", self.gpu.index, place.dtype.type, [*place.shape], place.data.ptr
        )

    @property
    def free(self) -> bool:
        """True where nobody holds what lies in the memory that the next run writes to."""
        return all(holder() is None for holder in self._holders)

    def run(self, feeds: Mapping[str, Any]) -> tuple[list[Any], dict[str, OnGpu]]:
        """The outputs, in the order in which they were bound, and the inputs in their places."""
        for name, value in feeds.items():
            if name in self._places:
                self._places[name].set(on_host(value), stream=self.gpu.stream)
            else:
                self.binding.bind_ortvalue_input(name, value)
        self.session.run_with_iobinding(self.binding, None if self.waits else self._unwaited)
        self.runs += 1
        done = self.gpu.xp.cuda.Event(disable_timing=True)
        done.record(self.gpu.stream)
        values = [Left(value, done) if lies_on_gpu(value) else value for value in self.binding.get_outputs()]
        placed = {n: OnGpu(feeds[n], place.data.ptr, place) for n, place in self._places.items()}
        self._holders = [weakref.ref(value) for value in (*values, *placed.values())]
        return values, placed
