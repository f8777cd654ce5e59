"""Layer-wise relevance propagation against zennit."""

from __future__ import annotations

import numpy as np
import pytest

from onnxvis.engine.plan import Pass
from onnxvis.rules.composites import composite as our_composite

from .libraries import peer
from .nets import build, cosine, doubles, in_double, over, relative_error, torch

zennit_attribution = peer("zennit.attribution")
zennit_composites = peer("zennit.composites")
zennit_rules = peer("zennit.rules")
zennit_types = peer("zennit.types")
zennit_torchvision = peer("zennit.torchvision")

CANONIZERS = {"vgg11": zennit_torchvision.VGGCanonizer, "resnet18": zennit_torchvision.ResNetCanonizer}


def epsilon(canonizers):
    """zennit's epsilon rule for every layer: it has no composite of that name."""
    rules = [
        (zennit_types.Convolution, zennit_rules.Epsilon()),
        (zennit_types.Linear, zennit_rules.Epsilon()),
    ]
    base = zennit_composites.layer_map_base(stabilizer=1e-6)
    return zennit_composites.LayerMapComposite(layer_map=rules + base, canonizers=canonizers)


def epsilon_plus(canonizers):
    return zennit_composites.EpsilonPlus(canonizers=canonizers)


COMPOSITES = {"epsilon": epsilon, "epsilon_plus": epsilon_plus}


def relevance(name, net, x, composite, seed):
    """zennit's relevance of the input, for a seed at the output."""
    made = COMPOSITES[composite]([CANONIZERS[name]()])
    with zennit_attribution.Gradient(net, made) as attributor:
        return attributor(x.clone().requires_grad_(), seed)[1]


@over("vgg11", "resnet18")
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("executor", ["compiled", "host"])
def test_relevance_is_zennits(pair, composite, executor):
    theirs = relevance(pair.name, pair.net, pair.x, composite, pair.one_hot())
    explanation = pair.model(executor).explain(
        pair.x.numpy(), "lrp", target=pair.unit, composite=composite, seed="one"
    )
    assert relative_error(explanation.values, theirs) <= 1e-3
    assert cosine(explanation.values, theirs) >= 0.9999


@over("vgg11", "resnet18")
@pytest.mark.parametrize("composite", COMPOSITES)
def test_by_default_the_logit_is_shared_out(pair, composite):
    with torch.no_grad():
        logits = pair.net(pair.x)
    theirs = relevance(pair.name, pair.net, pair.x, composite, pair.one_hot() * logits)
    values = pair.model().explain(pair.x.numpy(), "lrp", target=pair.unit, composite=composite).values
    assert relative_error(values, theirs) <= 1e-3
    assert cosine(values, theirs) >= 0.9999


@pytest.mark.parametrize("composite", COMPOSITES)
def test_float64_agrees_to_float64_precision(composite):
    """In float32 the epsilon rule magnifies rounding wherever Σ wx + b comes close to 0: not here.

    zennit leaves the ε of a BatchNorm that it has merged in place, and so divides by √(1 + 1e-5) once
    more; here there is none.
    """
    net, x, seed = build("resnet18").double(), doubles(3, 64, 64), np.eye(1000)[[3]]
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
    values = in_double(net, x, Pass(our_composite(composite)), seed)
    theirs = relevance("resnet18", net, x, composite, torch.from_numpy(seed))
    assert relative_error(values, theirs) <= 1e-9
