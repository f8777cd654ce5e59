"""GridSample and AffineGrid (spatial transformers, Jaderberg et al. 2015).

A point of the grid reads a few numbers of the picture, the *taps*, each with a weight that depends on
where the point lies.  Places and weights are worked out in NumPy: where the model computes the grid,
only the host executor has it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

from .interpolation import keys

__all__ = ["Taps", "channels_first", "pixels_first", "spread"]

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Taps(NamedTuple):
    """What each of K outputs reads, T numbers each, of a matrix with one row a position.

    ``rows``, ``weights``: K×T; ``slopes``: K×T×D, the weights' derivatives along the D spatial axes.
    """

    rows: np.ndarray[Any, Any]
    weights: Floats
    slopes: Floats


def pixels_first(step: Step, x: Array) -> Array:
    """N×C×… as a matrix of one row a position and one column a channel."""
    rank, channels = len(x.shape), x.shape[1]
    rows = step.transpose(x, (0, *range(2, rank), 1))
    return step.reshape(rows, (math.prod(x.shape) // channels, channels))


def channels_first(step: Step, rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of ``pixels_first`` for an array of this shape."""
    split = step.reshape(rows, (shape[0], *shape[2:], shape[1]))
    return step.transpose(split, (0, len(shape) - 1, *range(1, len(shape) - 1)))


def spread(step: Step, g: Array, taps: Taps, shape: tuple[int, ...]) -> Array:
    """Adjoint of reading: g (K×C) to the places that were read of an array of ``shape`` (N×C×…)."""
    count = math.prod(shape) // shape[1]
    total = None
    for rows, weights in zip(taps.rows.T, taps.weights.T, strict=True):
        part = step.put(g * step.constant(weights[:, None]), step.constant(np.ascontiguousarray(rows)), count)
        total = part if total is None else total + part
    return channels_first(step, total, shape)


@rule("GridSample", needs="xs")
def grid_sample(step: Step, g: Array) -> tuple[Array | None, Array | None]:
    """To the picture through the weights, to the grid through their slopes (none for "nearest")."""
    taps, rows = _taps(step), pixels_first(step, g)
    picture = spread(step, rows, taps, step.shape()) if step.wants(0) else None
    if not step.wants(1):
        return picture, None
    x = pixels_first(step, step.x)
    total = step.zeros((rows.shape[0], taps.slopes.shape[2]))
    for tap in range(taps.rows.shape[1]):
        read = step.take(x, step.constant(np.ascontiguousarray(taps.rows[:, tap])))
        total = total + step.sum(rows * read, (1,), keepdims=True) * step.constant(taps.slopes[:, tap])
    # A grid holds the last axis's coordinate first.
    return picture, step.reshape(step.slice(total, (slice(None), slice(None, None, -1))), step.shape(1))


rule("GridSample", needs="xs", domain="com.microsoft")(grid_sample)  # as it came before opset 16


