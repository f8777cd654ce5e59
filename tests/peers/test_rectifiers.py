"""DeconvNet and guided backpropagation against captum."""

from __future__ import annotations

import pytest

from .libraries import peer
from .nets import over, relative_error, separated

captum = peer("captum.attr")

PEERS = {"deconvnet": captum.Deconvolution, "guided_backprop": captum.GuidedBackprop}


@over("vgg11", "resnet18", "squeezenet1_1", "googlenet", "densenet121")
@pytest.mark.parametrize("method", PEERS)
def test_rectifiers_are_captums(pair, method):
    theirs = PEERS[method](separated(pair.net)).attribute(pair.x.clone().requires_grad_(), target=pair.unit)
    values = pair.model().explain(pair.x.numpy(), method, target=pair.unit).values
    assert relative_error(values, theirs) <= 1e-5


@over("resnet18")
@pytest.mark.parametrize("method", PEERS)
def test_each_sample_of_a_batch_has_its_own_target(pair, method):
    x, units = pair.samples(2), [3, 700]
    theirs = PEERS[method](separated(pair.net)).attribute(x.clone().requires_grad_(), target=units)
    assert relative_error(pair.model("host").explain(x.numpy(), method, target=units).values, theirs) <= 1e-5
