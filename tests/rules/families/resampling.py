"""Resize and Upsample, in every mode and coordinate transformation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rules.case import Case, ints, normal

TRANSFORMATIONS = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric",
)  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def cases() -> Iterator[Case]:
    yield from _first_versions()
    yield from _transformations()
    yield from _nearest()
    yield from _cubic()
    yield from _geometry()
    yield from _crops()


def scales(*numbers: float) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.float32)


def resize(
    form: str, opset: int, size: Sequence[int], *rest: Any, mode: str = "linear", **attributes: Any
) -> Case:
    """``rest``: the inputs after the data."""
    return Case("Resize", opset, [normal(*size), *rest], {"mode": mode, **attributes}, form)


def _first_versions() -> Iterator[Case]:
    for mode in ("nearest", "linear"):
        for size, factors in (((2, 3, 3, 4), (1.0, 1.0, 2.0, 3.0)), ((1, 2, 3, 5), (1.0, 1.0, 1.5, 2.5))):
            form = f"{mode} {factors[2]}"
            yield Case("Upsample", 7, [normal(*size)], {"mode": mode, "scales": [*factors]}, form)
            yield Case("Upsample", 9, [normal(*size), scales(*factors)], {"mode": mode}, form)
            yield Case("Resize", 10, [normal(*size), scales(*factors)], {"mode": mode}, form)
        yield resize(f"{mode} shrinks", 10, (1, 2, 7, 5), scales(1, 1, 0.6, 0.5), mode=mode)
    yield Case("Upsample", 9, [normal(1, 2, 3), scales(1, 1, 2)], form="1-D default mode")


def _transformations() -> Iterator[Case]:
    for mode in ("nearest", "linear", "cubic"):
        for transformation in TRANSFORMATIONS:
            given = {"mode": mode, "coordinate_transformation_mode": transformation}
            opset = 19 if transformation == "half_pixel_symmetric" else 13
            name = f"{mode} {transformation}"
            yield resize(name, opset, (1, 2, 4, 3), None, scales(1, 1, 1.6, 2), **given)
            yield resize(f"{name} shrinks", opset, (1, 2, 7, 5), None, scales(1, 1, 0.5, 0.7), **given)
            yield resize(f"{name} sizes", opset, (1, 2, 4, 3), None, None, ints(1, 2, 7, 1), **given)
        given = {"mode": mode, "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
        yield resize(
            f"{mode} tf_half_pixel_for_nn", 11, (1, 2, 4, 3), scales(), scales(1, 1, 2, 1.5), **given
        )


def _nearest() -> Iterator[Case]:
    for rounding in ROUNDINGS:
        for transformation in ("half_pixel", "asymmetric", "align_corners"):
            given = {"nearest_mode": rounding, "coordinate_transformation_mode": transformation}
            given["mode"] = "nearest"
            name = f"{rounding} {transformation}"
            yield resize(f"{name} twice", 13, (1, 2, 3, 4), None, scales(1, 1, 2, 2), **given)
            yield resize(f"{name} 1.5", 18, (1, 2, 4, 6), None, scales(1, 1, 1.5, 0.5), **given)
    yield resize("copies all axes", 13, (2, 1, 3, 2), None, scales(1, 2, 3, 2), mode="nearest")
    yield resize("3-D", 13, (1, 2, 2, 3, 2), None, scales(1, 1, 2, 1, 3), mode="nearest")
    yield resize("1-D", 13, (1, 2, 5), None, scales(1, 1, 2), mode="nearest")
    yield resize("copies and shrinks", 13, (1, 2, 3, 6), None, scales(1, 1, 2, 0.5), mode="nearest")


def _cubic() -> Iterator[Case]:
    for outside in (0, 1):
        given = {"mode": "cubic", "exclude_outside": outside, "cubic_coeff_a": -0.5}
        name = f"exclude_outside {outside}"
        yield resize(name, 11, (1, 1, 4, 3), scales(), scales(1, 1, 2, 1.4), **given)
        yield resize(f"{name} shrinks", 13, (1, 1, 7, 6), None, scales(1, 1, 0.6, 0.5), **given)


def _geometry() -> Iterator[Case]:
    yield resize("empty scales", 11, (1, 2, 3, 4), scales(), scales(), ints(1, 2, 5, 6))
    yield resize("same size", 13, (1, 2, 3, 4), None, None, ints(1, 2, 3, 4))
    yield resize("scales too small to count", 13, (1, 2, 3, 3), None, scales(1, 1, 1.2, 1.3))
    yield resize("one axis", 13, (1, 2, 3, 4), None, scales(1, 1, 1, 2.5))
    yield resize("first of two axes", 13, (3, 4), None, scales(2.5, 1))
    yield resize("3-D linear", 13, (1, 1, 2, 3, 2), None, scales(1, 1, 2, 1.5, 2))
    yield resize("channels last", 13, (1, 3, 4, 2), None, scales(1, 2, 1.5, 1))
    yield resize("axes", 18, (1, 2, 3, 4), None, scales(2, 1.5), axes=[2, 3])
    yield resize("axes sizes", 18, (1, 2, 3, 4), None, None, ints(5, 7), axes=[-2, -1])
    yield resize("axes the other way round", 18, (1, 2, 3, 4), None, None, ints(5, 7), axes=[3, 2])
    for policy in ("stretch", "not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            given = {"keep_aspect_ratio_policy": policy, "axes": [2, 3], "mode": mode}
            yield resize(f"{policy} {mode}", 18, (1, 2, 3, 5), None, None, ints(7, 8), **given)


def _crops() -> Iterator[Case]:
    roi = scales(0, 0, 0.21, -0.13, 1, 1, 0.72, 1.1)
    for mode in ("nearest", "linear", "cubic"):
        given = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize"}
        given["extrapolation_value"] = 3.0
        yield resize(f"{mode} crop", 11, (1, 2, 5, 6), roi, scales(), ints(1, 2, 4, 7), **given)
        yield resize(f"{mode} crop one", 13, (1, 2, 5, 6), roi, None, ints(1, 2, 1, 4), **given)
    given = {"coordinate_transformation_mode": "tf_crop_and_resize", "axes": [2, 3]}
    yield resize("crop axes", 18, (1, 2, 5, 6), scales(0.2, -0.1, 0.7, 1.1), None, ints(4, 3), **given)
