"""Writing nodes down, and arithmetic: whatever is known while tracing is used at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxvis.ops.host import HostOps
from onnxvis.ops.primitives import Ops, Shape

from .values import Emitted, Traced

__all__ = ["Writer"]

# Operators whose result is 0 where this operand is.
ZERO_STAYS = {"Mul": slice(0, 2)} | dict.fromkeys(
    ("Div", "Relu", "Neg", "Cast", "Expand", "Reshape"), slice(0, 1)
)


class Writer(Ops):
    """Nodes and constants (by name) that grow as rules run, and the primitives on single numbers."""

    def __init__(self, dtype: Any = np.float32) -> None:
        super().__init__(dtype)
        self.host = HostOps(dtype)
        self._layer = ""
        self.nodes: list[Emitted] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self._known: dict[Any, str] = {}
        self._alive: list[Any] = []  # what ``id`` was taken of must not be collected

    # ---- writing ---------------------------------------------------------------------------------

    def enter(self, layer: str) -> None:
        """What is written from here on is by this layer's rule ("": by none)."""
        self._layer = layer

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
            self.nodes.append(Emitted(op_type, names, self._known[key], attributes, self._layer))
        result = Traced(self, self._known[key], tuple(map(int, shape)), dtype or self.dtype, signs)
        result.support = _support(op_type, inputs, result.shape)
        return result

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

    def numbers(self, x: Traced) -> Traced:
        if x.dtype == self.dtype:
            return x
        if x.value is not None:
            return self.constant(x.value.astype(self.dtype))
        signs = x.signs or int(x.dtype.kind in "bu")
        return self.emit("Cast", [x], x.shape, signs=signs, to=self.dtype)

    def indices(self, numbers: Sequence[int]) -> Traced:
        """A constant int64 vector: shapes, axes, pads."""
        return self.constant(np.array(numbers, np.int64))

    # ---- arithmetic ------------------------------------------------------------------------------

    def expand(self, x: Traced, shape: Shape) -> Traced:
        if tuple(shape) == x.shape:
            return x
        if x.zero:
            return self.zeros(shape)
        return self.emit("Expand", [x, self.indices(shape)], shape, dtype=x.dtype, signs=x.signs)

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
            if one.equals(0.0):
                return self.expand(other, shape)
        total = self.binary("Add", np.add, a, b, a.signs if a.signs == b.signs else 0)
        total.shifted = _shifted_sum(a, b)
        return total

    def subtract(self, a: Any, b: Any) -> Traced:
        """a − b."""
        a, b, shape = self._pair(a, b)
        if b.equals(0.0):
            return self.expand(a, shape)
        return self.binary("Sub", np.subtract, a, b, a.signs if a.signs == -b.signs else 0)

    def multiply(self, a: Any, b: Any) -> Traced:
        """a · b."""
        a, b, shape = self._pair(a, b)
        if a.zero or b.zero:
            return self.zeros(shape)
        for one, other in ((a, b), (b, a)):
            if one.equals(1.0):
                return self.expand(other, shape)
        return self.binary("Mul", np.multiply, a, b, a.signs * b.signs)

    def divide(self, a: Any, b: Any) -> Traced:
        """a / b."""
        a, b, shape = self._pair(a, b)
        if a.zero:
            return self.zeros(shape)
        if b.equals(1.0):
            return self.expand(a, shape)
        return self.binary("Div", np.divide, a, b, a.signs * b.signs)

    def greater(self, a: Traced, b: Any) -> Traced:
        """a > b."""
        result = self.binary("Greater", np.greater, a, b, dtype=bool)
        result.mask = self._step(a, self.lift(b, a.dtype), 1.0)
        return result

    def less(self, a: Traced, b: Any) -> Traced:
        """a < b."""
        result = self.binary("Less", np.less, a, b, dtype=bool)
        result.mask = self._step(a, self.lift(b, a.dtype), -1.0)
        return result

    def _step(self, x: Traced, threshold: Traced, direction: float) -> Callable[[], Traced] | None:
        """1 where x lies beyond a number, else 0, in one node: a line so steep that it is a step.

        Its slope is a power of two, so that slope · threshold is exact.
        """
        if (
            x.value is not None
            or x.dtype != np.float32
            or threshold.value is None
            or threshold.value.size > 1
        ):
            return None
        at = float(threshold.value.flat[0])
        if not math.isfinite(at):
            return None
        slope = math.ldexp(direction, 126 - max(math.frexp(at)[1], 0) if at else 127)
        return lambda: self.emit("HardSigmoid", [x], x.shape, signs=1, alpha=slope, beta=-slope * at)

    def where(self, condition: Traced, a: Any, b: Any = 0.0) -> Traced:
        condition, a, b = self.lift(condition), self.lift(a), self.lift(b)
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
        if condition.value is not None and a.value is not None and b.value is not None:
            return self.constant(self.host.where(condition.value, a.value, b.value))
        if a.zero and b.zero:
            return self.zeros(shape)
        signs = a.signs if a.signs == b.signs or b.zero else b.signs if a.zero else 0
        if b.zero and b.shape == ():  # Mul by a 0/1 mask is faster than Where in onnxruntime
            return self.expand(self.binary("Mul", np.multiply, a, self._mask(condition), signs), shape)
        return self.emit("Where", [condition, a, b], shape, signs=signs)

    def _mask(self, condition: Traced) -> Traced:
        """1 where a condition holds, else 0."""
        if condition.mask:
            return condition.mask()
        return self.emit("Cast", [condition], condition.shape, signs=1, to=self.dtype)

    def maximum(self, a: Any, b: Any) -> Traced:
        a, b, shape = self._pair(a, b)
        if b.equals(0.0) and a.value is None:
            if a.signs < 0:
                return self.zeros(shape)
            return self.expand(a if a.signs > 0 else self.emit("Relu", [a], a.shape, signs=1), shape)
        return self.binary("Max", np.maximum, a, b, 1 if a.signs > 0 or b.signs > 0 else 0)

    def minimum(self, a: Any, b: Any) -> Traced:
        a, b, shape = self._pair(a, b)
        below = b.equals(0.0)
        if below and a.value is None and a.signs:
            return self.expand(a, shape) if a.signs < 0 else self.zeros(shape)
        return self.binary("Min", np.minimum, a, b, -1 if a.signs < 0 or b.signs < 0 or below else 0)

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

    def sin(self, x: Traced) -> Traced:
        return self.unary("Sin", np.sin, x)

    def erf(self, x: Traced) -> Traced:
        return self.unary("Erf", self.host.erf, x, x.signs)

    def power(self, a: Any, b: Any) -> Traced:
        a, b, _ = self._pair(a, b)
        return self.binary("Pow", np.power, a, b, max(a.signs, 0))

    def sigmoid(self, x: Traced) -> Traced:
        return self.unary("Sigmoid", self.host.sigmoid, x, 1)

    def stabilize(self, z: Traced, epsilon: float = 1e-6) -> Traced:
        if z.value is None and z.signs > 0:  # sign(z) is known: no comparison
            return z.shifted(epsilon) if z.shifted else z + epsilon
        stabilized: Traced = super().stabilize(z, epsilon)
        return stabilized

    stab = stabilize


def _shifted_sum(a: Traced, b: Traced) -> Callable[[float], Traced] | None:
    """How a + b + number is written with the number in a constant, where that costs nothing."""
    for one, other in ((a, b), (b, a)):
        if one.value is not None:
            constant = one.value
            return lambda number: other + np.asarray(constant + number, constant.dtype)
    for one, other in ((a, b), (b, a)):
        if one.shifted:
            shifted = one.shifted
            return lambda number: shifted(number) + other
    return None


def _support(op_type: str, inputs: Sequence[Traced | None], shape: Shape) -> Traced | None:
    """The channels of a result that are not all 0, where an operand knows its own."""
    for x in inputs[ZERO_STAYS.get(op_type, slice(0))]:
        if x is not None and x.support is not None and _same_channels(op_type, x.shape, shape):
            return x.support
    return None


def _same_channels(op_type: str, before: Shape, after: Shape) -> bool:
    """True where the second axis is what it was; samples may be repeated on the way."""
    if op_type == "Reshape":
        return before[:2] == after[:2]
    return len(before) == len(after) and before[1] == after[1]
