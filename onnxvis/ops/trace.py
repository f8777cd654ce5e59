"""The trace executor: running a rule on ``Traced`` values writes an ONNX graph.

What is known while tracing is used at once: operations on constants are computed by the host
executor, zeros vanish, equal expressions are written once, and the sign of a value (a ReLU's output
is never negative) removes the halves of LRP rules that cannot contribute.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnxvis.errors import OnnxvisError

from .host import HostOps
from .primitives import Key, Ops, Shape
from .window import Window

__all__ = ["Emitted", "NotTraceableError", "TraceOps", "Traced"]


class NotTraceableError(OnnxvisError):
    """A rule did with a traced value what only an array can do; the host executor can run it."""


class Emitted(NamedTuple):
    """One ONNX node to be: names of its inputs, one output, attributes."""

    op_type: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Traced:
    """A value of the graph being written.

    ``value`` holds the array where it is a constant.  ``signs`` is +1 where the value is known to be
    ≥ 0 everywhere, −1 where it is ≤ 0, else 0.
    """

    __slots__ = ("dtype", "name", "ops", "shape", "signs", "value")

    def __init__(
        self,
        ops: TraceOps,
        name: str,
        shape: Shape,
        dtype: Any,
        signs: int = 0,
        value: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.ops, self.name, self.shape, self.signs, self.value = ops, name, tuple(shape), signs, value
        self.dtype = np.dtype(dtype)

    @property
    def zero(self) -> bool:
        """True for numbers that are all known to be 0."""
        if self.value is None or self.value.dtype.kind != "f":
            return False
        return not any(self.value.strides) and not self.value.flat[:1].any()

    def __add__(self, other: Any) -> Traced:
        return self.ops.add(self, other)

    def __sub__(self, other: Any) -> Traced:
        return self.ops.subtract(self, other)

    def __mul__(self, other: Any) -> Traced:
        return self.ops.multiply(self, other)

    def __truediv__(self, other: Any) -> Traced:
        return self.ops.divide(self, other)

    def __rsub__(self, other: Any) -> Traced:
        return self.ops.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Traced:
        return self.ops.divide(other, self)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Traced:
        return self.ops.unary("Neg", np.negative, self, -self.signs)

    def __gt__(self, other: Any) -> Traced:
        return self.ops.binary("Greater", np.greater, self, other, dtype=bool)

    def __ge__(self, other: Any) -> Traced:
        return self.ops.binary("GreaterOrEqual", np.greater_equal, self, other, dtype=bool)

    def __lt__(self, other: Any) -> Traced:
        return self.ops.binary("Less", np.less, self, other, dtype=bool)

    def __le__(self, other: Any) -> Traced:
        return self.ops.binary("LessOrEqual", np.less_equal, self, other, dtype=bool)

    def __eq__(self, other: Any) -> Traced:  # type: ignore[override]
        return self.ops.binary("Equal", np.equal, self, other, dtype=bool)

    def __and__(self, other: Any) -> Traced:
        return self.ops.binary("And", np.logical_and, self, other, dtype=bool)

    def __or__(self, other: Any) -> Traced:
        return self.ops.binary("Or", np.logical_or, self, other, dtype=bool)

    def __invert__(self) -> Traced:
        return self.ops.unary("Not", np.logical_not, self)

    __rand__, __ror__ = __and__, __or__
    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotTraceableError("a traced value has no numbers yet")

    __array__ = __bool__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __contains__ = _refuse
    __getitem__ = __setitem__ = __abs__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _refuse
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __xor__ = __rxor__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Any:
        """What NumPy does with a traced value: arithmetic that an array began, nothing else."""
        if method != "__call__" or options or ufunc not in _ARITHMETIC:
            return self._refuse()
        return _ARITHMETIC[ufunc](*map(self.ops.lift, operands))


_ARITHMETIC: dict[Any, Callable[[Any, Any], Any]] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.divide: operator.truediv,
    np.greater: operator.gt, np.greater_equal: operator.ge, np.less: operator.lt, np.less_equal: operator.le,
    np.equal: operator.eq,
}  # fmt: skip


class TraceOps(Ops):
    """The primitives as ONNX nodes: ``nodes`` and ``constants`` (by name) grow as rules run."""

    def __init__(self, dtype: Any = np.float32) -> None:
        super().__init__(dtype)
        self.host = HostOps(dtype)
        self.nodes: list[Emitted] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self._known: dict[Any, str] = {}
        self._alive: list[Any] = []  # what ``id`` was taken of must not be collected

    # ---- writing ---------------------------------------------------------------------------------

    def working(self, value: Traced) -> Traced:
        """A graph input in the working dtype; integers and booleans as they are."""
        if value.dtype.kind in "biu" or value.dtype == self.dtype:
            return value
        return self.emit("Cast", [value], value.shape, signs=value.signs, to=self.dtype)

    def emit(
        self,
        op_type: str,
        inputs: Sequence[Traced | None],
        shape: Sequence[int],
        *,
        dtype: Any = None,
        signs: int = 0,
        output: int = 0,
        **attributes: Any,
    ) -> Traced:
        """Write a node (or find the same one written before); ``output``: which of its outputs."""
        names = tuple("" if value is None else self._name(value) for value in inputs)
        key = (op_type, names, output, repr(sorted(attributes.items())))
        if key not in self._known:
            self._known[key] = f"v{len(self.nodes)}"
            attributes["output"] = output
            self.nodes.append(Emitted(op_type, names, self._known[key], attributes))
        return Traced(self, self._known[key], tuple(map(int, shape)), dtype or self.dtype, signs)

    def _name(self, traced: Traced) -> str:
        if traced.value is not None and not traced.name:
            array = traced.value
            small = array.size <= 64
            key = ("constant", array.dtype.str, array.shape, array.tobytes() if small else id(array))
            if key not in self._known:
                self._known[key] = f"c{len(self.constants)}"
                self.constants[self._known[key]] = array
                self._alive.append(array)
            traced.name = self._known[key]
        return traced.name

    def lift(self, value: Any, dtype: Any = None) -> Traced:
        """An array or a number (which takes ``dtype``) as a traced constant; traced values as they are."""
        if isinstance(value, Traced):
            return value
        number = isinstance(value, float | int | np.number)
        return self.constant(np.asarray(value, dtype or self.dtype) if number else value)

    def _pair(self, a: Any, b: Any) -> tuple[Traced, Traced, Shape]:
        """Two operands as traced values, a number in the other's dtype, and the shape they broadcast to."""
        like = a if isinstance(a, Traced) else b
        dtype = like.dtype if isinstance(like, Traced) else None
        a, b = self.lift(a, dtype), self.lift(b, dtype)
        return a, b, np.broadcast_shapes(a.shape, b.shape)

    def constant(self, array: Any) -> Traced:
        array = self.host.constant(array)
        signs = 0
        if array.dtype.kind == "f" and array.size:
            signs = 1 if array.min() >= 0 else -1 if array.max() <= 0 else 0
        return Traced(self, "", array.shape, array.dtype, signs, array)

    def zeros(self, shape: Shape) -> Traced:
        return Traced(self, "", shape, self.dtype, 1, np.broadcast_to(np.zeros((), self.dtype), shape))

    def indices(self, numbers: Sequence[int]) -> Traced:
        """A constant int64 vector: shapes, axes, pads."""
        return self.constant(np.array(numbers, np.int64))

    # ---- arithmetic ------------------------------------------------------------------------------

    def unary(self, op_type: str, function: Callable[..., Any], x: Traced, signs: int = 0) -> Traced:
        """An elementwise node of one input, or its result where that is a constant."""
        if x.value is not None:
            return self.constant(function(x.value))
        return self.emit(op_type, [x], x.shape, dtype=x.dtype, signs=signs)

    def binary(
        self,
        op_type: str,
        function: Callable[..., Any],
        a: Any,
        b: Any,
        signs: int = 0,
        dtype: Any = None,
    ) -> Traced:
        """An elementwise node of two inputs that broadcast, or its result for two constants."""
        a, b, shape = self._pair(a, b)
        if a.value is not None and b.value is not None:
            return self.constant(function(a.value, b.value))
        return self.emit(op_type, [a, b], shape, dtype=dtype or a.dtype, signs=signs)

    def add(self, a: Any, b: Any) -> Traced:
        """a + b."""
        a, b, shape = self._pair(a, b)
        for one, other in ((a, b), (b, a)):
            if _is_number(one, 0.0):
                return self.expand(other, shape)
        return self.binary("Add", np.add, a, b, a.signs if a.signs == b.signs else 0)

    def subtract(self, a: Any, b: Any) -> Traced:
        """a − b."""
        a, b, shape = self._pair(a, b)
        if _is_number(b, 0.0):
            return self.expand(a, shape)
        return self.binary("Sub", np.subtract, a, b, a.signs if a.signs == -b.signs else 0)

    def multiply(self, a: Any, b: Any) -> Traced:
        """a · b."""
        a, b, shape = self._pair(a, b)
        if a.zero or b.zero:
            return self.zeros(shape)
        for one, other in ((a, b), (b, a)):
            if _is_number(one, 1.0):
                return self.expand(other, shape)
        return self.binary("Mul", np.multiply, a, b, a.signs * b.signs)

    def divide(self, a: Any, b: Any) -> Traced:
        """a / b."""
        a, b, shape = self._pair(a, b)
        if a.zero:
            return self.zeros(shape)
        if _is_number(b, 1.0):
            return self.expand(a, shape)
        return self.binary("Div", np.divide, a, b, a.signs * b.signs)

    def where(self, condition: Traced, a: Any, b: Any = 0.0) -> Traced:
        condition, a, b = self.lift(condition), self.lift(a), self.lift(b)
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
        if condition.value is not None and a.value is not None and b.value is not None:
            return self.constant(self.host.where(condition.value, a.value, b.value))
        if a.zero and b.zero:
            return self.zeros(shape)
        signs = a.signs if a.signs == b.signs or b.zero else b.signs if a.zero else 0
        if b.zero and b.shape == ():  # Mul by a 0/1 mask is faster than Where in onnxruntime
            mask = self.emit("Cast", [condition], condition.shape, signs=1, to=self.dtype)
            return self.expand(self.binary("Mul", np.multiply, a, mask, signs), shape)
        return self.emit("Where", [condition, a, b], shape, signs=signs)

    def maximum(self, a: Any, b: Any) -> Traced:
        a, b, shape = self._pair(a, b)
        if _is_number(b, 0.0) and a.value is None:
            if a.signs < 0:
                return self.zeros(shape)
            return self.expand(a if a.signs > 0 else self.emit("Relu", [a], a.shape, signs=1), shape)
        return self.binary("Max", np.maximum, a, b, 1 if a.signs > 0 or b.signs > 0 else 0)

    def minimum(self, a: Any, b: Any) -> Traced:
        a, b, shape = self._pair(a, b)
        if _is_number(b, 0.0) and a.value is None and a.signs:
            return self.expand(a, shape) if a.signs < 0 else self.zeros(shape)
        return self.binary("Min", np.minimum, a, b, -1 if a.signs < 0 or b.signs < 0 else 0)

    def abs(self, x: Traced) -> Traced:
        return self.unary("Abs", np.abs, x, 1)

    def exp(self, x: Traced) -> Traced:
        return self.unary("Exp", np.exp, x, 1)

    def log(self, x: Traced) -> Traced:
        return self.unary("Log", np.log, x)

    def sqrt(self, x: Traced) -> Traced:
        return self.unary("Sqrt", np.sqrt, x, 1)

    def tanh(self, x: Traced) -> Traced:
        return self.unary("Tanh", np.tanh, x, x.signs)

    def erf(self, x: Traced) -> Traced:
        return self.unary("Erf", self.host.erf, x, x.signs)

    def power(self, a: Any, b: Any) -> Traced:
        a, b, _ = self._pair(a, b)
        return self.binary("Pow", np.power, a, b, max(a.signs, 0))

    def sigmoid(self, x: Traced) -> Traced:
        return self.unary("Sigmoid", self.host.sigmoid, x, 1)

    def stabilize(self, z: Traced, epsilon: float = 1e-6) -> Traced:
        if z.value is None and z.signs > 0:
            return z + epsilon  # sign(z) is known: no comparison
        stabilized: Traced = super().stabilize(z, epsilon)
        return stabilized

    stab = stabilize

    # ---- along axes ------------------------------------------------------------------------------

    def sum(self, x: Traced, axes: Sequence[int], keepdims: bool = False) -> Traced:
        axes = tuple(axes)
        shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
        if x.value is not None:
            return (
                self.zeros(tuple(shape)) if x.zero else self.constant(self.host.sum(x.value, axes, keepdims))
            )
        inputs = [x, self.indices(axes)]
        return self.emit("ReduceSum", inputs, shape, signs=x.signs, keepdims=int(keepdims)) if axes else x

    def argmax(self, x: Traced, axis: int) -> Traced:
        if x.value is not None:
            return self.constant(self.host.argmax(x.value, axis))
        shape = [1 if i == axis else n for i, n in enumerate(x.shape)]
        return self.emit("ArgMax", [x], shape, dtype=np.int64, axis=axis, keepdims=1)

    # ---- moving data -----------------------------------------------------------------------------

    def _moved(self, x: Traced, shape: Sequence[int], function: Callable[[Any], Any]) -> Traced | None:
        """The result where it needs no node: x is zero, or another constant."""
        if x.value is None:
            return None
        return self.zeros(tuple(shape)) if x.zero else self.constant(function(x.value))

    def reshape(self, x: Traced, shape: Shape) -> Traced:
        if tuple(shape) == x.shape:
            return x
        known = self._moved(x, shape, lambda value: value.reshape(shape))
        if known is not None:
            return known
        return self.emit("Reshape", [x, self.indices(shape)], shape, dtype=x.dtype, signs=x.signs)

    def transpose(self, x: Traced, axes: Sequence[int]) -> Traced:
        if list(axes) == list(range(len(x.shape))):
            return x
        shape = [x.shape[axis] for axis in axes]
        known = self._moved(x, shape, lambda value: np.asarray(value.transpose(axes), order="C"))
        if known is not None:
            return known
        return self.emit("Transpose", [x], shape, dtype=x.dtype, signs=x.signs, perm=[*axes])

    def expand(self, x: Traced, shape: Shape) -> Traced:
        if tuple(shape) == x.shape:
            return x
        if x.zero:
            return self.zeros(shape)
        return self.emit("Expand", [x, self.indices(shape)], shape, dtype=x.dtype, signs=x.signs)

    def concat(self, arrays: Sequence[Traced], axis: int) -> Traced:
        if len(arrays) == 1:
            return arrays[0]
        shape = list(arrays[0].shape)
        shape[axis] = sum(array.shape[axis] for array in arrays)
        if all(array.zero for array in arrays):
            return self.zeros(tuple(shape))
        if all(array.value is not None for array in arrays):
            return self.constant(np.concatenate([array.value for array in arrays], axis))
        signs = {array.signs for array in arrays}
        return self.emit(
            "Concat",
            arrays,
            shape,
            dtype=arrays[0].dtype,
            signs=signs.pop() if len(signs) == 1 else 0,
            axis=axis,
        )

    def slice(self, x: Traced, key: Key) -> Traced:
        ranges = [part.indices(n) for part, n in zip(key, x.shape, strict=True)]
        shape = [len(range(*bounds)) for bounds in ranges]
        known = self._moved(x, shape, lambda value: np.asarray(value[key], order="C"))
        cut = [i for i, (bounds, n) in enumerate(zip(ranges, x.shape, strict=True)) if bounds != (0, n, 1)]
        if known is not None:
            return known
        if not cut:
            return x
        starts, stops, steps = zip(*(ranges[i] for i in cut), strict=True)
        stops = tuple(stop if stop >= 0 else np.iinfo(np.int64).min for stop in stops)
        inputs = [x, *map(self.indices, (starts, stops, cut, steps))]
        return self.emit("Slice", inputs, shape, dtype=x.dtype, signs=x.signs)

    def unslice(self, g: Traced, key: Key, shape: Shape) -> Traced:
        known = self._moved(g, shape, lambda value: self.host.unslice(value, key, shape))
        if known is not None:
            return known
        before, after = [0] * len(shape), [0] * len(shape)
        for axis, (part, n) in enumerate(zip(key, shape, strict=True)):
            positions = range(n)[part]
            if positions.step < 0:
                flip = [slice(None)] * len(shape)
                flip[axis] = slice(None, None, -1)
                g, positions = self.slice(g, tuple(flip)), positions[::-1]
            g = self._interleave(g, axis, positions.step) if len(positions) > 1 else g
            before[axis] = positions.start if len(positions) else 0
            after[axis] = n - before[axis] - g.shape[axis]
        if not any(before) and not any(after):
            return g
        return self.emit("Pad", [g, self.indices(before + after)], shape, signs=g.signs)

    def _interleave(self, g: Traced, axis: int, step: int) -> Traced:
        """Put step − 1 zeros between neighbours along an axis."""
        if step == 1:
            return g
        n = g.shape[axis]
        split = (*g.shape[: axis + 1], 1, *g.shape[axis + 1 :])
        pads = [0] * (2 * len(split))
        pads[len(split) + axis + 1] = step - 1
        wide = (*g.shape[: axis + 1], step, *g.shape[axis + 1 :])
        g = self.emit("Pad", [self.reshape(g, split), self.indices(pads)], wide, signs=g.signs)
        g = self.reshape(g, (*wide[:axis], n * step, *wide[axis + 2 :]))
        key = [slice(None)] * len(g.shape)
        key[axis] = slice(0, (n - 1) * step + 1)
        return self.slice(g, tuple(key))

    # ---- linear maps -----------------------------------------------------------------------------

    def matmul(self, a: Traced, b: Traced) -> Traced:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        if a.zero or b.zero:
            return self.zeros(shape)
        if a.value is not None and b.value is not None:
            return self.constant(a.value @ b.value)
        return self.emit("MatMul", [a, b], shape, signs=a.signs * b.signs)

    def conv(self, x: Traced, w: Traced, window: Window, group: int = 1) -> Traced:
        shape = (x.shape[0], w.shape[0], *window.size_out)
        if x.zero or w.zero or window.blind:
            return self.zeros(shape)
        if x.value is not None and w.value is not None:
            return self.constant(self.host.conv(x.value, w.value, window, group))
        x, before, after = self._seen(x, window)
        return self.emit(
            "Conv",
            [x, w],
            shape,
            signs=x.signs * w.signs,
            strides=[*window.strides],
            dilations=[*window.dilations],
            pads=before + after,
            group=group,
        )

    def _seen(self, x: Traced, window: Window) -> tuple[Traced, list[int], list[int]]:
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
            return self.conv(g, self._flipped(w, group), _reversed(window), group)
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
        return self._fit(result, shape)

    def _fit(self, x: Traced, shape: Shape) -> Traced:
        """Append zeros until the shape is reached: input positions that no window saw."""
        return self.unslice(x, tuple(slice(0, n) for n in x.shape), shape)

    def _flipped(self, w: Traced, group: int) -> Traced:
        """M×(C/group)×kernel to C×(M/group)×kernel, spatial axes reversed."""
        kernel = w.shape[2:]
        spatial = tuple(range(3, 3 + len(kernel)))
        w = self.slice(w, (slice(None), slice(None), *(slice(None, None, -1) for _ in kernel)))
        channels = w.shape[1]
        w = self.reshape(w, (group, w.shape[0] // group, channels, *kernel))
        w = self.transpose(w, (0, 2, 1, *spatial))
        return self.reshape(w, (group * channels, w.shape[2], *kernel))

    # ---- pooling ---------------------------------------------------------------------------------

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
            return self._repeat(g, window, shape)
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

    def _repeat(self, g: Traced, window: Window, shape: Shape) -> Traced:
        """Every g to its whole window, where windows tile the input."""
        split = [*g.shape[:2]]
        wide = [*g.shape[:2]]
        for n, k in zip(window.size_out, window.kernel, strict=True):
            split += [n, 1]
            wide += [n, k]
        g = self.expand(self.reshape(g, tuple(split)), tuple(wide))
        tiled = (n * k for n, k in zip(window.size_out, window.kernel, strict=True))
        return self._fit(self.reshape(g, (*shape[:2], *tiled)), shape)

    def max_route(self, g: Traced, x: Traced, window: Window) -> Traced:
        shape = (*g.shape[:2], *window.size_in)
        if g.zero:
            return self.zeros(shape)
        x, before, after = self._seen(x, window)
        if any(pad >= k for pad, k in zip(before + after, window.kernel * 2, strict=True)):
            raise NotTraceableError("onnxruntime's MaxPool takes no padding as wide as the kernel")
        first = self.emit(
            "MaxPool",
            [x],
            g.shape,
            dtype=np.int64,
            output=1,
            kernel_shape=[*window.kernel],
            strides=[*window.strides],
            dilations=[*window.dilations],
            pads=before + after,
        )
        flat = [self.reshape(v, (math.prod(g.shape),)) for v in (first, g)]
        empty = self.expand(self.constant(np.zeros(1)), (math.prod(x.shape),))
        routed = self.emit(
            "ScatterElements", [empty, *flat], empty.shape, axis=0, reduction="add", signs=g.signs
        )
        return self._fit(self.reshape(routed, x.shape), shape)


def _is_number(traced: Traced, number: float) -> bool:
    """True for a constant of which every element is this number."""
    value = traced.value
    return value is not None and (value.size == 1 or traced.zero) and bool(value.flat[0] == number)


def _reversed(window: Window) -> Window:
    """The window of a stride-1 convolution's adjoint."""
    before = tuple(
        (k - 1) * d - b for k, d, b in zip(window.kernel, window.dilations, window.before, strict=True)
    )
    return Window(window.kernel, window.strides, window.dilations, before, window.size_out, window.size_in)


def _box(ops: TraceOps, window: Window) -> tuple[Traced, Window]:
    """A kernel of ones, as convolutions over one channel take it."""
    return ops.constant(np.ones((1, 1, *window.kernel))), window
