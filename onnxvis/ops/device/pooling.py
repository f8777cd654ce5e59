"""Windows that slide: sums over each, their adjoint, and the way back through maxima."""

from __future__ import annotations

import math

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window

from .geometry import Owned, fixed_windows, gathering, geometry, index_type
from .gpu import Gpu

__all__ = ["Pooling"]


class Pooling:
    """Of contiguous arrays: by kernels for the windows that nets have most, or by general ones."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.xp = gpu, gpu.xp

    def sum(self, x: Array, window: Window) -> Array:
        """``Ops.window_sum``."""
        planes = math.prod(x.shape[:2])
        result = self.xp.empty((*x.shape[:2], *window.size_out), x.dtype)
        if fixed := fixed_windows(window, planes):
            self._fixed("window_sum", fixed.windows, x, result)
        else:
            index = index_type(x.size, result.size, window=window)
            self.gpu.launch_indexed(
                "window_sum", x.dtype, index, result.size, x, result, geometry(window, index)
            )
        return result

    def spread(self, g: Array, window: Window) -> Array:
        """``Ops.window_spread``."""
        planes = math.prod(g.shape[:2])
        result = self.xp.empty((*g.shape[:2], *window.size_in), g.dtype)
        if fixed := fixed_windows(window, planes):
            self._fixed("window_spread", fixed.inputs, g, result)
        else:
            index, threads = index_type(g.size, result.size, window=window), gathering(planes, window)
            self.gpu.launch_indexed(
                "window_spread", g.dtype, index, threads, g, result, geometry(window, index)
            )
        return result

    def route(self, g: Array, x: Array, window: Window) -> Array:
        """``Ops.max_route``."""
        planes = math.prod(g.shape[:2])
        result = self.xp.empty(x.shape, g.dtype)
        if fixed := fixed_windows(window, planes):
            first = self.xp.empty(g.shape, np.uint8)
            self._fixed("max_first", fixed.windows, x, first)
            self._fixed("max_route", fixed.inputs, g, first, result)
        else:
            index, threads = index_type(x.size, g.size, window=window), gathering(planes, window)
            first, shape = self.xp.empty(g.shape, index.dtype), geometry(window, index)
            self.gpu.launch_indexed("max_first", x.dtype, index, first.size, x, first, shape)
            self.gpu.launch_indexed("max_route", g.dtype, index, threads, g, first, result, shape)
        return result

    def _fixed(self, kernel: str, owned: Owned, first: Array, *others: Array) -> None:
        """A kernel's version for windows of a fixed size, for numbers of the first array's dtype."""
        given = first, *others, owned.sliding, np.int32(owned.threads)
        self.gpu.launch(f"{kernel}_fixed", first.dtype, owned.variant, owned.threads, *given)
