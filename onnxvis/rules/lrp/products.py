"""Products: relevance goes to the signal, not to the gate; where neither is one, half to each.

So the squeeze-and-excite branch (Hu et al. 2018), SiLU, HardSwish, GELU and normalizations, in whatever
pieces they are written, pass on what their signal gets, as zennit's activations do, and the gate's branch
is not walked (as in Arras et al. 2017; for what a normalization divides by: the LN-rule of Ali et al.
2022).  ``gates`` says what a gate is.  A constant factor is no share of the result: relevance passes as
it came, and none goes where the factor is 0.
"""

from __future__ import annotations

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.gradient.arithmetic import refuse_axis
from onnxvis.rules.registry import computed, rule
from onnxvis.rules.step import Step

from .gates import divides_only, is_gate

__all__ = ["receivers"]


def receivers(node: Node, graph: Graph) -> tuple[int, ...]:
    """Positions of the operands that relevance goes to."""
    operands = computed(node, graph)
    if len(operands) != 2:
        return operands
    if node.op_type == "Div":
        return (0,)
    gates = [is_gate(node.inputs[i], node.inputs[1 - i], graph) for i in operands]
    return operands if gates[0] == gates[1] else (gates.index(False),)


def _refused(node: Node, graph: Graph) -> str | None:
    operands = computed(node, graph)
    if (
        node.op_type == "Div"
        and 1 in operands
        and not (0 in operands and divides_only(node.inputs[1], graph))
    ):
        return "it divides by something that the model computes"
    return refuse_axis(node, graph) if len(operands) > 1 else None


@rule("Mul", "Div", method="lrp", inputs=receivers, refuses=_refused)
def product(step: Step, r: Array) -> tuple[Array | None, ...]:
    """To the signal; by a constant: as it came."""
    received = receivers(step.node, step.graph)
    constants = [i for i in (0, 1) if step.graph.is_constant(step.node.inputs[i])]
    part: Array = r * (1.0 / len(received))
    for i in constants:
        factor = step.known(i)
        part = part if factor.all() else part * step.constant((factor != 0).astype(float))
    return tuple(
        step.unbroadcast(part, step.shape(i)) if i in received and step.wants(i) else None
        for i in range(len(step.node.inputs))
    )
