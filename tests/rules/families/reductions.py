"""Sums, means and others over axes."""

from __future__ import annotations

from collections.abc import Iterator

from rules.case import Case, ints, normal


def cases() -> Iterator[Case]:
    for operator, axes_are_inputs in (("ReduceMean", 18), ("ReduceSum", 13)):
        for keep in (0, 1):
            attributes = {"axes": [1, -1], "keepdims": keep}
            yield Case(operator, 11, [normal(2, 3, 4)], attributes, f"axes keepdims {keep}")
            yield Case(operator, 11, [normal(2, 3, 4)], {"keepdims": keep}, f"all keepdims {keep}")
            given = [normal(2, 3, 4), ints(-3, 2)]
            yield Case(operator, axes_are_inputs, given, {"keepdims": keep}, f"axes as input keepdims {keep}")
            yield Case(
                operator, axes_are_inputs, [normal(2, 3, 4)], {"keepdims": keep}, f"all keepdims {keep}"
            )
        yield Case(operator, axes_are_inputs, [normal(2, 3)], {"noop_with_empty_axes": 1}, "nothing")
        yield Case(
            operator, axes_are_inputs, [normal(2, 3), ints()], {"noop_with_empty_axes": 0}, "empty axes"
        )
