"""What a product is made of: which of its factors is the signal, and which only says how much passes.

A factor is a *gate* where it is

* between 0 and 1 by construction (a sigmoid, a hard sigmoid, a softmax, a clip, 1/(1 + eˣ)), in whatever
  shape it is brought;
* bounded from 0 and made of nothing but the other factor (x·relu6(x + 3), x·(1 + erf(x/√2)));
* the reciprocal of a *statistic*: of a number computed from nothing but reductions, such as the standard
  deviation or the norm that a normalization divides by;
* the scale that DynamicQuantizeLinear found, by itself or times a constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from onnxvis.graph.ir import Graph, Node
from onnxvis.rules.registry import computed

__all__ = ["divides_only", "is_gate"]

_CARRIERS = frozenset(
    {"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose",
     "Split", "Slice", "Resize", "Upsample", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"}
)  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Neg", "Identity", "Cast"})
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin",
     "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
)  # fmt: skip
# What a statistic may go through after its reductions.
_OF_STATISTICS = _ELEMENTWISE | {
    "Sqrt", "Abs", "Max", "Min", "Clip", "Relu", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose",
}  # fmt: skip


class _Range(NamedTuple):
    """The lowest and highest number that a tensor can hold, and the tensor that was bounded."""

    low: float
    high: float
    origin: str


_RANGES = {
    "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Erf": (-1.0, 1.0),
    "Tanh": (-1.0, 1.0), "Exp": (0.0, math.inf), "Softplus": (0.0, math.inf), "Abs": (0.0, math.inf),
    "Relu": (0.0, math.inf),
}  # fmt: skip


def is_gate(name: str, other: str, graph: Graph) -> bool:
    """Whether the factor ``name`` only says how much of the factor ``other`` passes."""
    if _divides_by_statistic(name, graph) or _is_scale(name, graph):
        return True
    found = _range(name, graph)
    if found is None or abs(found.low) > 1e-6:
        return False
    return abs(found.high - 1) < 1e-6 or _sources(found.origin, graph) <= _sources(other, graph)


def divides_only(name: str, graph: Graph) -> bool:
    """Whether dividing by this tensor is a gate: it is a statistic, or stays away from 0."""
    found = _range(name, graph)
    return (found is not None and found.low > 0) or _is_statistic(name, graph)


def _is_scale(name: str, graph: Graph) -> bool:
    makers = [(source, graph.producers.get(source)) for source in _sources(name, graph)]
    return all(
        n is not None and n.op_type == "DynamicQuantizeLinear" and s in n.outputs[1:] for s, n in makers
    )


# ---- statistics ----------------------------------------------------------------------------------


def _is_statistic(name: str, graph: Graph) -> bool:
    """A tensor computed from nothing but reductions and constants."""
    node = graph.producers.get(name)
    if node is None or node.domain:
        return False
    if node.op_type in _REDUCTIONS:
        return True
    operands = computed(node, graph)
    return (
        node.op_type in _OF_STATISTICS
        and bool(operands)
        and all(_is_statistic(node.inputs[i], graph) for i in operands)
    )


def _divides_by_statistic(name: str, graph: Graph) -> bool:
    """A constant over a statistic, in whatever shape."""
    node = graph.producers.get(name)
    if node is None or node.domain:
        return False
    operands = computed(node, graph)
    if len(operands) != 1:
        return False
    source = node.inputs[operands[0]]
    inverts = node.op_type == "Reciprocal" or (node.op_type == "Div" and operands == (1,))
    if node.op_type == "Pow" and operands == (0,):
        exponent = graph.constant(node.inputs[1])
        inverts = exponent is not None and bool((exponent < 0).all())
    if inverts:
        return _is_statistic(source, graph)
    carries = node.op_type in _CARRIERS or node.op_type in ("Mul", "Div")
    return carries and _divides_by_statistic(source, graph)


# ---- ranges --------------------------------------------------------------------------------------


def _range(name: str, graph: Graph) -> _Range | None:
    """What a tensor can hold by construction, None where nothing is known."""
    node = graph.producers.get(name)
    if node is None or node.domain:
        return None
    operands = computed(node, graph)
    if not operands:
        return None
    source = node.inputs[operands[0]]
    if node.op_type in _CARRIERS:
        return _range(node.inputs[0], graph)
    if node.op_type in _RANGES:
        low, high = _RANGES[node.op_type]
        inner = _range(source, graph) if node.op_type == "Tanh" else None
        return _Range(0.0 if inner is not None and inner.low >= 0 else low, high, source)
    if len(operands) > 1:
        return None
    if node.op_type == "Clip":
        return _Range(*_limits(node, graph), source)
    if node.op_type in ("Max", "Min"):
        return _cut(node, source, graph)
    return _moved(node, operands[0], _range(source, graph), graph)


def _cut(node: Node, source: str, graph: Graph) -> _Range | None:
    """After a maximum or minimum with constant numbers."""
    constants = [graph.constant(name) for name in node.inputs if name != source]
    numbers = [float(np.ravel(c)[0]) for c in constants if c is not None and c.size == 1]
    if len(numbers) < len(constants):
        return None
    low, high, origin = _range(source, graph) or _Range(-math.inf, math.inf, source)
    choose = max if node.op_type == "Max" else min
    ends = [choose(end, *numbers) for end in (low, high)]
    return _Range(ends[0], ends[1], origin)


def _moved(node: Node, position: int, found: _Range | None, graph: Graph) -> _Range | None:
    """After arithmetic with one constant number."""
    if found is None:
        return None
    low, high, origin = found
    number = 1.0
    if len(node.inputs) > 1:
        constant = graph.constant(node.inputs[1 - position])
        if constant is None or constant.size != 1:
            return None
        number = float(constant.ravel()[0])
    match node.op_type, position:
        case "Neg", _:
            ends = [-low, -high]
        case "Add", _:
            ends = [low + number, high + number]
        case "Sub", 0:
            ends = [low - number, high - number]
        case "Sub", _:
            ends = [number - low, number - high]
        case "Mul", _ if number:
            ends = [low * number, high * number]
        case "Div", 0 if number:
            ends = [low / number, high / number]
        case ("Reciprocal", _) | ("Div", 1) if low >= 0:
            ends = [number / end if end else math.copysign(math.inf, number) for end in (low, high)]
        case _:
            return None
    return _Range(min(ends), max(ends), origin)


def _limits(node: Node, graph: Graph) -> tuple[float, float]:
    """Of a Clip, from attributes (opset < 11) or inputs."""
    found = []
    for position, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        limit = node.attributes.get(key)
        if limit is None and len(node.inputs) > position and node.inputs[position]:
            limit = graph.constant(node.inputs[position])
        found.append(default if limit is None else float(np.ravel(limit)[0]))
    return found[0], found[1]


def _sources(name: str, graph: Graph) -> frozenset[str]:
    """What a tensor is made of by arithmetic on single numbers: the tensors where that began."""
    node = graph.producers.get(name)
    if node is None or node.domain or node.op_type not in _ELEMENTWISE:
        return frozenset({name})
    return frozenset().union(*(_sources(node.inputs[i], graph) for i in computed(node, graph)))
