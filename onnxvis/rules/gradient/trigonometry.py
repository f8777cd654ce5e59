"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


@rule("Sin", needs="x")
def sine(step: Step, g: Array) -> Array:
    return g * step.cos(step.x)


@rule("Cos", needs="x")
def cosine(step: Step, g: Array) -> Array:
    return -(g * step.sin(step.x))


@rule("Tan", needs="y")
def tangent(step: Step, g: Array) -> Array:
    return g * (1.0 + step.y * step.y)


@rule("Asin", needs="x")
def arcsine(step: Step, g: Array) -> Array:
    return g / step.sqrt(1.0 - step.x * step.x)


@rule("Acos", needs="x")
def arccosine(step: Step, g: Array) -> Array:
    return -(g / step.sqrt(1.0 - step.x * step.x))


@rule("Atan", needs="x")
def arctangent(step: Step, g: Array) -> Array:
    return g / (1.0 + step.x * step.x)


@rule("Sinh", needs="x")
def hyperbolic_sine(step: Step, g: Array) -> Array:
    return g * 0.5 * (step.exp(step.x) + step.exp(-step.x))


@rule("Cosh", needs="x")
def hyperbolic_cosine(step: Step, g: Array) -> Array:
    return g * 0.5 * (step.exp(step.x) - step.exp(-step.x))


@rule("Asinh", needs="x")
def hyperbolic_arcsine(step: Step, g: Array) -> Array:
    return g / step.sqrt(step.x * step.x + 1.0)


@rule("Acosh", needs="x")
def hyperbolic_arccosine(step: Step, g: Array) -> Array:
    return g / step.sqrt(step.x * step.x - 1.0)


@rule("Atanh", needs="x")
def hyperbolic_arctangent(step: Step, g: Array) -> Array:
    return g / (1.0 - step.x * step.x)
