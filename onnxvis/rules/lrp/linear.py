"""Rules for linear operators: any that is registered with ``@linear``, from its forward map and adjoint.

Wᵀ is the adjoint of the map with weights W, so that padding counts as 0 everywhere.  ε of stab(z) is
the setting ``epsilon``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxvis.errors import UsageError
from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array, Shape
from onnxvis.rules.linear_operators import Parts
from onnxvis.rules.registry import computed, lrp_rule, rule
from onnxvis.rules.step import Step

# ---- in proportion to what each input contributed ------------------------------------------------


def over(step: Step, r: Array, z: Array) -> Array:
    """R / stab(z)."""
    return step.quotient(r, z, step.settings["epsilon"])


@lrp_rule("norm", needs="x y", adds=True)
@lrp_rule("epsilon", needs="x y", adds=True)
def epsilon(step: Step, r: Array) -> Array:
    """x · Wᵀ(R / stab(Wx + b)): in proportion to each input's part of the output (Bach et al. 2015)."""
    x, w = step.x, step.w
    return _back(step, over(step, r, _output(step)), [(x, w)])


@lrp_rule("zplus", adds=True)
def zplus(step: Step, r: Array) -> Array:
    """Only what speaks for the output: z = W⁺x⁺ + W⁻x⁻ + b⁺ (Montavon et al. 2017)."""
    x, w = step.x, step.w
    if w is None:  # no weights whose sign could tell: in proportion
        return share(step, r, (x, w), bias=step.bias)
    if step.nonnegative():  # then x⁻ is 0: half of the work
        return share(step, r, (x, step.pos(w)), bias=_positive_bias(step))
    (above, below), (positive, negative) = step.split(x), step.split(w)
    return share(step, r, (above, positive), (below, negative), bias=_positive_bias(step))


def share(step: Step, r: Array, *parts: tuple[Array, Array], bias: Array | None) -> Array:
    """R in proportion to the parts (x, W) of z = Σ Wx + b: Σ x · Wᵀ(R / stab(z))."""
    s = step.linear.quotient(step, r, parts, step.settings["epsilon"], bias)
    return _back(step, s, parts)


def _back(step: Step, s: Array, parts: Parts) -> Array:
    """Σ x · Wᵀs, with what is there if that is all that the rule returns."""
    onto = step.taken()
    if onto is None:
        return step.linear.product(step, s, parts)
    return step.linear.product_onto(step, onto, s, parts)


def _output(step: Step) -> Array:
    """Wx + b: y, except where y is known only as rounded to whole numbers."""
    if step.node.outputs[0] not in step.graph.quantized:
        return step.y
    z = step.forward(step.x, step.w)
    return z if step.bias is None else z + step.bias


def _positive_bias(step: Step) -> Array | None:
    return None if step.bias is None else step.pos(step.bias)


def _weightless(node: Node, graph: Graph) -> str | None:
    return None if len(node.inputs) > 1 else "it has no weights; use epsilon, norm or zplus"


def _differ_by_one(settings: Mapping[str, Any]) -> None:
    alpha, beta = settings["alpha"], settings["beta"]
    if not (_is_number(alpha) and _is_number(beta)) or beta < 0 or abs(alpha - beta - 1) > 1e-9:
        raise UsageError(
            f"alpha_beta takes beta from 0 and alpha = beta + 1, not alpha={alpha!r}, beta={beta!r}"
        )


@lrp_rule("alpha_beta", refuses=_weightless, check=_differ_by_one, alpha=2.0, beta=1.0)
def alpha_beta(step: Step, r: Array) -> Array:
    """α · what speaks for the output (zplus) − β · what speaks against it, α − β = 1 (Bach et al. 2015).

    The latter: z = W⁻x⁺ + W⁺x⁻ + b⁻.
    """
    x, w, beta = step.x, step.w, step.settings["beta"]
    supporting = zplus(step, r)
    if not beta:
        return supporting
    bias = None if step.bias is None else step.neg(step.bias)
    if step.nonnegative():
        opposing = share(step, r, (x, step.neg(w)), bias=bias)
    else:
        opposing = share(step, r, (step.pos(x), step.neg(w)), (step.neg(x), step.pos(w)), bias=bias)
    return supporting * float(step.settings["alpha"]) - opposing * float(beta)


def _positive_gamma(settings: Mapping[str, Any]) -> None:
    gamma = settings["gamma"]
    if not _is_number(gamma) or gamma < 0:
        raise UsageError(f"gamma must be a number from 0, not {gamma!r}")


