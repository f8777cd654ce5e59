"""Operators that pick numbers by indices, or by a condition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rules.case import Case, distinct, ints, normal

PLACES = np.array([[0, 3], [2, -1], [0, 3]])


def cases() -> Iterator[Case]:
    yield from _gathered()
    yield from _elements()
    yield from _places()
    yield from _where()
    yield from _chosen()


def _gathered() -> Iterator[Case]:
    x = normal(3, 5, 4)
    yield Case("Gather", 1, [x, ints(2, 0)])
    yield Case("Gather", 11, [x, np.array(-1)], {"axis": 1}, "one number")
    yield Case("Gather", 13, [x, ints(3)], {"axis": -1}, "one")
    yield Case("Gather", 13, [x, ints(0, 2, 4)], {"axis": 1}, "every second")
    yield Case("Gather", 13, [x, ints(1, 2, 3)], {"axis": 1}, "neighbours")
    yield Case("Gather", 13, [x, ints(4, 2, 0)], {"axis": 1}, "backwards")
    yield Case("Gather", 13, [x, ints(1, 4, 1, -1)], {"axis": 1}, "repeated")
    yield Case("Gather", 13, [x, ints(2, 2)], {"axis": 0}, "the same twice")
    yield Case("Gather", 13, [x, PLACES], {"axis": 2}, "table")
    yield Case("Gather", 13, [x, np.array([[1], [2]], np.int32)], {"axis": 1}, "table of neighbours")
    yield Case("Gather", 13, [normal(6), ints(5, 1, 1)], form="vector")


def _elements() -> Iterator[Case]:
    x = normal(3, 4)
    yield Case("GatherElements", 11, [x, PLACES % 3], {"axis": 0})
    yield Case("GatherElements", 13, [x, PLACES], {"axis": 1}, "axis 1")
    yield Case("GatherElements", 13, [x, PLACES[:2].astype(np.int32)], {"axis": -1}, "smaller")
    yield Case("GatherElements", 13, [normal(2, 3, 4), np.tile(PLACES % 3, (2, 1, 2))], {"axis": 1}, "3-D")


def _places() -> Iterator[Case]:
    x = normal(3, 4, 2)
    yield Case("GatherND", 11, [x, PLACES])
    yield Case("GatherND", 12, [x, PLACES[:, :1]], form="first axis")
    yield Case("GatherND", 13, [x, np.array([[[1, -1, 0]], [[2, 0, 1]]])], form="numbers")
    yield Case("GatherND", 13, [x, PLACES[:, 1:]], {"batch_dims": 1}, "batch")
    places = PLACES[None, :, ::-1] % 2 + np.zeros((2, 1, 1), int)
    yield Case("GatherND", 13, [normal(2, 3, 4, 2), places], {"batch_dims": 1}, "batch places")
    places = np.ones((2, 3, 5, 1), np.int64)
    places[1] = 3
    yield Case("GatherND", 13, [normal(2, 3, 4), places], {"batch_dims": 2}, "two batches")


def _where() -> Iterator[Case]:
    condition = np.array([[True, False, True], [False, False, True]])
    yield Case("Where", 9, [condition, normal(2, 3), normal(2, 3)])
    yield Case("Where", 16, [condition, normal(3), normal(4, 2, 1)], form="stretched")
    yield Case("Where", 16, [condition[:, :1], normal(2, 3), normal()], form="condition stretched")
    yield Case("Where", 16, [condition, normal(2, 3), np.array(-1.0)], form="else a constant")
    yield Case("Where", 16, [condition, np.array([1.0, 2.0, 3.0]), normal(2, 1)], form="a constant or")


def _chosen() -> Iterator[Case]:
    x = distinct(3, 5, 4)
    yield Case("TopK", 1, [x], {"k": 2}, outputs=2)
    yield Case("TopK", 10, [x, ints(3)], {"axis": 1}, "axis 1", 2)
    yield Case("TopK", 11, [x, ints(1)], {"axis": -3, "largest": 0}, "smallest", 2)
    yield Case("TopK", 11, [x, ints(4)], {"axis": 1, "largest": 0, "sorted": 1}, "smallest in order", 2)
    keep = np.array([True, False, True, True, False])
    yield Case("Compress", 9, [normal(3, 5, 4), keep], {"axis": 1})
    yield Case("Compress", 11, [normal(3, 4), keep[:2]], {"axis": -1}, "shorter")
    yield Case("Compress", 11, [normal(3, 4), keep], form="flat")
    yield Case("Compress", 11, [normal(2, 3), np.zeros(3, bool)], {"axis": 1}, "nothing")
    lengths = {"batch_axis": 0, "time_axis": 1}
    yield Case("ReverseSequence", 10, [normal(3, 4, 2), ints(4, 1, 3)], lengths)
    yield Case("ReverseSequence", 10, [normal(4, 3), ints(2, 4, 1)], form="time first")
