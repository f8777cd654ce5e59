"""What a plan's rules write down when they run on traced values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxvis.graph.analysis import nonnegative
from onnxvis.graph.ir import Graph
from onnxvis.graph.stored import Weight, Weights
from onnxvis.ops.trace import Emitted, Traced, TraceOps
from onnxvis.rules.dequantization import dequantized

from .batches import FILE
from .plan import Finish, Plan
from .walk import walk

__all__ = ["EMBEDDED", "RESULT", "PlanOps", "Written", "alive", "reader", "write"]

RESULT = "result at "  # how the names of a way back's outputs begin
EMBEDDED = 65536  # bytes up to which a constant is part of the model


class PlanOps(TraceOps):
    """The tracing executor; of the model's weights only names are written down.

    What is made of them (flipped, clipped, squared) are nodes, which onnxruntime computes once.
    ``file``: the weights that there are already, by the file's names; ``weights``: the others.
    """

    def __init__(self, dtype: Any, file: Mapping[str, Weight] | None = None) -> None:
        super().__init__(dtype)
        self.weights: Weights = {}
        self._names = {weight: FILE + name for name, weight in (file or {}).items()}

    def weight(self, weight: Weight) -> Traced:
        if weight.dtype.kind != "f" or len(weight.shape) < 2 or weight.nbytes <= EMBEDDED:
            return self.constant(weight.numbers)
        name = self._names.setdefault(weight, f"w{len(self._names)}")
        if not name.startswith(FILE):
            self.weights[name] = weight
        return self.working(Traced(self, name, weight.shape, weight.dtype))


@dataclass(frozen=True)
class Written:
    """The nodes that count, in order; ``ops`` has their constants; the ``results`` are outputs."""

    samples: int
    ops: PlanOps
    nodes: Sequence[Emitted]
    results: Mapping[str, Traced]

    @property
    def used(self) -> set[str]:
        """The names of all that is read."""
        return {name for node in self.nodes for name in node.inputs}


def write(
    plan: Plan,
    ops: PlanOps,
    read: Callable[[str], Traced],
    seeds: Mapping[str, Traced],
    samples: int = 1,
    finish: Finish | None = None,
) -> Written:
    """Run the plan's rules on traced values; NotTraceableError where one needs real arrays."""
    arrived = walk(plan, ops, read, seeds, entering=ops.enter)
    if finish is not None:
        arrived = {name: finish.function(ops, read(name), g) for name, g in arrived.items()}
    results = {
        RESULT + name: ops.emit("Identity", [arrived[name]], arrived[name].shape, result_name=RESULT + name)
        for name in plan.wrt
    }
    nodes = alive(ops.nodes, [result.name for result in results.values()])
    named = {name: Traced(ops, name, result.shape, ops.dtype) for name, result in results.items()}
    return Written(samples, ops, nodes, named)


def alive(nodes: Sequence[Emitted], outputs: Iterable[str]) -> list[Emitted]:
    """Nodes that an output depends on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def reader(ops: TraceOps, graph: Graph, file: Collection[str]) -> Callable[[str], Traced]:
    """How a trace on top of a model ``file`` (the names of its tensors) reads those of the forward pass.

    In the working precision; real numbers that the file does not hold from the whole ones that it does.
    """
    positive = nonnegative(graph)

    def read(name: str) -> Traced:
        if name in graph.quantized and name not in file:
            found: Traced = dequantized(graph.quantized[name], ops, whole)
            return found
        dtype = graph.value(name).dtype or np.dtype(np.float32)
        return ops.working(Traced(ops, FILE + name, graph.shape(name), dtype, int(name in positive)))

    def whole(name: str) -> Traced:
        content = graph.constant(name)
        return read(name) if content is None else ops.constant(content)

    return read
