"""The canonical form: the layers as they were meant, whatever way an exporter wrote them.

What rules may rely on in a canonical graph:

* Whatever does not depend on the input is a constant: weights behind Constant, Identity, Cast,
  Reshape or DequantizeLinear are plain arrays.
* Conv, ConvTranspose, Gemm and MatMul by a constant are *layers*: inputs (data, weight) or (data,
  weight, bias).  A layer's Gemm is data @ weight + bias with no attribute but transB; its MatMul may
  have a bias as third input, which ONNX does not know.
* BatchNormalization, Mul, Div, Add and Sub by per-channel constants that follow a layer are part of
  it; a BatchNormalization before one is part of it where that is exact (no padding).
* Quantised operators are float ones between DequantizeLinear and QuantizeLinear (see ``quantized``).
* Activations are one operator each, whatever pieces an exporter wrote them in (see ``activations``).
* A constant operand of Add, Sub, Mul or Div has a shape that broadcasts by NumPy's rules.

Merging drops tensors and never renames one, so that what a plan taps exists in the file; real numbers
that a quantised file only implies are in ``Graph.quantized``, computed from what exists.  Tensors that
someone wants to look at are protected with ``keep``.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .activations import whole_activations
from .folding import fold_constants
from .ir import Graph, Node, Value
from .quantized import plain_quantization

__all__ = ["LAYERS", "canonicalize", "is_layer"]

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Affine(NamedTuple):
    """y = scale·x + shift, one number a channel (or one for all)."""

    scale: Floats
    shift: Floats


def canonicalize(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """The canonical form of a graph; the tensors in ``keep`` (and the outputs) stay."""
    graph = fold_constants(graph)
    graph = plain_quantization(graph, keep)
    graph = whole_activations(_plain_operands(graph), keep)
    protected = {*keep, *graph.outputs}
    return _merge_before(_merge_after(graph, protected), protected)


def is_layer(node: Node, graph: Graph) -> bool:
    """True for Conv, ConvTranspose, Gemm and MatMul with constant weights, in canonical form."""
    return (
        node.op_type in LAYERS
        and not node.domain
        and len(node.inputs) > 1
        and not graph.is_constant(node.inputs[0])
        and all(graph.is_constant(name) for name in node.inputs[1:] if name)
        and not (node.op_type == "Gemm" and set(node.attributes) - {"transB"})
    )


# ---- operands ------------------------------------------------------------------------------------


def _plain_operands(graph: Graph) -> Graph:
    """Gemm without alpha and beta; operands of the ``broadcast``/``axis`` kind (opset < 7) reshaped."""
    new: list[Value] = []
    nodes = []
    for node in graph.nodes:
        if node.op_type == "Gemm" and not node.domain:
            node = _plain_gemm(node, graph, new)
        elif node.domain == "com.microsoft" and node.op_type in ("FusedMatMul", "TransposeMatMul"):
            node = _plain_product(node, graph, new)
        elif node.op_type in ("Add", "Sub", "Mul", "Div") and "broadcast" in node.attributes:
            node = _plain_broadcast(node, graph, new)
        nodes.append(node)
    return graph.with_nodes(nodes, new)


def _plain_gemm(node: Node, graph: Graph, new: list[Value]) -> Node:
    given = node.attributes
    fixed = [name for name in node.inputs[1:] if name]
    if not all(graph.is_constant(name) for name in fixed):
        return node
    names = [node.inputs[0]]
    factors = (given.get("alpha", 1.0), given.get("beta", 1.0))
    for name, factor in zip(fixed, factors, strict=False):
        if factor != 1.0:
            array = graph.constant(name)
            assert array is not None
            new.append(Value.of(f"{name} of {node.name}", array * array.dtype.type(factor)))
            name = new[-1].name
        names.append(name)
    attributes = {name: 1 for name in ("transA", "transB") if given.get(name, 0)}
    return replace(node, inputs=tuple(names), attributes=attributes)


def _plain_product(node: Node, graph: Graph, new: list[Value]) -> Node:
    """Factor and turns of a fused product by constant weights are those of the weights.

    What is left is a MatMul, where the data is multiplied as it is.
    """
    given, weight = node.attributes, graph.constant(node.inputs[1])
    if weight is None or graph.is_constant(node.inputs[0]):
        return node
    if given.get("transBatchB", 0):
        weight = np.moveaxis(weight, 0, -2)
    if given.get("transB", 0) and weight.ndim > 1:
        weight = weight.swapaxes(-1, -2)
    scaled = weight * weight.dtype.type(given.get("alpha", 1.0))
    new.append(Value.of(f"{node.inputs[1]} of {node.name}", scaled))
    inputs = (node.inputs[0], new[-1].name)
    left = {name: 1 for name in ("transA", "transBatchA") if given.get(name, 0)}
    if left:
        return replace(node, inputs=inputs, attributes=left)
    opset = graph.opsets.get("", 13)
    return replace(node, op_type="MatMul", domain="", opset=opset, inputs=inputs, attributes={})


def _plain_broadcast(node: Node, graph: Graph, new: list[Value]) -> Node:
    axis, shape = node.attributes.get("axis"), graph.value(node.inputs[0]).shape
    operand = graph.constant(node.inputs[1])
    rest = {key: value for key, value in node.attributes.items() if key not in ("axis", "broadcast")}
    if axis is None:
        return replace(node, attributes=rest)
    if operand is None or shape is None:
        return node
    axis = axis if axis >= 0 else axis + len(shape)
    array = operand.reshape(operand.shape + (1,) * (len(shape) - axis - operand.ndim))
    new.append(Value.of(f"{node.inputs[1]} of {node.name}", array))
    return replace(node, inputs=(node.inputs[0], new[-1].name), attributes=rest)


# ---- layers and what belongs to them -------------------------------------------------------------


def _merge_after(graph: Graph, protected: Collection[str]) -> Graph:
    """Layer, then per-channel affine nodes: one layer that ends where the last of them ends."""
    nodes: dict[str, Node] = {}
    layers: dict[str, str] = {}  # output tensor -> name of the layer that ends there
    new: dict[str, Value] = {}
    for node in graph.nodes:
        nodes[node.name] = node
        if is_layer(node, graph):
            layers[node.outputs[0]] = node.name
            continue
        source = next((name for name in node.inputs if name in layers), None)
        if source is None or source in protected or len(graph.consumers[source]) > 1:
            continue
        layer = nodes[layers[source]]
        affine = _affine_after(node, source, layer, graph, new)
        if affine is None:
            continue
        merged = _scaled(layer, affine, graph, new)
        nodes[layer.name] = replace(merged, outputs=node.outputs[:1], origin=layer.origin + node.origin)
        del nodes[node.name]
        layers[node.outputs[0]] = layer.name
    return graph.with_nodes(nodes.values(), new.values()) if new else graph


def _merge_before(graph: Graph, protected: Collection[str]) -> Graph:
    """BatchNormalization, then a layer without padding: one layer that starts where the former starts."""
    nodes = {node.name: node for node in graph.nodes}
    new: dict[str, Value] = {}
    for node in graph.nodes:
        affine = _batch_norm(node, graph)
        output = node.outputs[0]
        readers = graph.consumers.get(output, ())
        if affine is None or output in protected or len(readers) != 1:
            continue
        layer = nodes[readers[0].name]
        if is_layer(layer, graph) and layer.inputs[0] == output and _uniform(layer, affine):
            merged = _fed_scaled(layer, affine, graph, new)
            inputs = (node.inputs[0], *merged.inputs[1:])
            nodes[layer.name] = replace(merged, inputs=inputs, origin=node.origin + layer.origin)
            del nodes[node.name]
    return graph.with_nodes(nodes.values(), new.values()) if new else graph


def _batch_norm(node: Node, graph: Graph) -> Affine | None:
    """The affine map of a BatchNormalization in inference mode with constant parameters."""
    if node.op_type != "BatchNormalization" or node.domain or len(node.inputs) < 5:
        return None
    training = node.attributes.get("training_mode", 0) or any(node.outputs[1:])
    if training or not node.attributes.get("spatial", 1):
        return None
    arrays = [graph.constant(name) for name in node.inputs[1:5]]
    if any(array is None for array in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    return Affine(scale, beta - mean * scale)


def _affine_after(node: Node, source: str, layer: Node, graph: Graph, new: dict[str, Value]) -> Affine | None:
    """What a node does to a layer's output, where that is one number a channel."""
    if node.domain or node.inputs.count(source) > 1:
        return None
    weight = new.get(layer.inputs[1]) or graph.value(layer.inputs[1])
    shape = tuple(int(n or 0) for n in weight.shape or ())
    if node.op_type == "BatchNormalization":
        spatial = layer.op_type in ("Conv", "ConvTranspose") or len(shape) == 2
        return _batch_norm(node, graph) if spatial and node.inputs[0] == source else None
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.attributes:
        return None
    position = node.inputs.index(source)
    operand = graph.constant(node.inputs[1 - position])
    if operand is None or operand.dtype.kind != "f":
        return None
    channels = _per_channel(operand, layer, shape)
    if channels is None or (node.op_type == "Div" and position == 1):
        return None
    one, zero = np.ones(()), np.zeros(())
    match node.op_type:
        case "Add":
            return Affine(one, channels)
        case "Sub":
            return Affine(one, -channels) if position == 0 else Affine(-one, channels)
        case "Mul":
            return Affine(channels, zero)
    return Affine(1.0 / channels, zero)


