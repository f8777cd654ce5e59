"""The device executor: rule bodies on CuPy arrays, with the CUDA kernels of ``kernels/``.

Activations that onnxruntime left on the GPU are used where they lie; what it has in the host's memory is
copied over once, when a rule first reads it.  Either way an activation is let go of after the last step
that reads it.  A pass that is repeated for the same shapes becomes a CUDA graph where it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxvis.ops.device import DeviceOps
from onnxvis.ops.primitives import Array
from onnxvis.rules.step import needed

from .cuda_graph import CudaGraph, addresses, on_device
from .forward import Record
from .plan import Plan, PlannedStep
from .runtime import out_of_memory
from .walk import walk

__all__ = ["DeviceExecutor"]


class DeviceExecutor:
    """Runs a plan on one GPU."""

    name = "device"
    GRAPH_AFTER = 2
    PATIENCE = 8  # walks after which what has not come to rest is copied

    def __init__(self, plan: Plan, ops: DeviceOps) -> None:
        self.plan, self.ops, self.gpu = plan, ops, ops.gpu
        self.needs = plan.needs
        self._weights = plan.weights  # held, or each pass would read the file
        # Why there is no CUDA graph, where that is so: it keeps the memory that its pass takes.
        self.uncaptured = "its inputs are large" if _input_bytes(plan) > self.gpu.share else ""
        self._lasts = _last_reads(plan)
        self._used: set[str] = set()  # what the rules did read, of what they may
        self._lay: dict[str, int] = {}  # where it lay
        self._copied: dict[str, int] = {}  # where lay what a graph copies, and for how many launches
        self._rested = 0
        self._walks = 0
        self._graph: CudaGraph | None = None

    def backward(
        self,
        record: Record,
        seeds: Mapping[str, Any],
        meanwhile: Callable[[dict[str, np.ndarray[Any, Any]]], object] = lambda arrived: None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """What arrives at ``plan.wrt`` (see ``HostExecutor.backward``); OnnxvisError out of memory.

        The record is used up: what no later step reads is taken out of it, so that its memory is free.
        ``meanwhile`` is called once the GPU has its work, with what is returned: numbers are still to come.
        """
        try:
            with self.gpu.lock:  # the stream is this thread's until its numbers are there
                with self.gpu.running():
                    graph = self._known(record) or self._captured(record, seeds)
                    arrived = graph.run(record, seeds) if graph else self._walk(record, seeds)
                    record.raw.clear()  # while the GPU computes
                    numbers = {name: self.ops.numbers(g) for name, g in arrived.items()}
                    found = {name: self.gpu.room(tuple(g.shape), g.dtype) for name, g in numbers.items()}
                    meanwhile(found)
                    for name, g in numbers.items():
                        self.gpu.fetch(g, found[name])
                self.gpu.stream.synchronize()
            return found
        except self.gpu.xp.cuda.memory.OutOfMemoryError as error:
            self.gpu.pool.free_all_blocks()
            shapes = map(self.plan.graph.shape, self.plan.graph.inputs)
            raise out_of_memory("backward", shapes, error) from None

    def _walk(self, record: Record, seeds: Mapping[str, Any]) -> dict[str, Array]:
        self._walks += 1
        self._lay = addresses(record, self.plan.needs)
        kept = _Kept(record, self.ops, self._lasts)
        started = {name: self.gpu.upload(np.asarray(seed, self.ops.dtype)) for name, seed in seeds.items()}
        arrived = walk(self.plan, self.ops, kept.read, started, kept.done)
        self._used = kept.names
        return arrived

    # ---- CUDA graphs -----------------------------------------------------------------------------

    def _known(self, record: Record) -> CudaGraph | None:
        """The graph of before, unless it reads what now lies elsewhere: then passes are walked again.

        What it copies, because it lay elsewhere each time, may come to rest: then it is captured again.
        """
        graph = self._graph
        if graph is not None and not graph.fits(record):
            self._graph, self._walks = None, 0
        elif graph is not None and graph.places:
            lie = addresses(record, graph.places)
            self._rested = self._rested + 1 if lie and lie == self._copied else 0
            self._copied = lie
            if self._rested == self.PATIENCE:
                self._graph, self._copied = None, {}
                self._lay = addresses(record, self.plan.needs)
        return self._graph

    def _captured(self, record: Record, seeds: Mapping[str, Any]) -> CudaGraph | None:
        """The pass as a CUDA graph, after it was walked often enough to have everything else in place.

        What lies where it lay the last time is read there, and the rest, at last, copied before each launch.
        """
        if self._walks < self.GRAPH_AFTER or self.uncaptured:
            return None
        lie = addresses(record, self._used)
        there = {name: place for name, place in lie.items() if self._lay.get(name) == place}
        if len(there) < len(lie) and self._walks < self.PATIENCE:
            return None
        try:
            self._graph = CudaGraph(self.plan, self.ops, self._used, record, seeds, there)
        except Exception as error:  # by CUDA, cuBLAS, cuDNN or CuPy, each with a class of its own
            self.uncaptured = str(error) or type(error).__name__
        return self._graph


class _Kept:
    """Tensors of the forward pass on the device, each until the last step that reads it."""

    def __init__(self, record: Record, ops: DeviceOps, lasts: Mapping[str, int]) -> None:
        self.record, self.ops, self.lasts = record, ops, lasts
        self.names: set[str] = set()
        self._steps = 0
        self._arrays: dict[str, Array] = {}

    def read(self, name: str) -> Array:
        if name not in self._arrays:
            self.names.add(name)
            self._arrays[name] = self.ops.constant(on_device(self.ops.gpu, self.record, name))
        return self._arrays[name]

    def done(self, planned: PlannedStep) -> None:
        for name in needed(planned.rule.needs, planned.node):
            if self.lasts.get(name) == self._steps:
                self._arrays.pop(name, None)
                self.record.raw.pop(name, None)
        self._steps += 1


def _input_bytes(plan: Plan) -> int:
    """What a graph's inputs would take, in float32."""
    return sum(4 * math.prod(plan.graph.shape(name)) for name in (*plan.needs, *plan.seeds))


def _last_reads(plan: Plan) -> dict[str, int]:
    """The number of the last step that may read each tensor."""
    return {
        name: number for number, step in enumerate(plan.steps) for name in needed(step.rule.needs, step.node)
    }
