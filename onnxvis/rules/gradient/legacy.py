"""Experimental operators of the first ONNX releases, which old converters' files hold.

onnxruntime still runs them; they have been in no opset since 10.
"""

from __future__ import annotations

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


@rule("ImageScaler", "Scale")
def scaled(step: Step, g: Array) -> Array:
    """scale·x, and a bias a channel where it is an ImageScaler."""
    return g * step.attribute("scale", 1.0)


@rule("Affine")
def affine(step: Step, g: Array) -> Array:
    """alpha·x + beta."""
    return g * step.attribute("alpha", 1.0)


@rule("Crop")
def crop(step: Step, g: Array) -> Array:
    """Without ``border`` (left, top, right, bottom); the size that is left may be given as ``scale``."""
    shape = step.shape()
    left, top, *_ = step.attribute("border")
    height, width = step.output_shape()[2:]
    key = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))
    return step.unslice(g, key, shape)


@rule("ScaledTanh", needs="x")
def scaled_tanh(step: Step, g: Array) -> Array:
    """alpha · tanh(beta·x)."""
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    y = step.tanh(beta * step.x)
    return g * (1.0 - y * y) * (alpha * beta)


@rule("ParametricSoftplus", needs="x")
def parametric_softplus(step: Step, g: Array) -> Array:
    """alpha · log(1 + e^(beta·x))."""
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    return g * step.sigmoid(beta * step.x) * (alpha * beta)
