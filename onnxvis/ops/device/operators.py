"""The primitives on CuPy arrays: CuPy's own operators, and kernels where those would read memory twice.

``gpu.xp`` is the CuPy module.  Kernels take contiguous arrays: views are copied before the launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from onnxvis.ops.primitives import Array, Gate, Key, Ops, Shape
from onnxvis.ops.window import Window

from .constants import NotCapturableError
from .convolution import Convolution
from .geometry import PACK, divisor, index_type
from .gpu import Gpu
from .pooling import Pooling
from .sources import NUMBERS

__all__ = ["DeviceOps"]


class DeviceOps(Ops):
    """The primitives on a CUDA device.

    ``precision``: of products and convolutions, see ``gpu.PRECISIONS``; ``cudnn``: the module of
    nvidia-cudnn-frontend, None without it.
    """

    def __init__(
        self, gpu: Gpu, dtype: Any = np.float32, precision: str = "float32", cudnn: Any = None
    ) -> None:
        super().__init__(dtype)
        self.gpu, self.xp, self.precision = gpu, gpu.xp, precision
        self.convolution, self.pooling = Convolution(gpu, self, cudnn), Pooling(gpu)

    # ---- constants -------------------------------------------------------------------------------

    def constant(self, array: Any) -> Array:
        if isinstance(array, self.xp.ndarray):
            return array if array.dtype.kind in "biu" else array.astype(self.dtype, copy=False)
        array = np.asarray(array)
        return self.gpu.constants.of(array, array.dtype if array.dtype.kind in "biu" else self.dtype)

    def zeros(self, shape: Shape) -> Array:
        return self.xp.zeros(shape, self.dtype)

    def numbers(self, x: Array) -> Array:
        return x.astype(self.dtype, copy=False)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        if self.gpu.constants.held is not None:
            raise NotCapturableError("a rule computes on the host from what the model computed")
        return self.gpu.download(x)

    # ---- one number at a time --------------------------------------------------------------------

    def where(self, condition: Array, a: Array | float, b: Array | float = 0.0) -> Array:
        return self.xp.where(condition, self._number(a), self._number(b))

    def _number(self, value: Array | float) -> Any:
        """Of the working dtype, which CuPy could not tell where both choices are Python numbers."""
        if isinstance(value, self.xp.ndarray):
            return value.astype(self.dtype, copy=False)
        return self.dtype.type(value)

    def maximum(self, a: Array, b: Array | float) -> Array:
        return self.xp.maximum(a, b)

    def minimum(self, a: Array, b: Array | float) -> Array:
        return self.xp.minimum(a, b)

    def abs(self, x: Array) -> Array:
        return self.xp.abs(x)

    def exp(self, x: Array) -> Array:
        return self.xp.exp(x)

    def log(self, x: Array) -> Array:
        return self.xp.log(x)

    def sqrt(self, x: Array) -> Array:
        return self.xp.sqrt(x)

    def tanh(self, x: Array) -> Array:
        return self.xp.tanh(x)

    def sin(self, x: Array) -> Array:
        return self.xp.sin(x)

    def erf(self, x: Array) -> Array:
        return self.gpu.erf(x).astype(x.dtype, copy=False)  # CuPy's makes float32 of float16

    def power(self, a: Array, b: Array | float) -> Array:
        return self.xp.power(a, b)

    # ---- fused: one pass over memory instead of two or three ------------------------------------

    def positive(self, x: Array) -> Array:
        def make() -> tuple[Array]:
            return (
                self._fused("rectify", "DECONVNET", x, None) if self._alike(x) else Ops.positive(self, x),
            )

        return self.gpu.constants.made_of(x, "positive", make)[0]

    def negative(self, x: Array) -> Array:
        return self.gpu.constants.made_of(x, "negative", lambda: (Ops.negative(self, x),))[0]

    def gate(self, g: Array, x: Array, rectified: bool = False) -> Array:
        if not self._alike(g, x):
            return super().gate(g, x, rectified)
        return self._fused("rectify", "GUIDED" if rectified else "GRADIENT", g, x)

    def between(self, g: Array, x: Array, low: float, high: float) -> Array:
        if not self._alike(g, x) or (math.isinf(low) and math.isinf(high)):
            return super().between(g, x, low, high)
        return self._fused("between", "", g, x, np.float64(low), np.float64(high))

    def split(self, x: Array) -> tuple[Array, Array]:
        def make() -> tuple[Array, Array]:
            above, below = self.xp.empty(x.shape, x.dtype), self.xp.empty(x.shape, x.dtype)
            self._by_number("split", "", x, above, below)
            return above, below

        if not self._alike(x):
            return super().split(x)
        above, below = self.gpu.constants.made_of(x, "split", make)
        return above, below

    def stabilize(self, z: Array, epsilon: float = 1e-6) -> Array:
        if not self._alike(z):
            return super().stabilize(z, epsilon)
        return self._fused("stabilize", "", z, np.float64(epsilon))

    def quotient(self, r: Array, z: Array, epsilon: float = 1e-6, bias: Array | None = None) -> Array:
        if not self._alike(r, z) or not (bias is None or self._by_channel(bias, z)):
            return super().quotient(r, z, epsilon, bias)
        if bias is None:
            return self._fused("quotient", "", r, z, np.float64(epsilon))
        result, index = self.xp.empty(z.shape, z.dtype), index_type(z.size)
        sizes = (divisor(size, index) for size in (math.prod(z.shape[2:]), z.shape[1]))
        threads = -(-z.nbytes // PACK)
        self.gpu.launch_indexed(
            "quotient_by_channel", z.dtype, index, threads, r, z, bias, np.float64(epsilon), result, *sizes,
            count=z.size,
        )  # fmt: skip
        return result

    def sum_of_products(self, *pairs: tuple[Array, Array]) -> Array:
        flat = [array for pair in pairs for array in pair]
        if len(pairs) > 2 or not self._alike(*flat):
            return super().sum_of_products(*pairs)
        return self._fused("multiply" if len(pairs) == 1 else "multiply_back", "", *flat)

    def proportions(
        self, r: Array, z: Array, xs: Sequence[Array], epsilon: float = 1e-6
    ) -> tuple[Array, ...]:
        if len(xs) != 2 or not self._alike(r, z, *xs):
            return super().proportions(r, z, xs, epsilon)
        shares = tuple(self.xp.empty(x.shape, x.dtype) for x in xs)
        self._by_number("proportions", "", r, z, *xs, np.float64(epsilon), *shares)
        return shares

    def total(self, arrays: Sequence[Array]) -> Array:
        def both(a: Array, b: Array) -> Array:
            return self._fused("add", "", a, b) if self._alike(a, b) else a + b

        return reduce(both, arrays)

    def _alike(self, *arrays: Array) -> bool:
        """True where a kernel can go through all of them number by number, as they lie in memory."""
        first = arrays[0]
        return first.dtype.name in NUMBERS and all(
            a.flags.c_contiguous and a.shape == first.shape and a.dtype == first.dtype for a in arrays
        )

    @staticmethod
    def _by_channel(bias: Array, x: Array) -> bool:
        """True where bias holds, in one piece, a number for each channel (axis 1) of x."""
        if x.ndim < 2 or not x.size or bias.shape != (1, x.shape[1], *(1,) * (x.ndim - 2)):
            return False
        return bool(bias.dtype == x.dtype and bias.flags.c_contiguous)

    def _fused(self, kernel: str, variant: str, first: Array, *others: Any) -> Array:
        """A new array, written number by number; a None among the others is a null pointer."""
        result = self.xp.empty(first.shape, first.dtype)
        rest = (np.uint64(0) if other is None else other for other in others)
        self._by_number(kernel, variant, first, *rest, result)
        return result

    def _by_number(self, kernel: str, variant: str, first: Array, *others: Any) -> None:
        """``each_number`` of kernels/numbers.cuh: 16 bytes a thread."""
        threads = -(-first.nbytes // PACK)
        self.gpu.launch(kernel, first.dtype, variant, threads, first, *others, np.int64(first.size))

    # ---- along axes ------------------------------------------------------------------------------

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
        return self.xp.sum(x, axis=tuple(axes), keepdims=keepdims, dtype=x.dtype) if len(axes) else x

    def argmax(self, x: Array, axis: int) -> Array:
        return self.xp.argmax(x, axis=axis, keepdims=True)

    # ---- moving data -----------------------------------------------------------------------------

    def reshape(self, x: Array, shape: Shape) -> Array:
        return self.gpu.constants.made_of(x, ("reshape", tuple(shape)), lambda: (x.reshape(shape),))[0]

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return x.transpose(tuple(axes))

    def expand(self, x: Array, shape: Shape) -> Array:
        return self.xp.broadcast_to(x, shape)

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        # One copy after the other: CuPy would send a table of many arrays' addresses from the host, which
        # a CUDA graph cannot hold.
        sizes = [array.shape[axis] for array in arrays]
        shape = [*arrays[0].shape]
        shape[axis] = sum(sizes)
        result = self.xp.empty(tuple(shape), np.result_type(*(array.dtype for array in arrays)))
        for array, end in zip(arrays, accumulate(sizes), strict=True):
            key = [slice(None)] * len(shape)
            key[axis] = slice(end - array.shape[axis], end)
            result[tuple(key)] = array
        return result

    def slice(self, x: Array, key: Key) -> Array:
        return x[key]

    def unslice(self, g: Array, key: Key, shape: Shape) -> Array:
        result = self.xp.zeros(shape, g.dtype)
        result[key] = g
        return result

    def take(self, x: Array, rows: Array) -> Array:
        return self.xp.take(x, self._counted(rows, x.shape[0]), axis=0)

    def put(self, g: Array, rows: Array, count: int) -> Array:
        rows, many = self._counted(rows, count), g.shape[0]
        # Sorted by target, then by their place: keys are distinct, so the order is the same every time.
        order = self.xp.argsort(rows * many + self.xp.arange(many))
        starts = self.xp.searchsorted(rows[order], self.xp.arange(count + 1))
        result = self.xp.empty((count, *g.shape[1:]), g.dtype)
        index = index_type(g.size, result.size)
        width = index(math.prod(g.shape[1:]))
        self.gpu.launch_indexed(
            "put", g.dtype, index, result.size, self._dense(g), order, starts, result, width
        )
        return result

    def _counted(self, rows: Array, count: int) -> Array:
        """Row numbers as int64, those from the end counted from the front."""
        rows = rows.astype(np.int64, copy=False)
        return self.xp.where(rows < 0, rows + count, rows)

    # ---- linear maps -----------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        half = self.precision == "float16" and self.dtype == np.float32
        a, b = (factor.astype(np.float16 if half else self.dtype, copy=False) for factor in (a, b))
        return self.gpu.cublas.product(a, b, self.dtype, self.precision == "tf32")

    def conv(self, x: Array, w: Array, window: Window, group: int = 1) -> Array:
        return self.convolution.forward(self._dense(x), self._dense(w), window, group)

    def conv_transpose(self, g: Array, w: Array, window: Window, group: int = 1) -> Array:
        return self.convolution.adjoint(self._dense(g), self._dense(w), window, group)

    def conv_quotient(
        self,
        r: Array,
        pairs: Sequence[tuple[Array, Array]],
        window: Window,
        group: int = 1,
        epsilon: float = 1e-6,
        bias: Array | None = None,
    ) -> Array:
        if bias is None:
            bias = self.constant(np.zeros((1, r.shape[1], *(1,) * (r.ndim - 2))))
        stacked = len(pairs) > 1
        if (stacked and not self._stackable(pairs, group)) or not self._by_channel(bias, r):
            return super().conv_quotient(r, pairs, window, group, epsilon, bias)
        x, w = (self.concat([x for x, _ in pairs], 1), self._stacked(pairs)) if stacked else pairs[0]
        r, x, w = map(self._dense, (r, x, w))
        return self.convolution.quotient(r, x, w, window, group, epsilon, bias)

    def conv_transpose_product(
        self, g: Array, pairs: Sequence[tuple[Array, Array]], window: Window, group: int = 1
    ) -> Array:
        if len(pairs) == 1:
            g, x, w = map(self._dense, (g, *pairs[0]))
            return self.convolution.adjoint_product(x, g, w, window, group)
        if len(pairs) > 2 or not self._stackable(pairs, group):
            return super().conv_transpose_product(g, pairs, window, group)
        back = self.convolution.adjoint(self._dense(g), self._stacked(pairs), window, group)
        x, y = (self._dense(x) for x, _ in pairs)
        return self._multiply_stacked(x, y, back)

    def conv_transpose_onto(self, onto: Array, g: Array, w: Array, window: Window, group: int = 1) -> Array:
        onto, g, w = map(self._dense, (onto, g, w))
        return self.convolution.adjoint(g, w, window, group, onto)

    def conv_transpose_product_onto(
        self, onto: Array, g: Array, pairs: Sequence[tuple[Array, Array]], window: Window, group: int = 1
    ) -> Array:
        if len(pairs) > 1:
            return super().conv_transpose_product_onto(onto, g, pairs, window, group)
        onto, g, x, w = map(self._dense, (onto, g, *pairs[0]))
        return self.convolution.adjoint_product(x, g, w, window, group, onto)

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
        like = (g.shape[0], group * w.shape[1], *window.size_in), g.dtype
        if any(array is not None and (array.shape, array.dtype) != like for array in (y, onto)):
            return super().conv_transpose_gated(gate, y, onto, g, w, window, group)
        y, onto = (None if array is None else self._dense(array) for array in (y, onto))
        return self.convolution.adjoint(self._dense(g), self._dense(w), window, group, onto, gate, y)

    def _multiply_stacked(self, x: Array, y: Array, both: Array) -> Array:
        """x·a + y·b, where a and b are stacked along the channels."""
        result, index = self.xp.empty(x.shape, x.dtype), index_type(both.size)
        part, threads = divisor(math.prod(x.shape[1:]), index), -(-x.nbytes // PACK)
        self.gpu.launch_indexed(
            "multiply_stacked", x.dtype, index, threads, x, y, both, result, part, count=x.size
        )
        return result

    @staticmethod
    def _stackable(pairs: Sequence[tuple[Array, Array]], group: int) -> bool:
        """True where data and weights of all pairs can lie one behind the other along their channels."""
        (x, w), *others = pairs
        return bool(group == 1 and x.size) and all(
            (a.shape, a.dtype, b.shape, b.dtype) == (x.shape, x.dtype, w.shape, w.dtype) for a, b in others
        )

    def _stacked(self, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """The weights of all pairs along their channels, which are made once."""
        first, *others = weights = [w for _, w in pairs]
        return self.gpu.constants.made_of(first, "stacked", lambda: (self.concat(weights, 1),), others)[0]

    # ---- windows ---------------------------------------------------------------------------------

    def window_sum(self, x: Array, window: Window) -> Array:
        return self.pooling.sum(self._dense(x), window)

    def window_spread(self, g: Array, window: Window) -> Array:
        return self.pooling.spread(self._dense(g), window)

    def max_route(self, g: Array, x: Array, window: Window) -> Array:
        return self.pooling.route(self._dense(g), self._dense(x), window)

    @staticmethod
    def _dense(x: Array) -> Array:
        """x, copied where it is a view that does not lie in one piece."""
        return x if x.flags.c_contiguous else x.copy()
