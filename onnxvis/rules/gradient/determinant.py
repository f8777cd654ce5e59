"""Determinants."""

from __future__ import annotations

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


@rule("Det", needs="x")
def determinant(step: Step, g: Array) -> Array:
    """The transposed adjugate, which singular matrices have, too (Faddeev & LeVerrier).

    M₁ = 1, Mₖ = A·Mₖ₋₁ − tr(A·Mₖ₋₁)/(k − 1)·1; the adjugate of an n×n matrix is (−1)ⁿ⁻¹·Mₙ.
    """
    shape = step.shape()
    n, rank = shape[-1], len(shape)
    one = step.constant(np.eye(n))
    power = step.expand(one, shape)
    for k in range(1, n):
        product = step.matmul(step.x, power)
        trace = step.sum(product * one, (rank - 2, rank - 1), keepdims=True)
        power = product - one * trace * (1.0 / k)
    transposed = step.transpose(power, (*range(rank - 2), rank - 1, rank - 2))
    return transposed * step.reshape(g, (*shape[:-2], 1, 1)) * (-1.0) ** (n - 1)
