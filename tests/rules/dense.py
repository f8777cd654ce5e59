"""Operators as dense matrices, taken column by column from onnx.reference, and LRP written on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import Case

Array = np.ndarray[Any, Any]
EPSILON = 1e-6  # what every rule stabilizes with


@dataclass(frozen=True)
class Affine:
    """An operator that is y = Σᵢ Wᵢxᵢ + b in the inputs that carry relevance, as flat vectors."""

    weights: dict[int, Array]
    inputs: dict[int, Array]
    bias: Array
    y: Array

    @classmethod
    def of(cls, case: Case) -> Affine:
        """Evaluate the case on every basis vector."""
        zeros = list(case.arrays)
        for position in case.relevant:
            zeros[position] = np.zeros_like(case.array(position))
        bias = case.run(zeros)[0].ravel()

        def column(position: int, index: int) -> Array:
            arrays = list(zeros)
            basis = np.zeros(case.array(position).size)
            basis[index] = 1.0
            arrays[position] = basis.reshape(case.array(position).shape)
            return case.run(arrays)[0].ravel() - bias

        weights = {
            position: np.stack(
                [column(position, index) for index in range(case.array(position).size)], axis=1
            )
            for position in case.relevant
        }
        inputs = {position: case.array(position).ravel() for position in case.relevant}
        affine = cls(weights, inputs, bias, case.computed[0].ravel())
        rebuilt = sum(weights[i] @ inputs[i] for i in weights) + bias
        np.testing.assert_allclose(rebuilt, affine.y, rtol=1e-10, atol=1e-10)
        return affine


def quotient(r: Array, z: Array) -> Array:
    """R / stab(z), number by number."""
    return np.array(
        [r_j / (z_j + EPSILON if z_j >= 0 else z_j - EPSILON) for r_j, z_j in zip(r, z, strict=True)]
    )


def epsilon(affine: Affine, r: Array) -> dict[int, Array]:
    """Rᵢ = Σⱼ xᵢ·wⱼᵢ / stab(yⱼ) · Rⱼ: every contribution for itself; the bias keeps its share."""
    s = quotient(r, affine.y)
    shares = {}
    for position, w in affine.weights.items():
        contributions = w * affine.inputs[position]
        shares[position] = (contributions * s[:, None]).sum(axis=0)
    return shares


def zplus(affine: Affine, r: Array) -> dict[int, Array]:
    """As epsilon, with what speaks for the output only: contributions > 0 and the bias where it is > 0."""
    ((position, w),) = affine.weights.items()
    x = affine.inputs[position]
    positive = np.where(w > 0, w, 0.0) * np.where(x > 0, x, 0.0)
    negative = np.where(w < 0, w, 0.0) * np.where(x < 0, x, 0.0)
    z = positive.sum(axis=1) + negative.sum(axis=1) + np.where(affine.bias > 0, affine.bias, 0.0)
    return {position: ((positive + negative) * quotient(r, z)[:, None]).sum(axis=0)}
