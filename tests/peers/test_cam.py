"""Class activation maps against pytorch-grad-cam and captum, and against the formula in torch."""

from __future__ import annotations

import numpy as np
import pytest

from . import architectures
from .libraries import peer
from .nets import over, relative_error, separated, torch

captum = peer("captum.attr")
grad_cam = peer("pytorch_grad_cam")
ClassifierOutputTarget = peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget

# The net, the layer as pytorch-grad-cam finds it (in the net with its ReLUs as modules), and as onnxvis
# calls it (None: by default, the last that is still spatial).
LAYERS = [
    pytest.param("resnet18", "rectifier_16", None, id="resnet18-default"),
    pytest.param("resnet18", "rectifier_12", "/layer3/layer3.1/relu_1/Relu", id="resnet18-layer3"),
    pytest.param("vgg11", "features.20", None, id="vgg11-default"),
    pytest.param("densenet121", "rectifier_120", None, id="densenet121-default"),
    pytest.param("densenet121", "features.transition2.conv", "/features/transition2/conv/Conv",
                 id="densenet121-conv"),
]  # fmt: skip
layers = pytest.mark.parametrize(("pair", "module", "layer"), LAYERS, indirect=["pair"])


METHODS = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
}
"""Our names and pytorch-grad-cam's, of those that weight maps by gradients."""


class Maps:
    """What pytorch-grad-cam makes of one layer: the ``raw`` map, ``scaled`` to the input, and ``final``."""

    def __init__(self, net, module, x, units, kind="GradCAM"):
        target = net.get_submodule(module)
        with getattr(grad_cam, kind)(model=net, target_layers=[target]) as method:
            x = x.clone().requires_grad_()
            self.final = method(input_tensor=x, targets=[ClassifierOutputTarget(unit) for unit in units])
            kept = method.activations_and_grads
            self.activations = kept.activations[-1].numpy()
            gradients = kept.gradients[-1].numpy() if method.uses_gradients else None
            self.raw = method.get_cam_image(x, target, None, self.activations, gradients, False)
            if method.uses_gradients:
                self.scaled = method.compute_cam_per_layer(x, None, False)[0][:, 0]


@layers
def test_maps_weighted_by_gradients_are_pytorch_grad_cams(pair, module, layer):
    net, model = separated(pair.net), pair.model()
    for method, name in METHODS.items():
        theirs = Maps(net, module, pair.x, [pair.unit], name)
        ours = model.explain(pair.x.numpy(), method, target=pair.unit, layer=layer)
        assert relative_error(ours.values[:, 0], theirs.raw) <= 1e-5, method
        assert relative_error(ours.heatmap(), theirs.scaled) <= 1e-5, method


@layers
def test_eigencam_is_pytorch_grad_cams_up_to_its_sign(pair, module, layer):
    """Theirs has the sign that the decomposition happens to give, ours that of the mean activation."""
    theirs = Maps(separated(pair.net), module, pair.x, [pair.unit], "EigenCAM")
    ours = pair.model().explain(pair.x.numpy(), "eigencam", target=pair.unit, layer=layer).values[:, 0]
    mean = theirs.activations.mean(axis=1)
    sign = np.sign((theirs.raw * (mean - mean.mean())).sum())
    assert relative_error(ours, sign * theirs.raw) <= 1e-5


@pytest.mark.parametrize(("pair", "module", "layer"), [LAYERS[1], LAYERS[4]], indirect=["pair"])
def test_scorecam_is_pytorch_grad_cams(pair, module, layer):
    net, units = separated(pair.net), [pair.unit]
    target, targets = net.get_submodule(module), [ClassifierOutputTarget(unit) for unit in units]
    with grad_cam.ScoreCAM(model=net, target_layers=[target]) as method, torch.no_grad():
        method.activations_and_grads(pair.x)
        activations = method.activations_and_grads.activations[-1].numpy()
        theirs = method.get_cam_image(pair.x, target, targets, activations, None, False)
    ours = pair.model().explain(pair.x.numpy(), "scorecam", target=units, layer=layer).values[:, 0]
    assert relative_error(ours, theirs) <= 1e-4


@pytest.mark.parametrize(("pair", "module", "layer"), LAYERS[:2], indirect=["pair"])
def test_guided_gradcam_is_captums(pair, module, layer):
    net = separated(pair.net)
    method = captum.GuidedGradCam(net, net.get_submodule(module))
    x = pair.x.clone().requires_grad_()
    theirs = method.attribute(x, pair.unit, interpolate_mode="bilinear")
    ours = pair.model().explain(pair.x.numpy(), "guided_gradcam", target=pair.unit, layer=layer).values
    assert relative_error(ours, theirs) <= 1e-4


@over("resnet18")
def test_pytorch_grad_cams_last_step_is_one_more_scaling(pair):
    """It scales the map once more after resizing it, so that its maximum is 1 again."""
    theirs = Maps(separated(pair.net), "rectifier_16", pair.x, [pair.unit])
    heat = pair.model().explain(pair.x.numpy(), "gradcam", target=pair.unit).heatmap()
    heat = (heat - heat.min()) / (heat.max() - heat.min() + 1e-7)
    assert relative_error(heat, theirs.final) <= 1e-5


@over("densenet121")
def test_each_sample_of_a_batch_has_its_own_map(pair):
    x, units = pair.samples(2), [1, 999]
    theirs = Maps(separated(pair.net), "rectifier_120", x, units)
    ours = pair.model("host").explain(x.numpy(), "gradcam", target=units)
    assert relative_error(ours.values[:, 0], theirs.raw) <= 1e-5
    assert relative_error(ours.heatmap(), theirs.scaled) <= 1e-5


@over("resnet18")
def test_cam_is_the_dense_layers_weights_times_the_last_maps(pair):
    with torch.no_grad():
        maps = torch.nn.Sequential(*list(pair.net.children())[:-2])(pair.x)
        theirs = torch.einsum("c,nchw->nhw", pair.net.fc.weight[pair.unit], maps)
    ours = pair.model().explain(pair.x.numpy(), "cam", target=pair.unit).values
    assert relative_error(ours[:, 0], theirs) <= 1e-5


@over("resnet18")
def test_where_one_dense_layer_follows_cam_is_gradcam_times_the_positions(pair):
    cam, gradcam = (
        pair.model().explain(pair.x.numpy(), method, target=pair.unit).values for method in ("cam", "gradcam")
    )
    np.testing.assert_allclose(cam, gradcam * gradcam[0, 0].size, rtol=1e-3, atol=1e-5 * np.abs(cam).max())


LAST = {
    "alexnet": "features", "googlenet": "inception5b", "resnet50": "layer4",
    "mobilenet_v2": "features", "mobilenet_v3_large": "features", "mnasnet1_0": "layers",
    "efficientnet_b0": "features", "regnet_y_400mf": "trunk_output", "convnext_tiny": "features",
    "hrnet_w18_small": "final_layer", "repvgg_a0": "stages", "seresnet18": "layer4",
    "res2net50_26w_4s": "layer4", "ghostnet_100": "blocks",
}  # fmt: skip
"""The part of an architecture whose output is the last that is still spatial."""


@architectures.over(*LAST, exports=1)
def test_by_default_the_map_is_of_the_last_spatial_layer(exported):
    x, units = exported.x, [exported.unit]
    theirs = Maps(exported.net, LAST[exported.name], x, units)
    ours = exported.model().explain(x.numpy(), "gradcam", target=units).values
    assert relative_error(ours[:, 0], theirs.raw) <= 1e-4
