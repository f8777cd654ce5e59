"""Normalizations that onnx.reference lacks, or does otherwise than onnxruntime, and their frozen form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .case import Case

Array = np.ndarray[Any, Any]


def mean_variance(case: Case, x: Array) -> Array:
    """Below opset 9 an experimental form: over all samples, and over all channels on demand."""
    given = case.attributes
    axes = tuple(given.get("axes", (0, 1, 2, 3) if given.get("across_channels") else (0, 2, 3)))
    centred = x - x.mean(axes, keepdims=True)
    if not given.get("normalize_variance", 1):
        return centred
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-9)


def absolute(case: Case, x: Array) -> Array:
    return x / np.abs(x).sum(case.attributes["axis"], keepdims=True)


def group(case: Case, x: Array, scale: Array, bias: Array) -> Array:
    """Group by group; opset 18 has one scale for each, later ones one a channel."""
    size = x.shape[1] // case.attributes["num_groups"]
    y = np.empty_like(x)
    for n, c in np.ndindex(*x.shape[:2]):
        first = c // size * size
        part, i = x[n, first : first + size], c if len(scale) == x.shape[1] else c // size
        deviation = np.sqrt(part.var() + case.attributes.get("epsilon", 1e-5))
        y[n, c] = (x[n, c] - part.mean()) / deviation * scale[i] + bias[i]
    return y


def root_mean_square(case: Case, x: Array, scale: Array) -> list[Array]:
    inverse = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + case.attributes.get("epsilon", 1e-5))
    return [x * inverse * scale, inverse][: case.outputs]


def skip_layer(
    case: Case, x: Array, skip: Array, scale: Array, beta: Array | None = None, bias: Array | None = None
) -> list[Array]:
    total = x + skip + (0.0 if bias is None else bias)
    mean = total.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt(total.var(-1, keepdims=True) + case.attributes.get("epsilon", 1e-12))
    y = (total - mean) * inverse * scale + (0.0 if beta is None else beta)
    return [y, mean, inverse, total][: case.outputs]


def skip_root_mean_square(
    case: Case, x: Array, skip: Array, scale: Array, bias: Array | None = None
) -> list[Array]:
    return root_mean_square(case, x + skip + (0.0 if bias is None else bias), scale)


# ---- frozen --------------------------------------------------------------------------------------


def frozen(case: Case) -> Array:
    """∂y/∂x (y by x, flat) where the deviation does not change: centring, then one factor a number."""
    x = case.array(0)
    groups = sets_of_numbers(case)
    centring = np.zeros((x.size, x.size))
    for members in groups:
        centring[np.ix_(members, members)] = np.eye(len(members))
        if "RMS" not in case.operator and "Simplified" not in case.operator:
            centring[np.ix_(members, members)] -= 1 / len(members)
    total = x + sum(case.array(i) for i in added(case)) + bias(case)
    centred = centring @ total.ravel()
    deviation = np.ones(x.size)
    for members in groups:
        if case.attributes.get("normalize_variance", 1):
            deviation[members] = np.sqrt((centred[members] ** 2).mean() + epsilon(case))
    return centring * (scale(case) / deviation)[:, None]


def added(case: Case) -> tuple[int, ...]:
    return (1,) if case.operator.startswith("Skip") else ()


def bias(case: Case) -> Any:
    """What a SkipLayerNormalization adds to the sum."""
    if not added(case):
        return 0.0
    position = 3 if "Simplified" in case.operator else 4
    return case.array(position) if len(case.given) > position else 0.0


def folded(array: Array, shape: tuple[int, ...]) -> Array:
    """Summed over the axes along which ``shape`` was stretched."""
    stretched = tuple(i for i, n in enumerate(shape) if n != array.shape[i])
    return array.sum(stretched, keepdims=True)


def epsilon(case: Case) -> float:
    if case.operator.startswith("MeanVariance"):
        return 1e-9
    return case.attributes.get("epsilon", 1e-12 if case.operator.startswith("Skip") else 1e-5)


def scale(case: Case) -> Array:
    """One factor a number of the data."""
    x = case.array(0)
    match case.operator:
        case "MeanVarianceNormalization":
            return np.ones(x.size)
        case "InstanceNormalization" | "GroupNormalization":
            each = x.shape[1] // len(case.array(1))
            channels = np.repeat(case.array(1), each)
            return np.broadcast_to(channels.reshape(-1, *(1,) * (x.ndim - 2)), x.shape).ravel()
    return np.broadcast_to(case.array(2 if added(case) else 1), x.shape).ravel()


def sets_of_numbers(case: Case) -> list[Array]:
    """Flat positions of what shares one mean and deviation."""
    x, given = case.array(0), case.attributes
    labels = np.indices(x.shape)
    match case.operator:
        case "InstanceNormalization":
            keep = [labels[0], labels[1]]
        case "GroupNormalization":
            keep = [labels[0], labels[1] // (x.shape[1] // given["num_groups"])]
        case "MeanVarianceNormalization" if case.opset < 9:
            keep = [] if given["across_channels"] else [labels[1]]
        case "MeanVarianceNormalization":
            axes = {axis % x.ndim for axis in given.get("axes", (0, 2, 3))}
            keep = [labels[i] for i in range(x.ndim) if i not in axes]
        case _:
            keep = [labels[i] for i in range(given.get("axis", -1) % x.ndim)]
    label = np.zeros(x.shape, int)
    for part in keep:
        label = label * (int(part.max()) + 1) + part
    return [np.flatnonzero(label.ravel() == value) for value in np.unique(label)]
