"""Normalizations."""

from __future__ import annotations

from collections.abc import Iterator

from rules.case import Case, normal, positive


def cases() -> Iterator[Case]:
    for opset in (7, 9, 14, 15):
        given = [normal(2, 3, 4, 2), normal(3), normal(3), normal(3), positive(3)]
        yield Case("BatchNormalization", opset, given, {"epsilon": 2**-7})
    yield Case(
        "BatchNormalization", 15, [normal(2, 3), normal(3), normal(3), normal(3), positive(3)], form="2-D"
    )
    yield Case(
        "BatchNormalization", 15, [normal(2, 3, 4), normal(3), normal(3), normal(3), positive(3)], form="1-D"
    )
    for size in (1, 2, 3, 4, 5):
        attributes = {"size": size, "alpha": 0.25, "beta": 0.625, "bias": 1.5}
        yield Case("LRN", 13, [normal(2, 6, 2, 3)], attributes, f"size {size}")
    yield Case("LRN", 1, [normal(1, 2, 3, 2)], {"size": 5, "alpha": 0.25}, "size above the channels")
    yield Case("ImageScaler", 8, [normal(2, 3, 4, 4)], {"scale": 0.25, "bias": [1.0, -2.0, 3.0]})
