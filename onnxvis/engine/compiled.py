"""The compiled executor: the plan traced into an ONNX model that onnxruntime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxvis.errors import UnsupportedError
from onnxvis.graph.analysis import nonnegative
from onnxvis.graph.ir import Graph
from onnxvis.graph.stored import Weight, Weights
from onnxvis.graph.weights import detached
from onnxvis.ops.trace import Emitted, Traced

from .batches import SAMPLES, for_any_batch
from .forward import Record
from .plan import Plan
from .runtime import Runtime
from .supply import supplied
from .tracing import EMBEDDED, RESULT, PlanOps, Written, write

__all__ = ["CompiledExecutor", "trace"]

OPSET, IR_VERSION = 18, 8
# Names of the traced model's inputs; no other name in it starts like this.
KEPT, SEED = "kept ", "seed of "


class CompiledExecutor:
    """Runs a plan as one onnxruntime session.

    ``large``: the same plan for another number of samples (``batches.SAMPLES``): then it runs any number.
    Raises UnsupportedError where the two differ by more than lengths.
    """

    name = "compiled"

    def __init__(
        self, plan: Plan, runtime: Runtime, dtype: Any = np.float32, large: Plan | None = None
    ) -> None:
        self.plan, self.runtime, self.dtype = plan, runtime, np.dtype(dtype)
        traced = trace(plan, dtype) if large is None else trace_any(plan, large, dtype)
        self.needs = traced.needs
        single = large is None and all(plan.graph.shape(name)[:1] == (1,) for name in plan.seeds)
        self.session = supplied(runtime, traced.model, traced.weights, single=single)
        self._inputs = {entry.name for entry in self.session.get_inputs()}

    def backward(self, record: Record, seeds: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """What arrives at ``plan.wrt`` (see ``HostExecutor.backward``)."""
        feeds = {KEPT + name: record.raw[name] for name in self.needs}
        for name, seed in seeds.items():
            if SEED + name in self._inputs:
                feeds[SEED + name] = self.runtime.value(np.asarray(seed, self.dtype))
        results = self.runtime.run(self.session, [RESULT + name for name in self.plan.wrt], feeds)
        return {name: value.numpy() for name, value in zip(self.plan.wrt, results, strict=True)}


class TracedPlan(NamedTuple):
    """A plan as an ONNX model.

    Inputs are "kept NAME" for every tensor of the forward pass in ``needs`` and "seed of NAME" for every
    seed, outputs "result at NAME" for every tensor in ``plan.wrt``.  The numbers of large constants lie
    in ``weights``, by name: a protocol buffer would copy them several times over.
    """

    model: onnx.ModelProto
    needs: tuple[str, ...]
    weights: Weights


def trace(plan: Plan, dtype: Any = np.float32) -> TracedPlan:
    """Run the plan's rules on traced values; NotTraceableError where one needs real arrays."""
    written, declared = _write(plan, dtype)
    used = written.used
    constants = {name: array for name, array in written.ops.constants.items() if name in used}
    inputs = [_info(entry) for entry in declared.values()]
    outputs = [_info(entry) for entry in written.results.values()]
    return _as_model([_node(node) for node in written.nodes], inputs, outputs, constants, written.ops.weights)


def trace_any(small: Plan, large: Plan, dtype: Any = np.float32) -> TracedPlan:
    """The same for any number of samples, from the plans for ``batches.SAMPLES``."""
    (one, ones), (other, others) = (
        _write(plan, dtype, n) for plan, n in zip((small, large), SAMPLES, strict=True)
    )
    varying = [name for name, entry in ones.items() if entry.shape[:1] != others[name].shape[:1]]
    if ones.keys() != others.keys() or not varying:
        raise UnsupportedError("the way back does not depend on the number of samples as its inputs do")
    joint = for_any_batch(one, other, "", varying[0])
    inputs = [_info(entry, others[name].shape) for name, entry in ones.items()]
    outputs = [_info(entry, other.results[name].shape) for name, entry in one.results.items()]
    return _as_model(joint.nodes, inputs, outputs, joint.constants, one.ops.weights)


def _write(plan: Plan, dtype: Any, samples: int = 1) -> tuple[Written, dict[str, Traced]]:
    """What the rules write, and the inputs that it reads."""
    ops = PlanOps(dtype)
    inputs = _Inputs(ops, plan.graph)
    seeds = {name: inputs.seed(name) for name in plan.seeds}
    written = write(plan, ops, inputs.kept, seeds, samples)
    used = written.used
    return written, {name: entry for name, entry in inputs.declared.items() if name in used}


def _as_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray[Any, Any]],
    stored: Weights,
) -> TracedPlan:
    """``constants`` and ``stored`` weights that no node reads are left out."""
    used = {name for node in nodes for name in node.input}
    large = {name: Weight(array) for name, array in constants.items() if array.nbytes > EMBEDDED}
    weights = {name: weight for name, weight in {**stored, **large}.items() if name in used}
    initializers = [numpy_helper.from_array(a, name) for name, a in constants.items() if name not in large]
    initializers += [detached(name, weight) for name, weight in weights.items()]
    graph = helper.make_graph(nodes, "backward", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    taken = (entry.name for entry in inputs if entry.name.startswith(KEPT))
    return TracedPlan(model, tuple(name.removeprefix(KEPT) for name in taken), weights)


class _Inputs:
    """The traced model's inputs: each is ``declared`` when it is first read."""

    def __init__(self, ops: PlanOps, graph: Graph) -> None:
        self.ops, self.graph = ops, graph
        self.declared: dict[str, Traced] = {}
        self._read: dict[str, Traced] = {}
        self._nonnegative = nonnegative(graph)

    def kept(self, name: str) -> Traced:
        """A tensor of the forward pass, in the working precision."""
        dtype = self.graph.value(name).dtype or np.dtype(np.float32)
        return self._input(KEPT + name, name, dtype, int(name in self._nonnegative))

    def seed(self, name: str) -> Traced:
        """What the pass starts with at a tensor."""
        return self.ops.sparse(self._input(SEED + name, name, self.ops.dtype, 0))

    def _input(self, name: str, tensor: str, dtype: Any, signs: int) -> Traced:
        if name not in self._read:
            self.declared[name] = Traced(self.ops, name, self.graph.shape(tensor), dtype, signs)
            self._read[name] = self.ops.working(self.declared[name])
        return self._read[name]


def _node(node: Emitted) -> onnx.NodeProto:
    attributes = dict(node.attributes)
    position = attributes.pop("output", 0)
    output = attributes.pop("result_name", node.output)
    if "to" in attributes:
        attributes["to"] = helper.np_dtype_to_tensor_dtype(np.dtype(attributes["to"]))
    # An unnamed output in front is one that nobody reads, except that MaxPool insists on its first.
    unread = [f"{output} unread {i}" for i in range(position)]
    return helper.make_node(node.op_type, node.inputs, [*unread, output], name=node.name, **attributes)


def _info(entry: Traced, other: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    """Name, type and shape; a length that is another in the shape ``other`` is open."""
    shape = [
        n if other is None or n == m else None for n, m in zip(entry.shape, other or entry.shape, strict=True)
    ]
    return helper.make_tensor_value_info(entry.name, helper.np_dtype_to_tensor_dtype(entry.dtype), shape)
