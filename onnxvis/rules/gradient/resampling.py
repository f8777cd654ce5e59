"""Resize and Upsample: linear maps, one small constant matrix an axis."""

from __future__ import annotations

import math

import numpy as np

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

from .interpolation import Axis, Matrix, matrices


def antialiased(node: Node, graph: Graph) -> str | None:
    return "it filters before it resizes (antialias=1)" if node.attributes.get("antialias", 0) else None


@rule("Resize", "Upsample", inputs=(0,), refuses=antialiased)
def resize(step: Step, g: Array) -> Array:
    """Along every axis the transposed matrix; what only repeats numbers sums up the copies."""
    if step.shape() == step.output_shape() and not _crops(step):
        return g  # whatever the scales are
    found = {
        axis: matrices(geometry, step.node.opset, step.node.attributes)
        for axis, geometry in enumerate(_geometry(step))
        if geometry.scale != 1
    }
    copies = {axis: m.shape[0] // m.shape[1] for axis, (m, _) in found.items() if _repeats(m)}
    g = _summed(step, g, copies)
    for axis in found.keys() - copies:
        g = _along(step, g, axis, *found[axis])
    return g


def _summed(step: Step, g: Array, copies: dict[int, int]) -> Array:
    """Adjoint of repeating every number along some axes."""
    if not copies:
        return g
    split = [
        part for axis, n in enumerate(g.shape) for part in (n // copies.get(axis, 1), copies.get(axis, 1))
    ]
    summed = [2 * axis + 1 for axis in copies]
    kept = tuple(n // copies.get(axis, 1) for axis, n in enumerate(g.shape))
    return step.reshape(step.sum(step.reshape(g, tuple(split)), summed), kept)


def _along(step: Step, g: Array, axis: int, weights: Matrix, transposed: Matrix) -> Array:
    """The adjoint of one axis: g·W where it is the last one, else Wᵀ·g."""
    shape, (resized, length) = g.shape, weights.shape
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if after == 1:
        g = step.matmul(step.reshape(g, (before, resized)), step.constant(weights))
    else:
        rows = step.reshape(g, (before, resized, after))
        g = step.matmul(step.constant(transposed), rows)
    return step.reshape(g, (*shape[:axis], length, *shape[axis + 1 :]))


def _repeats(weights: Matrix) -> bool:
    """True where every number is repeated the same number of times."""
    resized, length = weights.shape
    return resized % length == 0 and np.array_equal(weights, np.repeat(np.eye(length), resized // length, 0))


def _crops(step: Step) -> bool:
    return bool(step.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


def _geometry(step: Step) -> list[Axis]:
    """Lengths, scale and region of interest of every axis."""
    lengths, resized, rank = step.shape(), step.output_shape(), len(step.shape())
    axes = [axis % rank for axis in step.attribute("axes") or range(rank)]
    scales = dict(zip(axes, _scales(step, axes), strict=True))
    roi = step.known(1) if len(step.node.inputs) > 2 else None
    ends = {}
    if _crops(step) and roi is not None:
        ends = {axis: (float(roi[i]), float(roi[i + len(axes)])) for i, axis in enumerate(axes)}
    return [Axis(lengths[i], resized[i], scales.get(i, 1.0), *ends.get(i, (0.0, 1.0))) for i in range(rank)]


def _scales(step: Step, axes: list[int]) -> list[float]:
    """One number an axis: given, or what follows from the sizes."""
    position = 1 if step.node.opset < 11 else 2
    scales = step.attribute("scales")  # Upsample of opset 7
    scales = step.known(position) if scales is None else scales
    if scales is not None and len(scales):
        return [float(scale) for scale in scales]
    policy = step.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [step.output_shape()[axis] / step.shape()[axis] for axis in axes]
    ratios = [int(size) / step.shape()[axis] for size, axis in zip(step.known(3), axes, strict=True)]
    return [min(ratios) if policy == "not_larger" else max(ratios)] * len(axes)
