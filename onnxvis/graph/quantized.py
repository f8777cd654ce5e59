"""Quantised operators as the float operators that they stand for.

What a canonical graph holds instead of QLinearConv, QLinearAdd, ConvInteger and the like is the float
operator between DequantizeLinear and QuantizeLinear: ``yq = Quantize(Conv(Dequantize(xq), W, b))`` with
plain float weights.  Layers, composites, gates and positions then come out as in the float net.

The real numbers in between are not in the file, and where they are (a QDQ file) asking onnxruntime for
them would change what it fuses, and so what the model answers.  ``Graph.quantized`` says how they follow
from whole numbers that are in the file; who needs them computes them (``rules.step.Step.tensor``).

A range that starts at 0 cuts off what is below: that is how converters fold a Relu away.  It is written
out again, so that the rules of rectifiers apply.  (The upper end of a folded Clip cannot be told from the
end of a calibrated range.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .analysis import limits, nonnegative, starts_at_zero
from .folding import fold_constants
from .ir import Graph, Node, Quantized, Value

__all__ = ["plain_quantization"]

MICROSOFT = "com.microsoft"
Array = np.ndarray[Any, Any]
Triple = tuple[int, int, int]  # positions of a tensor, its scale, its zero point

# The float operator; tensors with scale and zero point; positions of the result's scale and zero point.
_BETWEEN: Mapping[tuple[str, str], tuple[str, tuple[Triple, ...], tuple[int, int]]] = {
    ("", "QLinearMatMul"): ("MatMul", ((0, 1, 2), (3, 4, 5)), (6, 7)),
    (MICROSOFT, "QLinearAdd"): ("Add", ((0, 1, 2), (3, 4, 5)), (6, 7)),
    (MICROSOFT, "QLinearMul"): ("Mul", ((0, 1, 2), (3, 4, 5)), (6, 7)),
    (MICROSOFT, "QLinearGlobalAveragePool"): ("GlobalAveragePool", ((0, 1, 2),), (3, 4)),
    (MICROSOFT, "QLinearAveragePool"): ("AveragePool", ((0, 1, 2),), (3, 4)),
    (MICROSOFT, "QLinearLeakyRelu"): ("LeakyRelu", ((0, 1, 2),), (3, 4)),
    (MICROSOFT, "QLinearSigmoid"): ("Sigmoid", ((0, 1, 2),), (3, 4)),
    (MICROSOFT, "QLinearSoftmax"): ("Softmax", ((0, 1, 2),), (3, 4)),
    (MICROSOFT, "QLinearReduceMean"): ("ReduceMean", ((0, 1, 2),), (3, 4)),
    (MICROSOFT, "QLinearWhere"): ("Where", ((1, 2, 3), (4, 5, 6)), (7, 8)),
}
# Operators that move whole numbers as they are, and those that compute with them as with the real ones.
_MOVES = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Split", "Slice", "Pad", "Expand",
     "Tile", "Gather", "Concat", "DepthToSpace", "SpaceToDepth"}
)  # fmt: skip
_COMPUTES = frozenset({"MaxPool", "GlobalMaxPool", "AveragePool", "Resize", "Upsample"})


def plain_quantization(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """The graph with quantised operators written out; the tensors in ``keep`` stay.

    Operators whose scales or weights are not constants where they must be are left as they are.
    """
    if not any(node.domain in ("", MICROSOFT) and _is_quantized(node) for node in graph.nodes):
        return graph
    writer = _Writer(graph, keep)
    for node in graph.nodes:
        writer.write(node)
    written = graph.with_nodes(writer.nodes, writer.new.values())
    return _rectified(fold_constants(written), writer)


def _is_quantized(node: Node) -> bool:
    """By its name: every quantised operator says so in it."""
    words = ("QLinear", "QuantizeLinear", "DequantizeLinear", "Integer", "QGemm", "DynamicQuantize")
    return any(word in node.op_type for word in words)


class _Writer:
    """Writes a graph's nodes again, the quantised ones in their plain form."""

    def __init__(self, graph: Graph, keep: Collection[str]) -> None:
        self.graph, self.keep = graph, keep
        self.nodes: list[Node] = []
        self.new: dict[str, Value] = {}
        self.scales: dict[str, tuple[str, str]] = {}  # whole numbers -> names of their scale, zero point
        self.quantized: dict[str, Quantized] = {}
        self._real: dict[tuple[str, ...], str] = {}
        self._done: set[str] = set()  # names of nodes that an earlier one took along

    # ---- names and values ------------------------------------------------------------------------

    def name(self, wanted: str) -> str:
        while wanted in self.graph.values or wanted in self.graph.producers or wanted in self.new:
            wanted += "_"
        return wanted

    def constant(self, name: str, array: Array) -> str:
        name = self.name(name)
        self.new[name] = Value.of(name, array)
        return name

    def between(self, name: str, like: str) -> str:
        """A tensor of real numbers that the file does not hold, of the shape of one that it does."""
        name = self.name(name)
        self.new[name] = Value(name, np.dtype(np.float32), self.graph.value(like).shape)
        return name

    def known(self, name: str) -> Array | None:
        return self.new[name].constant if name in self.new else self.graph.constant(name)

    # ---- parts -----------------------------------------------------------------------------------

    def add(self, node: Node, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """A node beside ``node``, which stands for no node of the file."""
        name = f"{node.name} {op_type} {len(self.nodes)}"
        opset = self.graph.opsets.get("", 1)
        self.nodes.append(Node(name, op_type, tuple(inputs), (output,), attributes, opset=opset))

    def real(self, node: Node, name: str, scale: str, zero: str, axis: int = 1) -> str:
        """The tensor of the real numbers that whole ones mean."""
        array = self.known(name)
        if array is not None and (not scale or self.known(scale) is not None):
            return self.constant(f"{name} dequantized", self.numbers(array, scale, zero, axis))
        key = (name, scale, zero)
        if key not in self._real:
            self._real[key] = self.between(f"{name} dequantized", name)
            per_axis = {"axis": axis} if self._several(scale) else {}
            self.add(node, "DequantizeLinear", (name, scale, zero), self._real[key], **per_axis)
        return self._real[key]

    def numbers(self, array: Array, scale: str, zero: str, axis: int) -> Array:
        """(array − zero point) · scale; per axis where scale or zero point is a vector."""
        s, z = (np.asarray(self.known(n) if n else d) for n, d in ((scale, 1.0), (zero, 0)))
        s, z = (_along(parameter, array.ndim, axis) for parameter in (s, z))
        dtype = s.dtype if s.dtype.kind == "f" and scale else np.float32
        return ((array.astype(np.float64) - z.astype(np.float64)) * s.astype(np.float64)).astype(dtype)

    def rounded(
        self, node: Node, op_type: str, inputs: Sequence[str], scale: str, zero: str, **attributes: Any
    ) -> None:
        """The float operator, then QuantizeLinear to the output of ``node``."""
        y = node.outputs[0]
        opset = attributes.pop("opset", self.graph.opsets.get("", 1))
        exact = self.between(f"{y} unrounded", y)
        plain = replace(node, op_type=op_type, domain="", opset=opset, attributes=attributes)
        self.nodes.append(replace(plain, inputs=tuple(inputs), outputs=(exact, *node.outputs[1:])))
        self.add(node, "QuantizeLinear", (exact, scale, zero), y)
        self.scales[y] = (scale, zero)

    # ---- operators -------------------------------------------------------------------------------

    def write(self, node: Node) -> None:
        """The node in its plain form, or as it is."""
        if node.name in self._done:
            return
        if node.domain not in ("", MICROSOFT) or not self._rewritten(node):
            self.nodes.append(node)
            self._note(node)

    def _note(self, node: Node) -> None:
        """Remember what whole numbers mean that the node makes or moves on."""
        if node.domain:
            return
        data = node.inputs[0] if node.inputs else ""
        if node.op_type == "QuantizeLinear" and not node.attributes.get("block_size"):
            self.scales[node.outputs[0]] = (node.inputs[1], _at(node, 2))
        elif node.op_type == "DynamicQuantizeLinear":
            self.scales[node.outputs[0]] = (node.outputs[1], node.outputs[2])
        elif node.op_type in _MOVES and data in self.scales and not self._several(self.scales[data][0]):
            self.scales.update(dict.fromkeys(filter(None, node.outputs), self.scales[data]))

    def _several(self, name: str) -> bool:
        """True for a constant scale with more than one number."""
        array = self.known(name)
        return array is not None and array.size > 1

    def _rewritten(self, node: Node) -> bool:
        kind = (node.domain, node.op_type)
        if node.attributes.get("channels_last", 0):
            return False
        if kind in _BETWEEN:
            return self._elementwise(node)
        match kind:
            case ("", "QLinearConv"):
                return self._convolution(node)
            case (_, "QGemm"):
                return self._gemm(node)
            case (_, "QLinearConcat"):
                return self._concat(node)
            case ("", "ConvInteger" | "MatMulInteger"):
                return self._integer_layer(node)
            case (_, "DynamicQuantizeMatMul"):
                return self._float_matmul(node, node.inputs[0], 1, (2, 3, 4))
            case (_, "MatMulIntegerToFloat"):
                data = self.real(node, node.inputs[0], node.inputs[2], _at(node, 4))
                return self._float_matmul(node, data, 1, (3, 5, 6))
            case (_, "QuantizeLinear" | "DequantizeLinear") if node.domain:
                self.nodes.append(replace(node, domain="", opset=max(21, self.graph.opsets.get("", 1))))
                self._note(self.nodes[-1])
                return True
        if not node.domain and node.op_type in _COMPUTES and node.inputs[0] in self.scales:
            scale, zero = self.scales[node.inputs[0]]
            inputs = (self.real(node, node.inputs[0], scale, zero), *node.inputs[1:])
            self.rounded(node, node.op_type, inputs, scale, zero, opset=node.opset, **node.attributes)
            return True
        return False

    def _elementwise(self, node: Node) -> bool:
        op_type, triples, result = _BETWEEN[node.domain, node.op_type]
        columns = op_type == "MatMul"
        operands = [
            self.real(node, node.inputs[i], node.inputs[s], _at(node, z), -1 if columns and i else -2)
            for i, s, z in triples
        ]
        condition = node.inputs[:1] if op_type == "Where" else ()
        attributes = {key: value for key, value in node.attributes.items() if key != "channels_last"}
        scale, zero = _at(node, result[0]), _at(node, result[1])
        self.rounded(node, op_type, (*condition, *operands), scale, zero, **attributes)
        return True

    def _concat(self, node: Node) -> bool:
        scale, zero, *rest = node.inputs
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        operands = [self.real(node, name, its_scale, its_zero) for name, its_scale, its_zero in triples]
        self.rounded(node, "Concat", operands, scale, zero, **node.attributes)
        return True

    def _convolution(self, node: Node) -> bool:
        x, xs, xz, w, ws, wz, ys, yz = node.inputs[:8]
        bias = self._bias(node, 8, xs, ws)
        if self.known(w) is None or self.known(ws) is None or bias is None:
            return False
        inputs = (self.real(node, x, xs, xz), self.real(node, w, ws, wz, 0), *bias)
        self.rounded(node, "Conv", inputs, ys, yz, opset=node.opset, **node.attributes)
        return True

    def _gemm(self, node: Node) -> bool:
        a, a_scale, az, b, bs, bz = node.inputs[:6]
        factor = node.attributes.get("alpha", 1.0)
        bias = self._bias(node, 6, a_scale, bs, factor)
        if self.known(b) is None or self.known(bs) is None or bias is None:
            return False
        axis = 0 if node.attributes.get("transB", 0) else 1
        inputs = (self.real(node, a, a_scale, az), self.real(node, b, bs, bz, axis), *bias)
        if _at(node, 7):
            self.rounded(node, "Gemm", inputs, node.inputs[7], _at(node, 8), opset=13, **node.attributes)
        else:
            self.nodes.append(replace(node, op_type="Gemm", domain="", inputs=inputs, opset=13))
        return True

    def _bias(
        self, node: Node, position: int, xs: str, ws: str, factor: float = 1.0
    ) -> tuple[str, ...] | None:
        """The whole-number bias as real numbers (in units of data scale × weight scale); None: unknown."""
        name = _at(node, position)
        if not name:
            return ()
        parts = [self.known(part) for part in (name, xs, ws)]
        if any(part is None for part in parts):
            return None
        bias, data, weight = (np.asarray(part, np.float64) for part in parts)
        scale = (data.reshape(-1) * weight.reshape(-1) * factor).reshape(-1)
        return (self.constant(f"{name} dequantized", (bias * scale).astype(np.float32)),)

    def _float_matmul(self, node: Node, data: str, weight: int, rest: tuple[int, int, int]) -> bool:
        """MatMul with a dequantised weight and a float result; ``rest``: scale, zero point, bias."""
        scale, zero, bias = (_at(node, position) for position in rest)
        if any(self.known(name) is None for name in (node.inputs[weight], scale, zero) if name):
            return False
        inputs = (data, self.real(node, node.inputs[weight], scale, zero, -1), *filter(None, [bias]))
        self.nodes.append(replace(node, op_type="MatMul", domain="", inputs=inputs, opset=13))
        return True

    # ---- ConvInteger, MatMulInteger --------------------------------------------------------------

    def _integer_layer(self, node: Node) -> bool:
        """A layer on dynamically quantised data.

        Where what follows is the usual Cast and Mul by the scales (of the data, computed, and of the
        weight, constant), the layer ends after these; else at its own output, in units of 1.
        """
        x, w = node.inputs[:2]
        convolution = node.op_type == "ConvInteger"
        op_type = "Conv" if convolution else "MatMul"
        xz, wz = _at(node, 2), _at(node, 3)
        weight_known = self.known(w) is not None and (not wz or self.known(wz) is not None)
        tail = self._scaled_after(node) if weight_known else None
        weight = self.real(node, w, "", wz, 0 if convolution else -1) if weight_known else ""
        if tail is None:
            one = self.constant(f"{node.name} one", np.ones((), np.float32))
            weight = weight or self.real(node, w, one, wz, -1)
            inputs = (self.real(node, x, one, xz, -2), weight)
            self.rounded(node, op_type, inputs, one, "", opset=node.opset, **node.attributes)
            return True
        cast, product, data_scale, weight_scale = tail
        inputs = (self.real(node, x, data_scale, xz), weight)
        output = product.outputs[0]
        if weight_scale:
            output = self.between(f"{node.outputs[0]} scaled", node.outputs[0])
            self.quantized[output] = Quantized(node.outputs[0], data_scale, "")
        layer = replace(node, op_type=op_type, inputs=inputs, outputs=(output,))
        origin = (*node.origin, *cast.origin) if weight_scale else node.origin + cast.origin + product.origin
        self.nodes.append(replace(layer, origin=origin))
        if weight_scale:
            self.nodes.append(replace(product, inputs=(output, weight_scale)))
        self._done.update((cast.name, product.name))
        return True

    def _scaled_after(self, node: Node) -> tuple[Node, Node, str, str] | None:
        """Cast and Mul after a layer, with the names of the data's and the weight's scale ("": none)."""
        maker = self.graph.producers.get(node.inputs[0])
        if maker is None or maker.op_type != "DynamicQuantizeLinear" or maker.domain:
            return None
        cast = self._only_reader(node.outputs[0], "Cast")
        product = cast and self._only_reader(cast.outputs[0], "Mul")
        if cast is None or product is None:
            return None
        scale = next(name for name in (*product.inputs, "") if name != cast.outputs[0])
        if scale == maker.outputs[1]:
            return cast, product, scale, ""
        factors = self.graph.producers.get(scale)
        if factors is None or factors.op_type != "Mul" or maker.outputs[1] not in factors.inputs:
            return None
        weight_scale = next((name for name in factors.inputs if name != maker.outputs[1]), "")
        if self.known(weight_scale) is None:
            return None
        return cast, product, maker.outputs[1], weight_scale

    def _only_reader(self, name: str, op_type: str) -> Node | None:
        readers = self.graph.consumers.get(name, ())
        alone = len(readers) == 1 and name not in self.keep and name not in self.graph.outputs
        return readers[0] if alone and readers[0].op_type == op_type and not readers[0].domain else None


# ---- what is left: QuantizeLinear and DequantizeLinear -------------------------------------------


def _rectified(graph: Graph, writer: _Writer) -> Graph:
    """Say of real numbers how they follow from whole ones, and write folded rectifiers out."""
    quantized = dict(writer.quantized)
    never_negative = nonnegative(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.domain or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
            continue
        whole = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
        axis, block_size = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
        meaning = Quantized(whole, node.inputs[1], _at(node, 2), axis, block_size)
        readable = limits(node, graph) is not None
        if node.op_type == "DequantizeLinear":
            if readable and node.outputs[0] not in graph.outputs:
                quantized[node.outputs[0]] = meaning
        elif readable and node.inputs[0] in graph.producers:
            x = node.inputs[0]
            if len(graph.consumers[x]) == 1 and x not in graph.outputs:
                quantized.setdefault(x, meaning)
            if x not in never_negative and starts_at_zero(node, graph):
                node = _with_relu(node, nodes, writer)
                quantized[node.inputs[0]] = meaning
        nodes.append(node)
    return replace(graph.with_nodes(nodes, writer.new.values()), quantized=quantized)


def _with_relu(node: Node, nodes: list[Node], writer: _Writer) -> Node:
    """The QuantizeLinear behind a Relu of its own."""
    rectified = writer.between(f"{node.outputs[0]} rectified", node.outputs[0])
    name = f"{node.name} Relu"
    nodes.append(Node(name, "Relu", node.inputs[:1], (rectified,), {}, opset=14, origin=node.origin))
    return replace(node, inputs=(rectified, *node.inputs[1:]))


def _at(node: Node, position: int) -> str:
    return node.inputs[position] if position < len(node.inputs) else ""


def _along(parameter: Array, rank: int, axis: int) -> Array:
    """A number, or a vector along an axis, so shaped that it broadcasts."""
    if parameter.size == 1:
        return parameter.reshape(())
    if parameter.ndim != 1:
        return parameter
    shape = [1] * rank
    shape[axis] = parameter.size
    return parameter.reshape(shape)
