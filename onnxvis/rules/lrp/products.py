"""Products: relevance goes to the signal, not to the gate; where neither is one, half to each.

A gate says how much of a signal passes: an operand between 0 and 1 by construction (a sigmoid, a
hard sigmoid, a softmax, a clip), in whatever shape it is brought, or one bounded from 0 that is made
of nothing but the other operand (x·relu6(x + 3), x·(1 + erf(x/√2))).  So the squeeze-and-excite branch
(Hu et al. 2018), SiLU, HardSwish and GELU pass on what their signal gets, as zennit's activations do,
and the gate's branch is not walked (as in Arras et al. 2017).
"""

from __future__ import annotations

import numpy as np

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.gradient.arithmetic import refuse_axis
from onnxvis.rules.registry import computed, rule
from onnxvis.rules.step import Step

from .operators import in_proportion

__all__ = ["receivers"]

_CARRIERS = frozenset(
    {"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose",
     "Split", "Slice", "Resize", "Upsample", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"}
)  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Neg", "Identity", "Cast"})
_RANGES = {
    "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Erf": (-1.0, 1.0),
    "Tanh": (-1.0, 1.0),
}  # fmt: skip


def receivers(node: Node, graph: Graph) -> tuple[int, ...]:
    """Positions of the operands that relevance goes to."""
    operands = computed(node, graph)
    if len(operands) != 2 or node.op_type != "Mul":
        return operands
    gates = [_is_gate(node.inputs[i], node.inputs[1 - i], graph) for i in operands]
    return operands if gates[0] == gates[1] else (gates.index(False),)


def _is_gate(name: str, other: str, graph: Graph) -> bool:
    low, high, bounded = _range(name, graph)
    if bounded is None or abs(low) > 1e-6:
        return False
    return abs(high - 1) < 1e-6 or _sources(bounded.inputs[0], graph) <= _sources(other, graph)


def _range(name: str, graph: Graph) -> tuple[float, float, Node | None]:
    """The lowest and highest number that a tensor can hold, and the operator that bounds it."""
    node = graph.producers.get(name)
    unknown = (-np.inf, np.inf, None)
    if node is None or node.domain:
        return unknown
    if node.op_type in _RANGES:
        return (*_RANGES[node.op_type], node)
    if node.op_type == "Clip":
        return (*_limits(node, graph), node)
    if node.op_type in _CARRIERS:
        return _range(node.inputs[0], graph)
    operands = computed(node, graph)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(operands) != 1:
        return unknown
    low, high, bounded = _range(node.inputs[operands[0]], graph)
    number = graph.constant(node.inputs[1 - operands[0]])
    if bounded is None or number is None or number.size != 1 or (node.op_type == "Div" and operands[0] == 1):
        return unknown
    ends = sorted(_moved(node.op_type, end, float(number.ravel()[0]), operands[0]) for end in (low, high))
    return ends[0], ends[1], bounded


def _moved(op_type: str, end: float, number: float, position: int) -> float:
    """One end of a range after arithmetic with a constant number."""
    match op_type:
        case "Add":
            return end + number
        case "Sub":
            return end - number if position == 0 else number - end
        case "Mul":
            return end * number
    return end / number if number else np.inf


def _limits(node: Node, graph: Graph) -> tuple[float, float]:
    """Of a Clip, from attributes (opset < 11) or inputs."""
    found = []
    for position, (key, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
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


def _refused(node: Node, graph: Graph) -> str | None:
    if node.op_type == "Div" and not graph.is_constant(node.inputs[1]):
        return "it divides by something that the model computes"
    return refuse_axis(node, graph) if len(computed(node, graph)) > 1 else None


@rule("Mul", "Div", method="lrp", needs="xs y", inputs=receivers, refuses=_refused)
def product(step: Step, r: Array) -> tuple[Array | None, ...]:
    """To the signal; by a constant: as an affine map."""
    if len(computed(step.node, step.graph)) == 1:
        shares: tuple[Array | None, ...] = in_proportion(step, r)
        return shares
    received = receivers(step.node, step.graph)
    part = r * (1.0 / len(received))
    return tuple(
        step.unbroadcast(part, step.shape(i)) if i in received and step.wants(i) else None
        for i in range(len(step.node.inputs))
    )