def _per_channel(operand: np.ndarray[Any, Any], layer: Node, weight: tuple[int, ...]) -> Floats | None:
    """The operand as one number a channel of the layer's output, None where it is not."""
    rank = len(weight)
    trailing = rank - 2 if layer.op_type in ("Conv", "ConvTranspose") else 0
    channels = _channels(layer, weight)
    if operand.size == 1 and operand.ndim <= rank:
        return np.asarray(operand, np.float64).reshape(())
    aligned = (channels, *(1,) * trailing)
    leading = operand.ndim - len(aligned)
    if leading < 0 or operand.ndim > rank or operand.shape != (1,) * leading + aligned:
        return None
    return np.asarray(operand, np.float64).reshape(channels)


def _channels(layer: Node, weight: tuple[int, ...]) -> int:
    """Number of output channels, by the weight's shape."""
    if layer.op_type == "ConvTranspose":
        return weight[1] * int(layer.attributes.get("group", 1))
    return weight[_output_axis(layer)]


def _output_axis(layer: Node) -> int:
    """The weight's axis that runs over output channels (ConvTranspose has them on two)."""
    return 0 if layer.op_type == "Conv" or layer.attributes.get("transB", 0) else -1


def _constant(name: str, graph: Graph, new: dict[str, Value]) -> np.ndarray[Any, Any]:
    array = new[name].constant if name in new else graph.constant(name)
    assert array is not None, f"{name} is not a constant"
    return array


