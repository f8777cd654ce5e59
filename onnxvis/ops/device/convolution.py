"""Convolution and its adjoint: by cuDNN where it is installed, by tensor cores, by im2col and cuBLAS.

x: N×C×size_in, w: M×(C/group)×kernel, g: N×M×size_out, all contiguous.  A convolution is the matrix
product of the weights, M × (C·offsets), with what each window sees, (C·offsets) × (N·windows); its adjoint
is the transposed product, and each input position then gathers what belongs to it.  Samples lie side by
side in the matrix, so that there is one product for all of them.  The matrix is made in parts, so that it
takes no more than ``WORKSPACE`` bytes (or one window, or one channel, of one sample).  For kernels of one
number the data are the matrix.

Where there are several ways (cuDNN has some for every shape, and tensor_cores.py), they are tried once: what
gives other numbers than products do is left out, and the fastest is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.ops.primitives import Array, Gate, Ops, Shape
from onnxvis.ops.window import Window

from .cudnn import Cudnn
from .fastest import Way, fastest
from .geometry import divisor, gathering, geometry, index_type
from .gpu import Gpu
from .tensor_cores import TensorCores
from .tensor_cores import Way as TensorCoreWay

if TYPE_CHECKING:
    from .operators import DeviceOps

__all__ = ["Convolution"]


class End(NamedTuple):
    """What becomes of a result: nothing, its "product" with r, or the "quotient" r / stab(result + b).

    A way then takes r, and b, behind the data and the weights, and last of all what that is added to if it
    goes ``onto`` something, and the y that the ``gate`` which it then goes through reads, if it does.
    """

    name: str = ""
    epsilon: float = 0.0
    onto: bool = False
    gate: Gate | None = None

    @property
    def last(self) -> list[str]:
        """What a way takes last of all."""
        return [*(["onto"] if self.onto else []), *(["y"] if self.gate not in (None, "deconvnet") else [])]

    def behind(self, ops: Ops, way: Way) -> Way:
        """A way followed by what makes its end."""
        if self.onto or self.gate:
            made, last, gate = End(self.name, self.epsilon).behind(ops, way), self.last, self.gate

            def ended(*given: Array) -> Array:
                first, more = _parted(given, last)
                result = made(*first)
                if "onto" in more:
                    result = ops.total([more["onto"], result])
                return result if gate is None else ops.rectify(result, gate, more.get("y"))

            return ended
        if self.name == "product":
            return lambda x, w, r: ops.sum_of_products((r, way(x, w)))
        if self.name == "quotient":
            return lambda x, w, r, bias: ops.quotient(r, way(x, w), self.epsilon, bias)
        return way

    def inside(self, way: TensorCoreWay) -> Way:
        """A way that makes its end by itself."""
        if self.onto or self.gate:
            made, last = End(self.name, self.epsilon).inside(way), self.last
            if self.gate:
                made = partial(made, gate=self.gate)

            def ended(*given: Array) -> Array:
                first, more = _parted(given, last)
                return made(*first, **more)

            return ended
        if self.name == "product":
            return way.product
        if self.name == "quotient":
            return partial(way.quotient, epsilon=self.epsilon)
        return way


def _parted(given: Sequence[Array], last: Sequence[str]) -> tuple[Sequence[Array], dict[str, Array]]:
    """The first of what is given, and the last by these names."""
    count = len(given) - len(last)
    return given[:count], dict(zip(last, given[count:], strict=True))


class Convolution:
    """Both maps on one device, in the precision of ``ops``, whose products and quotients these are."""

    WORKSPACE = 256 * 2**20
    AGREE = MappingProxyType({"float32": 1e-4, "tf32": 1e-2, "float16": 1e-2})  # of the largest number

    def __init__(self, gpu: Gpu, ops: DeviceOps, cudnn: Any = None) -> None:
        self.gpu, self.xp, self.ops, self.precision = gpu, gpu.xp, ops, ops.precision
        self.cudnn = None if cudnn is None else Cudnn(cudnn, gpu, self.precision)
        self.tensor_cores = None if self.precision == "float16" else TensorCores(gpu)
        self._kept: dict[Any, Way] = {}

    def forward(self, x: Array, w: Array, window: Window, group: int) -> Array:
        """Cross-correlation: N×M×size_out."""
        return self._by("conv_fprop", window, group, End(), x, w)

    def adjoint(
        self,
        g: Array,
        w: Array,
        window: Window,
        group: int,
        onto: Array | None = None,
        gate: Gate | None = None,
        y: Array | None = None,
    ) -> Array:
        """The adjoint of ``forward`` in x: N×C×size_in; added to ``onto``, if there is one.

        ``gate``: what it goes through then, with what that reads (see ``Ops.rectify``).
        """
        return self._by("conv_dgrad", window, group, End(gate=gate), g, w, onto=onto, y=y)

    def quotient(
        self, r: Array, x: Array, w: Array, window: Window, group: int, epsilon: float, bias: Array
    ) -> Array:
        """R / stab(forward(x, w) + bias), with a number of bias for each channel."""
        return self._by("conv_fprop", window, group, End("quotient", epsilon), x, w, r, bias)

    def adjoint_product(
        self, a: Array, g: Array, w: Array, window: Window, group: int, onto: Array | None = None
    ) -> Array:
        """a · adjoint(g, w); added to ``onto``, if there is one."""
        return self._by("conv_dgrad", window, group, End("product"), g, w, a, onto=onto)

    def _by(
        self, kind: str, window: Window, group: int, end: End, x: Array, w: Array, *others: Array,
        onto: Array | None = None, y: Array | None = None,
    ) -> Array:  # fmt: skip
        end = end._replace(onto=onto is not None)
        others = (*others, *({"onto": onto, "y": y}[name] for name in end.last))
        if kind == "conv_fprop":
            shape = (x.shape[0], w.shape[0], *window.size_out)
        else:
            shape = (x.shape[0], group * w.shape[1], *window.size_in)
        if not (x.size and w.size and math.prod(shape)):
            return end.behind(self.ops, lambda x, w: self.xp.zeros(shape, x.dtype))(x, w, *others)
        key = kind, x.shape, w.shape, window, group, x.dtype.str, end
        if key not in self._kept:
            ways = self._ways(kind, x, w, window, group, shape, end)
            self._kept[key] = fastest(self.gpu, ways, x, w, *others)
        return self._kept[key](x, w, *others)

    def _ways(
        self, kind: str, x: Array, w: Array, window: Window, group: int, shape: Shape, end: End
    ) -> list[Way]:
        by_products: Way = partial(self._by_products(kind, window), window, group, shape)
        plans = self.cudnn.ways(kind, x, w, window, shape) if self.cudnn else []
        plans = self._right(plans, by_products, x, w)
        ways = plans if plans and not _pointwise(window) else [*plans, by_products]
        fused = self.tensor_cores.ways(kind, x, w, window, shape) if self.tensor_cores else []
        return [*(end.behind(self.ops, way) for way in ways), *map(end.inside, fused)]

    def _by_products(self, kind: str, window: Window) -> Callable[..., Array]:
        if kind == "conv_fprop":
            return self._product if _pointwise(window) else self._forward
        return self._product_back if _pointwise(window) else self._adjoint

    def _right(self, plans: Sequence[Way], by_products: Way, x: Array, w: Array) -> list[Way]:
        """Those of cuDNN's plans that run, and make the same of waves as products do.

        Some read what lies behind the data, or what was in their result before, if nothing else is there.
        """
        if not plans:
            return []
        a, b = (self._wave(array) for array in (x, w))
        expected = by_products(a, b)
        precision = "float16" if x.dtype == np.float16 else self.precision
        bound = self.AGREE[precision] * self._largest(expected)

        def agrees(plan: Way) -> bool:
            try:
                return self._largest(plan(a, b, nonsense=True) - expected) <= bound
            except Exception:  # out of memory, or what cuDNN says of a plan that it offered
                return False

        return [plan for plan in plans if agrees(plan)]

    def _wave(self, like: Array) -> Array:
        """Numbers of both signs."""
        count = self.xp.arange(like.size, dtype=np.int32)
        return (count % 251 / 125 - 1).astype(like.dtype).reshape(like.shape)

    def _largest(self, array: Array) -> float:
        return float(self.xp.max(self.xp.abs(array)))

    # ---- by one matrix product -------------------------------------------------------------------

    def _product(self, window: Window, group: int, shape: Shape, x: Array, w: Array) -> Array:
        seen = x[_seen(window)]
        return self.ops.matmul(*_matrices(seen, w, group)).reshape(shape)

    def _product_back(self, window: Window, group: int, shape: Shape, g: Array, w: Array) -> Array:
        w, g = _matrices(g, w, group)
        back = self.ops.matmul(w.swapaxes(-1, -2), g)
        if window.size_in == window.size_out:
            return back.reshape(shape)
        x = self.xp.zeros(shape, g.dtype)
        x[_seen(window)] = back.reshape(*shape[:2], *window.size_out)
        return x

    # ---- by im2col and matrix products -----------------------------------------------------------

    def _forward(self, window: Window, group: int, shape: Shape, x: Array, w: Array) -> Array:
        samples, windows = x.shape[0], math.prod(window.size_out)
        weights = w.reshape(group, w.shape[0] // group, -1)
        result = self.xp.empty((samples, w.shape[0], windows), x.dtype)
        at_once, width = self._parts(samples, group * weights.shape[2], windows, x.dtype)
        for n in range(0, samples, at_once):
            part = self._factor(x[n : n + at_once])
            for first in range(0, windows, width):
                count = min(width, windows - first)
                columns = self._columns(part, window, first, count).reshape(group, weights.shape[2], -1)
                product = self.ops.matmul(weights, columns).reshape(w.shape[0], part.shape[0], count)
                result[n : n + at_once, :, first : first + count] = product.transpose((1, 0, 2))
        return result.reshape(shape)

    def _adjoint(self, window: Window, group: int, shape: Shape, g: Array, w: Array) -> Array:
        samples, windows, channels = g.shape[0], math.prod(window.size_out), w.shape[1]
        weights = w.reshape(group, -1, channels, window.count)
        g = g.reshape(samples, -1, windows)
        result = self.xp.empty((samples, group, channels, math.prod(window.size_in)), g.dtype)
        at_once, width = self._parts(samples, group * window.count * windows, channels, g.dtype)
        for n in range(0, samples, at_once):
            part = g[n : n + at_once]
            count = part.shape[0]
            factor = part.transpose((1, 0, 2)).reshape(group, -1, count * windows)
            for first in range(0, channels, width):
                some = weights[:, :, first : first + width]
                some = some.reshape(*some.shape[:2], -1).swapaxes(1, 2)
                gathered = self._gathered(self.ops.matmul(some, factor), window, count)
                result[n : n + at_once, :, first : first + width] = gathered.reshape(
                    count, group, -1, result.shape[3]
                )
        return result.reshape(shape)

    def _columns(self, x: Array, window: Window, first: int, count: int) -> Array:
        """What the windows from ``first`` see: channels × offsets × samples × count."""
        samples, channels = x.shape[:2]
        columns = self.xp.empty((channels, window.count, samples, count), x.dtype)
        index = index_type(x.size, columns.size, math.prod(window.size_out), window=window)
        items = samples * channels * count
        self.gpu.launch_indexed(
            "im2col", x.dtype, index, items, x, columns, geometry(window, index),
            *map(index, (channels, samples, first)), divisor(count, index),
        )  # fmt: skip
        return columns

    def _gathered(self, columns: Array, window: Window, samples: int) -> Array:
        """The adjoint of ``_columns`` for all windows: samples × channels × inputs."""
        channels = columns.size // (window.count * samples * math.prod(window.size_out))
        x = self.xp.empty((samples, channels, math.prod(window.size_in)), columns.dtype)
        index = index_type(x.size, columns.size, window=window)
        columns = columns if columns.flags.c_contiguous else columns.copy()
        threads = gathering(samples * channels, window)
        self.gpu.launch_indexed(
            "col2im", x.dtype, index, threads, columns, x, geometry(window, index),
            *map(index, (channels, samples)),
        )  # fmt: skip
        return x

    def _parts(self, samples: int, rows: int, columns: int, dtype: Any) -> tuple[int, int]:
        """How many samples, and how many columns of one, fit into the workspace at once."""
        row = rows * np.dtype(dtype).itemsize
        at_once = self.WORKSPACE // (row * columns)
        return (min(samples, at_once), columns) if at_once else (1, max(1, self.WORKSPACE // row))

    def _factor(self, x: Array) -> Array:
        """Rounded before it is copied out into columns, where products round it anyway."""
        return x.astype(np.float16) if self.precision == "float16" and x.dtype == np.float32 else x


def _pointwise(window: Window) -> bool:
    """True for kernels of one number that see no padding."""
    ends = zip(window.size_out, window.strides, window.size_in, strict=True)
    return window.count == 1 and not any(window.before) and all((o - 1) * s < n for o, s, n in ends)


def _seen(window: Window) -> tuple[slice, ...]:
    """What kernels of one number see."""
    ends = zip(window.size_out, window.strides, strict=True)
    return (slice(None), slice(None), *(slice(0, (o - 1) * s + 1, s) for o, s in ends))


def _matrices(x: Array, w: Array, group: int) -> tuple[Array, Array]:
    """Weights and data of kernels of one number as matrices, one a sample and group."""
    (samples, channels), groups = x.shape[:2], (group,) if group > 1 else ()
    weights = w.reshape(1, *groups, w.shape[0] // group, w.shape[1])
    return weights, x.reshape(samples, *groups, channels // group, -1)
