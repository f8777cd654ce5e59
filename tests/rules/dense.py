"""Operators as dense matrices, taken column by column from onnx.reference, and LRP written on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .case import Case

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
    position, w, x = only(affine)
    return {position: share(np.maximum(w * x, 0), np.maximum(affine.bias, 0), r)}


def alpha_beta(affine: Affine, r: Array) -> dict[int, Array]:
    """Twice what speaks for the output, less once what speaks against it."""
    position, w, x = only(affine)
    against = share(np.minimum(w * x, 0), np.minimum(affine.bias, 0), r)
    return {position: 2 * zplus(affine, r)[position] - against}


def gamma(affine: Affine, r: Array) -> dict[int, Array]:
    """Contributions of the output's own sign count 1.25 times; an output of 0 gives nothing back."""
    position, w, x = only(affine)
    parts, bias = w * x, affine.bias
    total = np.zeros(x.size)
    for j, y in enumerate(affine.y):
        if y != 0:
            kept = np.maximum if y > 0 else np.minimum
            row = parts[j] + 0.25 * kept(parts[j], 0)
            total += share(row[None], bias[j : j + 1] + 0.25 * kept(bias[j : j + 1], 0), r[j : j + 1])
    return {position: total}


def zbox(affine: Affine, r: Array, low: float = -2.5, high: float = 3.0) -> dict[int, Array]:
    """Each contribution counts from the least that the input could have given, l for w > 0, h for w < 0."""
    position, w, x = only(affine)
    least = np.where(w > 0, w * low, w * high)
    return {position: share(w * x - least, np.zeros(len(w)), r)}


def wsquare(affine: Affine, r: Array) -> dict[int, Array]:
    """In proportion to the squared weights."""
    position, w, _ = only(affine)
    return {position: share(w * w, affine.bias * affine.bias, r)}


def flat(affine: Affine, r: Array) -> dict[int, Array]:
    """Evenly among the inputs that the output sees."""
    position, w, _ = only(affine)
    return {position: share((w != 0).astype(float), np.zeros(len(w)), r)}


def passed(affine: Affine, r: Array) -> dict[int, Array]:
    """As it came."""
    ((position, _),) = affine.weights.items()
    return {position: r}


def only(affine: Affine) -> tuple[int, Array, Array]:
    """Position, matrix and data of an operator in one input."""
    ((position, w),) = affine.weights.items()
    return position, w, affine.inputs[position]


def share(parts: Array, bias: Array, r: Array) -> Array:
    """Σⱼ Rⱼ in proportion to the parts (j, i) of zⱼ = Σᵢ parts + bias."""
    return (parts * quotient(r, parts.sum(axis=1) + bias)[:, None]).sum(axis=0)


RULES = {
    "epsilon": epsilon, "norm": epsilon, "zplus": zplus, "alpha_beta": alpha_beta, "gamma": gamma,
    "zbox": zbox, "wsquare": wsquare, "flat": flat, "pass": passed,
}  # fmt: skip
