"""A window as the kernels take it, and the width of the indices that it needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from onnxvis.ops.window import Window

__all__ = ["IndexType", "geometry", "index_type"]

AXES = 3  # spatial axes of a kernel
LIMIT = 2**28  # below it, the sum of an index and a grid's stride, or of a few, does not overflow an int


@dataclass(frozen=True)
class IndexType:
    """An integer type of the kernels; called, it makes such an integer."""

    cpp: str
    dtype: Any

    def __call__(self, value: int) -> Any:
        return self.dtype(value)


SHORT, LONG = IndexType("int", np.int32), IndexType("long long", np.int64)


def index_type(*sizes: int, window: Window | None = None) -> IndexType:
    """The type that can count so many numbers, and reach as far as the window does."""
    if window is not None:
        sizes += tuple(map(abs, window.before)) + window.size_in
        sizes += tuple(o * s for o, s in zip(window.size_out, window.strides, strict=True))
        sizes += tuple(k * d for k, d in zip(window.kernel, window.dilations, strict=True))
    return SHORT if max(sizes, default=0) < LIMIT else LONG


def geometry(window: Window, index: IndexType) -> np.ndarray[Any, Any]:
    """The struct ``Geometry<I>`` of kernels/common.cuh: an array without axes, passed by value."""
    names = [entry.name for entry in fields(window)]
    assert len(window.kernel) <= AXES
    result = np.zeros((), [(name, index.dtype, AXES) for name in names])
    for name in names:
        given = getattr(window, name)
        neutral = 0 if name == "before" else 1
        result[name] = (neutral,) * (AXES - len(given)) + tuple(given)
    return result
