"""Operators that write numbers at places given by indices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rules.case import Case, apart, distinct, ints, normal

ROWS = np.array([[0, -1, 2], [1, 0, 0]])
TWICE = np.array([[0, 1, 2], [0, 1, 0]])
PLACES = np.array([[0, 3], [2, -1]])


def cases() -> Iterator[Case]:
    yield from _elements()
    yield from _places()


def _elements() -> Iterator[Case]:
    x, u = normal(3, 4), normal(2, 3)
    yield Case("Scatter", 9, [x, ROWS % 3, u])
    yield Case("Scatter", 9, [x, ROWS[:, :1], normal(2, 1)], {"axis": 1}, "axis 1")
    yield Case("ScatterElements", 11, [x, ROWS, u])
    yield Case("ScatterElements", 13, [x, np.array([[3], [0], [-2]], np.int32), normal(3, 1)], {"axis": 1})
    yield Case("ScatterElements", 18, [normal(2, 3, 2), ROWS[:, :2, None], normal(2, 2, 1)], {"axis": -2})
    yield Case("ScatterElements", 18, [x, ROWS, np.full((2, 3), 0.5)], form="constants")
    yield Case("ScatterElements", 18, [np.zeros((3, 4)), ROWS, u], form="into constants")
    for reduction in ("add", "mul", "max", "min"):
        opset = 16 if reduction in ("add", "mul") else 18
        given = {"reduction": reduction}
        data, updates = (apart, apart) if reduction == "mul" else (distinct, _between)
        yield Case("ScatterElements", opset, [data(3, 4), ROWS, updates(2, 3)], given, reduction)
        yield Case("ScatterElements", 18, [data(3, 4), TWICE, updates(2, 3)], given, f"{reduction} twice")
    given = {"reduction": "mul"}
    yield Case("ScatterElements", 18, [_with_zeros, TWICE, apart(2, 3)], given, "mul zeros in the data")
    yield Case("ScatterElements", 18, [apart(3, 4), TWICE, _with_zero], given, "mul a zero to write")
    yield Case("ScatterElements", 18, [_with_zeros, TWICE, _with_zero], given, "mul two zeros")


def _places() -> Iterator[Case]:
    x = normal(3, 4, 2)
    yield Case("ScatterND", 11, [x, PLACES, normal(2, 2)])
    yield Case("ScatterND", 13, [x, ints(-1)[:, None], normal(1, 4, 2)], form="first axis")
    yield Case("ScatterND", 16, [x, np.array([[[2, 1, 0], [0, 3, 1]]]), normal(1, 2)], form="numbers")
    for reduction in ("add", "mul", "max", "min"):
        opset = 16 if reduction in ("add", "mul") else 18
        data, updates = (apart, apart) if reduction == "mul" else (distinct, _between)
        places = np.concatenate([PLACES, PLACES[:1]])
        given = [data(3, 4, 2), places, updates(3, 2)]
        yield Case("ScatterND", opset, given, {"reduction": reduction}, f"{reduction} twice")


def _between(*shape: int):  # type: ignore[no-untyped-def]
    """Numbers between those of ``distinct``, any two apart."""
    return lambda rng: distinct(*shape)(rng) + 0.02


def _with_zeros(rng: np.random.Generator):  # type: ignore[no-untyped-def]
    return apart(3, 4)(rng) * (np.arange(12).reshape(3, 4) % 5 > 0)


def _with_zero(rng: np.random.Generator):  # type: ignore[no-untyped-def]
    return apart(2, 3)(rng) * (np.arange(6).reshape(2, 3) > 0)
