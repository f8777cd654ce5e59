"""Operators that move numbers without changing them: what goes back is moved back."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

MOVEMENT = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "CastLike", "Transpose",
    "Concat", "Split", "Slice", "Pad", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Trilu",
)  # fmt: skip


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze", inputs=(0,))
def reshaped(step: Step, g: Array) -> Array:
    return step.reshape(g, step.shape())


def _to_floats(node: Node, graph: Graph) -> tuple[int, ...]:
    """What becomes a whole number does not change with small changes; a picture of bytes goes on as one."""
    dtype = graph.value(node.outputs[0]).dtype
    return () if dtype is not None and dtype.kind in "biu" else (0,)


@rule("Identity")
@rule("Cast", "CastLike", inputs=_to_floats)
def unchanged(step: Step, g: Array) -> Array:
    return g


def _trains(node: Node, graph: Graph) -> str | None:
    mode = node.inputs[2] if len(node.inputs) > 2 else ""
    if not mode or (graph.is_constant(mode) and not graph.constant(mode)):
        return None
    return "it is in training mode, in which it drops numbers at random; export the model for inference"


@rule("Dropout", inputs=(0,), refuses=_trains)
def dropout(step: Step, g: Array, *_: Array) -> Array:
    return g  # in inference it passes its input on


@rule("Transpose")
def transposed(step: Step, g: Array) -> Array:
    axes = step.attribute("perm") or range(len(step.shape()))[::-1]
    return step.transpose(g, [int(axis) for axis in np.argsort(axes)])


@rule("Concat")
def concatenated(step: Step, g: Array) -> tuple[Array | None, ...]:
    axis = step.attribute("axis", 1) % len(g.shape)
    parts, start = [], 0
    for index in range(len(step.node.inputs)):
        stop = start + step.shape(index)[axis]
        parts.append(step.slice(g, _along(g, axis, slice(start, stop))) if step.wants(index) else None)
        start = stop
    return tuple(parts)


@rule("Split", inputs=(0,))
def split(step: Step, *g: Array) -> Array:
    return step.concat(g, step.attribute("axis", 0) % len(step.shape()))


@rule("Expand", inputs=(0,))
def expanded(step: Step, g: Array) -> Array:
    return step.unbroadcast(g, step.shape())


@rule("Tile", inputs=(0,))
def tiled(step: Step, g: Array) -> Array:
    """The sum over all copies."""
    shape, copies = step.shape(), step.output_shape()
    split = [part for n, m in zip(shape, copies, strict=True) for part in (m // n, n)]
    return step.reshape(step.sum(step.reshape(g, tuple(split)), range(0, len(split), 2)), shape)


@rule("DepthToSpace")
def depth_to_space(step: Step, g: Array) -> Array:
    """Blocks back to channels: their rows and columns before the channel (DCR), or after it (CRD)."""
    samples, channels, height, width = step.shape()
    size = step.attribute("blocksize")
    g = step.reshape(g, (samples, channels // size**2, height, size, width, size))
    depth_first = step.attribute("mode", "DCR") == "DCR"
    g = step.transpose(g, (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4))
    return step.reshape(g, step.shape())


@rule("SpaceToDepth")
def space_to_depth(step: Step, g: Array) -> Array:
    """Channels back to blocks, whose rows and columns come before the channel (DCR) or after it (CRD)."""
    samples, channels, height, width = step.shape()
    size = step.attribute("blocksize")
    depth_first = step.attribute("mode", "DCR") == "DCR"
    inside = (size, size, channels) if depth_first else (channels, size, size)
    g = step.reshape(g, (samples, *inside, height // size, width // size))
    return step.reshape(
        step.transpose(g, (0, 3, 4, 1, 5, 2) if depth_first else (0, 1, 4, 2, 5, 3)), step.shape()
    )


@rule("Trilu", inputs=(0,))
def triangle(step: Step, g: Array) -> Array:
    """What is kept: on and above a diagonal, or on and below it."""
    kept = np.triu if step.attribute("upper", 1) else np.tril
    diagonal = int(np.ravel(step.known(1, 0))[0])
    return step.where(step.constant(kept(np.ones(step.shape()[-2:], bool), diagonal)), g)


@rule("Slice", inputs=(0,))
def sliced(step: Step, g: Array) -> Array:
    return step.unslice(g, slice_key(step), step.shape())


def slice_key(step: Step) -> tuple[slice, ...]:
    """What a Slice node cuts out: from attributes (opset < 10) or inputs."""
    shape = step.shape()
    if step.node.opset < 10:
        starts, ends, axes = (step.attribute(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, ends, axes, steps = (step.known(position) for position in (1, 2, 3, 4))
    axes = range(len(starts)) if axes is None else [int(axis) % len(shape) for axis in axes]
    steps = [1] * len(starts) if steps is None else steps
    key = [slice(None)] * len(shape)
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        key[axis] = slice(int(start), int(end), int(stride))
    return tuple(key)


def _along(x: Array, axis: int, part: slice) -> tuple[slice, ...]:
    key: list[Any] = [slice(None)] * len(x.shape)
    key[axis] = part
    return tuple(key)


@rule("Pad", inputs=(0,))
def padded(step: Step, g: Array) -> Array:
    """Padding by a constant is cut off; by mirroring or repeating it is added to where it came from."""
    mode = step.attribute("mode", "constant")
    before, after = pad_widths(step)
    for axis, n in enumerate(step.shape()):
        g = _unpad(step, g, axis, n, before[axis], after[axis], mode)
    return g


def pad_widths(step: Step) -> tuple[list[int], list[int]]:
    """Numbers added (negative: removed) before and after, one an axis."""
    rank = len(step.shape())
    pads = step.attribute("pads", step.attribute("paddings"))  # opset 1 called them paddings
    pads = [int(n) for n in (step.known(1) if pads is None else pads)]
    axes = step.known(3)
    axes = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    return before, after


def _unpad(step: Step, g: Array, axis: int, n: int, before: int, after: int, mode: Any) -> Array:
    """Adjoint of padding one axis of length n."""
    shape = (*g.shape[:axis], n, *g.shape[axis + 1 :])
    kept = _along(g, axis, slice(max(0, before), g.shape[axis] - max(0, after)))
    into = slice(max(0, -before), n - max(0, -after))
    result = step.slice(g, kept)
    if before < 0 or after < 0:
        result = step.unslice(result, _along(result, axis, into), shape)
    if mode == "constant":
        return result
    source = np.pad(np.arange(n)[into], (max(0, before), max(0, after)), mode=mode)
    borders = [*range(max(0, before)), *range(g.shape[axis] - max(0, after), g.shape[axis])]
    for position in borders:  # a few rows: each goes back to the row that it repeats
        row = step.slice(g, _along(g, axis, slice(position, position + 1)))
        origin = int(source[position])
        result = result + step.unslice(row, _along(g, axis, slice(origin, origin + 1)), shape)
    return result
