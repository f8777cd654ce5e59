"""Activations: one number in, one number out (and softmax)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

# ---- piecewise linear: which piece, read off the output where it tells --------------------------


@rule("Relu", needs="y", gate="gradient")
def relu(step: Step, g: Array) -> Array:
    return step.gate(g, step.y)


@rule("LeakyRelu", needs="x")
def leaky_relu(step: Step, g: Array) -> Array:
    return step.where(step.x > 0, g, g * step.attribute("alpha", 0.01))


@rule("PRelu", needs="x w")
def prelu(step: Step, g: Array) -> tuple[Array, Array | None]:
    slope = step.reshape(step.w, _slope_shape(step))
    data = step.where(step.x > 0, g, g * slope)
    if not step.wants(1):
        return data, None
    g = step.unbroadcast(step.where(step.x > 0, 0.0 * g, g * step.x), slope.shape)
    return data, step.reshape(g, step.shape(1))


def _slope_shape(step: Step) -> tuple[int, ...]:
    """Opset < 7 gives one slope a channel as a plain vector; later ones broadcast as NumPy does."""
    shape, rank = step.shape(1), len(step.shape(0))
    return (*shape, *(1,) * (rank - 2)) if step.node.opset < 7 and len(shape) == 1 else shape


def clip_limits(step: Step) -> tuple[float, float]:
    """Lower and upper limit of a Clip, from attributes (opset < 11) or inputs."""
    given = [step.known(position) for position in (1, 2)]
    names = zip(("min", "max"), given, (-math.inf, math.inf), strict=True)
    low, high = (step.attribute(name, default) if value is None else value for name, value, default in names)
    return float(np.ravel(low)[0]), float(np.ravel(high)[0])


@rule("Clip", needs="y", inputs=(0,))
def clip(step: Step, g: Array) -> Array:
    return step.between(g, step.y, *clip_limits(step))


@rule("HardSigmoid", needs="y")
def hard_sigmoid(step: Step, g: Array) -> Array:
    return step.between(g * step.attribute("alpha", 0.2), step.y, 0.0, 1.0)


@rule("HardSwish", needs="x")
def hard_swish(step: Step, g: Array) -> Array:
    x = step.x
    return g * step.where(x < 3, step.where(x > -3, x * (1 / 3) + 0.5), 1.0 + 0.0 * x)


@rule("ThresholdedRelu", needs="x")
def thresholded_relu(step: Step, g: Array) -> Array:
    return step.where(step.x > step.attribute("alpha", 1.0), g)


@rule("Shrink", needs="x")
def shrink(step: Step, g: Array) -> Array:
    return step.where(step.abs(step.x) > step.attribute("lambd", 0.5), g)


@rule("Abs", needs="x")
def absolute(step: Step, g: Array) -> Array:
    return g * step.sign(step.x)


# ---- smooth --------------------------------------------------------------------------------------


@rule("Sigmoid", needs="y")
def sigmoid(step: Step, g: Array) -> Array:
    return g * step.y * (1.0 - step.y)


@rule("Tanh", needs="y")
def tanh(step: Step, g: Array) -> Array:
    return g * (1.0 - step.y * step.y)


@rule("Elu", needs="x y")
def elu(step: Step, g: Array) -> Array:
    return step.where(step.x > 0, g, g * (step.y + step.attribute("alpha", 1.0)))


@rule("Selu", needs="x y")
def selu(step: Step, g: Array) -> Array:
    """γ·x, γα(eˣ − 1) below 0; the first version rounded its constants (Klambauer et al. 2017)."""
    rounded = step.node.opset < 6
    alpha = step.attribute("alpha", 1.6732 if rounded else 1.67326319217681884765625)
    gamma = step.attribute("gamma", 1.0507 if rounded else 1.05070102214813232421875)
    return step.where(step.x > 0, g * gamma, g * (step.y + gamma * alpha))


@rule("Celu", needs="x y")
def celu(step: Step, g: Array) -> Array:
    """x, α(e^(x/α) − 1) below 0 (Barron 2017)."""
    return step.where(step.x > 0, g, g * (step.y * (1.0 / step.attribute("alpha", 1.0)) + 1.0))


@rule("Mish", needs="x")
def mish(step: Step, g: Array) -> Array:
    """x·tanh(softplus(x)) (Misra 2019)."""
    x = step.x
    t = step.tanh(step.positive(x) + step.log(1.0 + step.exp(-step.abs(x))))
    return g * (t + x * (1.0 - t * t) * step.sigmoid(x))


@rule("Swish", needs="x")
def swish(step: Step, g: Array) -> Array:
    """x·sigmoid(αx)."""
    return g * _swish_slope(step, step.attribute("alpha", 1.0))


def _swish_slope(step: Step, alpha: float) -> Array:
    scaled = step.x * alpha
    s = step.sigmoid(scaled)
    return s * (1.0 + scaled * (1.0 - s))


@rule("SwiGLU", needs="xs")
def swish_gated(step: Step, g: Array) -> tuple[Array, Array]:
    """Swish of the first operand times the second (Shazeer 2020)."""
    alpha = step.attribute("alpha", 1.0)
    return g * step.w * _swish_slope(step, alpha), g * step.x * step.sigmoid(step.x * alpha)


@rule("QuickGelu", needs="x", domain="com.microsoft")
def quick_gelu(step: Step, g: Array) -> Array:
    """x·sigmoid(αx), as onnxruntime fuses SiLU too."""
    return g * _swish_slope(step, step.attribute("alpha", 1.702))


@rule("Gelu", needs="x")
@rule("Gelu", needs="x", domain="com.microsoft")
def gelu(step: Step, g: Array) -> Array:
    """x·Φ(x), Φ the normal distribution, or its approximation by tanh (Hendrycks & Gimpel 2016)."""
    tanh = step.attribute("approximate", "none") == "tanh"
    return g * (_gelu_slope_by_tanh(step, step.x) if tanh else _gelu_slope(step, step.x))


@rule("BiasGelu", needs="xs", domain="com.microsoft")
def bias_gelu(step: Step, g: Array) -> tuple[Array, Array]:
    """Gelu of x + bias."""
    g = g * _gelu_slope(step, step.x + step.w)
    return g, step.unbroadcast(g, step.shape(1))


@rule("FastGelu", needs="xs", domain="com.microsoft")
def fast_gelu(step: Step, g: Array) -> tuple[Array, Array | None]:
    """Gelu by tanh of x, or of x + bias."""
    biased = len(step.node.inputs) > 1
    g = g * _gelu_slope_by_tanh(step, step.x + step.w if biased else step.x)
    return g, step.unbroadcast(g, step.shape(1)) if biased else None


def _gelu_slope(step: Step, x: Array) -> Array:
    density = step.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * step.erf(x * math.sqrt(0.5)) + 0.5 + x * density


def _gelu_slope_by_tanh(step: Step, x: Array) -> Array:
    slope = math.sqrt(2 / math.pi)
    t = step.tanh(slope * (x + 0.044715 * x * x * x))
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * (slope * (1.0 + 3 * 0.044715 * x * x))


@rule("Softsign", needs="x")
def softsign(step: Step, g: Array) -> Array:
    """x/(1 + |x|)."""
    size = 1.0 + step.abs(step.x)
    return g / (size * size)


@rule("Softplus", needs="x")
def softplus(step: Step, g: Array) -> Array:
    return g * step.sigmoid(step.x)


@rule("Exp", needs="y")
def exponential(step: Step, g: Array) -> Array:
    return g * step.y


@rule("Log", needs="x")
def logarithm(step: Step, g: Array) -> Array:
    return g / step.x


@rule("Sqrt", needs="y")
def square_root(step: Step, g: Array) -> Array:
    return g * 0.5 / step.y


@rule("Reciprocal", needs="y")
def reciprocal(step: Step, g: Array) -> Array:
    return -(g * step.y * step.y)


@rule("Erf", needs="x")
def error_function(step: Step, g: Array) -> Array:
    return g * step.exp(-(step.x * step.x)) * (2 / math.sqrt(math.pi))


@rule("Neg")
def negation(step: Step, g: Array) -> Array:
    return -g


# ---- over an axis --------------------------------------------------------------------------------


def _flat(step: Step, *arrays: Any) -> tuple[tuple[Array, ...], int]:
    """Arrays and the axis along which softmax normalizes: opset < 13 flattens to two axes first."""
    rank = len(step.shape())
    axis = step.attribute("axis", 1 if step.node.opset < 13 else -1) % max(rank, 1)
    if step.node.opset >= 13:
        return arrays, axis
    rows = math.prod(step.shape()[:axis])
    flat = (rows, math.prod(step.shape()[axis:]))
    return tuple(step.reshape(array, flat) for array in arrays), 1


@rule("Softmax", needs="y")
def softmax(step: Step, g: Array) -> Array:
    (y, g), axis = _flat(step, step.y, g)
    return step.reshape(y * (g - step.sum(y * g, [axis], keepdims=True)), step.shape())


@rule("LogSoftmax", needs="y")
def log_softmax(step: Step, g: Array) -> Array:
    (y, g), axis = _flat(step, step.y, g)
    return step.reshape(g - step.exp(y) * step.sum(g, [axis], keepdims=True), step.shape())
