"""Architectures that people use: gradients as autograd's, rectifiers as captum's, relevance conserved."""

from __future__ import annotations

import pytest

import onnxvis
from onnxvis.engine.plan import Pass

from .architectures import ARCHITECTURES, build, over
from .libraries import peer
from .nets import doubles, export, in_double, nn, relative_error, separated, torch

captum = peer("captum.attr")

RECTIFIED = [name for name, architecture in ARCHITECTURES.items() if architecture.rectified]


def strongest(net, x):
    """1 at the largest number of each sample's output."""
    with torch.no_grad():
        y = net(x)
    flat = y.flatten(1)
    return torch.zeros_like(flat).scatter_(1, flat.argmax(1, keepdim=True), 1).reshape(y.shape)


@over()
def test_gradient_is_that_of_autograd(exported):
    """torch runs the samples one by one: in a batch it adds in another order, and may decide otherwise."""
    x = exported.samples(2)
    seeds = [strongest(exported.net, sample) for sample in x.split(1)]
    theirs = [slope(exported.net, sample, seed) for sample, seed in zip(x.split(1), seeds, strict=True)]
    seed = torch.cat(seeds).numpy()
    found = exported.model().vjp({"input": x.numpy()}, {"output": seed}, wrt=["input"])["input"]
    assert relative_error(found, torch.cat(theirs)) <= 1e-4


def slope(net, x, seed):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x), x, seed)[0]


# A HardSigmoid's slope is written in single precision: nets that have one agree to that.
IN_DOUBLE = [
    "inception_v3",
    "densenet121",
    "regnet_y_400mf",
    "efficientnet_b0",
    "fcn_resnet50",
    "convnext_tiny",
]


@pytest.mark.parametrize("name", IN_DOUBLE)
def test_float64_agrees_to_float64_precision(name):
    """One of each family: what is left of a difference is rounding."""
    net, x = build(name).double(), doubles(3, ARCHITECTURES[name].size, ARCHITECTURES[name].size)
    seed = strongest(net, x)
    values = in_double(net, x, Pass("gradient"), seed.numpy())
    assert relative_error(values, slope(net, x, seed)) <= 1e-11


@over(*RECTIFIED, exports=1)
@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop"])
def test_rectifiers_are_captums(exported, method):
    x, seed = exported.x, strongest(exported.net, exported.x)
    attribution = {"deconvnet": captum.Deconvolution, "guided_backprop": captum.GuidedBackprop}[method]
    place = tuple(int(axis[0]) for axis in seed[0].nonzero(as_tuple=True))
    theirs = attribution(separated(exported.net)).attribute(x.clone().requires_grad_(), target=place)
    found = exported.model().vjp({"input": x.numpy()}, {"output": seed.numpy()}, method, wrt=["input"])
    assert relative_error(found["input"], theirs) <= 1e-4


# ---- conservation --------------------------------------------------------------------------------


def report(model, net, x, composite):
    """With so small an ε that hardly anything is lost to it."""
    place = strongest(net, x)[0].nonzero()[0].tolist()
    target = onnxvis.Target("output", place[0], tuple(place[1:]) or None)
    return model.conservation(x.numpy(), target, composite=composite, epsilon=1e-9)


@over()
def test_only_layers_absorb_relevance(exported):
    """What does not arrive at the input is what layers with a bias have kept."""
    x = torch.randn(1, *exported.shape, generator=torch.Generator().manual_seed(0))
    found = report(exported.model(), exported.net, x, "epsilon_plus")
    assert found.error <= 1e-3 * abs(found.seed)
    for layer in found.layers:
        if layer.operator not in ("Conv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"):
            assert abs(layer.absorbed) <= 1e-3 * abs(found.seed), layer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_biases_all_relevance_arrives(name):
    """By the epsilon rule: zplus keeps what arrives at a unit that nothing speaks for."""
    net = without_biases(build(name))
    shape = (1, 3, ARCHITECTURES[name].size, ARCHITECTURES[name].size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = report(onnxvis.load(export(net, x, 13), threads=1), net, x, "epsilon")
    assert abs(found.relevance - found.seed) <= 1e-3 * abs(found.seed)


def without_biases(net):
    with torch.no_grad():
        for module in net.modules():
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                module.bias.zero_()
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.zero_()
    return net
