"""Layers that onnxruntime fused with their activation, written out again.

A file that onnxruntime saved after optimizing it ("extended") holds FusedConv and FusedGemm of the
domain com.microsoft: a layer, perhaps a summand, and an activation in one node.  What methods look at,
the numbers between, is no tensor of such a file.  So the nodes are taken apart before anything runs, as
local functions are inlined; when onnxruntime loads the result it fuses them again, where nobody looks.
The answers stay the same bit for bit, but for FusedConv with a summand, which it adds in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import TensorProto, helper

__all__ = ["is_fused", "unfuse"]

DOMAIN = "com.microsoft"
LAYERS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
# What FusedConv's list of activation_params holds.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}  # fmt: skip


def is_fused(node: onnx.NodeProto) -> bool:
    """True for a node that ``unfuse`` takes apart."""
    if node.domain != DOMAIN or node.op_type not in LAYERS:
        return False
    activation = _attributes(node).get("activation", b"").decode()
    return node.op_type == "FusedGemm" or activation in ("", *PARAMETERS)


def unfuse(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without fused layers; names of nodes and tensors that were there stay."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    if not any(entry.domain in ("", "ai.onnx") for entry in result.opset_import):
        result.opset_import.append(helper.make_opsetid("", 17))
    opset = next(entry.version for entry in result.opset_import if entry.domain in ("", "ai.onnx"))
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if not is_fused(node):
            nodes.append(node)
            continue
        parts, limits = _parts(node, opset, taken, types)
        nodes += parts
        graph.initializer.extend(limits)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return result


def _parts(
    node: onnx.NodeProto, opset: int, taken: set[str], types: Mapping[str, int]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Layer, sum and activation, and the limits of a Clip, which are tensors since opset 11."""
    given = _attributes(node)
    activation = given.pop("activation", b"").decode()
    parameters = _parameters(activation, given)
    layer = {name: value for name, value in given.items() if not name.startswith("activation")}
    summand = node.input[3] if node.op_type == "FusedConv" and len(node.input) > 3 else ""
    inputs = [*node.input[:3]] if node.input[2:3] != [""] else [*node.input[:2]]
    kinds: list[tuple[str, list[str], dict[str, Any]]] = [(LAYERS[node.op_type], inputs, layer)]
    if summand:
        kinds.append(("Add", [summand], {}))
    limits: list[onnx.TensorProto] = []
    if activation == "Clip" and opset >= 11:
        dtype = types.get(node.input[1], TensorProto.FLOAT)
        limits = [
            helper.make_tensor(_free(f"{node.output[0]} {name}", taken), dtype, [], [value])
            for name, value in parameters.items()
        ]
        kinds.append((activation, [tensor.name for tensor in limits], {}))
    elif activation:
        kinds.append((activation, [], parameters))
    return [*_chain(node, kinds, taken)], limits


def _chain(
    node: onnx.NodeProto, kinds: list[tuple[str, list[str], dict[str, Any]]], taken: set[str]
) -> Iterator[onnx.NodeProto]:
    """One node after the other; the first has the name, the last the output of what they came from."""
    source = ""
    for position, (op_type, inputs, attributes) in enumerate(kinds):
        last = position == len(kinds) - 1
        output = node.output[0] if last else _free(f"{node.output[0]} before {kinds[position + 1][0]}", taken)
        name = node.name if not position or not node.name else f"{node.name}/{op_type}"
        yield helper.make_node(
            op_type, [source, *inputs] if position else inputs, [output], name=name, **attributes
        )
        source = output


def _parameters(activation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the activation: a list for FusedConv, one attribute each for FusedGemm."""
    named = {
        name.removeprefix("activation_"): value
        for name, value in given.items()
        if name.startswith("activation_") and name != "activation_params"
    }
    return named | dict(zip(PARAMETERS.get(activation, ()), given.get("activation_params", ()), strict=False))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
