"""Occlusion against captum."""

from __future__ import annotations

import pytest

from .libraries import peer
from .nets import over, relative_error, torch

captum = peer("captum.attr")

BOXES = [
    pytest.param(32, 16, 0.0, id="divides"),
    pytest.param((24, 40), (17, 11), 0.0, id="does-not-divide"),
    pytest.param(20, 20, 0.7, id="filled"),
    pytest.param(96, 96, -1.0, id="covers-all"),
    pytest.param((96, 5), (96, 5), (0.5, -0.25, 1.0), id="a-colour"),
]


def pairs(extent):
    return extent if isinstance(extent, tuple) else (extent, extent)


@over("squeezenet1_1")
@pytest.mark.parametrize(("size", "stride", "fill"), BOXES)
def test_occlusion_is_captums(pair, size, stride, fill):
    baseline = torch.tensor(fill).reshape(1, -1, 1, 1).expand_as(pair.x)
    with torch.no_grad():
        theirs = captum.Occlusion(pair.net).attribute(
            pair.x, sliding_window_shapes=(3, *pairs(size)), strides=(3, *pairs(stride)),
            baselines=baseline, target=pair.unit, perturbations_per_eval=8,
        )  # fmt: skip
    settings = {"size": size, "stride": stride, "fill": fill}
    values = pair.model().explain(pair.x.numpy(), "occlusion", target=pair.unit, **settings).values
    assert relative_error(values, theirs) <= 1e-4


@over("squeezenet1_1")
def test_each_sample_of_a_batch_has_its_own_target(pair):
    x, units = pair.samples(2), [7, 401]
    with torch.no_grad():
        theirs = captum.Occlusion(pair.net).attribute(
            x, sliding_window_shapes=(3, 30, 30), strides=(3, 30, 30), target=units
        )
    values = pair.model().explain(x.numpy(), "occlusion", target=units, size=30, stride=30, batch=7).values
    assert relative_error(values, theirs) <= 1e-4
