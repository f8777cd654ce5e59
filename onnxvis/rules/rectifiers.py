"""DeconvNet (Zeiler & Fergus 2013) and guided backpropagation (Springenberg et al. 2014).

Both differ from the gradient at activations only: DeconvNet keeps what is positive on the way back,
whatever the forward pass did; guided backpropagation keeps what is positive of the gradient.

========================================  ==================  ====================================
activation                                deconvnet           guided_backprop
========================================  ==================  ====================================
Relu                                      relu(g)             relu(g) where y > 0
Clip                                      relu(g)             relu(g) where y is inside the limits
HardSigmoid                               relu(g)             relu(gradient)
LeakyRelu, PRelu                          relu(g)             relu(g) where x > 0
HardSwish, Elu, Softplus, Sigmoid, Tanh   relu(gradient)      relu(gradient)
========================================  ==================  ====================================
"""

from __future__ import annotations

from collections.abc import Callable

from onnxvis.ops.primitives import Array

from .gradient import activations as gradient
from .registry import rule
from .step import Step

DECONVNET, GUIDED = "deconvnet", "guided_backprop"


@rule("Relu", "Clip", "HardSigmoid", "LeakyRelu", "PRelu", method=DECONVNET, inputs=(0,))
def rectified(step: Step, g: Array) -> Array:
    return step.positive(g)


@rule("Relu", method=GUIDED, needs="y")
def guided_relu(step: Step, g: Array) -> Array:
    return step.where(step.y > 0, step.positive(g))


@rule("LeakyRelu", "PRelu", method=GUIDED, needs="x", inputs=(0,))
def guided_leaky_relu(step: Step, g: Array) -> Array:
    return step.where(step.x > 0, step.positive(g))


def _positive_gradient(
    body: Callable[[Step, Array], Array], *op_types: str, needs: str, methods: tuple[str, ...]
) -> None:
    """Register "what is positive of the gradient" for activations."""

    def positive_gradient(step: Step, g: Array) -> Array:
        return step.positive(body(step, g))

    for method in methods:
        rule(*op_types, method=method, needs=needs, inputs=(0,))(positive_gradient)


_positive_gradient(gradient.clip, "Clip", needs="y", methods=(GUIDED,))
_positive_gradient(gradient.hard_sigmoid, "HardSigmoid", needs="y", methods=(GUIDED,))
_positive_gradient(gradient.hard_swish, "HardSwish", needs="x", methods=(DECONVNET, GUIDED))
_positive_gradient(gradient.elu, "Elu", needs="x y", methods=(DECONVNET, GUIDED))
_positive_gradient(gradient.softplus, "Softplus", needs="x", methods=(DECONVNET, GUIDED))
_positive_gradient(gradient.sigmoid, "Sigmoid", needs="y", methods=(DECONVNET, GUIDED))
_positive_gradient(gradient.tanh, "Tanh", needs="y", methods=(DECONVNET, GUIDED))
