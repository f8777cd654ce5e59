"""Matrix products and convolutions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from onnxvis.ops.primitives import Shape
from onnxvis.ops.window import Window

from .movement import Movement
from .values import Traced

__all__ = ["LinearMaps"]


class LinearMaps(Movement):
    """The linear maps and their adjoints."""

    FEW = 64  # channels up to which looking for zeros takes longer than multiplying with them
    LARGE, PARTS = 1 << 18, 16  # numbers of a matrix from which on its product with one row is cut into parts

    def sparse(self, g: Traced) -> Traced:
        """g, which is 0 but for few channels: a seed mostly begins at one unit.

        Products of it and a layer's weights then read the weights of these channels alone; of one sample,
        as others begin elsewhere.
        """
        if len(g.shape) > 1 and g.shape[0] == 1 and g.shape[1] > self.FEW:
            channels = g.shape[1:2]
            sizes = self.reshape(self.sum(self.abs(g), range(2, len(g.shape))), channels)
            one = (np.arange(*channels) == 0).astype(self.dtype)  # no product is over nothing
            found = self.emit("NonZero", [sizes + one], (1, *channels), dtype=np.int64)
            g.support = self.emit("Reshape", [found, self.indices([-1])], channels, dtype=np.int64)
        return g

    def _supported(self, g: Traced, w: Traced) -> tuple[Traced, Traced]:
        """g (1×M×…) and w (M×…) without the M at which g is known to be all 0.

        How many are left is known when the graph runs: what is traced has the shapes of all.
        """
        if g.support is None:
            return g, w
        return self._picked(g, g.support, 1), self._picked(w, g.support, 0)

    def _picked(self, x: Traced, places: Traced, axis: int) -> Traced:
        return self.emit("Gather", [x, places], x.shape, dtype=x.dtype, signs=x.signs, axis=axis)

    def matmul(self, a: Traced, b: Traced) -> Traced:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        if a.zero or b.zero:
            return self.zeros(shape)
        if a.value is not None and b.value is not None:
            return self.constant(a.value @ b.value)
        if len(a.shape) == len(b.shape) == 2:
            if self._one_row(a, b):
                return self._in_parts(a, b)
            a, b = self._supported(a, b)
        return self.emit("MatMul", [a, b], shape, signs=a.signs * b.signs)

    def _one_row(self, a: Traced, b: Traced) -> bool:
        """True for one row times a large matrix whose rows lie one after another."""
        large = math.prod(b.shape) >= self.LARGE and b.shape[0] % self.PARTS == 0
        return a.shape[0] == 1 and a.support is None and large and not self._moved_rows(b)

    def _moved_rows(self, b: Traced) -> bool:
        producer = next((node for node in reversed(self.nodes) if node.output == b.name), None)
        return producer is not None and producer.op_type in ("Transpose", "Gather")

    def _in_parts(self, a: Traced, b: Traced) -> Traced:
        """A product with one row, its terms added up in parts: thousands in one sum round in the sixth digit.

        As a batch of products onnxruntime takes the matrix as it lies, where otherwise it would reorder it,
        which takes memory, and with one row time.
        """
        (_, count), columns = a.shape, b.shape[1]
        rows = self.reshape(a, (self.PARTS, 1, count // self.PARTS))
        parts = self.reshape(b, (self.PARTS, count // self.PARTS, columns))
        sums = self.emit("MatMul", [rows, parts], (self.PARTS, 1, columns), signs=a.signs * b.signs)
        return self.sum(sums, (0,))

    def conv(self, x: Traced, w: Traced, window: Window, group: int = 1) -> Traced:
        shape = (x.shape[0], w.shape[0], *window.size_out)
        if x.zero or w.zero or window.blind:
            return self.zeros(shape)
        if x.value is not None and w.value is not None:
            return self.constant(self.host.conv(x.value, w.value, window, group))
        x, before, after = self.seen(x, window)
        result = self.emit(
            "Conv",
            [x, w],
            shape,
            signs=x.signs * w.signs,
            strides=[*window.strides],
            dilations=[*window.dilations],
            pads=before + after,
            group=group,
        )
        bias = (w.shape[0], *(1 for _ in window.kernel))
        result.shifted = lambda number: result + np.full(bias, number, self.dtype)
        return result

    def seen(self, x: Traced, window: Window) -> tuple[Traced, list[int], list[int]]:
        """x without what no window sees (ONNX would place further windows there), and its pads.

        Negative padding in front (the adjoint of a convolution with wide padding) is cut off too.
        """
        starts = [max(0, -b) for b in window.before]
        ends = zip(window.size_in, window.after, window.strides, strict=True)
        stops = [n + a if -a >= stride else n for n, a, stride in ends]
        spatial = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        x = self.slice(x, (slice(None), slice(None), *spatial))
        return x, [max(0, b) for b in window.before], [max(0, a) for a in window.after]

    def conv_transpose(self, g: Traced, w: Traced, window: Window, group: int = 1) -> Traced:
        shape = (g.shape[0], w.shape[1] * group, *window.size_in)
        if g.zero or w.zero or window.blind:
            return self.zeros(shape)
        if g.value is not None and w.value is not None:
            return self.constant(self.host.conv_transpose(g.value, w.value, window, group))
        if all(stride == 1 for stride in window.strides):
            # A convolution with the kernel flipped and its channels exchanged: onnxruntime's blocked
            # kernels run that faster than ConvTranspose.
            g, w = self._supported(g, w) if group == 1 else (g, w)
            return self.conv(g, self._flipped(w, group), _reversed(window), group)
        if self._best_spaced(g, shape, window, group):
            return self._spaced_transpose(g, w, window, group)
        unseen = [max(0, -a) for a in window.after]
        grown = [min(u, stride - 1) for u, stride in zip(unseen, window.strides, strict=True)]
        missing = (u - p for u, p in zip(unseen, grown, strict=True))
        reached = (n - m for n, m in zip(window.size_in, missing, strict=True))
        result = self.emit(
            "ConvTranspose",
            [g, w],
            (*shape[:2], *reached),
            signs=g.signs * w.signs,
            strides=[*window.strides],
            dilations=[*window.dilations],
            group=group,
            pads=[*window.before] + [max(0, a) for a in window.after],
            output_padding=grown,
        )
        return self.fitted(result, shape)

    @staticmethod
    def _best_spaced(g: Traced, shape: Shape, window: Window, group: int) -> bool:
        """True where a strided adjoint is faster as a dense one with zeros between the numbers.

        With one position in the kernel nothing is multiplied with the zeros, and a filter of one channel
        is so quick that they do not matter.
        """
        if len(window.kernel) != 2:
            return False
        return (window.count == 1 and not any(window.before)) or group == g.shape[1] == shape[1]

    def _spaced_transpose(self, g: Traced, w: Traced, window: Window, group: int) -> Traced:
        dense = replace(window, strides=(1, 1))
        if window.count > 1 or any(window.before):
            spaced = self.spaced(g, (1, 1, *window.strides))
            return self.conv_transpose(spaced, w, replace(dense, size_out=spaced.shape[2:]), group)
        result = self.conv_transpose(g, w, replace(dense, size_in=window.size_out), group)
        ends = ((n - 1) * s + 1 for n, s in zip(window.size_out, window.strides, strict=True))
        key = [slice(None), slice(None)]
        key += [slice(0, end, s) for end, s in zip(ends, window.strides, strict=True)]
        return self.unslice(result, tuple(key), (*result.shape[:2], *window.size_in))

    def _flipped(self, w: Traced, group: int) -> Traced:
        """M×(C/group)×kernel to C×(M/group)×kernel, spatial axes reversed."""
        kernel = w.shape[2:]
        if group == 1:
            w = self.transpose(w, (1, 0, *range(2, 2 + len(kernel))))
        else:
            filters, channels = w.shape[:2]
            w = self.reshape(w, (group, filters // group, channels, *kernel))
            w = self.transpose(w, (0, 2, 1, *range(3, 3 + len(kernel))))
            w = self.reshape(w, (group * channels, filters // group, *kernel))
        return self.slice(w, (slice(None), slice(None), *(slice(None, None, -1) for _ in kernel)))


def _reversed(window: Window) -> Window:
    """The window of a stride-1 convolution's adjoint."""
    before = tuple(
        (k - 1) * d - b for k, d, b in zip(window.kernel, window.dilations, window.before, strict=True)
    )
    return Window(window.kernel, window.strides, window.dilations, before, window.size_out, window.size_in)
