"""Real numbers from whole ones, by the primitives of any executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxvis.graph.ir import Quantized
    from onnxvis.ops.primitives import Array, Ops, Shape

__all__ = ["along", "dequantized"]


def dequantized(quantized: Quantized, ops: Ops, read: Callable[[str], Array]) -> Array:
    """(source − zero point) · scale; ``read`` gives a tensor of the file, or a constant."""
    source = ops.numbers(read(quantized.source))

    def parameter(name: str) -> Array:
        return along(ops, ops.numbers(read(name)), source.shape, quantized.axis, quantized.block_size)

    if quantized.zero_point:
        source = source - parameter(quantized.zero_point)
    return source * parameter(quantized.scale)


def along(ops: Ops, parameter: Array, shape: Shape, axis: int, block_size: int = 0) -> Array:
    """A scale or zero point so shaped that it broadcasts to a tensor of this shape.

    It holds one number, one for each index of ``axis``, or one for each ``block_size`` indices of it
    (the last block may be cut off).
    """
    if block_size:
        axis %= len(shape)
        blocks = tuple(parameter.shape)
        parameter = ops.reshape(parameter, (*blocks[: axis + 1], 1, *blocks[axis + 1 :]))
        parameter = ops.expand(parameter, (*blocks[: axis + 1], block_size, *blocks[axis + 1 :]))
        parameter = ops.reshape(parameter, (*blocks[:axis], blocks[axis] * block_size, *blocks[axis + 1 :]))
        return ops.slice(parameter, tuple(slice(0, n) for n in shape))
    if all(n == 1 for n in parameter.shape):
        return ops.reshape(parameter, ())
    lined_up = [1] * len(shape)
    lined_up[axis] = parameter.shape[0]
    return ops.reshape(parameter, tuple(lined_up))
