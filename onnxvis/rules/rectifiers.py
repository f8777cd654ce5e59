"""DeconvNet (Zeiler & Fergus 2013) and guided backpropagation (Springenberg et al. 2014).

Both differ from the gradient at activations only: DeconvNet keeps what is positive on the way back,
whatever the forward pass did; guided backpropagation keeps what is positive of the gradient.

========================================  ==================  ====================================
activation                                deconvnet           guided_backprop
========================================  ==================  ====================================
Relu                                      relu(g)             relu(g) where y > 0
Clip                                      relu(g)             relu(g) where y is inside the limits
HardSigmoid, ThresholdedRelu, Shrink      relu(g)             relu(gradient)
LeakyRelu, PRelu                          relu(g)             relu(g) where x > 0
HardSwish, Elu, Selu, Celu, Mish, Swish,  relu(gradient)      relu(gradient)
Gelu, Softplus, Softsign, Sigmoid, Tanh,
ScaledTanh, ParametricSoftplus
========================================  ==================  ====================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnxvis.ops.primitives import Array

from . import gradient  # noqa: F401 - what is registered there is read here
from .registry import registry, rule
from .step import Step

DECONVNET, GUIDED = "deconvnet", "guided_backprop"


@rule("Relu", method=DECONVNET, gate="deconvnet")
@rule("Clip", "HardSigmoid", "ThresholdedRelu", "Shrink", "LeakyRelu", "PRelu", method=DECONVNET, inputs=(0,))
def rectified(step: Step, g: Array) -> Array:
    return step.positive(g)


@rule("Relu", method=GUIDED, needs="y", gate="guided")
def guided_relu(step: Step, g: Array) -> Array:
    return step.gate(g, step.y, rectified=True)


@rule("LeakyRelu", "PRelu", method=GUIDED, needs="x", inputs=(0,))
def guided_leaky_relu(step: Step, g: Array) -> Array:
    return step.gate(g, step.x, rectified=True)


def _positive_gradient(op_types: str, *methods: str, domain: str = "") -> None:
    """Register "what is positive of the gradient" for activations."""
    for op_type in op_types.split():
        found = registry.rules[domain, op_type, "gradient"][0]
        for method in methods:
            body, needs = _positive_part(found.body), " ".join(found.needs)
            rule(op_type, method=method, needs=needs, domain=domain, inputs=(0,))(body)


def _positive_part(body: Callable[..., Any]) -> Callable[[Step, Array], Array]:
    def positive_gradient(step: Step, g: Array) -> Array:
        result = body(step, g)
        return step.positive(result[0] if isinstance(result, tuple) else result)

    return positive_gradient


_positive_gradient("Clip HardSigmoid ThresholdedRelu Shrink", GUIDED)
_positive_gradient("HardSwish Elu Selu Celu Mish Swish Gelu", DECONVNET, GUIDED)
_positive_gradient("Softplus Softsign Sigmoid Tanh ScaledTanh ParametricSoftplus", DECONVNET, GUIDED)
_positive_gradient("Gelu BiasGelu FastGelu QuickGelu", DECONVNET, GUIDED, domain="com.microsoft")
