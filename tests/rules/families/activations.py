"""Activations, and softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rules.case import Case, apart, normal, positive


def _each(operators: Sequence[str], opset: int, given: Sequence[Any], form: str = "") -> Iterator[Case]:
    for operator in operators:
        yield Case(operator, opset, given, form=form)


def cases() -> Iterator[Case]:
    kinked = ("Relu", "Abs", "Neg", "Elu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Erf", "Exp")
    yield from _each(kinked, 13, [apart(2, 3, 4)])
    yield from _each(("Log", "Sqrt", "Reciprocal"), 13, [positive(2, 5)])
    yield Case("Relu", 6, [apart(2, 3, 4, 4)])
    yield Case("Relu", 14, [apart(5)], form="vector")
    yield Case("LeakyRelu", 6, [apart(2, 3)], {"alpha": 0.25}, "alpha")
    yield Case("LeakyRelu", 16, [apart(2, 3)], {"alpha": -0.5}, "negative alpha")
    yield Case("Elu", 6, [apart(2, 3)], {"alpha": 0.75}, "alpha")
    yield Case("PRelu", 6, [apart(2, 3, 4, 4), apart(3)], form="a slope a channel")
    yield Case("PRelu", 6, [apart(2, 3, 4), apart(1)], form="one slope")
    yield Case("PRelu", 9, [apart(2, 3, 4, 4), apart(3, 1, 1)], form="a slope a channel")
    yield Case("PRelu", 16, [apart(2, 3, 4), apart(4)], form="along the last axis")
    yield Case("PRelu", 16, [apart(2, 3), apart(2, 3)], form="a slope a number")
    yield Case("PRelu", 16, [apart(2, 3), np.array([0.25])], form="constant slope")
    yield Case("Clip", 6, [apart(2, 3, 4)], {"min": 0.0, "max": 1.0}, "both")
    yield Case("Clip", 6, [apart(2, 3, 4)], {"min": -0.1}, "from below")
    yield Case("Clip", 6, [apart(2, 3, 4)], {"max": 0.1}, "from above")
    yield Case("Clip", 6, [apart(2, 3, 4)], form="neither")
    yield Case("Clip", 11, [apart(2, 3, 4), np.array(-0.2), np.array(0.25)], form="both")
    yield Case("Clip", 11, [apart(2, 3, 4), None, np.array(0.25)], form="from above")
    yield Case("Clip", 13, [apart(2, 3, 4), np.array(0.0)], form="from below")
    yield Case("Clip", 13, [apart(2, 3, 4)], form="neither")
    yield Case("Clip", 13, [lambda rng: 4 * apart(2, 20)(rng), np.array(0.0), np.array(6.0)], form="relu6")
    yield Case("HardSigmoid", 6, [lambda rng: 3 * apart(3, 7)(rng)])
    yield Case("HardSigmoid", 22, [apart(3, 7)], {"alpha": 0.5, "beta": 0.4}, "alpha and beta")
    yield Case("HardSwish", 14, [lambda rng: 2.6 * apart(3, 9)(rng)])
    yield from _more()
    yield from _trigonometry()
    for operator in ("Softmax", "LogSoftmax"):
        yield Case(operator, 11, [normal(2, 3, 4)], form="all but the first axis")
        yield Case(operator, 11, [normal(2, 3, 4)], {"axis": 2}, "last axis")
        yield Case(operator, 7, [normal(2, 3, 2, 2)], {"axis": 0}, "everything")
        yield Case(operator, 11, [normal(2, 3, 4)], {"axis": -2}, "negative axis")
        yield Case(operator, 13, [normal(2, 3, 4)])
        yield Case(operator, 13, [normal(2, 3, 4)], {"axis": 1}, "axis 1")
        yield Case(operator, 13, [normal(4)], form="vector")


def _more() -> Iterator[Case]:
    x = [lambda rng: 2 * apart(2, 3, 4)(rng)]
    for opset in (1, 6, 22):
        yield Case("Selu", opset, x)
    yield Case("Selu", 6, x, {"alpha": 2.0, "gamma": 0.5}, "alpha gamma")
    yield Case("Celu", 12, x)
    yield Case("Celu", 12, x, {"alpha": 0.5}, "alpha")
    yield Case("ThresholdedRelu", 10, x)
    yield Case("ThresholdedRelu", 22, [lambda rng: apart(2, 9)(rng) - 0.5], {"alpha": -0.5}, "alpha")
    yield Case("Shrink", 9, [lambda rng: 2 * apart(2, 9)(rng)])
    yield Case("Shrink", 9, [apart(2, 9)], {"lambd": 0.25, "bias": 0.125}, "bias")
    for operator, opset in (("Mish", 18), ("Swish", 24), ("Gelu", 20), ("Softsign", 1), ("Softsign", 22)):
        yield Case(operator, opset, x)
    yield Case("Swish", 24, x, {"alpha": 1.5}, "alpha")
    yield Case("Gelu", 20, x, {"approximate": "tanh"}, "tanh")
    yield Case("SwiGLU", 28, [*x, normal(2, 3, 4)])
    yield Case("SwiGLU", 28, [*x, normal(2, 3, 4)], {"alpha": 1.5}, "alpha")
    yield Case("Gelu", 1, x, domain="com.microsoft")
    yield Case("BiasGelu", 1, [*x, normal(4)], domain="com.microsoft")
    yield Case("FastGelu", 1, x, domain="com.microsoft")
    yield Case("QuickGelu", 1, x, domain="com.microsoft")
    yield Case("QuickGelu", 1, x, {"alpha": 1.0}, "silu", domain="com.microsoft")
    yield Case("FastGelu", 1, [*x, normal(4)], form="bias", domain="com.microsoft")


def _trigonometry() -> Iterator[Case]:
    yield from _each(("Sin", "Cos", "Tan", "Asin", "Acos", "Atan"), 7, [lambda rng: 0.45 * apart(2, 5)(rng)])
    yield from _each(("Sinh", "Cosh", "Asinh", "Atanh"), 9, [lambda rng: 0.45 * apart(2, 5)(rng)])
    yield Case("Acosh", 9, [lambda rng: 1 + positive(2, 5)(rng)])
    yield Case("Sin", 22, [lambda rng: 5 * apart(3, 4)(rng)], form="several periods")
