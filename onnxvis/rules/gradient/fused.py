"""Matrix products as onnxruntime fuses them with a factor and with the Transposes before them."""

from __future__ import annotations

import numpy as np

from onnxvis.ops.primitives import Array, Shape
from onnxvis.rules.registry import linear
from onnxvis.rules.step import Step

from .layers import MatMul
from .normalization import MICROSOFT


@linear("FusedMatMul", domain=MICROSOFT)
@linear("TransposeMatMul", domain=MICROSOFT)  # as it was called first
class FusedMatMul(MatMul):
    """alpha · A'·B': each operand as it is, its last axes exchanged, its first axis moved before the last."""

    def forward(self, step: Step, x: Array, w: Array) -> Array:
        y = super().forward(step, step.transpose(x, _order(step, 0)), step.transpose(w, _order(step, 1)))
        return y * step.attribute("alpha", 1.0)

    def adjoint(self, step: Step, g: Array, w: Array) -> Array:
        g = g * step.attribute("alpha", 1.0)
        return _turned_back(step, super().adjoint(step, g, step.transpose(w, _order(step, 1))), 0)

    def weight_adjoint(self, step: Step, g: Array, x: Array) -> Array:
        g = g * step.attribute("alpha", 1.0)
        return _turned_back(step, super().weight_adjoint(step, g, step.transpose(x, _order(step, 0))), 1)

    def operand_shape(self, step: Step, index: int) -> Shape:
        shape = step.shape(index)
        return tuple(shape[axis] for axis in _order(step, index))


def _order(step: Step, index: int) -> tuple[int, ...]:
    """The axes of an operand in the order in which it is multiplied."""
    side, axes = "AB"[index], [*range(len(step.shape(index)))]
    if len(axes) > 1 and step.attribute(f"transBatch{side}", 0):
        axes.insert(len(axes) - 2, axes.pop(0))
    if len(axes) > 1 and step.attribute(f"trans{side}", 0):
        axes[-2:] = axes[:-3:-1]
    return tuple(axes)


def _turned_back(step: Step, operand: Array, index: int) -> Array:
    return step.transpose(operand, tuple(int(axis) for axis in np.argsort(_order(step, index))))
