"""Experimental operators of the first ONNX releases."""

from __future__ import annotations

from collections.abc import Iterator

from rules.case import Case, normal


def cases() -> Iterator[Case]:
    yield Case("ImageScaler", 8, [normal(2, 3, 4, 4)], {"scale": 0.25, "bias": [1.0, -2.0, 3.0]})
    yield Case("Affine", 1, [normal(2, 3)], {"alpha": 0.5, "beta": 2.0})
    yield Case("Scale", 1, [normal(2, 3)], {"scale": -1.5})
    yield Case("ScaledTanh", 1, [normal(2, 3)], {"alpha": 1.5, "beta": 0.75})
    yield Case("ParametricSoftplus", 1, [normal(2, 3)], {"alpha": 1.5, "beta": -0.75})
    yield Case("Crop", 1, [normal(2, 3, 6, 7)], {"border": [1, 0, 2, 3]})
    yield Case("Crop", 7, [normal(2, 3, 6, 7)], {"border": [2, 1, 0, 0], "scale": [3, 4]}, "to a size")
