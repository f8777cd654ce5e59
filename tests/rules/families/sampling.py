"""GridSample, AffineGrid, and pooling over regions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rules.case import Case, Draw, distinct, ints, normal

GRID = np.random.default_rng(7).uniform(-1.6, 1.6, (2, 3, 4, 2))
# left, top, right, bottom: inside, over the edge, thinner than a pixel, outside
REGIONS = np.array(
    [[0.3, 0.8, 5.2, 6.1], [-2.0, 3.3, 4.1, 9.7], [2.2, 2.6, 2.9, 2.8], [9.0, -9.0, 13.0, -6.0]]
)
SAMPLES = ints(0, 1, 1, 0)


def cases() -> Iterator[Case]:
    yield from _grids()
    yield from _regions()
    for aligned in (0, 1):
        form = "corners" if aligned else "edges"
        given = {"align_corners": aligned}
        yield Case("AffineGrid", 20, [normal(2, 2, 3), ints(2, 3, 4, 5)], given, f"2-D {form}")
        yield Case("AffineGrid", 20, [normal(1, 3, 4), ints(1, 2, 2, 3, 4)], given, f"3-D {form}")


def far(*shape: int) -> Draw:
    """Points in and around the picture."""
    return lambda rng: rng.uniform(-1.6, 1.6, shape)


def _grids() -> Iterator[Case]:
    for mode in ("linear", "cubic", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            for aligned in (0, 1):
                given = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
                form = f"{mode} {padding} {'corners' if aligned else 'edges'}"
                yield Case("GridSample", 20, [normal(2, 2, 4, 5), GRID], given, form)
                if mode != "nearest":
                    grid = far(2, 3, 4, 2)
                    yield Case("GridSample", 20, [normal(2, 2, 4, 5), grid], given, f"{form} computed")
    for mode in ("linear", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            given = {"mode": mode, "padding_mode": padding}
            inputs = [normal(1, 2, 3, 4, 3), far(1, 2, 3, 2, 3)]
            yield Case("GridSample", 22, inputs, given, f"3-D {mode} {padding}")
    for mode in ("bilinear", "bicubic", "nearest"):
        yield Case("GridSample", 16, [normal(2, 2, 4, 5), GRID], {"mode": mode}, mode)
    yield Case("GridSample", 1, [normal(2, 2, 4, 5), GRID], {"mode": "bilinear"}, "", 1, "com.microsoft")


def _regions() -> Iterator[Case]:
    for opset, form, more in (
        (10, "", {}),
        (16, "half pixel", {}),
        (16, "output half pixel", {"coordinate_transformation_mode": "output_half_pixel"}),
        (22, "opset 22", {}),
    ):
        for ratio in (0, 2):
            for mode in ("avg", "max"):
                given = {"output_height": 2, "output_width": 3, "sampling_ratio": ratio, "mode": mode, **more}
                yield Case(
                    "RoiAlign",
                    opset,
                    [normal(2, 2, 7, 6), REGIONS, SAMPLES],
                    {**given, "spatial_scale": 0.75},
                    f"{form} {mode} {ratio}".strip(),
                )
    regions = np.concatenate([SAMPLES[:, None], np.round(REGIONS)], axis=1)
    regions[3] = [0, 0, 0, 20, 20]
    for opset in (1, 22):
        yield Case(
            "MaxRoiPool",
            opset,
            [distinct(2, 2, 7, 6), regions],
            {"pooled_shape": [2, 3], "spatial_scale": 0.5},
        )
    yield Case("MaxRoiPool", 1, [distinct(2, 2, 7, 6), regions], {"pooled_shape": [3, 2]}, "unscaled")
