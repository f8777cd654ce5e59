"""From a Graph back to an ONNX model, e.g. to check that the canonical form computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx
from onnx import helper, numpy_helper

from .folding import make_node
from .ir import Graph, Node, Value

__all__ = ["to_model"]


def to_model(graph: Graph, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """An ONNX model that computes what the graph computes (``outputs``: these tensors instead of its own).

    A MatMul with a bias, which only the canonical form knows, becomes MatMul and Add; activations that
    the file's opset lacks become those of ``com.microsoft`` or two nodes.
    """
    nodes = [make_node(part) for node in graph.nodes for part in _standard(node)]
    used = {name for node in nodes for name in node.input}
    constants = [
        numpy_helper.from_array(array, name) for name in used if (array := graph.constant(name)) is not None
    ]
    proto = helper.make_graph(
        nodes,
        graph.name or "graph",
        [_info(graph.value(name)) for name in graph.inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs or graph.outputs],
        constants,
    )
    versions = {"com.microsoft": 1, **graph.opsets}
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=8)


def _standard(node: Node) -> list[Node]:
    """The node in operators that every runtime and opset has."""
    if node.domain:
        return [node]
    match node.op_type:
        case "MatMul" if len(node.inputs) > 2:
            product = f"{node.outputs[0]} without bias"
            return [
                replace(node, inputs=node.inputs[:2], outputs=(product,)),
                replace(node, name=f"{node.name} bias", op_type="Add", inputs=(product, node.inputs[2])),
            ]
        case "Swish":
            return [replace(node, op_type="QuickGelu", domain="com.microsoft")]
        case "Gelu":
            tanh = node.attributes.get("approximate") == "tanh"
            kind = "FastGelu" if tanh else "Gelu"
            return [replace(node, op_type=kind, domain="com.microsoft", attributes={})]
        case "HardSwish":
            return _gated(node, [("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5})])
        case "Mish":
            return _gated(node, [("Softplus", {}), ("Tanh", {})])
    return [node]


def _gated(node: Node, gate: Sequence[tuple[str, dict[str, Any]]]) -> list[Node]:
    """The input times a chain of operators on it."""
    nodes, name = [], node.inputs[0]
    for i, (op_type, attributes) in enumerate(gate):
        output = f"gate {i} of {node.outputs[0]}"
        nodes.append(
            replace(node, name=f"{node.name} gate {i}", op_type=op_type, inputs=(name,), outputs=(output,),
                    attributes=attributes)
        )  # fmt: skip
        name = output
    product = replace(node, op_type="Mul", inputs=(node.inputs[0], name), attributes={})
    return [*nodes, product]


def _info(value: Value) -> Any:
    if value.dtype is None:
        return onnx.ValueInfoProto(name=value.name)
    return helper.make_tensor_value_info(
        value.name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
    )
