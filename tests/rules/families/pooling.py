"""Pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rules.case import Case, apart, distinct, normal


def cases() -> Iterator[Case]:
    def pool(form: str, size: Sequence[int], opset: int = 12, **attributes: Any) -> Iterator[Case]:
        yield Case("MaxPool", opset, [distinct(*size)], attributes, form)
        yield Case("AveragePool", opset, [normal(*size)], attributes, form)

    yield from pool("tiles", (2, 3, 6, 4), kernel_shape=[2, 2], strides=[2, 2])
    yield from pool("tiles with a rest", (2, 3, 7, 5), kernel_shape=[2, 2], strides=[2, 2])
    yield from pool("overlap", (2, 3, 7, 7), kernel_shape=[3, 3], strides=[2, 2])
    yield from pool("stride 1", (1, 2, 4, 5), kernel_shape=[2, 3])
    yield from pool("gaps", (1, 2, 7, 8), kernel_shape=[1, 2], strides=[3, 4])
    yield from pool("ceil", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    yield from pool("ceil tiles", (1, 2, 7, 5), kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1)
    yield from pool("padded", (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    yield from pool("asymmetric pads", (1, 2, 5, 6), kernel_shape=[3, 2], strides=[2, 1], pads=[0, 1, 2, 0])
    yield from pool(
        "ceil padded", (1, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1
    )
    yield from pool("1-D", (2, 2, 9), kernel_shape=[3], strides=[2])
    yield from pool("1-D ceil padded", (2, 2, 8), kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1)
    yield from pool(
        "3-D", (1, 2, 4, 5, 4), kernel_shape=[2, 2, 3], strides=[2, 1, 1], pads=[0, 1, 0, 0, 0, 1]
    )
    yield from pool("same upper", (1, 2, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    yield from pool("same lower", (1, 2, 5, 6), kernel_shape=[2, 3], strides=[1, 2], auto_pad="SAME_LOWER")
    yield from pool("valid", (1, 2, 5, 6), kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID")
    yield from pool("whole picture", (2, 3, 4, 3), kernel_shape=[4, 3])
    yield from pool("same shape", (1, 2, 4, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    yield from pool("opset 7", (1, 2, 5, 6), opset=7, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    yield from pool("dilated", (1, 2, 8, 7), opset=19, kernel_shape=[3, 2], dilations=[2, 3])
    yield from pool(
        "dilated padded",
        (1, 2, 6, 7),
        opset=19,
        kernel_shape=[2, 3],
        dilations=[3, 2],
        strides=[2, 1],
        pads=[1, 1, 1, 0],
    )
    yield from pool(
        "dilated over the end",
        (1, 2, 3, 4),
        opset=19,
        kernel_shape=[3, 4],
        dilations=[2, 1],
        pads=[0, 0, 2, 0],
    )
    yield Case("MaxPool", 12, [distinct(1, 2, 6, 6)], {"kernel_shape": [2, 2]}, "with indices", outputs=2)
    yield Case(
        "MaxPool", 8, [distinct(1, 2, 6, 6)], {"kernel_shape": [3, 2], "storage_order": 1}, "column major", 2
    )
    for form, attributes in (
        ("padded", {"pads": [1, 1, 1, 1]}),
        ("ceil", {"ceil_mode": 1}),
        ("ceil padded", {"ceil_mode": 1, "pads": [1, 0, 1, 1]}),
        ("same upper", {"auto_pad": "SAME_UPPER"}),
        ("same lower", {"auto_pad": "SAME_LOWER"}),
        ("ceil valid", {"auto_pad": "VALID", "ceil_mode": 1}),
        ("same upper with idle pads", {"auto_pad": "SAME_UPPER", "pads": [0, 0, 0, 0]}),
    ):
        every = {"kernel_shape": [3, 3], "strides": [2, 2], "count_include_pad": 1, **attributes}
        yield Case("AveragePool", 19, [normal(1, 2, 6, 6)], every, f"{form} counting pads")
    every = {"kernel_shape": [2, 3], "strides": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 2]}
    for opset in (19, 22):
        yield Case(
            "AveragePool",
            opset,
            [normal(1, 2, 6, 7)],
            {**every, "count_include_pad": 1},
            "dilated counting pads",
        )
    for operator in ("GlobalMaxPool", "GlobalAveragePool"):
        yield Case(operator, 1, [distinct(2, 3, 4, 5)])
        yield Case(operator, 22, [distinct(2, 3, 5)], form="1-D")
        yield Case(operator, 1, [distinct(1, 2, 2, 3, 2)], form="3-D")
        yield Case(operator, 1, [distinct(2, 3, 1, 1)], form="one position")
    yield from _norms()
    yield from _unpooled()


def _norms() -> Iterator[Case]:
    for opset in (2, 11, 18, 22):
        yield Case("LpPool", opset, [apart(1, 2, 5, 6)], {"kernel_shape": [2, 3], "strides": [2, 1]})
    for p in (1, 3):
        yield Case("LpPool", 11, [apart(1, 2, 5, 6)], {"kernel_shape": [2, 2], "p": p}, f"p {p}")
        yield Case("GlobalLpPool", 2, [apart(2, 3, 4, 2)], {"p": p}, f"p {p}")
    yield Case("GlobalLpPool", 2, [apart(2, 3, 5)], {}, "1-D")
    yield Case("GlobalLpPool", 22, [apart(2, 3, 4, 2)])
    padded = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]}
    yield Case("LpPool", 11, [apart(1, 2, 5, 6)], padded, "padded")
    yield Case("LpPool", 18, [apart(1, 2, 6, 7)], {**padded, "ceil_mode": 1}, "ceil padded")
    for auto_pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        given = {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": auto_pad}
        yield Case("LpPool", 18, [apart(1, 2, 5, 6)], given, auto_pad.lower())
    yield Case("LpPool", 18, [apart(1, 2, 6, 7)], {"kernel_shape": [2, 2], "dilations": [3, 2]}, "dilated")
    yield Case("LpPool", 18, [lambda rng: np.zeros((1, 1, 4))], {"kernel_shape": [2]}, "zeros")


def _unpooled() -> Iterator[Case]:
    places = np.array([[[[5, 7], [13, 10]], [[16, 19], [24, 31]]]])
    for opset in (9, 11, 22):
        tiles = {"kernel_shape": [2, 2], "strides": [2, 2]}
        yield Case("MaxUnpool", opset, [normal(1, 2, 2, 2), places], tiles)
    size = np.array([1, 2, 5, 4])
    yield Case("MaxUnpool", 11, [normal(1, 2, 2, 2), places, size], tiles, "to a size")
    twice = np.array([[[6, 6, 8], [6, 12, 20]]])[:, None]
    wide = {"kernel_shape": [3, 3], "strides": [2, 2]}
    yield Case("MaxUnpool", 11, [normal(1, 1, 2, 3), twice], wide, "overlap")
