"""Quantisation, on numbers that are whole multiples of the scale: there rounding changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rules.case import Array, Case, Draw

SCALES = {"": np.array(0.25), "per axis": np.array([0.25, 0.5, 2.0]), "one in a vector": np.array([0.25])}


def whole(*shape: int, low: int = -100, high: int = 155) -> Draw:
    """Whole numbers as float64, both ends among them."""

    def draw(rng: np.random.Generator) -> Array:
        numbers = rng.integers(low, high + 1, shape).astype(float)
        numbers.flat[:2] = low, high
        return numbers

    return draw


def times(draw: Draw, scale: Array) -> Draw:
    return lambda rng: draw(rng) * scale


def cases() -> Iterator[Case]:
    shape = (2, 3, 4)
    for form, scale in SCALES.items():
        column = scale.reshape(-1, 1) if scale.size > 1 else scale
        for dtype, zero, low, high in ((np.uint8, 100, -100, 155), (np.int8, -3, -125, 130)):
            x = times(whole(*shape, low=low, high=high), column)
            zeros = np.full(scale.shape, zero, dtype)
            named = f"{np.dtype(dtype)} {form}".strip()
            yield Case("QuantizeLinear", 13, [x, scale, zeros], form=named)
            integers = [_as(dtype, whole(*shape, low=low + zero, high=high + zero)), scale, zeros]
            yield Case("DequantizeLinear", 13, integers, form=named)
    axis: dict[str, Any] = {"axis": 2}
    scale = np.array([1.0, 2.0, 0.5, 0.25])
    yield Case("QuantizeLinear", 13, [times(whole(*shape, low=0, high=255), scale), scale], axis, "no zero")
    integers = [_as(np.int8, whole(*shape, low=-128, high=127)), scale]
    yield Case("DequantizeLinear", 13, integers, {"axis": -1}, "no zero")
    blocks = np.array([[[0.25, 4.0]] * 3] * 2)  # the second block is cut off
    spread = np.repeat(blocks, 3, axis=2)[..., :4]
    blocked = {"axis": 2, "block_size": 3}
    zeros = np.full(blocks.shape, 7, np.int8)
    x = times(whole(*shape, low=-120, high=120), spread)
    yield Case("QuantizeLinear", 21, [x, blocks, zeros], blocked, "in blocks")
    integers = [_as(np.int8, whole(*shape, low=-120, high=120)), blocks, zeros]
    yield Case("DequantizeLinear", 21, integers, blocked, "in blocks")
    yield Case("DynamicQuantizeLinear", 11, [times(whole(2, 5), np.array(0.125))], outputs=3)


def _as(dtype: Any, draw: Draw) -> Draw:
    return lambda rng: draw(rng).astype(dtype)
