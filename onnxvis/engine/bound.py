"""One I/O binding of a session on a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from onnxvis.ops.device import KINDS, Gpu, lies_on_gpu

__all__ = ["Bound", "Fed", "Left", "OnGpu"]


class Like:
    """Like an OrtValue, whose other attributes these are too."""

    value: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value, name)


class Fed(Like):
    """An array of the host; onnxruntime makes a value of it when somebody first asks for that."""

    def __init__(self, module: Any, array: np.ndarray[Any, Any]) -> None:
        self.module, self.array = module, array

    @cached_property
    def value(self) -> Any:
        """The OrtValue."""
        return self.module.OrtValue.ortvalue_from_numpy(self.array)

    def is_tensor(self) -> bool:
        """As onnxruntime says it."""
        return True

    def data_type(self) -> str:
        """As onnxruntime says it."""
        return KINDS.get(self.array.dtype) or str(self.value.data_type())

    def shape(self) -> tuple[int, ...]:
        """The array's."""
        return tuple(self.array.shape)

    def device_name(self) -> str:
        """As onnxruntime says it."""
        return "cpu"

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy, as of any OrtValue."""
        return self.array.copy()


class OnGpu(Like):
    """A value at an address on the GPU.

    ``memory``: what keeps the address; ``run``: what left it there, which lives as long as somebody holds
    any of the values that it left.
    """

    def __init__(self, value: Any, address: int, memory: Any, run: Run) -> None:
        self.value, self.address, self.memory, self.run = value, address, memory, run

    def device_name(self) -> str:
        """As onnxruntime says it."""
        return "cuda"

    def data_ptr(self) -> int:
        """The address."""
        return self.address


class Left(OnGpu):
    """An OrtValue that a run left on the GPU, where it may still be computed: who reads its numbers waits,
    which what is handed over behind the run does not.
    """

    _numbers: np.ndarray[Any, Any] | None = None

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy in the host's memory, the same each time."""
        if self._numbers is None:
            self.run.done.synchronize()
            self._numbers = self.value.numpy()
        return self._numbers


class Run:
    """A run that was handed over; ``done``: the event that ends it."""

    def __init__(self, done: Any) -> None:
        self.done = done


class Bound:
    """A binding of a session, whose runs end when all is computed."""

    def __init__(self, session: Any, gpu: Gpu) -> None:
        self.session, self.gpu, self.runs = session, gpu, 0
        self.binding = session.io_binding()
        self._last: weakref.ref[Run] | None = None
        self._done: Any = None

    def output(self, name: str, on_gpu: bool = True) -> None:
        """An output, wherever onnxruntime puts it."""
        self.binding.bind_output(name, *(("cuda", self.gpu.index) if on_gpu else ("cpu",)))

    @property
    def free(self) -> bool:
        """True where nobody holds what lies in the memory that the next run writes to."""
        return self._last is None or self._last() is None

    def run(self, feeds: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The outputs, in the order in which they were bound, and those of the inputs that lie in places of
        ours (none: onnxruntime copies inputs to where they are read).
        """
        for name, value in feeds.items():
            self.binding.bind_ortvalue_input(name, value)
        self.session.run_with_iobinding(self.binding)
        run = self._handed_over()
        return [
            Left(value, value.data_ptr(), value, run) if lies_on_gpu(value) else value
            for value in self.binding.get_outputs()
        ], {}

    def _handed_over(self) -> Run:
        self.runs += 1
        self._done = self.gpu.xp.cuda.Event(disable_timing=True)
        self._done.record(self.gpu.stream)
        run = Run(self._done)
        self._last = weakref.ref(run)
        return run

    def wait(self) -> None:
        """Until the last run is done."""
        if self._done is not None:
            self._done.synchronize()
