"""Normalizations, in inference: by the numbers of training, or by those of the tensor itself.

The gradient of the latter is the true one: mean and deviation depend on the tensor, too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array, Shape
from onnxvis.ops.window import Window
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

__all__ = [
    "MICROSOFT", "Layout", "Standardized", "factors", "layout", "not_affine", "standardize", "summed",
]  # fmt: skip

MICROSOFT = "com.microsoft"  # operators that onnxruntime fuses when it optimizes a model

# ---- by the numbers of training ------------------------------------------------------------------


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


# ---- by mean and deviation of the tensor itself --------------------------------------------------


class Layout(NamedTuple):
    """What a node normalizes: the data's ``shape`` for it, the ``axes`` of one set of numbers.

    ``parameters``: the shape in which scale and bias broadcast to the data; None: their own.
    """

    shape: Shape
    axes: tuple[int, ...]
    parameters: Shape | None = None
    epsilon: float = 1e-5
    centred: bool = True
    scaled: bool = True


class Standardized(NamedTuple):
    """(x − mean) / deviation, in the layout's shape, and the deviation (None: not divided by it)."""

    y: Array
    deviation: Array | None


def layout(step: Step) -> Layout:
    """How the node at hand normalizes its data."""
    shape, epsilon = step.shape(), step.attribute("epsilon", 1e-5)
    spatial = tuple(range(2, len(shape)))
    match step.node.op_type:
        case "InstanceNormalization":
            return Layout(shape, spatial, (1, shape[1], *(1,) * len(spatial)), epsilon)
        case "GroupNormalization":
            groups = step.attribute("num_groups")
            grouped = (shape[0], groups, shape[1] // groups, *shape[2:])
            each = 1 if step.node.opset < 21 else grouped[2]  # one scale a group, later a channel
            axes = tuple(range(2, len(grouped)))
            return Layout(grouped, axes, (1, groups, each, *(1,) * len(spatial)), epsilon)
        case "MeanVarianceNormalization":
            axes, scaled = _mean_variance_axes(step), bool(step.attribute("normalize_variance", 1))
            return Layout(shape, axes, epsilon=1e-9, scaled=scaled)
        case "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization":
            first = len(shape) - 1
            epsilon = step.attribute("epsilon", 1e-12)
        case _:
            first = step.attribute("axis", -1) % len(shape)
    centred = "Simplified" not in step.node.op_type and step.node.op_type != "RMSNormalization"
    return Layout(shape, tuple(range(first, len(shape))), None, epsilon, centred)


def _mean_variance_axes(step: Step) -> tuple[int, ...]:
    rank = len(step.shape())
    if step.node.opset < 9:  # an experimental operator then
        return tuple(i for i in range(rank) if i != 1 or step.attribute("across_channels", 0))
    return tuple(sorted(axis % rank for axis in step.attribute("axes") or (0, 2, 3)))


def standardize(step: Step, x: Array, how: Layout) -> Standardized:
    """The data with mean 0 and deviation 1 over the axes (√(variance + ε), as all of them take it)."""
    x = step.reshape(x, how.shape)
    x = x - step.mean(x, how.axes, keepdims=True) if how.centred else x
    if not how.scaled:
        return Standardized(x, None)
    deviation = step.sqrt(step.mean(x * x, how.axes, keepdims=True) + how.epsilon)
    return Standardized(x / deviation, deviation)


def factors(step: Step, position: int, how: Layout) -> Array:
    """The scale, as it broadcasts to the data in the layout's shape."""
    return step.reshape(step.input(position), how.parameters or step.shape(position))


def _through(step: Step, g: Array, found: Standardized, how: Layout) -> Array:
    """The adjoint of ``standardize``: (g − mean(g) − y·mean(g·y)) / deviation."""
    centred = g - step.mean(g, how.axes, keepdims=True) if how.centred else g
    if found.deviation is None:
        return centred
    return (centred - found.y * step.mean(g * found.y, how.axes, keepdims=True)) / found.deviation


def _normalized(
    step: Step, x: Array, g: Array, positions: tuple[int, ...], statistics: tuple[Array | None, ...] = ()
) -> tuple[Array, list[Array | None]]:
    """What goes to the data and to scale and bias, which are the inputs at ``positions``.

    ``statistics``: what arrives at the outputs that hold mean and 1/deviation, where there are any.
    """
    how = layout(step)
    found, g = standardize(step, x, how), step.reshape(g, how.shape)
    parameters: list[Array | None] = [None] * len(positions)
    for k, (position, arrived) in enumerate(zip(positions, (g * found.y, g), strict=False)):
        if step.wants(position):
            total = step.unbroadcast(arrived, how.parameters or step.shape(position))
            parameters[k] = step.reshape(total, step.shape(position))
    g = g * factors(step, positions[0], how) if positions else g
    data = _through(step, g, found, how)
    if statistics:
        data = data + _from_statistics(step, found, how, statistics)
    return step.reshape(data, step.shape()), parameters


def _from_statistics(
    step: Step, found: Standardized, how: Layout, statistics: tuple[Array | None, ...]
) -> Array:
    """Through the mean, and through 1/deviation: −y/deviation² for each of n numbers, over n."""
    mean, inverse = (*statistics, None)[:2]
    count = math.prod(how.shape[axis] for axis in how.axes)
    total = step.zeros(how.shape)
    if mean is not None and how.centred:
        total = total + mean * (1.0 / count)
    if inverse is not None and found.deviation is not None:
        total = total - found.y * inverse / (found.deviation * found.deviation * count)
    return total


@rule("InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", needs="xs")
def normalization(step: Step, g: Array) -> tuple[Array | None, ...]:
    """Over all positions of a channel, of a group of channels, or over the axes given."""
    data, parameters = _normalized(step, step.x, g, tuple(range(1, len(step.node.inputs))))
    return data, *parameters


@rule("LayerNormalization", "RMSNormalization", needs="xs")
def layer_normalization(step: Step, g: Array, *statistics: Array | None) -> tuple[Array | None, ...]:
    """Over the last axes (Ba et al. 2016), or by the root mean square alone (Zhang & Sennrich 2019)."""
    data, parameters = _normalized(step, step.x, g, tuple(range(1, len(step.node.inputs))), statistics)
    return data, *parameters


@rule("SimplifiedLayerNormalization", needs="xs")
def simplified_layer_normalization(
    step: Step, g: Array, inverse: Array | None = None
) -> tuple[Array | None, ...]:
    """RMSNormalization as onnxruntime called it first; its second output is 1/deviation."""
    data, parameters = _normalized(step, step.x, g, (1,), (None, inverse))
    return data, *parameters


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", needs="xs", domain=MICROSOFT)
def skip_layer_normalization(
    step: Step, g: Array, mean: Array | None = None, inverse: Array | None = None, total: Array | None = None
) -> tuple[Array | None, ...]:
    """A sum of input, skip and perhaps a bias, normalized; the sum may be an output, too."""
    positions = _summands(step)
    scale = tuple(i for i in range(2, len(step.node.inputs)) if i not in positions)
    data, parameters = _normalized(step, summed(step), g, scale, (mean, inverse))
    data = data if total is None else data + total
    shares: list[Array | None] = [None] * len(step.node.inputs)
    for position, share in zip(scale, parameters, strict=True):
        shares[position] = share
    for position in positions:
        shares[position] = step.unbroadcast(data, step.shape(position)) if step.wants(position) else None
    return tuple(shares)


def _summands(step: Step) -> tuple[int, ...]:
    """Positions of what a SkipLayerNormalization adds up before it normalizes."""
    bias = 3 if step.node.op_type == "SkipSimplifiedLayerNormalization" else 4
    given = len(step.node.inputs) > bias and step.node.inputs[bias]
    return (0, 1, bias) if given else (0, 1)


def summed(step: Step) -> Array:
    """The sum that a SkipLayerNormalization normalizes."""
    total = step.x
    for position in _summands(step)[1:]:
        total = total + step.input(position)
    return total


# ---- by a norm -----------------------------------------------------------------------------------


@rule("LpNormalization", needs="x")
def lp_normalization(step: Step, g: Array) -> Array:
    """x over its norm along an axis: 0 where the norm is, which onnxruntime answers with 0."""
    x, axes = step.x, (step.attribute("axis", -1) % len(step.shape()),)
    if step.attribute("p", 2) == 1:
        slope, norm = step.sign(x), step.sum(step.abs(x), axes, keepdims=True)
    else:
        norm = step.sqrt(step.sum(x * x, axes, keepdims=True))
        slope = x / step.where(norm > 0, norm, 1.0)
    there = step.where(norm > 0, norm, 1.0)
    along = step.sum(g * x, axes, keepdims=True) / there
    return step.where(norm > 0, (g - slope * along) / there)


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
