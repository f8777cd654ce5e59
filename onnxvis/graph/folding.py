"""Constants: what does not depend on the input is computed once, by onnx's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from .ir import Graph, Node, Subgraph, Value

__all__ = ["RANDOM", "evaluate", "fold_constants", "make_node", "run_node"]

# Not functions of their inputs.
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# Operators whose first versions the reference leaves out, and the version that says the same.
_EVALUATED_AS = {"DequantizeLinear": 19, "QuantizeLinear": 19, "Constant": 13}


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes by their results where all inputs are constants, or only a known shape is asked for."""
    constants: dict[str, Value] = {}
    nodes: list[Node] = []

    def known(name: str) -> np.ndarray[Any, Any] | None:
        return constants[name].constant if name in constants else graph.constant(name)

    for node in graph.nodes:
        results = _results(_as_read(node, graph), graph, known)
        if results is None or any(name in graph.outputs for name in node.outputs):
            nodes.append(node)
            continue
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                constants[name] = Value.of(name, result)
    return graph.with_nodes(nodes, constants.values()) if constants else graph


def _as_read(node: Node, graph: Graph) -> Node:
    """The node without the outputs that nobody reads: the reference may not know these."""
    if len(node.outputs) == 1:
        return node
    if node.op_type == "BatchNormalization" and node.opset < 14:  # further outputs were the training mode
        node = replace(node, opset=15, attributes={**node.attributes, "training_mode": 1})
    outputs = [name if name in graph.consumers else "" for name in node.outputs]
    while outputs and not outputs[-1]:
        outputs.pop()
    return replace(node, outputs=tuple(outputs))


def _results(node: Node, graph: Graph, known: Any) -> Sequence[np.ndarray[Any, Any]] | None:
    """What the node computes, where that is known without running the model."""
    if node.domain or node.op_type in RANDOM:
        return None
    if any(isinstance(value, Subgraph) for value in node.attributes.values()):
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape_of(node, graph.value(node.inputs[0]).shape)
    inputs = []
    for name in node.inputs:
        inputs.append(known(name) if name else None)
        if name and inputs[-1] is None:
            return None
    return evaluate(node, dict(zip(node.inputs, inputs, strict=True)))


def _shape_of(node: Node, shape: tuple[int | str | None, ...] | None) -> list[np.ndarray[Any, Any]] | None:
    if shape is None:
        return None
    part = shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    if not all(isinstance(n, int) for n in part):
        return None
    numbers = np.array(part, np.int64)
    return [numbers if node.op_type == "Shape" else np.array(np.prod(numbers), np.int64)]


def evaluate(node: Node, inputs: Mapping[str, Any]) -> Sequence[np.ndarray[Any, Any]] | None:
    """Run one node on arrays; None where onnx's reference does not implement it."""
    return run_node(make_node(node), node.opset, inputs)


def run_node(
    node: onnx.NodeProto, opset: int, inputs: Mapping[str, Any]
) -> Sequence[np.ndarray[Any, Any]] | None:
    """``evaluate`` for a node as the file has it, of the standard's version ``opset``."""
    from onnx.reference import ReferenceEvaluator

    fed = {name: array for name, array in inputs.items() if name}
    if node.op_type in _EVALUATED_AS:  # one scale for the whole tensor may be written as a vector
        fed = {
            name: array.reshape(()) if array.size == 1 and i else array
            for i, (name, array) in enumerate(fed.items())
        }
    types = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in fed.items()
    ]
    asked = [name for name in node.output if name]
    graph = helper.make_graph([node], "one", types, [onnx.ValueInfoProto(name=name) for name in asked])
    try:
        opset = max(opset, _EVALUATED_AS.get(node.op_type, 0))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        results = dict(zip(asked, ReferenceEvaluator(model).run(None, fed), strict=True))
    except Exception:  # an operator or a form of one that the reference does not know: not folded
        return None
    if not all(isinstance(result, np.ndarray | np.generic) for result in results.values()):
        return None
    return [np.asarray(results.get(name, ())) for name in node.output]


def make_node(node: Node) -> Any:
    """The NodeProto of a node."""
    proto = helper.make_node(node.op_type, node.inputs, node.outputs, node.name, domain=node.domain)
    for name, value in node.attributes.items():
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        kind = AttributeProto.INTS if isinstance(value, list) and not value else None
        proto.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    return proto
