"""Col2Im, CenterCropPad and determinants."""

from __future__ import annotations

from collections.abc import Iterator

from rules.case import Case, ints, normal


def cases() -> Iterator[Case]:
    yield Case("Col2Im", 18, [normal(2, 12, 9), ints(4, 4), ints(2, 2)])
    yield Case("Col2Im", 18, [normal(1, 8, 4), ints(4, 4), ints(2, 2)], {"strides": [2, 2]}, "tiles")
    yield Case(
        "Col2Im",
        18,
        [normal(1, 6, 12), ints(5, 6), ints(2, 3)],
        {"pads": [1, 0, 2, 1], "strides": [2, 2], "dilations": [1, 1]},
        "padded",
    )
    yield Case("Col2Im", 18, [normal(1, 4, 12), ints(5, 6), ints(2, 2)], {"dilations": [2, 2]}, "dilated")
    yield Case("Col2Im", 18, [normal(1, 6, 4), ints(6), ints(3)], {}, "1-D")
    yield Case("Col2Im", 18, [normal(1, 8, 12), ints(3, 4, 3), ints(2, 2, 2)], {}, "3-D")
    yield Case("CenterCropPad", 18, [normal(6, 7, 3), ints(3, 4, 3)], {}, "cropped")
    yield Case("CenterCropPad", 18, [normal(3, 4, 3), ints(6, 7, 3)], {}, "padded")
    yield Case("CenterCropPad", 18, [normal(2, 5, 4), ints(7, 3)], {"axes": [-1, 1]}, "both")
    yield Case("Det", 11, [normal(3, 3)])
    yield Case("Det", 22, [normal(2, 2, 4, 4)], {}, "several")
    yield Case("Det", 11, [normal(2, 1, 1)], {}, "one number")