def _taps(step: Step) -> Taps:
    """The taps of every point: the products of those along each axis."""
    grid = step.content(1).astype(np.float64)
    sizes, samples = step.shape()[2:], step.shape()[0]
    points = grid.reshape(-1, len(sizes))[:, ::-1]
    axes = [_axis(step, points[:, axis], n) for axis, n in enumerate(sizes)]
    rows, weights, slopes = [], [], []
    sample = np.repeat(np.arange(samples), len(points) // samples)
    for chosen in itertools.product(*(range(axis.rows.shape[1]) for axis in axes)):
        place, each = sample, []
        for axis, tap, n in zip(axes, chosen, sizes, strict=True):
            place = place * n + axis.rows[:, tap]
            each.append((axis.weights[:, tap], axis.slopes[:, tap, 0]))
        rows.append(place)
        weights.append(np.prod([weight for weight, _ in each], axis=0))
        slopes.append(np.stack([_product_rule(each, i) for i in range(len(sizes))], axis=1))
    return Taps(np.stack(rows, 1), np.stack(weights, 1), np.stack(slopes, 1))


def _product_rule(each: list[tuple[Floats, Floats]], axis: int) -> Floats:
    parts = [slope if i == axis else weight for i, (weight, slope) in enumerate(each)]
    return np.asarray(np.prod(parts, axis=0))


def _axis(step: Step, points: Floats, length: int) -> Taps:
    """The taps along one axis; slopes are those by the grid's own coordinate, from −1 to 1."""
    aligned, mode = step.attribute("align_corners", 0), step.attribute("mode", "linear")
    padding = step.attribute("padding_mode", "zeros")
    ends = (0.0, length - 1.0) if aligned else (-0.5, length - 0.5)
    at = (points + 1) / 2 * (length - 1) if aligned else ((points + 1) * length - 1) / 2
    at = np.rint(at) if mode == "nearest" else at
    turned = np.full(at.shape, (length - 1) / 2 if aligned else length / 2)
    outside = (at < ends[0]) | (at > ends[1])
    if padding == "border" and mode not in ("cubic", "bicubic"):  # whose taps are moved one by one
        at, turned = np.where(outside, np.clip(at, 0, length - 1), at), np.where(outside, 0, turned)
    elif padding == "reflection":
        folded, sign = _reflected(at, *ends)
        at, turned = np.where(outside, folded, at), np.where(outside, sign * turned, turned)
    # No tap of what lies farther out counts, and numbers this size are still whole ones.
    at = np.clip(np.nan_to_num(at), -4, length + 4)
    first = np.floor(at).astype(np.int64)
    rest = at - first
    match mode:
        case "nearest":
            offsets, weights, slopes = [0], [np.ones(at.shape)], [np.zeros(at.shape)]
        case "linear" | "bilinear":
            offsets, weights = [0, 1], [1 - rest, rest]
            slopes = [np.full(at.shape, -1.0), np.full(at.shape, 1.0)]
        case _:
            offsets = [-1, 0, 1, 2]
            weights = [keys(np.abs(rest - offset), -0.75) for offset in offsets]
            slopes = [_keys_slope(rest - offset, -0.75) for offset in offsets]
    rows = first[:, None] + offsets
    inside = (rows >= 0) & (rows < length)
    if padding == "reflection":
        rows = np.where(inside, rows, _reflected(rows.astype(float), *ends)[0].astype(np.int64))
    counted = inside if padding == "zeros" else np.ones_like(inside)
    return Taps(
        np.clip(rows, 0, length - 1),
        np.stack(weights, 1) * counted,
        (np.stack(slopes, 1) * counted * turned[:, None])[..., None],
    )


def _reflected(at: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Folded at both ends until it lies between them, and which way it then runs (1 or −1)."""
    span = high - low
    if span <= 0:
        return np.full(at.shape, low), np.zeros(at.shape)
    turns = np.mod(at - low, 2 * span)
    back = turns > span
    return low + np.where(back, 2 * span - turns, turns), np.where(back, -1.0, 1.0)


def _keys_slope(distance: Floats, a: float) -> Floats:
    """The derivative of Keys' cubic kernel."""
    d = np.abs(distance)
    near, far = 3 * (a + 2) * d * d - 2 * (a + 3) * d, 3 * a * d * d - 10 * a * d + 8 * a
    return np.asarray(np.sign(distance) * np.where(d <= 1, near, np.where(d < 2, far, 0.0)))


@rule("AffineGrid", inputs=(0,))
def affine_grid(step: Step, g: Array) -> Array:
    """Grid = base · θᵀ: linear in θ (N×2×3 or N×3×4), for points (x, y, …, 1) of a regular base."""
    samples, rank, homogeneous = step.shape()
    sizes = [int(n) for n in np.ravel(step.known(1))[2:]]
    axes = [_even(n, bool(step.attribute("align_corners", 0))) for n in sizes]
    places = [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")][::-1]
    base = np.stack([*places, np.ones(math.prod(sizes))], axis=1)
    rows = step.transpose(step.reshape(g, (samples, len(base), rank)), (0, 2, 1))
    return step.reshape(step.matmul(rows, step.constant(base)), (samples, rank, homogeneous))


def _even(length: int, aligned: bool) -> Floats:
    """Coordinates from −1 to 1: of the first to the last pixel's centre, or of the outer edges."""
    if aligned:
        return np.linspace(-1.0, 1.0, length)
    return (2 * np.arange(length) + 1) / length - 1
