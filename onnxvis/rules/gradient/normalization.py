"""Normalizations, in inference."""

from __future__ import annotations

import math

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


def not_affine(node: Node, graph: Graph) -> str | None:
    """Why a BatchNormalization is not one affine map a channel."""
    if node.attributes.get("training_mode", 0):
        return "it is in training mode, in which it depends on the whole batch; export it for inference"
    if not node.attributes.get("spatial", 1):
        return "it holds parameters for every position (spatial=0), not for every channel"
    return None


@rule("BatchNormalization", needs="xs", refuses=not_affine)
def batch_normalization(step: Step, g: Array, *_: Array) -> tuple[Array | None, ...]:
    """Scale, bias, mean and variance are inputs too; all are numbers per channel (axis 1)."""
    shape = (1, step.shape(1)[0], *(1,) * (len(step.shape()) - 2))
    gamma, _beta, mean, variance = (step.reshape(step.input(i), shape) for i in range(1, 5))
    deviation = step.sqrt(variance + step.attribute("epsilon", 1e-5))
    slope = gamma / deviation
    data = g * slope
    if step.wanted == {0}:
        return (data,)

    def total(array: Array) -> Array:
        return step.reshape(step.unbroadcast(array, shape), step.shape(1))

    centred = step.x - mean
    parameters = (g * centred / deviation, g, -data, data * centred * -0.5 / (deviation * deviation))
    return data, *map(total, parameters)


@rule("LRN", needs="x")
def local_response_normalization(step: Step, g: Array) -> Array:
    """y = x·s^−β, s = k + α/n · Σ x² over n neighbouring channels (Krizhevsky et al. 2012)."""
    size, alpha, beta = step.attribute("size"), step.attribute("alpha", 1e-4), step.attribute("beta", 0.75)
    shape = step.shape()
    flat = (shape[0], 1, shape[1], math.prod(shape[2:]))
    x, g = step.reshape(step.x, flat), step.reshape(g, flat)
    window = Window((size, 1), (1, 1), (1, 1), ((size - 1) // 2, 0), flat[2:], flat[2:])
    s = step.window_sum(x * x, window) * (alpha / size) + step.attribute("bias", 1.0)
    scaled = g * step.power(s, -beta)
    spread = step.window_spread(scaled * x / s, window)
    return step.reshape(scaled - x * spread * (2 * alpha * beta / size), shape)


@rule("ImageScaler")
def image_scaler(step: Step, g: Array) -> Array:
    """scale·x + bias: an experimental operator that WinMLTools' files still hold."""
    return g * step.attribute("scale", 1.0)
