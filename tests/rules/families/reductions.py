"""Sums, means and others over axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rules.case import Case, Draw, apart, distinct, ints, normal, positive

AXES_ARE_INPUTS = {"ReduceSum": 13}  # elsewhere since opset 18


def cases() -> Iterator[Case]:
    for operator in ("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceLogSumExp"):
        yield from _reductions(operator, normal)
    for operator in ("ReduceL1", "ReduceL2", "ReduceProd"):
        yield from _reductions(operator, apart)
    yield from _reductions("ReduceLogSum", positive)
    for operator in ("ReduceMax", "ReduceMin"):
        yield from _reductions(operator, distinct)
    yield Case("ReduceProd", 18, [lambda rng: np.diag([1.0, 2.0, 0.0]) + 1 - np.eye(3)], form="of 0")
    for form, zeros in (("one 0", [1]), ("two 0", [0, 2])):
        draw = lambda rng, zeros=zeros: apart(2, 4)(rng) * ~np.isin(range(8), zeros).reshape(2, 4)  # noqa: E731
        yield Case("ReduceProd", 13, [draw], {"axes": [1]}, form)
    yield from _running()


def _reductions(operator: str, draw: Callable[..., Draw]) -> Iterator[Case]:
    axes_are_inputs = AXES_ARE_INPUTS.get(operator, 18)
    for keep in (0, 1):
        attributes = {"axes": [1, -1], "keepdims": keep}
        yield Case(operator, 11, [draw(2, 3, 4)], attributes, f"axes keepdims {keep}")
        yield Case(operator, 11, [draw(2, 3, 4)], {"keepdims": keep}, f"all keepdims {keep}")
        given = [draw(2, 3, 4), ints(-3, 2)]
        yield Case(operator, axes_are_inputs, given, {"keepdims": keep}, f"axes as input keepdims {keep}")
        yield Case(operator, axes_are_inputs, [draw(2, 3, 4)], {"keepdims": keep}, f"all keepdims {keep}")
    yield Case(operator, axes_are_inputs, [draw(2, 3)], {"noop_with_empty_axes": 1}, "nothing")
    yield Case(operator, axes_are_inputs, [draw(2, 3), ints()], {"noop_with_empty_axes": 0}, "empty axes")


def _running() -> Iterator[Case]:
    for exclusive in (0, 1):
        for reverse in (0, 1):
            given = {"exclusive": exclusive, "reverse": reverse}
            form = " ".join(name for name, value in given.items() if value)
            yield Case("CumSum", 11, [normal(2, 7, 3), np.array(1)], given, form)
            yield Case("CumSum", 14, [normal(5), np.array(-1)], given, f"vector {form}".strip())
            yield Case("CumProd", 26, [apart(2, 7, 3), np.array(1)], given, form)
            yield Case(
                "CumProd", 26, [lambda rng: rng.permutation(6) - 2.0, np.array(0)], given, f"0 {form}".strip()
            )
    yield Case("CumSum", 14, [normal(3, 1), np.array(-1, np.int32)], {"exclusive": 1}, "of one")
