"""Sliding windows without weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnxvis.ops.primitives import Shape
from onnxvis.ops.window import Window

from .linear import LinearMaps
from .maxima import max_route
from .values import Routed, Traced

__all__ = ["Pooling"]


class Pooling(LinearMaps):
    """Sums over windows and the way back through a maximum."""

    def window_sum(self, x: Traced, window: Window) -> Traced:
        return self._per_channel(
            x, window.size_in, window.size_out, lambda v: self.conv(v, *_box(self, window))
        )

    def window_spread(self, g: Traced, window: Window) -> Traced:
        shape = (*g.shape[:2], *window.size_in)
        if g.zero:
            return self.zeros(shape)
        one, padded = math.prod(window.size_out) == 1, any(window.before + window.after)
        if one and not padded and window.kernel == window.size_in:
            return self.expand(g, shape)
        if window.plain:
            return self.fitted(self.repeat(g, window.kernel), shape)
        return self._per_channel(
            g, window.size_out, window.size_in, lambda v: self.conv_transpose(v, *_box(self, window))
        )

    def _per_channel(
        self, x: Traced, size_in: Shape, size_out: Shape, function: Callable[[Traced], Traced]
    ) -> Traced:
        """Apply a map of one channel to every channel by itself."""
        samples, channels = x.shape[:2]
        result = function(self.reshape(x, (samples * channels, 1, *size_in)))
        return self.reshape(result, (samples, channels, *size_out))

    def max_route(self, g: Traced, x: Traced, window: Window) -> Traced:
        if g.zero:
            return self.zeros((*g.shape[:2], *window.size_in))
        result = max_route(self, g, x, window)
        result.routed = Routed(g, x, window)
        return result

    def gate(self, g: Traced, x: Traced, rectified: bool = False) -> Traced:
        """g where x > 0; behind a max pooling of x: of what arrives there, where the maximum is > 0."""
        if g.routed is None or not x.name or g.routed.x.name != x.name:
            gated: Traced = super().gate(g, x, rectified)
            return gated
        g = max_route(self, *g.routed, positive=True)
        return self.positive(g) if rectified else g


def _box(ops: Pooling, window: Window) -> tuple[Traced, Window]:
    """A kernel of ones, as convolutions over one channel take it."""
    return ops.constant(np.ones((1, 1, *window.kernel))), window
