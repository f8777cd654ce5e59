"""A forward pass of onnxruntime's as a CUDA graph: one launch instead of one for every operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnxvis.ops.device import DTYPES, Gpu, Sender, elapsed, lies_on_gpu, on_host

from .bound import Bound, Left, OnGpu, Run

__all__ = ["ForwardGraph"]

TOLERANCE = 1e-3  # of the largest number
NO_GRAPH = "-1"  # of onnxruntime's own


class ForwardGraph(Bound):
    """One set of outputs, for inputs of one shape; ValueError where it cannot be, or is wrong.

    ``session``: its own, built for a CUDA graph, so that onnxruntime refuses a net of which it computes a
    part on the CPU, and frees nothing that a graph reads.  It runs only to be captured, here and not by
    onnxruntime: what it computes with in between stays its own.  A launch looks at no binding: it reads and
    writes the places that were bound.  Inputs are sent to their places before it, and a run ends when its
    work is handed over.  Whether what it leaves is right is tried once, with other numbers than those of
    the capture: ``expected`` is what the outputs are for ``feeds``.
    """

    def __init__(
        self,
        module: Any,
        session: Any,
        gpu: Gpu,
        outputs: Sequence[str],
        feeds: Mapping[str, Any],
        expected: Sequence[Any],
        tolerance: float = TOLERANCE,
    ) -> None:
        if any(not lies_on_gpu(value) for value in expected):
            raise ValueError("an output lies on the CPU")
        if any(value.data_type() not in DTYPES for value in feeds.values()):
            raise ValueError("an input is not of numbers that CuPy knows")
        super().__init__(session, gpu)
        with gpu.running():
            self._inputs = {name: Sender(gpu, _place(gpu, value)) for name, value in feeds.items()}
            left = [_place(gpu, value) for value in expected]
        for name, send in self._inputs.items():
            self._bind(self.binding.bind_input, name, send.place)
        for name, place in zip(outputs, left, strict=True):
            self._bind(self.binding.bind_output, name, place)
        self._graph = self._captured(module)
        self._left = [*zip(self.binding.get_outputs(), left, strict=True)]
        given = {name: on_host(value) for name, value in feeds.items()}
        for arrays in ({name: np.zeros_like(array) for name, array in given.items()}, given):
            self._launched(arrays).done.synchronize()
        for (value, _), theirs in zip(self._left, expected, strict=True):
            _compare(value.numpy(), theirs.numpy(), tolerance)

    def _bind(self, bind: Callable[..., None], name: str, place: Any) -> None:
        bind(name, "cuda", self.gpu.index, place.dtype.type, [*place.shape], place.data.ptr)

    def _captured(self, module: Any) -> Any:
        """The graph, of a run after two, which choose algorithms and take memory."""
        options = module.RunOptions()
        for entry in (("disable_synchronize_execution_providers", "1"), ("gpu_graph_id", NO_GRAPH)):
            options.add_run_config_entry(*entry)
        with self.gpu.running():
            for send in self._inputs.values():
                send.place[...] = 0

            def run() -> None:
                self.session.run_with_iobinding(self.binding, options)

            run()
            run()
            return self.gpu.capture(run).graph

    def run(self, feeds: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The outputs, and the inputs in their places."""
        run = self._launched({name: on_host(value) for name, value in feeds.items()})
        values = [Left(value, place.data.ptr, place, run) for value, place in self._left]
        places = ((name, send.place) for name, send in self._inputs.items())
        return values, {name: OnGpu(feeds[name], place.data.ptr, place, run) for name, place in places}

    def milliseconds(self) -> float:
        """How long it takes on the GPU, with the inputs of before."""
        return min(elapsed(self.gpu, lambda: self._graph.launch(stream=self.gpu.stream)) for _ in range(3))

    def _launched(self, arrays: Mapping[str, Any]) -> Run:
        """A launch for these inputs."""
        if any(send.staged for send in self._inputs.values()):
            self.wait()  # for those of the last one to be read where they were sent from
        for name, send in self._inputs.items():
            send(arrays[name])
        self._graph.launch(stream=self.gpu.stream)
        return self._handed_over()


def _place(gpu: Gpu, like: Any) -> Any:
    """Memory for an input or output."""
    return gpu.xp.empty(tuple(like.shape()), DTYPES[like.data_type()])


def _compare(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], tolerance: float) -> None:
    largest = abs(theirs * 1.0).max(initial=0)
    if not np.allclose(ours, theirs, rtol=0, atol=tolerance * largest, equal_nan=True):
        raise ValueError("a replay gives other numbers than a run")
