"""A backward pass as a CUDA graph: one launch instead of one for every kernel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from onnxvis.errors import OnnxvisError
from onnxvis.ops.device import DeviceOps, Gpu, lies_on_gpu
from onnxvis.ops.primitives import Array

from .forward import Record
from .plan import Plan
from .walk import walk

__all__ = ["CudaGraph", "addresses", "on_device"]


class CudaGraph:
    """A captured pass.

    ``used``: the tensors of the forward pass that it reads.  Those ``there`` it reads where onnxruntime left
    them, at these addresses; the others, and the seeds, in places that are filled before each launch.  Its
    arrays come from a pool of its own, which nothing else allocates from while the graph lives, and it holds
    the constants that it reads.
    """

    def __init__(
        self,
        plan: Plan,
        ops: DeviceOps,
        used: Iterable[str],
        record: Record,
        seeds: Mapping[str, Any],
        there: Mapping[str, int],
    ) -> None:
        self.ops, self.gpu, self.there = ops, ops.gpu, there
        self.pool = ops.gpu.pool_that_keeps()
        with ops.gpu.running(self.pool):
            self.places = {
                name: self._place(on_device(ops.gpu, record, name)) for name in used if name not in there
            }
            self.seeds = {name: self._place(ops.gpu.upload(seed)) for name, seed in seeds.items()}
            self._last: dict[str, np.ndarray[Any, Any]] = {}  # small seeds that lie there
            # Of what lies there only the addresses stay in the graph: it holds no array, or onnxruntime
            # would have to leave its next outputs elsewhere.
            read = _once(
                lambda name: ops.constant(
                    ops.gpu.tensor(record.raw[name]) if name in there else self.places[name]
                )
            )
            captured = ops.gpu.capture(lambda: walk(plan, ops, read, self.seeds))
        self.graph, self.arrived, self.constants = captured

    def fits(self, record: Record) -> bool:
        """True where the tensors that it reads in place lie in that place."""
        found = record.raw
        return all(name in found and found[name].data_ptr() == at for name, at in self.there.items())

    def run(self, record: Record, seeds: Mapping[str, Any]) -> dict[str, Array]:
        """Fill the places, launch, and give the results (which the next launch overwrites)."""
        for name, place in self.places.items():
            place[...] = on_device(self.gpu, record, name)
        for name, place in self.seeds.items():
            seed = np.asarray(seeds[name], place.dtype, order="C")
            if name in self._last and np.array_equal(seed, self._last[name]):
                continue  # a copy would come between the passes
            place.set(seed, stream=self.gpu.stream)
            if seed.nbytes <= self.gpu.constants.SMALL:
                self._last[name] = seed.copy()
        self.graph.launch(stream=self.gpu.stream)
        return self.arrived

    def _place(self, given: Array) -> Array:
        """A copy, in the working dtype where it is of floating numbers."""
        dtype = given.dtype if given.dtype.kind in "biu" else self.ops.dtype
        return self.gpu.xp.array(given, dtype, copy=True, order="C")


def addresses(record: Record, names: Collection[str]) -> dict[str, int]:
    """Where those of the tensors lie that onnxruntime left on a GPU."""
    held = ((name, record.raw[name]) for name in names if name in record.raw and name not in record.computed)
    return {name: value.data_ptr() for name, value in held if lies_on_gpu(value)}


def on_device(gpu: Gpu, record: Record, name: str) -> Array:
    """A tensor of the forward pass, without a copy where it is there already ("in record" makes one)."""
    if name in record.computed:
        return gpu.upload(record.computed[name])
    if name not in record.raw:
        raise OnnxvisError(f"the forward pass did not keep {name!r}")
    return gpu.tensor(record.raw[name])


def _once(find: Callable[[str], Array]) -> Callable[[str], Array]:
    """The same function, that does its work once for each name."""
    found: dict[str, Array] = {}

    def read(name: str) -> Array:
        if name not in found:
            found[name] = find(name)
        return found[name]

    return read