@lrp_rule("gamma", needs="x y", refuses=_weightless, check=_positive_gamma, gamma=0.25)
def gamma(step: Step, r: Array) -> Array:
    """What speaks for the output counts 1 + γ times (Montavon et al. 2019; both signs: Andéol et al. 2021).

    P = W + γW⁺, N = W + γW⁻.  Where y = Wx + b > 0: z = Px⁺ + Nx⁻ + b + γb⁺, shared by the same parts;
    where y < 0: z = Nx⁺ + Px⁻ + b + γb⁻; where y = 0 nothing goes back.  Both follow from y and
    z⁺ = W⁺x⁺ + W⁻x⁻ + b⁺ ≥ 0: |z| is y + γz⁺ here and −(1 + γ)y + γz⁺ there.
    """
    x, w, y, factor = step.x, step.w, _output(step), float(step.settings["gamma"])
    above, below = (x, None) if step.nonnegative() else step.split(x)
    positive, negative = (factor * part for part in step.split(w))
    for_it = step.forward(above, positive)
    for_it = for_it if below is None else for_it + step.forward(below, negative)
    for_it = for_it if step.bias is None else for_it + factor * step.pos(step.bias)
    size = step.maximum(y, (-1.0 - factor) * y) + step.stabilize(for_it, step.settings["epsilon"])
    share = r / size
    s, t = step.where(y > 0, share), step.where(y < 0, share)  # t: of −z
    p, n = w + positive, -(w + negative)
    found = above * (step.adjoint(s, p) + step.adjoint(t, n))
    return found if below is None else found - below * (step.adjoint(s, n) + step.adjoint(t, p))


# ---- for the first layer -------------------------------------------------------------------------


def _has_bounds(settings: Mapping[str, Any]) -> None:
    if settings["low"] is None or settings["high"] is None:
        raise UsageError(
            "the rule zbox needs low= and high=, the lowest and highest numbers that its layer's input can "
            "hold: a number, one a channel, or an array of its shape"
        )


@lrp_rule("zbox", refuses=_weightless, check=_has_bounds, low=None, high=None)
def zbox(step: Step, r: Array) -> Array:
    """For inputs between l and h: z = Wx − W⁺l − W⁻h, (x − l)·W⁺ᵀs + (x − h)·W⁻ᵀs (Montavon et al. 2017).

    s = R / stab(z).  ``low``, ``high``: a number, one a channel (axis 1), an array of the shape of the
    layer's input, or {tensor: any of these} where several layers have their own.
    """
    x, w = step.x, step.w
    positive, negative = step.pos(w), step.neg(w)
    low, high = _bound(step, "low"), _bound(step, "high")
    z = step.forward(x, w) - step.forward(_everywhere(step, low), positive)
    z = z - step.forward(_everywhere(step, high), negative)
    s = over(step, r, z)
    above, below = x - step.constant(low), x - step.constant(high)
    return step.linear.product(step, s, [(above, positive), (below, negative)])


@lrp_rule("wsquare", refuses=_weightless)
def wsquare(step: Step, r: Array) -> Array:
    """(W²)ᵀ(R / stab(ΣW² + b²)): by the weights, whatever the input was (Montavon et al. 2017)."""
    w: Array = step.w
    square = w * w
    z = step.forward(_everywhere(step, np.ones(())), square)
    z = z if step.bias is None else z + step.bias * step.bias
    return step.adjoint(over(step, r, z), square)


@lrp_rule("flat", refuses=_weightless)
def flat(step: Step, r: Array) -> Array:
    """Evenly: as wsquare with W = 1 and b = 0 (Lapuschkin et al. 2019)."""
    ones = step.constant(np.ones(step.shape(1)))
    return step.adjoint(over(step, r, step.forward(_everywhere(step, np.ones(())), ones)), ones)


def _sample(step: Step) -> Shape:
    """The shape of what is the same for every sample: one of them is enough where samples come first."""
    shape = step.shape()
    return (1, *shape[1:]) if step.linear.layer == "convolution" else shape


def _everywhere(step: Step, bound: np.ndarray[Any, Any]) -> Array:
    """A bound as data for the linear map."""
    return step.constant(np.broadcast_to(bound, np.broadcast_shapes(bound.shape, _sample(step))))


def _bound(step: Step, name: str) -> np.ndarray[Any, Any]:
    """The setting ``low`` or ``high``, so shaped that it broadcasts to the layer's input."""
    given, shape = step.settings[name], step.shape()
    if isinstance(given, Mapping):
        given = given[step.node.inputs[0]]
    bound = np.asarray(given, float)
    if bound.ndim == 1:
        bound = bound.reshape(-1, *(1,) * (len(shape) - 2))
    try:
        fits = np.broadcast_shapes(bound.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            f"{name} has shape {np.shape(given)}, but the input of {step.node.name!r} has {shape}: "
            "give a number, one a channel, or an array of that shape"
        )
    return bound


# ---- unchanged -----------------------------------------------------------------------------------


def _reshapes(node: Node, graph: Graph) -> str | None:
    """Why R cannot go back as it came."""
    sources = [name for name in node.inputs if name and not graph.is_constant(name)]
    if len(sources) > 1:
        return "each of its operands would get all of the relevance"
    if node.op_type == "Div" and not graph.is_constant(node.inputs[1]):
        return "it divides by something that the model computes"
    before, after = graph.value(sources[0]).shape, graph.value(node.outputs[0]).shape
    return None if before == after else f"its output has another shape ({after}) than its input ({before})"


@rule(
    "Add", "Sub", "Sum", "Mul", "Div", "BatchNormalization", "ImageScaler", "AveragePool",
    "GlobalAveragePool", "ReduceMean", "ReduceSum", method="pass", inputs=computed, refuses=_reshapes,
)  # fmt: skip
@lrp_rule("pass", refuses=_reshapes)
def passed(step: Step, r: Array) -> tuple[Array | None, ...]:
    """R as it is, where the output has the shape of the input."""
    return tuple(r if step.wants(i) else None for i in range(len(step.node.inputs)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
