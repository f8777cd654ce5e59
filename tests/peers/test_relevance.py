"""Layer-wise relevance propagation against zennit."""

from __future__ import annotations

import numpy as np
import pytest

from onnxvis.engine.plan import Pass
from onnxvis.rules.composites import composite as our_composite

from .libraries import peer
from .nets import build, cosine, doubles, in_double, nn, over, randomized, relative_error, torch

zennit_attribution = peer("zennit.attribution")
zennit_canonizers = peer("zennit.canonizers")
zennit_composites = peer("zennit.composites")
zennit_rules = peer("zennit.rules")
zennit_types = peer("zennit.types")
zennit_torchvision = peer("zennit.torchvision")

CANONIZERS = {
    "vgg11": [zennit_torchvision.VGGCanonizer()],
    "resnet18": [zennit_torchvision.ResNetCanonizer()],
    "googlenet": [zennit_canonizers.SequentialMergeBatchNorm()],
}
"""Nets without a BatchNorm need none."""
LOW, HIGH = -6.0, 6.5  # no picture: what the drawn samples stay within


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


def epsilon_gamma_box(canonizers):
    return zennit_composites.EpsilonGammaBox(LOW, HIGH, canonizers=canonizers)


COMPOSITES = {
    "epsilon": epsilon,
    "epsilon_plus": epsilon_plus,
    "epsilon_plus_flat": zennit_composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1": zennit_composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": zennit_composites.EpsilonAlpha2Beta1Flat,
    "epsilon_gamma_box": epsilon_gamma_box,
    "excitation_backprop": zennit_composites.ExcitationBackprop,
}
SETTINGS = {"epsilon_gamma_box": {"low": LOW, "high": HIGH}}


def relevance(name, net, x, composite, seed):
    """zennit's relevance of the input, for a seed at the output.

    zennit leaves the ε of a BatchNorm that it has merged in place, and so divides by √(1 + ε) once more.
    Here ε becomes part of the variance, which says the same.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_var += module.eps
            module.eps = 0.0
    made = COMPOSITES[composite](canonizers=CANONIZERS.get(name, []))
    with zennit_attribution.Gradient(net, made) as attributor:
        return attributor(x.clone().requires_grad_(), seed)[1]


def explained(pair, composite, executor="compiled", **settings):
    settings = {**SETTINGS.get(composite, {}), **settings}
    return pair.model(executor).explain(
        pair.x.numpy(), "lrp", target=pair.unit, composite=composite, **settings
    )


@over("vgg11", "resnet18")
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("executor", ["compiled", "host"])
def test_relevance_is_zennits(pair, composite, executor):
    theirs = relevance(pair.name, pair.net, pair.x, composite, pair.one_hot())
    values = explained(pair, composite, executor, seed="one").values
    assert relative_error(values, theirs) <= 1e-3
    assert cosine(values, theirs) >= 0.9999


@over("alexnet", "squeezenet1_1", "googlenet")
@pytest.mark.parametrize("composite", COMPOSITES)
def test_nets_of_other_kinds_too(pair, composite):
    """Without skips or gates, zennit needs no help to treat a net soundly."""
    theirs = relevance(pair.name, pair.net, pair.x, composite, pair.one_hot())
    values = explained(pair, composite, seed="one").values
    assert relative_error(values, theirs) <= 1e-3
    assert cosine(values, theirs) >= 0.9999


@over("vgg11", "resnet18")
@pytest.mark.parametrize("composite", COMPOSITES)
def test_by_default_the_logit_is_shared_out(pair, composite):
    with torch.no_grad():
        logits = pair.net(pair.x)
    theirs = relevance(pair.name, pair.net, pair.x, composite, pair.one_hot() * logits)
    values = explained(pair, composite).values
    assert relative_error(values, theirs) <= 1e-3
    assert cosine(values, theirs) >= 0.9999


@pytest.mark.parametrize("composite", COMPOSITES)
def test_float64_agrees_to_float64_precision(composite):
    """In float32 the epsilon rule magnifies rounding wherever Σ wx + b comes close to 0: not here."""
    net, x, seed = build("resnet18").double(), doubles(3, 64, 64), np.eye(1000)[[3]]
    values = in_double(net, x, Pass(our_composite(composite), SETTINGS.get(composite, {})), seed)
    theirs = relevance("resnet18", net, x, composite, torch.from_numpy(seed))
    assert relative_error(values, theirs) <= 1e-9


def perceptron():
    """A net whose first layer is a dense one."""
    layers = [nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 5)]
    return randomized(nn.Sequential(*layers))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_net_that_starts_with_a_dense_layer(composite):
    """flat is for the first layer of either kind, zbox for convolutions only: as in zennit."""
    net, x, seed = perceptron().double(), doubles(3, 4, 4), np.eye(5)[[3]]
    values = in_double(net, x, Pass(our_composite(composite), SETTINGS.get(composite, {})), seed)
    theirs = relevance("perceptron", net, x, composite, torch.from_numpy(seed))
    assert relative_error(values, theirs) <= 1e-9


@over("vgg11")
def test_excitation_backprop_is_zennits_composite(pair):
    theirs = relevance(pair.name, pair.net, pair.x, "excitation_backprop", pair.one_hot())
    values = pair.model().explain(pair.x.numpy(), "excitation_backprop", target=pair.unit).values
    assert relative_error(values, theirs) <= 1e-3
    assert cosine(values, theirs) >= 0.9999


@over("resnet18")
def test_settings_of_the_method_override_those_of_the_rows(pair):
    low, high = np.full(3, -7.0), np.array([6.5, 7.0, 8.0])
    made = zennit_composites.EpsilonGammaBox(
        *(torch.tensor(bound.reshape(1, 3, 1, 1)).float() for bound in (low, high)),
        gamma=0.5, epsilon=1e-2, stabilizer=1e-2, canonizers=CANONIZERS["resnet18"],
    )  # fmt: skip
    with zennit_attribution.Gradient(pair.net, made) as attributor:
        theirs = attributor(pair.x.clone().requires_grad_(), pair.one_hot())[1]
    settings = {"gamma": 0.5, "epsilon": 1e-2, "low": low, "high": high}
    values = explained(pair, "epsilon_gamma_box", seed="one", **settings).values
    assert relative_error(values, theirs) <= 1e-3
    assert cosine(values, theirs) >= 0.9999
