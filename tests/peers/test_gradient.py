"""The gradient against PyTorch's autograd."""

from __future__ import annotations

import numpy as np
import pytest

import onnxvis
from onnxvis.engine.plan import Pass

from .libraries import peer
from .nets import SIDES, autograd, build, doubles, export, in_double, nn, over, relative_error, torch

captum = peer("captum.attr")


@over(*SIDES)
@pytest.mark.parametrize("executor", ["compiled", "host"])
def test_gradient_is_that_of_autograd(pair, executor):
    explanation = pair.model(executor).explain(pair.x.numpy(), "gradient", target=pair.unit)
    assert relative_error(explanation.values, autograd(pair.net, pair.x, pair.unit)) <= 1e-4


@over("squeezenet1_1", "resnet18")
def test_each_sample_of_a_batch_has_its_own_target(pair):
    x, units = pair.samples(3), [5, 0, 999]
    explanation = pair.model().explain(x.numpy(), "gradient", target=units)
    assert relative_error(explanation.values, autograd(pair.net, x, units)) <= 1e-5
    scores = pair.net(x)[range(3), units].detach()
    np.testing.assert_allclose(explanation.score, scores, rtol=1e-4, atol=1e-5)


@over("squeezenet1_1", "resnet18")
def test_input_x_gradient_is_captums(pair):
    explanation = pair.model().explain(pair.x.numpy(), "input_x_gradient", target=pair.unit)
    theirs = captum.InputXGradient(pair.net).attribute(pair.x.clone().requires_grad_(), target=pair.unit)
    assert relative_error(explanation.values, theirs) <= 1e-5


NEURONS = [
    pytest.param("resnet18", "layer2", "/layer2/layer2.1/relu_1/Relu", id="resnet18-relu"),
    pytest.param("resnet18", "layer3.0.conv1", "/layer3/layer3.0/conv1/Conv_output_0", id="resnet18-conv"),
    pytest.param("squeezenet1_1", "features.4", "/features/features.4/Concat", id="squeezenet-concat"),
]


@pytest.mark.parametrize(("pair", "module", "layer"), NEURONS, indirect=["pair"])
def test_gradient_of_one_neuron_of_an_inner_layer_is_captums(pair, module, layer):
    unit, position = 7, (2, 3)
    # The exporter folds BatchNorm into convolutions: what a convolution itself computes is found in a
    # file that keeps the two apart.
    model = onnxvis.load(unfolded(pair), threads=1) if "/Conv_" in layer else pair.model()
    neuron = captum.NeuronGradient(pair.net, pair.net.get_submodule(module))
    theirs = neuron.attribute(pair.x.clone().requires_grad_(), neuron_selector=(unit, *position))
    target = onnxvis.Target(layer, unit, position)
    assert relative_error(model.explain(pair.x.numpy(), "gradient", target=target).values, theirs) <= 1e-5


def unfolded(pair):
    """The net as an ONNX file that keeps its BatchNormalization nodes."""
    return export(pair.net, pair.x, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)


@over("resnet18")
def test_batch_normalization_may_stand_for_itself(pair):
    model = onnxvis.load(unfolded(pair), threads=1)
    assert any(node.op_type == "BatchNormalization" for node in model.engine.file_graph.nodes)
    values = model.explain(pair.x.numpy(), "gradient", target=pair.unit).values
    assert relative_error(values, autograd(pair.net, pair.x, pair.unit)) <= 1e-5


@over("resnet18")
def test_gradient_of_a_unit_summed_over_its_positions(pair):
    inner = nn.Sequential(*list(pair.net.children())[:6], nn.Flatten(2))
    theirs = autograd(lambda x: inner(x).sum(2), pair.x, 11)
    target = onnxvis.Target("/layer2/layer2.1/relu_1/Relu", 11)
    assert (
        relative_error(pair.model().explain(pair.x.numpy(), "gradient", target=target).values, theirs) <= 1e-5
    )


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_float64_agrees_to_float64_precision(name):
    net, x = build(name).double(), doubles(3, 64, 64)
    values = in_double(net, x, Pass("gradient"), np.eye(1000)[[3]])
    assert values.dtype == np.float64
    assert relative_error(values, autograd(net, x, 3)) <= 1e-12
