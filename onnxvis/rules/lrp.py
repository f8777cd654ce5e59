"""Layer-wise relevance propagation (Bach et al. 2015; rules as in Montavon et al. 2019 and zennit).

R is what arrives, x⁺ = max(x, 0), x⁻ = min(x, 0), and stab(z) = z ± ε keeps a denominator from 0.
"""

from __future__ import annotations

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array

from .gradient.movement import MOVEMENT
from .gradient.normalization import not_affine
from .registry import computed, lrp_rule, registry, rule
from .step import Step

# ---- linear operators ----------------------------------------------------------------------------


@lrp_rule("epsilon", needs="x y")
def epsilon(step: Step, r: Array) -> Array:
    """x · Wᵀ(R / stab(Wx + b)): in proportion to each input's part of the output."""
    return step.x * step.adjoint(r / step.stab(step.y, step.settings["epsilon"]), step.w)


@lrp_rule("zplus")
def zplus(step: Step, r: Array) -> Array:
    """Only what speaks for the output: z = W⁺x⁺ + W⁻x⁻ + b⁺."""
    x, w = step.x, step.w
    if w is None:  # no weights whose sign could tell: in proportion
        return share(step, r, (x, w), bias=step.bias)
    return share(step, r, (step.pos(x), step.pos(w)), (step.neg(x), step.neg(w)), bias=_positive_bias(step))


def share(step: Step, r: Array, *parts: tuple[Array, Array], bias: Array | None) -> Array:
    """R in proportion to the parts (x, W) of z = Σ Wx + b: Σ x · Wᵀ(R / stab(z))."""
    z = step.forward(*parts[0])
    for x, w in parts[1:]:
        z = z + step.forward(x, w)
    z = z if bias is None else z + bias
    s = r / step.stab(z, step.settings["epsilon"])
    (x, w), *others = parts
    shares = x * step.adjoint(s, w)
    for x, w in others:
        shares = shares + x * step.adjoint(s, w)
    return shares


def _positive_bias(step: Step) -> Array | None:
    return None if step.bias is None else step.pos(step.bias)


# ---- operators without weights -------------------------------------------------------------------


def _through_gradient(step: Step, g: Array) -> tuple[Array | None, ...]:
    """What the node's gradient rule makes of g, one entry an input."""
    found = registry.find(step.node.op_type, "gradient", step.node.domain, step.node.opset)
    assert found is not None
    result = found.body(step, g)
    return result if isinstance(result, tuple) else (result,)


@rule("Add", "Sum", "Sub", method="lrp", needs="xs y", inputs=computed)
@rule(
    "Mul",
    "Div",
    method="lrp",
    needs="xs y",
    inputs=computed,
    refuses=lambda n, g: _product_of_two(n, g),
)
@rule("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", method="lrp", needs="x y", inputs=(0,))
@rule("ImageScaler", method="lrp", needs="x y", inputs=(0,))
@rule("BatchNormalization", method="lrp", needs="x y", inputs=(0,), refuses=not_affine)
def in_proportion(step: Step, r: Array) -> tuple[Array | None, ...]:
    """xᵢ · ∂y/∂xᵢ · R / stab(y): sums and averages, and what is affine without being a layer."""
    s = r / step.stab(step.y, step.settings["epsilon"])
    shares = _through_gradient(step, s)
    return tuple(None if g is None else step.input(i) * g for i, g in enumerate(shares))


def _product_of_two(node: Node, graph: Graph) -> str | None:
    """A gate or an attention map: neither factor is a share of the product."""
    if len(computed(node, graph)) > 1:
        return f"the model computes both operands of the {node.op_type}: LRP has no rule for such products"
    if node.op_type == "Div" and not graph.is_constant(node.inputs[1]):
        return "it divides by something that the model computes"
    return None


ACTIVATIONS = (
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Softplus", "HardSigmoid", "HardSwish",
    "LRN", "Neg",
)  # fmt: skip


@rule(*ACTIVATIONS, method="lrp", inputs=(0,))
def passed(step: Step, r: Array) -> Array:
    """Activations pass relevance on."""
    return r


for _op_type in (*MOVEMENT, "MaxPool", "GlobalMaxPool"):
    # Relevance follows the data; at a maximum, to the winner.
    _gradient = registry.rules["", _op_type, "gradient"][0]
    rule(
        _op_type,
        method="lrp",
        needs=" ".join(_gradient.needs),
        inputs=_gradient.inputs,
        refuses=_gradient.refuses,
    )(_gradient.body)
