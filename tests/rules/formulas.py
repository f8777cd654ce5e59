"""What onnx.reference does not compute, or not as the specification says: written out in float64.

Every entry of ``instead`` says why it is there.  ``test_forward`` holds all of them to onnxruntime.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erf, expit, ndtr

from . import normalizing, reading, resampling

if TYPE_CHECKING:
    from .case import Case

Array = np.ndarray[Any, Any]
Formula = Callable[..., Any]


def instead(case: Case) -> Formula | None:
    """The formula that stands in for onnx.reference, None where that serves."""
    opset, given = case.opset, case.attributes
    if case.domain:  # it knows operators of ONNX only
        return FUSED[case.operator]
    match case.operator:
        case operator if operator in LEGACY:  # the reference does not know these operators
            return LEGACY[operator]
        case "MeanVarianceNormalization":  # it mixes float32 with float64
            return normalizing.mean_variance
        case "SimplifiedLayerNormalization":  # nor this operator
            return normalizing.root_mean_square
        case "LpNormalization" if given.get("p", 2) == 1:  # it adds up numbers, not absolute ones
            return normalizing.absolute
        case "GroupNormalization":  # it rounds to float32
            return normalizing.group
        case "GridSample":  # it rounds places to float32 and knows the modes' names of opset 20 only
            return reading.grid_sample
        case "AffineGrid":  # it rounds to float32
            return reading.affine_grid
        case "RoiAlign" if opset < 16:  # it takes the default of opset 16
            return reading.roi_align
        case "MaxRoiPool":  # it does not know the operator
            return reading.max_roi_pool
        case "GlobalLpPool":  # it does not know the operator
            return reading.global_lp_pool
        case "MaxUnpool" if len(case.given) > 2:  # it counts places in the size that no one asked for
            return reading.max_unpool
        case "Erf":  # it rounds to float32
            return lambda case, x: erf(x)
        case "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear":  # it rounds: no slopes
            return QUANTIZATION[case.operator]
        case "Cast":  # a difference of float32 numbers is no derivative
            return lambda case, x: x
        case "Softmax" | "LogSoftmax" if opset < 13:  # it normalizes one axis, as opset 13 does
            return softmax_of_matrix
        case "PRelu" if opset < 7:  # it lines a vector of slopes up with any axis of that length
            return prelu_per_channel
        case "BatchNormalization" if opset < 14:  # it takes the batch's own statistics
            return batch_normalization
        case "LRN":  # it mixes up samples with channels: range(x.shape[0])
            return lrn
        case "ConvTranspose" if given.get("group", 1) > 1 or given.get("output_shape"):  # it fails
            return conv_transpose
        case "MaxPool" | "AveragePool" if given.get("auto_pad") == "SAME_LOWER":  # it rounds sizes down
            return pool
        case "AveragePool" if given.get("auto_pad") == "VALID" and given.get("ceil_mode"):  # it fails
            return pool
        case "GlobalMaxPool":  # it takes the maximum over axes 2 and 3 only, whatever the rank
            return lambda case, x: x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
        case "Dropout" if opset < 7:  # it fails
            return lambda case, x: x
        case "Selu" if opset < 6:  # it takes the constants of opset 6
            return first_selu
        case "Gelu":  # it rounds constants to float32
            return fast_gelu if given.get("approximate") == "tanh" else gelu
        case "GatherElements":  # it fails where indices are smaller than the data
            return gather_elements
        case "Scatter":  # it does not know the operator
            return scatter
        case "Upsample" | "Resize":  # it has no Upsample and no Resize-10, and takes broken output sizes
            return resampling.resize
        case "Pad" if min(_pads(case)) < 0:  # it fails
            return pad
    return None


def image_scaler(case: Case, x: Array) -> Array:
    return case.attributes["scale"] * x + np.reshape(case.attributes["bias"], (1, -1, 1, 1))


def parametric_softplus(case: Case, x: Array) -> Array:
    return case.attributes["alpha"] * np.log1p(np.exp(case.attributes["beta"] * x))


def crop(case: Case, x: Array) -> Array:
    left, top, right, bottom = case.attributes["border"]
    height, width = case.attributes.get("scale", (x.shape[2] - top - bottom, x.shape[3] - left - right))
    return x[:, :, top : top + height, left : left + width]


def softmax_of_matrix(case: Case, x: Array) -> Array:
    axis = case.attributes.get("axis", 1) % x.ndim
    rows = x.reshape(math.prod(x.shape[:axis]), -1)
    logarithm = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return (logarithm if case.operator == "LogSoftmax" else np.exp(logarithm)).reshape(x.shape)


def prelu_per_channel(case: Case, x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, x * slope.reshape(1, -1, *(1,) * (x.ndim - 2)))


def batch_normalization(case: Case, x: Array, *parameters: Array) -> Array:
    scale, bias, mean, variance = (p.reshape(1, -1, *(1,) * (x.ndim - 2)) for p in parameters)
    return scale * (x - mean) / np.sqrt(variance + case.attributes.get("epsilon", 1e-5)) + bias


def lrn(case: Case, x: Array) -> Array:
    given = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, **case.attributes}
    reach = (given["size"] - 1) / 2
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - math.floor(reach)) : c + math.ceil(reach) + 1]
        total = (near**2).sum(axis=1)
        y[:, c] = x[:, c] / (given["bias"] + given["alpha"] / given["size"] * total) ** given["beta"]
    return y


def conv_transpose(case: Case, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Every number stamps the kernel on the output, of which the padding is then cut off."""
    given, rank = case.attributes, x.ndim - 2
    group, strides = given.get("group", 1), given.get("strides", [1] * rank)
    sizes = [s * (n - 1) + k for s, n, k in zip(strides, x.shape[2:], w.shape[2:], strict=True)]
    if "output_shape" in given:
        total = [max(0, full - n) for full, n in zip(sizes, given["output_shape"], strict=True)]
        upper = given.get("auto_pad") == "SAME_UPPER"
        before = [t // 2 if upper else t - t // 2 for t in total]
        shape = given["output_shape"]
    else:
        pads = given.get("pads", [0] * 2 * rank)
        before, shape = pads[:rank], [n - a - b for n, a, b in zip(sizes, pads, pads[rank:], strict=False)]
    inputs, outputs = x.shape[1] // group, w.shape[1]
    full = [max(n, b + m) for n, b, m in zip(sizes, before, shape, strict=True)]
    y = np.zeros((x.shape[0], group * outputs, *full))
    for c, position in itertools.product(range(x.shape[1]), np.ndindex(*x.shape[2:])):
        place = tuple(slice(p * s, p * s + k) for p, s, k in zip(position, strides, w.shape[2:], strict=True))
        first = c // inputs * outputs
        y[(slice(None), slice(first, first + outputs), *place)] += np.multiply.outer(
            x[(slice(None), c, *position)], w[c]
        )
    y = y[(..., *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))]
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def pool(case: Case, x: Array) -> Array:
    """Window by window, for SAME_LOWER and for VALID with ceil_mode."""
    given = case.attributes
    kernel = given["kernel_shape"]
    strides = given.get("strides", [1] * len(kernel))
    if given["auto_pad"] == "SAME_LOWER":
        size = [math.ceil(n / s) for n, s in zip(x.shape[2:], strides, strict=True)]
        total = ((o - 1) * s + k - n for o, s, k, n in zip(size, strides, kernel, x.shape[2:], strict=True))
        pads = [(t - t // 2, t // 2) for t in (max(0, t) for t in total)]
    else:
        size = [math.ceil((n - k) / s) + 1 for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]
        pads = [(0, 0)] * len(size)
    y = np.empty((*x.shape[:2], *size))
    for position, window, padding in _windows(x, size, kernel, strides, pads):
        numbers = math.prod(window.shape[2:])
        if given.get("count_include_pad"):
            numbers += padding
        axes = tuple(range(2, x.ndim))
        y[(..., *position)] = window.max(axes) if case.operator == "MaxPool" else window.sum(axes) / numbers
    return y


def _windows(
    x: Array,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Iterator[tuple[tuple[int, ...], Array, int]]:
    """Position, what the window holds of x, and how many positions of the padding it covers."""
    for position in np.ndindex(*size):
        inside, padded = [], []
        for p, s, k, n, (before, after) in zip(position, strides, kernel, x.shape[2:], pads, strict=True):
            start = p * s - before
            inside.append(slice(max(0, start), min(n, start + k)))
            padded.append(min(n + after, start + k) - max(-before, start))
        window = x[(..., *inside)]
        yield position, window, math.prod(padded) - math.prod(window.shape[2:])


def _pads(case: Case) -> Sequence[int]:
    return case.attributes["pads"] if "pads" in case.attributes else case.given[1]


def pad(case: Case, x: Array, *_: Array) -> Array:
    """Cut first, then pad what is left."""
    pads, rank = list(_pads(case)), x.ndim
    before, after = pads[:rank], pads[rank:]
    x = x[tuple(slice(max(0, -b), n - max(0, -a)) for b, a, n in zip(before, after, x.shape, strict=True))]
    widths = [(max(0, b), max(0, a)) for b, a in zip(before, after, strict=True)]
    return np.pad(x, widths, mode=case.attributes.get("mode", "constant"))


def gather_elements(case: Case, x: Array, indices: Array) -> Array:
    axis = case.attributes.get("axis", 0) % x.ndim
    y = np.empty(indices.shape)
    for place in np.ndindex(*indices.shape):
        y[place] = x[(*place[:axis], indices[place], *place[axis + 1 :])]
    return y


def scatter(case: Case, x: Array, indices: Array, updates: Array) -> Array:
    axis, y = case.attributes.get("axis", 0), x.copy()
    for place in np.ndindex(*indices.shape):
        y[(*place[:axis], indices[place], *place[axis + 1 :])] = updates[place]
    return y


def first_selu(case: Case, x: Array) -> Array:
    return 1.0507 * np.where(x > 0, x, 1.6732 * np.expm1(x))


def gelu(case: Case, x: Array, bias: float | Array = 0.0) -> Array:
    return (x + bias) * ndtr(x + bias)


def quick_gelu(case: Case, x: Array) -> Array:
    return x * expit(case.attributes.get("alpha", 1.702) * x)


def fast_gelu(case: Case, x: Array, bias: float | Array = 0.0) -> Array:
    x = x + bias
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def fused_product(case: Case, a: Array, b: Array) -> Array:
    factors = []
    for side, factor in (("A", a), ("B", b)):
        factor = np.moveaxis(factor, 0, -2) if case.attributes.get(f"transBatch{side}") else factor
        factors.append(factor.swapaxes(-1, -2) if case.attributes.get(f"trans{side}") else factor)
    return case.attributes.get("alpha", 1.0) * (factors[0] @ factors[1])


# The operators of com.microsoft, as its ContribOperators.md defines them.
FUSED: dict[str, Formula] = {
    "Gelu": gelu,
    "BiasGelu": gelu,
    "FastGelu": fast_gelu,
    "QuickGelu": quick_gelu,
    "SkipLayerNormalization": normalizing.skip_layer,
    "SkipSimplifiedLayerNormalization": normalizing.skip_root_mean_square,
    "GridSample": reading.grid_sample,
    "FusedMatMul": fused_product,
    "TransposeMatMul": fused_product,
}


# ---- quantisation, without the rounding ----------------------------------------------------------


def quantize(case: Case, x: Array, scale: Array, zero: Array | None = None) -> Array:
    whole = x / _lined_up(case, scale, x)
    return whole if zero is None else whole + _lined_up(case, zero, x)


def dequantize(case: Case, x: Array, scale: Array, zero: Array | None = None) -> Array:
    x = x if zero is None else x - _lined_up(case, zero, x).astype(float)
    return x * _lined_up(case, scale, x)


def quantize_dynamically(case: Case, x: Array) -> list[Array]:
    """With the scale and zero point that fit the case's own data."""
    data = case.array(0)
    scale = (data.max() - data.min()) / 255
    zero = np.round(-data.min() / scale)
    return [x / scale + zero, np.asarray(scale), zero.astype(np.uint8)]


def _lined_up(case: Case, parameter: Array, x: Array) -> Array:
    """One number for each element of x."""
    axis, size = case.attributes.get("axis", 1), case.attributes.get("block_size")
    if size:
        return np.stack([parameter.take(i // size, axis) for i in range(x.shape[axis])], axis)
    if parameter.size == 1:
        return np.full(x.shape, parameter.item())
    return np.moveaxis(np.broadcast_to(parameter, np.moveaxis(x, axis, -1).shape), -1, axis)


QUANTIZATION: dict[str, Formula] = {
    "QuantizeLinear": quantize, "DequantizeLinear": dequantize, "DynamicQuantizeLinear": quantize_dynamically,
}  # fmt: skip


# Operators of the first releases.
LEGACY: dict[str, Formula] = {
    "ImageScaler": image_scaler,
    "Affine": lambda case, x: case.attributes["alpha"] * x + case.attributes["beta"],
    "Scale": lambda case, x: case.attributes["scale"] * x,
    "ScaledTanh": lambda case, x: case.attributes["alpha"] * np.tanh(case.attributes["beta"] * x),
    "ParametricSoftplus": parametric_softplus,
    "Crop": crop,
}
