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

    A MatMul with a bias, which only the canonical form knows, becomes MatMul and Add.
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
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=8)


def _standard(node: Node) -> list[Node]:
    if node.op_type != "MatMul" or len(node.inputs) < 3:
        return [node]
    product = f"{node.outputs[0]} without bias"
    return [
        replace(node, inputs=node.inputs[:2], outputs=(product,)),
        replace(node, name=f"{node.name} bias", op_type="Add", inputs=(product, node.inputs[2])),
    ]


def _info(value: Value) -> Any:
    if value.dtype is None:
        return onnx.ValueInfoProto(name=value.name)
    return helper.make_tensor_value_info(
        value.name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
    )
