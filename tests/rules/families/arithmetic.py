"""Arithmetic with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rules.case import Case, apart, distinct, normal, positive


def middle(*shape: int) -> Callable[[np.random.Generator], np.ndarray[Any, Any]]:
    """Numbers at least 0.02 from every ``distinct`` one."""
    return lambda rng: distinct(*shape)(rng) + rng.uniform(0.02, 0.03)


def cases() -> Iterator[Case]:
    for operator in ("Add", "Sub", "Mul", "Div"):
        yield Case(operator, 7, [normal(2, 3, 4), apart(2, 3, 4)])
        yield Case(operator, 13, [normal(2, 3, 4), apart(3, 1)], form="second stretched")
        yield Case(operator, 14, [normal(3, 1), apart(2, 3, 4)], form="first stretched")
        yield Case(operator, 14, [normal(2, 1, 4), apart(1, 3, 1)], form="both stretched")
        yield Case(operator, 14, [normal(2, 3), apart()], form="scalar second")
        yield Case(operator, 14, [normal(), apart(2, 3)], form="scalar first")
        yield Case(operator, 14, [normal(1, 1), apart(3)], form="ones in front")
        yield Case(operator, 14, [normal(2, 3, 4), np.array([[-0.5], [2.0], [1.5]])], form="constant second")
        yield Case(operator, 14, [np.array([0.5, -2.0, 1.5, 3.0]), apart(2, 3, 4)], form="constant first")
        yield Case(operator, 14, [normal(2, 3), np.array(1.7)], form="constant number")
        yield Case(operator, 14, [normal(3), np.full((2, 3), 1.7)], form="stretched by a constant")
    yield Case("Sum", 8, [normal(2, 3), normal(2, 3), normal(2, 3)], form="three")
    yield Case("Sum", 13, [normal(2, 3, 4), normal(3, 1), normal(4)], form="three stretched")
    yield Case("Sum", 13, [normal(2, 3)], form="one")
    yield Case("Sum", 13, [normal(2, 3), np.array([[1.0], [2.0]])], form="constant")
    yield Case("Mean", 8, [normal(2, 3), normal(2, 3), normal(2, 3)], form="three")
    yield Case("Mean", 13, [normal(2, 3, 4), normal(3, 1), np.array(2.0)], form="stretched with a constant")
    for operator in ("Max", "Min"):
        yield Case(operator, 8, [distinct(2, 3, 4), middle(2, 3, 4)], form="two")
        yield Case(operator, 13, [distinct(2, 3, 4), middle(3, 1), middle(1)], form="three stretched")
        yield Case(operator, 12, [middle(1, 4), distinct(2, 3, 1)], form="both stretched")
        yield Case(operator, 13, [distinct(2, 3), np.array(0.02)], form="with a constant")
        yield Case(operator, 8, [distinct(2, 3)], form="one")
    yield Case("Pow", 7, [positive(2, 3), normal(2, 3)])
    yield Case("Pow", 13, [positive(2, 3, 4), normal(3, 1)], form="exponent stretched")
    yield Case("Pow", 13, [positive(3, 1), normal(2, 3, 4)], form="base stretched")
    yield Case("Pow", 13, [apart(2, 3), np.array(2.0)], form="squared")
    yield Case("Pow", 13, [apart(2, 3), np.array([[3.0], [-2.0]])], form="constant exponents")
    yield Case("Pow", 13, [np.array(2.5), normal(2, 3)], form="constant base")
    yield Case("Pow", 13, [apart(2, 3), np.array(3, np.int64)], form="whole exponent")
    yield Case("Pow", 15, [apart(2, 3), np.array([2, 1, 0], np.int32)], form="whole exponents")
    for opset, form in ((10, ""), (13, "stretched")):
        given = [lambda rng: 3 * apart(2, 3)(rng), positive(*((2, 3) if opset == 10 else (2, 1)))]
        yield Case("Mod", opset, given, {"fmod": 1}, form)
    yield Case("Mod", 13, [lambda rng: 3 * apart(2, 3)(rng), np.array(-0.7)], {"fmod": 1}, "constant")
    yield Case("Mod", 28, [lambda rng: 3 * apart(2, 3)(rng), positive(3)], {"fmod": 0}, "floor")
