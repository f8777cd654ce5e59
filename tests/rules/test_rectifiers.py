"""DeconvNet and guided backpropagation at activations, by their definitions."""

import numpy as np
import pytest
from scipy import special

from onnxvis.engine.host import HostExecutor
from rules.cases import CASES, named, named_pairs, pairs

METHODS = ("deconvnet", "guided_backprop")
SMOOTH = ("HardSwish", "Elu", "Softplus", "Sigmoid", "Tanh")
BY_DIFFERENCE = (
    "Selu", "Celu", "Mish", "Swish", "Gelu", "Softsign", "BiasGelu", "FastGelu", "QuickGelu", "ScaledTanh",
    "ParametricSoftplus",
)  # fmt: skip


def backward(case, method, seed):
    plan = case.plan(method)
    return HostExecutor(plan, np.float64).backward(case.record(), {"y": seed})["x0"]


def passes(case):
    """Where the activation lets a small change of x through."""
    x, y = case.array(0), case.computed[0]
    if case.operator == "Clip":
        return y == x  # the numbers drawn do not lie on a limit
    if case.operator in ("ThresholdedRelu", "Shrink"):
        return y != 0
    return (y > 0) & (y < 1) if case.operator == "HardSigmoid" else x > 0


def slope(case):
    x, given = case.array(0), case.attributes
    if case.operator in BY_DIFFERENCE:
        up, down = (case.run([x + step, *case.arrays[1:]])[0] for step in (1e-5, -1e-5))
        return (up - down) / 2e-5
    match case.operator:
        case "HardSwish":
            return np.where(x > 3, 1, np.where(x > -3, (2 * x + 3) / 6, 0))
        case "Elu":
            return np.where(x > 0, 1, given.get("alpha", 1.0) * np.exp(x))
        case "Softplus":
            return special.expit(x)
        case "Sigmoid":
            return special.expit(x) * special.expit(-x)
    return 1 / np.cosh(x) ** 2


def expected(case, method, g):
    if case.operator in (*SMOOTH, *BY_DIFFERENCE):
        return np.maximum(g * slope(case), 0)
    if method == "deconvnet":
        return np.maximum(g, 0)
    kept = np.where(passes(case), np.maximum(g, 0), 0)
    return kept * case.attributes.get("alpha", 0.2) if case.operator == "HardSigmoid" else kept


@pytest.mark.parametrize(**named_pairs(pairs(METHODS)))
def test_definition(case, method):
    g = case.seed()
    assert (g > 0).any()
    assert (g < 0).any()
    tolerance = 1e-9 if case.operator in BY_DIFFERENCE else 1e-12
    np.testing.assert_allclose(
        backward(case, method, g), expected(case, method, g), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    **named([case for case in CASES if case.operator in ("Conv", "MaxPool", "Gemm", "Add")])
)
def test_elsewhere_both_are_the_gradient(case, method):
    assert case.rule(method) is case.rule("gradient")
