"""Operators that move numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from rules.case import Case, ints, normal


def cases() -> Iterator[Case]:
    yield Case("Identity", 13, [normal(2, 3)])
    yield Case("Cast", 13, [normal(2, 3)], {"to": onnx.TensorProto.FLOAT}, "float32")
    yield Case("Cast", 9, [normal(2, 3)], {"to": onnx.TensorProto.DOUBLE}, "float64")
    yield Case("CastLike", 15, [normal(2, 3), np.zeros(1)])
    for opset, attributes in ((6, {"is_test": 1}), (7, {}), (7, {"ratio": 0.3}), (12, {}), (13, {})):
        form = "ratio" if "ratio" in attributes else ""
        yield Case("Dropout", opset, [normal(2, 3)], attributes, form)
    yield Case("Dropout", 10, [normal(2, 3)], {"ratio": 0.4}, "with mask", 2)
    yield Case("Dropout", 13, [normal(2, 3), np.array(0.4), np.array(False)], form="with mask", outputs=2)
    yield Case("Reshape", 5, [normal(2, 3, 4), ints(4, 6)])
    yield Case("Reshape", 13, [normal(2, 3, 4), ints(0, -1)], form="0 and -1")
    yield Case("Reshape", 14, [normal(2, 3, 4), ints(-1, 1, 0)], {"allowzero": 0}, "-1 and 0")
    for axis in (0, 1, 2, -1, 3):
        yield Case("Flatten", 11, [normal(2, 3, 4)], {"axis": axis}, f"axis {axis}")
    yield Case("Flatten", 9, [normal(2, 3, 4)])
    yield Case("Squeeze", 11, [normal(2, 1, 3, 1)], {"axes": [1, -1]}, "attribute")
    yield Case("Squeeze", 13, [normal(2, 1, 3, 1), ints(-1)], form="input")
    yield Case("Squeeze", 13, [normal(2, 1, 3, 1)], form="all")
    yield Case("Unsqueeze", 11, [normal(2, 3)], {"axes": [0, 2]}, "attribute")
    yield Case("Unsqueeze", 13, [normal(2, 3), ints(1, -1)], form="input")
    yield Case("Transpose", 13, [normal(2, 3, 4)])
    yield Case("Transpose", 1, [normal(2, 3, 4, 2)], {"perm": [0, 3, 1, 2]}, "perm")
    yield Case("Transpose", 13, [normal(2, 3, 4)], {"perm": [0, 1, 2]}, "nothing")
    yield Case("Expand", 8, [normal(3, 1), ints(2, 3, 4)])
    yield Case("Expand", 13, [normal(2, 3, 4), ints(1, 3, 1)], form="smaller shape")
    yield Case("Expand", 13, [normal(), ints(2, 2)], form="scalar")
    yield Case("Concat", 4, [normal(2, 3), normal(2, 1), normal(2, 2)], {"axis": 1})
    yield Case("Concat", 11, [normal(2, 3), normal(1, 3)], {"axis": -2}, "negative axis")
    yield Case("Concat", 13, [normal(2, 3), np.ones((2, 2)), normal(2, 1)], {"axis": 1}, "with a constant")
    yield Case("Concat", 13, [normal(2, 3)], {"axis": 1}, "one")
    yield Case("Tile", 6, [normal(2, 3), ints(2, 1)])
    yield Case("Tile", 13, [normal(2, 1, 3), ints(1, 4, 3)], form="several axes")
    yield from _blocks()
    yield from _splits()
    yield from _slices()
    yield from _pads()


def _blocks() -> Iterator[Case]:
    for opset in (1, 13):
        yield Case("DepthToSpace", opset, [normal(2, 8, 2, 3)], {"blocksize": 2})
        yield Case("SpaceToDepth", opset, [normal(2, 3, 4, 6)], {"blocksize": 2})
    for mode in ("DCR", "CRD"):
        for size in (1, 2, 3):
            given = {"mode": mode, "blocksize": size}
            yield Case("DepthToSpace", 11, [normal(1, 2 * size**2, 2, 3)], given, f"{mode} {size}")
    yield Case("SpaceToDepth", 13, [normal(1, 2, 6, 3)], {"blocksize": 3}, "3")
    yield Case("SpaceToDepth", 28, [normal(2, 3, 4, 6)], {"blocksize": 2, "mode": "CRD"}, "CRD")
    for upper in (0, 1):
        yield Case("Trilu", 14, [normal(2, 4, 3)], {"upper": upper}, f"upper {upper}")
        yield Case("Trilu", 14, [normal(4, 5), np.array(-1)], {"upper": upper}, f"upper {upper} diagonal")
    yield Case("Trilu", 14, [normal(4, 5), np.array(2)], form="diagonal")


def _splits() -> Iterator[Case]:
    yield Case("Split", 2, [normal(4, 3)], outputs=2)
    yield Case("Split", 2, [normal(2, 7)], {"axis": 1, "split": [1, 4, 2]}, "uneven", 3)
    yield Case("Split", 11, [normal(2, 7)], {"axis": -1, "split": [5, 2]}, "negative axis", 2)
    yield Case("Split", 13, [normal(2, 7), ints(3, 4)], {"axis": 1}, "input", 2)
    yield Case("Split", 13, [normal(6, 2)], {"axis": 0}, "even", 3)
    yield Case("Split", 18, [normal(2, 7)], {"axis": 1, "num_outputs": 3}, "num_outputs", 3)
    yield Case("Split", 18, [normal(2, 7), ints(7)], {"axis": 1}, "one", 1)


def _slices() -> Iterator[Case]:
    most, least = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    yield Case("Slice", 1, [normal(4, 5, 3)], {"starts": [1, 0], "ends": [3, -2]}, "attributes")
    yield Case(
        "Slice", 1, [normal(4, 5, 3)], {"starts": [-3], "ends": [1000], "axes": [1]}, "attributes axes"
    )
    for form, numbers in (
        ("starts and ends", [(1, 0), (3, 4)]),
        ("axes", [(1,), (3,), (2,)]),
        ("negative axis", [(1,), (3,), (-2,)]),
        ("steps", [(1, 0), (5, 4), (0, 1), (2, 3)]),
        ("step over the end", [(0,), (6,), (0,), (4,)]),
        ("out of range", [(-100, 2), (100, most), (0, 1)]),
        ("negative step", [(5,), (1,), (0,), (-1,)]),
        ("negative step to the first", [(most,), (least,), (0,), (-2,)]),
        ("negative step past the first", [(-1,), (-1000,), (1,), (-3,)]),
        ("negative step negative end", [(-1,), (-6,), (0,), (-1,)]),
        ("negative step by the length", [(3, 3), (-7, -5), (0, 1), (-1, -2)]),
        ("one number backwards", [(2,), (1,), (1,), (-1,)]),
        ("everything", [(0,), (most,), (1,), (1,)]),
    ):
        given = [ints(*entries) for entries in numbers]
        yield Case("Slice", 13, [normal(6, 4, 3), *given], form=form)
    yield Case("Slice", 10, [normal(6, 4), ints(1), ints(5), None, ints(2)], form="steps without axes")


def _pads() -> Iterator[Case]:
    yield Case("Pad", 2, [normal(2, 3, 4)], {"pads": [0, 1, 2, 1, 0, 0]}, "attribute")
    yield Case(
        "Pad", 2, [normal(2, 3, 4)], {"pads": [0, -1, 2, 0, 1, -2], "mode": "constant"}, "negative attribute"
    )
    yield Case(
        "Pad", 2, [normal(2, 4, 5)], {"pads": [0, 2, 1, 0, 1, 3], "mode": "reflect"}, "reflect attribute"
    )
    for mode in ("constant", "reflect", "edge", "wrap"):
        opset = 19 if mode == "wrap" else 11
        for form, pads in (
            ("", (0, 1, 2, 0, 2, 1)),
            ("one side", (0, 0, 3, 0, 0, 0)),
            ("cut", (0, -1, 0, 0, 0, -2)),
            ("cut and padded", (0, -1, 2, 0, 1, -1)),
        ):
            name = f"{mode} {form}".strip()
            yield Case("Pad", opset, [normal(2, 4, 5), ints(*pads)], {"mode": mode}, name)
    yield Case("Pad", 11, [normal(2, 3), ints(1, 0, 0, 2), np.array(7.0)], form="value")
    yield Case("Pad", 18, [normal(2, 3, 4), ints(1, 2, 0, 1), None, ints(-1, 1)], form="axes")
    yield Case(
        "Pad", 18, [normal(2, 3, 4), ints(1, 2), np.array(1.0), ints(2)], {"mode": "reflect"}, "reflect axes"
    )
    yield Case("Pad", 11, [normal(3, 4), ints(2, 0, 2, 3)], {"mode": "reflect"}, "reflect all there is")
