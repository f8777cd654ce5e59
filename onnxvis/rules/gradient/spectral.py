"""Fourier transforms: linear maps whose matrices follow from the lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

Matrix = np.ndarray[Any, np.dtype[np.float64]]


# Numbers of a transform's matrix: half a gigabyte of float32.
MOST = 2**27


def unlike_a_matrix(node: Node, graph: Graph) -> str | None:
    """A transform that is too long for its matrix, or whose half a spectrum is not that of its length."""
    axis = _axis_of(node, graph)
    bins, length = (graph.shape(name)[axis] for name in (node.inputs[0], node.outputs[0]))
    if 4 * bins * length > MOST:
        return f"it transforms {bins} numbers into {length}, and onnxvis does so with a matrix, not an FFT"
    halved = node.attributes.get("onesided") and node.attributes.get("inverse")
    if not halved or bins == length // 2 + 1:
        return None
    return (
        f"it makes {length} numbers of {bins} bins, where {length // 2 + 1} belong to them: "
        "onnxruntime and the specification do not agree on what that gives"
    )


@rule("DFT", inputs=(0,), refuses=unlike_a_matrix)
def fourier(step: Step, g: Array) -> Array:
    """One axis; the last axis holds the real and the imaginary part, or the real part alone."""
    shape, out = step.shape(), step.output_shape()
    axis = _axis_of(step.node, step.graph)
    onesided, inverse = step.attribute("onesided", 0), step.attribute("inverse", 0)
    if onesided and inverse:
        length = out[axis]
        matrix = _from_half_spectrum(shape[axis], length)
    else:
        length = int(np.ravel(step.known(1, shape[axis]))[0])
        matrix = fourier_matrix(shape[axis], shape[-1], length, out[axis], bool(inverse))
    others = [i for i in range(len(shape) - 1) if i != axis]
    order = [*others, axis, len(shape) - 1]
    g = step.transpose(g, order)
    lead = g.shape[:-2]
    rows = step.reshape(g, (*lead, 1, out[axis] * out[-1]))
    rows = step.matmul(rows, step.constant(matrix.T.copy()))
    return step.transpose(
        step.reshape(rows, (*lead, shape[axis], shape[-1])), [int(i) for i in np.argsort(order)]
    )


def _axis_of(node: Node, graph: Graph) -> int:
    """Along which it transforms: an attribute before opset 20, an input since."""
    rank = len(graph.shape(node.inputs[0]))
    if node.opset < 20:
        return int(node.attributes.get("axis", 1)) % rank
    given = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return (-2 if given is None else int(given.ravel()[0])) % rank


def fourier_matrix(n: int, parts: int, length: int, bins: int, inverse: bool = False) -> Matrix:
    """Of the transform of n numbers, padded or cut to a length, to the first bins: (n·parts) × (bins·2).

    parts: 2 for complex numbers (real part first), 1 for real ones.
    """
    turn = np.outer(np.arange(n), np.arange(bins)) % length * (2 * np.pi / length)
    turn = turn if inverse else -turn
    seen = (np.arange(n) < length)[:, None] * (1.0 / length if inverse else 1.0)
    cos, sin = seen * np.cos(turn), seen * np.sin(turn)
    of_real, of_imaginary = np.stack([cos, sin], -1), np.stack([-sin, cos], -1)
    matrix = np.stack([of_real, of_imaginary][:parts], 1)
    return np.ascontiguousarray(matrix.reshape(n * parts, bins * 2))


def _from_half_spectrum(bins: int, length: int) -> Matrix:
    """Of the inverse transform of a real signal's first bins: (bins·2) × length.

    Bins that have a mirrored twin count twice; those without, bin 0 and the middle one, only by
    their real part.
    """
    k = np.arange(bins)
    twice = np.where((k == 0) | (2 * k == length), 1.0, 2.0) / length
    turn = np.outer(k, np.arange(length)) % length * (2 * np.pi / length)
    parts = np.stack([twice[:, None] * np.cos(turn), -twice[:, None] * np.sin(turn)], 1)
    return parts.reshape(bins * 2, length)


def varying_frames(node: Node, graph: Graph) -> str | None:
    """A frame step or length that is not a constant."""
    for i, what in ((1, "frame step"), (3, "frame length")):
        if len(node.inputs) > i and node.inputs[i] and not graph.is_constant(node.inputs[i]):
            return f"the model computes its {what}"
    return None


@rule("STFT", needs="x2", inputs=(0,), refuses=varying_frames)
def short_time_fourier(step: Step, g: Array) -> Array:
    """A convolution of the signal by windowed waves: its transpose."""
    samples, length, parts = step.shape()
    _, frames, bins, _ = step.output_shape()
    frame = _frame_length(step)
    waves = fourier_matrix(frame, parts, frame, bins).reshape(frame, parts, bins * 2)
    kernel = step.constant(waves.transpose(2, 1, 0).copy())
    window = step.input(2)
    kernel = kernel if window is None else kernel * step.reshape(window, (1, 1, frame))
    stride = int(np.ravel(step.known(1))[0])
    slid = Window((frame,), (stride,), (1,), (0,), (length,), (frames,))
    g = step.transpose(step.reshape(g, (samples, frames, bins * 2)), (0, 2, 1))
    return step.transpose(step.conv_transpose(g, kernel, slid), (0, 2, 1))


def _frame_length(step: Step) -> int:
    given = step.known(3)
    if given is not None:
        return int(np.ravel(given)[0])
    inputs = step.node.inputs
    return step.shape(2)[0] if len(inputs) > 2 and inputs[2] else step.shape()[1]
