"""What every executor implements: about thirty primitives on arrays.

An *array* is whatever the executor works on (``numpy.ndarray``, ``cupy.ndarray``,
``trace.Traced``).  It has ``shape`` (a tuple of integers, always known) and ``dtype``, and it supports
``+ - * /``, unary ``-``, the comparisons ``> >= < <= ==`` (giving boolean arrays) and ``& | ~`` on
boolean arrays, with NumPy's broadcasting and with Python numbers taking the array's dtype.

The abstract methods are the closed set; an executor implements all of them and nothing else.  The
methods below them are written in terms of the set: an executor may override one for speed, never
to change what it computes.  Numbers are of one floating dtype per run (``Ops.dtype``: float32, or
float64 for a float64 model); shapes, axes and windows are plain Python integers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .window import Window

if TYPE_CHECKING:
    from onnxvis.graph.stored import Weight

__all__ = ["Array", "Gate", "Key", "Ops", "Shape"]

Array = Any
Shape = tuple[int, ...]
Key = tuple[slice, ...]  # one slice an axis
Gate = Literal["gradient", "guided", "deconvnet"]  # what rectifiers do on the way back


class Ops(ABC):
    """The primitives, for numbers of one floating ``dtype``."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = np.dtype(dtype)

    # ---- constants -------------------------------------------------------------------------------

    @abstractmethod
    def constant(self, array: Any) -> Array:
        """A NumPy array as an array of this executor; floating ones become ``dtype``."""

    @abstractmethod
    def zeros(self, shape: Shape) -> Array:
        """Zeros of ``dtype``."""

    @abstractmethod
    def numbers(self, x: Array) -> Array:
        """Whole numbers or booleans as numbers of ``dtype``."""

    def weight(self, weight: Weight) -> Array:
        """``constant`` for one of the model's large weights."""
        return self.constant(weight.numbers)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """The numbers of an array in the host's memory.  There are none yet while a plan is traced."""
        return np.asarray(x)

    # ---- one number at a time --------------------------------------------------------------------

    @abstractmethod
    def where(self, condition: Array, a: Array | float, b: Array | float = 0.0) -> Array:
        """``a`` where the condition holds, else ``b``; all three broadcast."""

    @abstractmethod
    def maximum(self, a: Array, b: Array | float) -> Array:
        """The larger of both."""

    @abstractmethod
    def minimum(self, a: Array, b: Array | float) -> Array:
        """The smaller of both."""

    @abstractmethod
    def abs(self, x: Array) -> Array:
        """|x|."""

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """e to the x."""

    @abstractmethod
    def log(self, x: Array) -> Array:
        """Natural logarithm."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """Square root."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """Hyperbolic tangent."""

    @abstractmethod
    def sin(self, x: Array) -> Array:
        """Sine of an angle in radians."""

    @abstractmethod
    def erf(self, x: Array) -> Array:
        """Gauss error function."""

    @abstractmethod
    def power(self, a: Array, b: Array | float) -> Array:
        """``a`` to the ``b``."""

    # ---- along axes ------------------------------------------------------------------------------

    @abstractmethod
    def sum(self, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
        """Sum over the axes (non-negative, distinct)."""

    @abstractmethod
    def argmax(self, x: Array, axis: int) -> Array:
        """Index (int64) of the first maximum along the axis, which stays with length 1."""

    # ---- moving data -----------------------------------------------------------------------------

    @abstractmethod
    def reshape(self, x: Array, shape: Shape) -> Array:
        """The same numbers in row-major order under another shape (no -1)."""

    @abstractmethod
    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        """Axis i of the result is axis ``axes[i]`` of x."""

    @abstractmethod
    def expand(self, x: Array, shape: Shape) -> Array:
        """Broadcast to exactly this shape."""

    @abstractmethod
    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join along an axis."""

    @abstractmethod
    def slice(self, x: Array, key: Key) -> Array:
        """NumPy's basic slicing, one slice an axis; steps may be negative."""

    @abstractmethod
    def unslice(self, g: Array, key: Key, shape: Shape) -> Array:
        """Adjoint of ``slice``: zeros of ``shape`` with ``g`` written at ``key``."""

    @abstractmethod
    def take(self, x: Array, rows: Array) -> Array:
        """Rows of a matrix: x: N×M, rows: K integers, from the end where negative, result: K×M."""

    @abstractmethod
    def put(self, g: Array, rows: Array, count: int) -> Array:
        """Adjoint of ``take``: ``count`` rows of zeros, row k of g added to row ``rows[k]``.

        g: K×M, rows: K integers, of which some may be equal, result: count×M.
        """

    # ---- linear maps -----------------------------------------------------------------------------

    @abstractmethod
    def matmul(self, a: Array, b: Array) -> Array:
        """Matrix product over the last two axes (both of rank ≥ 2), the others broadcast."""

    @abstractmethod
    def conv(self, x: Array, w: Array, window: Window, group: int = 1) -> Array:
        """Cross-correlation, zeros as padding.

        x: N×C×size_in, w: M×(C/group)×kernel, result: N×M×size_out.
        """

    @abstractmethod
    def conv_transpose(self, g: Array, w: Array, window: Window, group: int = 1) -> Array:
        """Adjoint of ``conv`` in x: g: N×M×size_out, w as there, result: N×C×size_in."""

    @abstractmethod
    def window_sum(self, x: Array, window: Window) -> Array:
        """Sum over each window, zeros as padding: N×C×size_in to N×C×size_out."""

    @abstractmethod
    def window_spread(self, g: Array, window: Window) -> Array:
        """Adjoint of ``window_sum``: N×C×size_out to N×C×size_in."""

    @abstractmethod
    def max_route(self, g: Array, x: Array, window: Window) -> Array:
        """Adjoint of max pooling at x: each g goes to the first maximum (row-major) of its window.

        g: N×C×size_out, x and result: N×C×size_in.  Padding never wins.
        """

    # ---- in terms of the set ---------------------------------------------------------------------

    def positive(self, x: Array) -> Array:
        """x⁺ = max(x, 0)."""
        return self.maximum(x, 0.0)

    def negative(self, x: Array) -> Array:
        """x⁻ = min(x, 0)."""
        return self.minimum(x, 0.0)

    def pos(self, x: Array) -> Array:
        """``positive``, in short."""
        return self.positive(x)

    def neg(self, x: Array) -> Array:
        """``negative``, in short."""
        return self.negative(x)

    def sign(self, x: Array) -> Array:
        """−1, 0 or 1."""
        return self.where(x > 0, 1.0, self.where(x < 0, -1.0, 0.0 * x))

    def sigmoid(self, x: Array) -> Array:
        """1/(1 + e⁻ˣ), written with tanh so that it cannot overflow."""
        return 0.5 * self.tanh(0.5 * x) + 0.5

    def cos(self, x: Array) -> Array:
        """Cosine of an angle in radians."""
        return self.sin(x + math.pi / 2)

    def stabilize(self, z: Array, epsilon: float = 1e-6) -> Array:
        """z + sign(z)·ε with sign(0) = +1: what LRP divides by."""
        return z + self.where(z >= 0, epsilon, -epsilon)

    stab = stabilize

    def gate(self, g: Array, x: Array, rectified: bool = False) -> Array:
        """g where x > 0, else 0; ``rectified``: g⁺ there."""
        return self.where(x > 0, self.positive(g) if rectified else g)

    def rectify(self, g: Array, gate: Gate, y: Array | None = None) -> Array:
        """What a rectifier passes on of g.

        "gradient": g where its output y > 0; "guided": g⁺ there; "deconvnet": g⁺, whatever y is.
        """
        return self.positive(g) if gate == "deconvnet" else self.gate(g, y, rectified=gate == "guided")

    def between(self, g: Array, x: Array, low: float, high: float) -> Array:
        """g where low < x < high, else 0; a limit may be infinite, and then does not count."""
        if math.isinf(low):
            return g if math.isinf(high) else self.where(x < high, g)
        return self.where(x > low if math.isinf(high) else (x - low) * (high - x) > 0, g)

    def split(self, x: Array) -> tuple[Array, Array]:
        """x⁺ and x⁻."""
        return self.positive(x), self.negative(x)

    def quotient(self, r: Array, z: Array, epsilon: float = 1e-6, bias: Array | None = None) -> Array:
        """R / stab(z), or R / stab(z + bias)."""
        return r / self.stabilize(z if bias is None else z + bias, epsilon)

    def sum_of_products(self, *pairs: tuple[Array, Array]) -> Array:
        """Σ aᵢ·bᵢ over one or more pairs."""
        (a, b), *others = pairs
        total = a * b
        for a, b in others:
            total = total + a * b
        return total

    def proportions(
        self, r: Array, z: Array, xs: Sequence[Array], epsilon: float = 1e-6
    ) -> tuple[Array, ...]:
        """x · R / stab(z) for each x."""
        s = self.quotient(r, z, epsilon)
        return tuple(self.sum_of_products((x, s)) for x in xs)

    def conv_quotient(
        self,
        r: Array,
        pairs: Sequence[tuple[Array, Array]],
        window: Window,
        group: int = 1,
        epsilon: float = 1e-6,
        bias: Array | None = None,
    ) -> Array:
        """R / stab(Σ conv(x, w) + bias) over one or more pairs (x, w)."""
        z = self.total([self.conv(x, w, window, group) for x, w in pairs])
        return self.quotient(r, z, epsilon, bias)

    def conv_transpose_product(
        self, g: Array, pairs: Sequence[tuple[Array, Array]], window: Window, group: int = 1
    ) -> Array:
        """Σ x · conv_transpose(g, w) over one or more pairs (x, w)."""
        return self.sum_of_products(*((x, self.conv_transpose(g, w, window, group)) for x, w in pairs))

    def conv_transpose_onto(self, onto: Array, g: Array, w: Array, window: Window, group: int = 1) -> Array:
        """onto + conv_transpose(g, w); ``onto``, an array of this shape, stays as it is."""
        return self.total([onto, self.conv_transpose(g, w, window, group)])

    def conv_transpose_product_onto(
        self, onto: Array, g: Array, pairs: Sequence[tuple[Array, Array]], window: Window, group: int = 1
    ) -> Array:
        """onto + Σ x · conv_transpose(g, w) over one or more pairs (x, w)."""
        return self.total([onto, self.conv_transpose_product(g, pairs, window, group)])

    def conv_transpose_gated(
        self,
        gate: Gate,
        y: Array | None,
        onto: Array | None,
        g: Array,
        w: Array,
        window: Window,
        group: int = 1,
    ) -> Array:
        """rectify(onto + conv_transpose(g, w), gate, y); ``onto``, if there is one, stays as it is."""
        if onto is None:
            return self.rectify(self.conv_transpose(g, w, window, group), gate, y)
        return self.rectify(self.conv_transpose_onto(onto, g, w, window, group), gate, y)

    def total(self, arrays: Sequence[Array]) -> Array:
        """The sum of one or more arrays of one shape."""
        return reduce(add, arrays)

    def mean(self, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
        """Arithmetic mean over the axes."""
        return self.sum(x, axes, keepdims) * (1.0 / math.prod(x.shape[axis] for axis in axes))

    def unbroadcast(self, g: Array, shape: Shape) -> Array:
        """Adjoint of ``expand``: sum g over the axes along which ``shape`` was stretched."""
        extra = len(g.shape) - len(shape)
        axes = [*range(extra)]
        axes += [i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1]
        g = self.sum(g, axes, keepdims=True) if axes else g
        return g if tuple(g.shape) == tuple(shape) else self.reshape(g, tuple(shape))

    def conv_weight(self, x: Array, g: Array, window: Window, group: int = 1) -> Array:
        """Adjoint of ``conv`` in w: a convolution of x with g, strides and dilations exchanged.

        x: N×C×size_in, g: N×M×size_out, result: M×(C/group)×kernel.
        """
        samples, channels, filters = x.shape[0], x.shape[1] // group, g.shape[1]
        spatial = tuple(range(3, 3 + len(window.kernel)))
        x = self.reshape(x, (samples, group, channels, *window.size_in))
        x = self.transpose(x, (2, 1, 0, *spatial))
        x = self.reshape(x, (channels, group * samples, *window.size_in))
        g = self.transpose(g, (1, 0, *(axis - 1 for axis in spatial)))
        exchanged = Window(
            kernel=window.size_out,
            strides=window.dilations,
            dilations=window.strides,
            before=window.before,
            size_in=window.size_in,
            size_out=window.kernel,
        )
        w = self.conv(x, g, exchanged, group)  # (C/group)×M×kernel
        assert w.shape[:2] == (channels, filters)
        return self.transpose(w, (1, 0, *(axis - 1 for axis in spatial)))
