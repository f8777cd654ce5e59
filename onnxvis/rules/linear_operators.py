"""A linear operator: a forward map and its adjoint, from which its gradient and the rules of LRP follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxvis.errors import OnnxvisError

if TYPE_CHECKING:
    from onnxvis.ops.primitives import Array, Gate

    from .step import Step

__all__ = ["Linear", "Parts"]

Parts = Sequence[tuple["Array", "Array | None"]]  # of data and weights


class Linear:
    """A linear operator: subclass it and register the subclass with ``@linear``.

    ``forward(step, x, w)`` computes the output without bias, ``adjoint(step, g, w)`` its adjoint in x,
    ``weight_adjoint(step, g, x)`` its adjoint in w.  w is None for an operator without weights.
    ``layer`` says which rows of a composite speak of it: "convolution" or "dense".
    """

    layer = "dense"

    def forward(self, step: Step, x: Array, w: Array | None) -> Array:
        """The output for data x and weights w, without bias."""
        raise NotImplementedError

    def adjoint(self, step: Step, g: Array, w: Array | None) -> Array:
        """The adjoint of ``forward`` in x: from the output's shape to the data's."""
        raise NotImplementedError

    def weight_adjoint(self, step: Step, g: Array, x: Array) -> Array:
        """The adjoint of ``forward`` in w."""
        raise OnnxvisError(f"{step.node.kind} has no gradient with respect to its weight")

    def quotient(self, step: Step, r: Array, parts: Parts, epsilon: float, bias: Array | None) -> Array:
        """R / stab(Σ Wx + bias), in one go where that is quicker; to be overridden with ``forward`` then.

        ``parts``: one or more (x, W).
        """
        return step.quotient(r, step.total([self.forward(step, x, w) for x, w in parts]), epsilon, bias)

    def product(self, step: Step, g: Array, parts: Parts) -> Array:
        """Σ x · Wᵀg, in one go where that is quicker; to be overridden with ``adjoint`` then."""
        return step.sum_of_products(*((x, self.adjoint(step, g, w)) for x, w in parts))

    def adjoint_onto(self, step: Step, onto: Array, g: Array, w: Array | None) -> Array:
        """onto + Wᵀg, in one go where that is quicker; to be overridden with ``adjoint`` then."""
        return step.total([onto, self.adjoint(step, g, w)])

    def product_onto(self, step: Step, onto: Array, g: Array, parts: Parts) -> Array:
        """onto + Σ x · Wᵀg, in one go where that is quicker; to be overridden with ``product`` then."""
        return step.total([onto, self.product(step, g, parts)])

    def adjoint_gated(
        self, step: Step, gate: Gate, y: Array | None, onto: Array | None, g: Array, w: Array | None
    ) -> Array:
        """rectify(onto + Wᵀg, gate, y), in one go; of use only where it is overridden with ``adjoint``."""
        raise NotImplementedError

    def bias(self, step: Step, b: Array) -> Array:
        """The bias shaped so that it can be added to the output: one number for the last axis."""
        return b

    def gradient(self, step: Step, g: Array) -> tuple[Array | None, ...]:
        """The gradient rule that follows."""
        onto = step.taken()
        gating = step.gating() if _along(type(self), "adjoint_gated", "adjoint") else None
        if gating is not None:
            data = self.adjoint_gated(step, *gating, onto, g, step.w)
        elif onto is not None:
            data = self.adjoint_onto(step, onto, g, step.w)
        else:
            data = self.adjoint(step, g, step.w) if step.wants(0) else None
        weight = self.weight_adjoint(step, g, step.x) if step.wants(1) else None
        if not step.wants(2):
            return data, weight
        # The adjoint of "reshape, then broadcast" is "sum, then reshape back".
        shaped = self.bias(step, step.zeros(step.shape(2))).shape
        return data, weight, step.reshape(step.unbroadcast(g, shaped), step.shape(2))


def _along(cls: type, name: str, other: str) -> bool:
    """True where no subclass has overridden one method since the class that both are of."""
    first, second = (next(c for c in cls.__mro__ if n in vars(c)) for n in (name, other))
    return first is not Linear and issubclass(first, second)
