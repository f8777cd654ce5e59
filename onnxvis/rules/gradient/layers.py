"""Convolutions and matrix products: a forward map and its adjoint, from which every rule follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnxvis.ops.primitives import Array, Gate, Shape
from onnxvis.ops.window import Window
from onnxvis.rules.linear_operators import Linear, Parts
from onnxvis.rules.registry import linear
from onnxvis.rules.step import Step


def _per_channel(step: Step, b: Array) -> Array:
    """A bias of C numbers as 1×C×1×…×1."""
    return step.reshape(b, (1, b.shape[0], *(1,) * (len(step.output_shape()) - 2)))


@linear("Conv")
class Conv(Linear):
    """Convolution over any number of spatial axes, grouped, dilated, strided."""

    layer = "convolution"
    bias = staticmethod(_per_channel)

    def forward(self, step: Step, x: Array, w: Array) -> Array:
        return step.conv(x, w, self.window(step), step.attribute("group", 1))

    def adjoint(self, step: Step, g: Array, w: Array) -> Array:
        return step.conv_transpose(g, w, self.window(step), step.attribute("group", 1))

    def quotient(self, step: Step, r: Array, parts: Parts, epsilon: float, bias: Array | None) -> Array:
        return step.conv_quotient(r, parts, self.window(step), step.attribute("group", 1), epsilon, bias)

    def product(self, step: Step, g: Array, parts: Parts) -> Array:
        return step.conv_transpose_product(g, parts, self.window(step), step.attribute("group", 1))

    def adjoint_onto(self, step: Step, onto: Array, g: Array, w: Array) -> Array:
        return step.conv_transpose_onto(onto, g, w, self.window(step), step.attribute("group", 1))

    def product_onto(self, step: Step, onto: Array, g: Array, parts: Parts) -> Array:
        window, group = self.window(step), step.attribute("group", 1)
        return step.conv_transpose_product_onto(onto, g, parts, window, group)

    def adjoint_gated(
        self, step: Step, gate: Gate, y: Array | None, onto: Array | None, g: Array, w: Array
    ) -> Array:
        window, group = self.window(step), step.attribute("group", 1)
        return step.conv_transpose_gated(gate, y, onto, g, w, window, group)

    def weight_adjoint(self, step: Step, g: Array, x: Array) -> Array:
        return step.conv_weight(x, g, self.window(step), step.attribute("group", 1))

    def window(self, step: Step) -> Window:
        return step.window(step.shape(1)[2:])


@linear("ConvTranspose")
class ConvTranspose(Linear):
    """Transposed convolution: forward and adjoint of Conv, exchanged."""

    layer = "convolution"
    bias = staticmethod(_per_channel)

    def forward(self, step: Step, x: Array, w: Array) -> Array:
        return step.conv_transpose(x, w, self.window(step), step.attribute("group", 1))

    def adjoint(self, step: Step, g: Array, w: Array) -> Array:
        return step.conv(g, w, self.window(step), step.attribute("group", 1))

    def weight_adjoint(self, step: Step, g: Array, x: Array) -> Array:
        return step.conv_weight(g, x, self.window(step), step.attribute("group", 1))

    def window(self, step: Step) -> Window:
        """The window of the convolution that this is the adjoint of."""
        attributes: dict[str, Any] = dict(step.node.attributes)
        if attributes.get("output_shape") and attributes.get("auto_pad", "NOTSET") == "NOTSET":
            attributes["auto_pad"] = "SAME_LOWER"  # the spec splits the padding that follows like this
        size = step.output_shape()[2:]
        # Output padding is not part of what is to be padded evenly.
        extra = attributes.get("output_padding") or (0,) * len(size)
        counted = [n - more for n, more in zip(size, extra, strict=True)]
        return replace(Window.of(attributes, step.shape(1)[2:], counted, step.shape()[2:]), size_in=size)


@linear("Gemm")
class Gemm(Linear):
    """α·A'·B' + β·C, where ' is the transpose if transA or transB is set; A is the data."""

    def forward(self, step: Step, x: Array, w: Array) -> Array:
        w = _swapped(step, w) if step.attribute("transB", 0) else w
        y = step.matmul(self._data(step, x), w)
        return _times(step, "alpha", y)

    def adjoint(self, step: Step, g: Array, w: Array) -> Array:
        w = w if step.attribute("transB", 0) else _swapped(step, w)
        return self._data(step, _times(step, "alpha", step.matmul(g, w)))

    def weight_adjoint(self, step: Step, g: Array, x: Array) -> Array:
        w = _times(step, "alpha", step.matmul(_swapped(step, self._data(step, x)), g))
        return _swapped(step, w) if step.attribute("transB", 0) else w

    def bias(self, step: Step, b: Array) -> Array:
        return _times(step, "beta", b)

    def gradient(self, step: Step, g: Array) -> tuple[Array | None, ...]:
        *others, bias = (*super().gradient(step, g), None)[:3]
        return *others, bias if bias is None else _times(step, "beta", bias)

    @staticmethod
    def _data(step: Step, matrix: Array) -> Array:
        """From data as given to data with samples first, or back."""
        return _swapped(step, matrix) if step.attribute("transA", 0) else matrix


@linear("MatMul")
class MatMul(Linear):
    """Matrix product with NumPy's rules for more and fewer than two axes; w is the second factor.

    In canonical form it may have a bias as third input.
    """

    def forward(self, step: Step, x: Array, w: Array) -> Array:
        y = step.matmul(_as_row(step, x), _as_column(step, w))
        return step.reshape(y, step.output_shape())

    def adjoint(self, step: Step, g: Array, w: Array) -> Array:
        w = _as_column(step, w)
        x = step.matmul(self._full(step, g), _swapped(step, w))
        return self._back(step, x, self.operand_shape(step, 0), row=True)

    def weight_adjoint(self, step: Step, g: Array, x: Array) -> Array:
        w = step.matmul(_swapped(step, _as_row(step, x)), self._full(step, g))
        return self._back(step, w, self.operand_shape(step, 1), row=False)

    def operand_shape(self, step: Step, index: int) -> Shape:
        """The shape of an operand as it is multiplied."""
        return step.shape(index)

    @staticmethod
    def _full(step: Step, g: Array) -> Array:
        """g with the axes of length 1 that a vector operand lost."""
        shape = list(step.output_shape())
        if len(step.shape(0)) == 1:
            shape.insert(len(shape) - (len(step.shape(1)) > 1), 1)
        if len(step.shape(1)) == 1:
            shape.append(1)
        return step.reshape(g, tuple(shape))

    @staticmethod
    def _back(step: Step, array: Array, shape: tuple[int, ...], row: bool) -> Array:
        if len(shape) > 1:
            return step.unbroadcast(array, shape)
        matrix = (1, *shape) if row else (*shape, 1)
        return step.reshape(step.unbroadcast(array, matrix), shape)


def _as_row(step: Step, x: Array) -> Array:
    return step.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x


def _as_column(step: Step, w: Array) -> Array:
    return step.reshape(w, (*w.shape, 1)) if len(w.shape) == 1 else w


def _swapped(step: Step, matrix: Array) -> Array:
    """The last two axes exchanged."""
    rank = len(matrix.shape)
    return step.transpose(matrix, (*range(rank - 2), rank - 1, rank - 2))


def _times(step: Step, factor: str, x: Array) -> Array:
    """By an attribute, which mostly is 1: then without going through x."""
    value = step.attribute(factor, 1.0)
    return x if value == 1.0 else x * value
