"""What is traced: values of the graph being written, and its nodes to be."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.errors import OnnxvisError
from onnxvis.ops.primitives import Shape
from onnxvis.ops.window import Window

if TYPE_CHECKING:
    from .writer import Writer

__all__ = ["Emitted", "NotTraceableError", "Routed", "Traced"]


class NotTraceableError(OnnxvisError):
    """A rule did with a traced value what only an array can do; the host executor can run it."""


class Emitted(NamedTuple):
    """One ONNX node to be: names of its inputs, one output, attributes; the layer whose rule wrote it."""

    op_type: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    layer: str = ""

    @property
    def name(self) -> str:
        """What it is called: for people who look at the graph, and at how long its nodes take."""
        return f"{self.output} at {self.layer}" if self.layer else self.output


class Routed(NamedTuple):
    """What came back through the max pooling of x."""

    g: Traced
    x: Traced
    window: Window


class Traced:
    """A value of the graph being written.

    ``value`` holds the array where it is a constant.  ``signs`` is +1 where the value is known to be
    ≥ 0 everywhere, −1 where it is ≤ 0, else 0.  What was written can be written in another way, where
    that is faster: ``mask``, a condition as 1 and 0 without Cast; ``shifted``, the same plus a number
    as part of a bias; ``routed``, behind a max pooling, with less going through it; ``support``, in
    products, the channels (axis 1) alone that are not all 0.
    """

    __slots__ = ("dtype", "mask", "name", "ops", "routed", "shape", "shifted", "signs", "support", "value")

    def __init__(
        self,
        ops: Writer,
        name: str,
        shape: Shape,
        dtype: Any,
        signs: int = 0,
        value: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.ops, self.name, self.shape, self.signs, self.value = ops, name, tuple(shape), signs, value
        self.dtype = np.dtype(dtype)
        self.mask: Callable[[], Traced] | None = None
        self.shifted: Callable[[float], Traced] | None = None
        self.routed: Routed | None = None
        self.support: Traced | None = None

    @property
    def zero(self) -> bool:
        """True for numbers that are all known to be 0."""
        if self.value is None or self.value.dtype.kind != "f":
            return False
        return not any(self.value.strides) and not self.value.flat[:1].any()

    def equals(self, number: float) -> bool:
        """True for a constant of which every element is known to be this number."""
        value = self.value
        return value is not None and (value.size == 1 or self.zero) and bool(value.flat[0] == number)

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
        return self.ops.greater(self, other)

    def __ge__(self, other: Any) -> Traced:
        return self.ops.binary("GreaterOrEqual", np.greater_equal, self, other, dtype=bool)

    def __lt__(self, other: Any) -> Traced:
        return self.ops.less(self, other)

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
