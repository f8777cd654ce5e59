"""The device executor: rule bodies on CuPy arrays, with the CUDA kernels of ``kernels/``.

Activations that onnxruntime left on the GPU are used where they lie; what it has in the host's memory is
copied over once, when a rule first reads it.  Either way an activation is let go of after the last step
that reads it.  A pass that is repeated for the same shapes becomes a CUDA graph where it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from onnxvis.errors import OnnxvisError
from onnxvis.ops.device import DeviceOps
from onnxvis.ops.primitives import Array
from onnxvis.rules.step import needed

from .forward import Record
from .plan import Plan, PlannedStep
from .runtime import out_of_memory
from .walk import walk

__all__ = ["DeviceExecutor"]


class DeviceExecutor:
    """Runs a plan on one GPU."""

    name = "device"
    # A graph's inputs are copied to where it reads them: worth it while they are small and launches are
    # what takes the time, that is for few samples.
    GRAPH_AFTER, GRAPH_BYTES = 2, 64 * 2**20

    def __init__(self, plan: Plan, ops: DeviceOps) -> None:
        self.plan, self.ops, self.gpu = plan, ops, ops.gpu
        self.needs = plan.needs
        self._weights = plan.weights  # held, or each pass would read the file
        # Why there is no CUDA graph, where that is so.
        self.uncaptured = "its inputs are large" if _input_bytes(plan) > self.GRAPH_BYTES else ""
        self._lasts = _last_reads(plan)
        self._used: set[str] = set()  # what the rules did read, of what they may
        self._walks = 0
        self._replay: _Replay | None = None

    def backward(self, record: Record, seeds: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """What arrives at ``plan.wrt`` (see ``HostExecutor.backward``); OnnxvisError out of memory.

        The record is used up: what no later step reads is taken out of it, so that its memory is free.
        """
        try:
            with self.gpu.running():
                replay = self._replay or self._capture(record, seeds)
                arrived = replay.run(record, seeds) if replay else self._walk(record, seeds)
                return {
                    name: np.asarray(self.gpu.download(array), self.ops.dtype, order="C")
                    for name, array in arrived.items()
                }
        except self.gpu.xp.cuda.memory.OutOfMemoryError as error:
            self.gpu.pool.free_all_blocks()
            shapes = map(self.plan.graph.shape, self.plan.graph.inputs)
            raise out_of_memory("backward", shapes, error) from None

    def _walk(self, record: Record, seeds: Mapping[str, Any]) -> dict[str, Array]:
        self._walks += 1
        kept = _Kept(record, self.ops, self._lasts)
        started = {name: self.gpu.upload(np.asarray(seed, self.ops.dtype)) for name, seed in seeds.items()}
        arrived = walk(self.plan, self.ops, kept.read, started, kept.done)
        self._used = kept.names
        return arrived

    # ---- CUDA graphs -----------------------------------------------------------------------------

    def _capture(self, record: Record, seeds: Mapping[str, Any]) -> _Replay | None:
        """The pass as a CUDA graph, after it was walked often enough to have everything else in place."""
        if self._walks < self.GRAPH_AFTER or self.uncaptured:
            return None
        try:
            self._replay = _Replay(self.plan, self.ops, self._used, record, seeds)
        except Exception as error:  # by CUDA, cuBLAS, cuDNN or CuPy, each with a class of its own
            self.uncaptured = str(error) or type(error).__name__
        return self._replay


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
            self._arrays[name] = self.ops.constant(_on_device(self.ops, self.record, name))
        return self._arrays[name]

    def done(self, planned: PlannedStep) -> None:
        for name in needed(planned.rule.needs, planned.node):
            if self.lasts.get(name) == self._steps:
                self._arrays.pop(name, None)
                self.record.raw.pop(name, None)
        self._steps += 1


def _on_device(ops: DeviceOps, record: Record, name: str) -> Array:
    """A tensor of the forward pass, without a copy where it is there already ("in record" makes one)."""
    if name in record.computed:
        return ops.gpu.upload(record.computed[name])
    if name not in record.raw:
        raise OnnxvisError(f"the forward pass did not keep {name!r}")
    return ops.gpu.tensor(record.raw[name])


def _input_bytes(plan: Plan) -> int:
    """What a graph's inputs would take, in float32."""
    return sum(4 * math.prod(plan.graph.shape(name)) for name in (*plan.needs, *plan.seeds))


def _last_reads(plan: Plan) -> dict[str, int]:
    """The number of the last step that may read each tensor."""
    return {
        name: number for number, step in enumerate(plan.steps) for name in needed(step.rule.needs, step.node)
    }


class _Replay:
    """A pass as a CUDA graph: it reads from places that are filled before each launch.

    Its arrays come from a pool of its own, which nothing else allocates from while the graph lives, and it
    holds the constants that it reads.
    """

    def __init__(
        self, plan: Plan, ops: DeviceOps, used: Iterable[str], record: Record, seeds: Mapping[str, Any]
    ) -> None:
        self.ops, self.gpu = ops, ops.gpu
        self.pool = ops.gpu.xp.cuda.MemoryPool()
        with ops.gpu.running(self.pool):
            self.kept = {name: self._place(_on_device(ops, record, name)) for name in used}
            self.seeds = {name: self._place(ops.gpu.upload(seed)) for name, seed in seeds.items()}
            self.graph, self.arrived = self._captured(lambda: walk(plan, ops, self._read, self.seeds))

    def run(self, record: Record, seeds: Mapping[str, Any]) -> dict[str, Array]:
        """Fill the places, launch, and give the results (which the next launch overwrites)."""
        for name, place in self.kept.items():
            place[...] = _on_device(self.ops, record, name)
        for name, place in self.seeds.items():
            place[...] = self.gpu.upload(np.asarray(seeds[name], place.dtype))
        self.graph.launch(stream=self.gpu.stream)
        return self.arrived

    def _place(self, given: Array) -> Array:
        """A copy, in the working dtype where it is of floating numbers."""
        dtype = given.dtype if given.dtype.kind in "biu" else self.ops.dtype
        return self.gpu.xp.array(given, dtype, copy=True, order="C")

    def _read(self, name: str) -> Array:
        return self.kept[name]

    def _captured(self, work: Callable[[], dict[str, Array]]) -> tuple[Any, dict[str, Array]]:
        stream = self.gpu.stream
        stream.synchronize()
        stream.begin_capture()
        self.constants = self.gpu.held = []
        try:
            arrived = work()
        except Exception:
            with suppress(Exception):  # the capture is broken, and ending it says so once more
                stream.end_capture()
            raise
        finally:
            self.gpu.held = None
        return stream.end_capture(), arrived