def _scaled(layer: Node, affine: Affine, graph: Graph, new: dict[str, Value]) -> Node:
    """The layer whose output is scale·y + shift."""
    weight = _constant(layer.inputs[1], graph, new)
    channels = _channels(layer, weight.shape)
    bias = np.zeros(channels)
    if len(layer.inputs) > 2 and layer.inputs[2]:
        bias = np.asarray(_constant(layer.inputs[2], graph, new), np.float64)
    bias = np.broadcast_to(bias * affine.scale + affine.shift, np.broadcast_shapes(bias.shape, (channels,)))
    scaled = weight
    if affine.scale.shape or affine.scale != 1.0:
        scale = np.broadcast_to(affine.scale, (channels,))
        if layer.op_type == "ConvTranspose":
            group = layer.attributes.get("group", 1)
            scale = np.repeat(scale.reshape(group, -1), weight.shape[0] // group, axis=0)
            scale = scale.reshape(*scale.shape, *(1,) * (weight.ndim - 2))
        elif _output_axis(layer) == 0:
            scale = scale.reshape(-1, *(1,) * (weight.ndim - 1))
        scaled = (weight * scale).astype(weight.dtype)
    return _with_weights(layer, scaled, bias.astype(weight.dtype), graph, new)


def _fed_scaled(layer: Node, affine: Affine, graph: Graph, new: dict[str, Value]) -> Node:
    """The layer that takes x and does to it what it did to scale·x + shift."""
    weight = np.asarray(_constant(layer.inputs[1], graph, new), np.float64)
    bias = np.zeros(_channels(layer, weight.shape))
    if len(layer.inputs) > 2 and layer.inputs[2]:
        bias = np.asarray(_constant(layer.inputs[2], graph, new), np.float64)
    if layer.op_type == "Conv":
        group = layer.attributes.get("group", 1)
        per_filter = np.repeat(np.stack(affine).reshape(2, group, -1), weight.shape[0] // group, axis=1)
        scale, shift = per_filter.reshape(*per_filter.shape, *(1,) * (weight.ndim - 2))
        bias = bias + (weight * shift).reshape(weight.shape[0], -1).sum(axis=1)
    else:
        inner, shape = (1, (1, -1)) if _output_axis(layer) == 0 else (-2, (-1, 1))
        scale, shift = (part.reshape(shape) for part in affine)
        bias = bias + (weight * shift).sum(axis=inner)
    dtype = _constant(layer.inputs[1], graph, new).dtype
    return _with_weights(layer, (weight * scale).astype(dtype), bias.astype(dtype), graph, new)


def _uniform(layer: Node, affine: Affine) -> bool:
    """True where every output sees the shift through all weights: no padding between."""
    if layer.op_type == "ConvTranspose":
        return False
    if layer.op_type == "Conv" and affine.shift.any():
        padded = any(layer.attributes.get("pads", ()))
        return not padded and layer.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return True


def _with_weights(
    layer: Node,
    weight: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any],
    graph: Graph,
    new: dict[str, Value],
) -> Node:
    names = [layer.inputs[0]]
    for role, array in (("weight", weight), ("bias", bias)):
        free = (f"{layer.name} {role} {i}" for i in itertools.count())
        name = next(name for name in free if name not in new and name not in graph.values)
        new[name] = Value.of(name, array)
        names.append(name)
    return replace(layer, inputs=tuple(names))
