"""Architectures that people use, from torchvision and timm, as both exporters of torch write them.

Every net goes through two exporters; every exporter and opset sees nets of several families.  Inputs
are small, so that the whole table takes a few minutes: what matters is which operators and branches a
net is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from .libraries import peer
from .nets import Pair, export, export_newly, nn, randomized, torchvision

timm = peer("timm")

EXPORTS: dict[str, tuple[Callable[..., bytes], int]] = {
    "trace-11": (export, 11),
    "trace-13": (export, 13),
    "trace-17": (export, 17),
    "dynamo-18": (export_newly, 18),
    "dynamo-25": (export_newly, 25),
}
"""torch's exporters, by tracing and through torch.export, and the opsets that they are asked for: 25 is
the newest that the latter can write (beyond it leaves some nets at opset 18 with operators of opset 20)."""


@dataclass(frozen=True)
class Architecture:
    """How to build a net, the height and width of its input, and what exports it.

    ``rectified``: every activation is a ReLU, which is what captum's rectifiers know; ``gain`` keeps
    very deep nets from being chaotic, so that a rounding error does not decide about the output.
    """

    make: Callable[[], Any]
    exports: tuple[str, str]
    size: int = 64
    rectified: bool = False
    gain: float = 1.0


class Scores(nn.Module):
    """A segmentation net without its dictionary."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x)["out"]


def classifier(name: str, **options: Any) -> Callable[[], Any]:
    return lambda: getattr(torchvision.models, name)(weights=None, **options)


def segmenter(name: str) -> Callable[[], Any]:
    make = getattr(torchvision.models.segmentation, name)
    return lambda: Scores(make(weights=None, weights_backbone=None, num_classes=5))


def of_timm(name: str) -> Callable[[], Any]:
    return lambda: timm.create_model(name)


def inception(name: str) -> Callable[[], Any]:
    return classifier(name, aux_logits=False, init_weights=False)


def vgg16_bn() -> Any:
    """VGG-16 for 64 pixels: its adaptive pooling makes 7×7 positions, which ONNX cannot say of 2×2."""
    net = torchvision.models.vgg16_bn(weights=None)
    net.avgpool = nn.Identity()
    net.classifier[0] = nn.Linear(512 * 2 * 2, 4096)
    return net


ARCHITECTURES = {
    "alexnet": Architecture(classifier("alexnet"), ("trace-11", "dynamo-25"), 224, rectified=True),
    "vgg16_bn": Architecture(vgg16_bn, ("trace-13", "trace-17"), rectified=True),
    "googlenet": Architecture(inception("googlenet"), ("trace-17", "dynamo-25"), rectified=True),
    "inception_v3": Architecture(inception("inception_v3"), ("trace-11", "trace-13"), 96, rectified=True),
    "squeezenet1_0": Architecture(classifier("squeezenet1_0"), ("trace-13", "dynamo-25"), rectified=True),
    "resnet50": Architecture(classifier("resnet50"), ("trace-17", "dynamo-18"), rectified=True),
    "resnext50": Architecture(classifier("resnext50_32x4d"), ("trace-11", "trace-17"), rectified=True),
    "wide_resnet50_2": Architecture(classifier("wide_resnet50_2"), ("trace-13", "trace-17"), rectified=True),
    "densenet121": Architecture(classifier("densenet121"), ("trace-11", "trace-17"), rectified=True),
    "mobilenet_v2": Architecture(classifier("mobilenet_v2"), ("trace-11", "dynamo-18")),
    "mobilenet_v3_large": Architecture(classifier("mobilenet_v3_large"), ("trace-13", "dynamo-25")),
    "mnasnet1_0": Architecture(classifier("mnasnet1_0"), ("trace-17", "dynamo-18"), rectified=True),
    "shufflenet_v2": Architecture(
        classifier("shufflenet_v2_x1_0"), ("trace-11", "dynamo-25"), rectified=True
    ),
    "efficientnet_b0": Architecture(classifier("efficientnet_b0"), ("trace-13", "dynamo-18")),
    "efficientnet_v2_s": Architecture(classifier("efficientnet_v2_s"), ("trace-11", "trace-17"), gain=0.8),
    "regnet_y_400mf": Architecture(classifier("regnet_y_400mf"), ("trace-11", "dynamo-18")),
    "convnext_tiny": Architecture(classifier("convnext_tiny"), ("trace-13", "dynamo-25")),
    "fcn_resnet50": Architecture(segmenter("fcn_resnet50"), ("trace-11", "trace-17"), rectified=True),
    "deeplabv3_mobilenet": Architecture(segmenter("deeplabv3_mobilenet_v3_large"), ("trace-11", "trace-13")),
    "lraspp": Architecture(segmenter("lraspp_mobilenet_v3_large"), ("trace-13", "dynamo-18")),
    "resnetv2_50": Architecture(of_timm("resnetv2_50"), ("trace-17", "dynamo-25")),
    "dpn68": Architecture(of_timm("dpn68"), ("trace-11", "trace-17")),
    "hrnet_w18_small": Architecture(of_timm("hrnet_w18_small"), ("trace-11", "trace-13")),
    "repvgg_a0": Architecture(of_timm("repvgg_a0"), ("trace-17", "dynamo-18")),
    "seresnet18": Architecture(of_timm("seresnet18"), ("trace-11", "dynamo-25")),
    "res2net50_26w_4s": Architecture(of_timm("res2net50_26w_4s"), ("trace-13", "trace-17")),
    "ghostnet_100": Architecture(of_timm("ghostnet_100"), ("trace-17", "dynamo-25")),
    "nf_resnet26": Architecture(of_timm("nf_resnet26"), ("trace-13", "dynamo-18")),
}


def build(name: str) -> Any:
    """The net with random weights, for inference."""
    architecture = ARCHITECTURES[name]
    return randomized(architecture.make(), gain=architecture.gain)


def exported(name: str, how: str) -> Pair:
    """The net as torch module and as one exporter's file."""
    size, (exporter, opset) = ARCHITECTURES[name].size, EXPORTS[how]
    return Pair(name, build(name), (3, size, size), opset, exporter)


def over(*names: str, exports: int = 2) -> Any:
    """Run a test with the ``exported`` fixture for these nets (none: all), by so many of their exporters."""
    params = [
        pytest.param((name, how), id=f"{name}-{how}")
        for name in names or ARCHITECTURES
        for how in ARCHITECTURES[name].exports[:exports]
    ]
    return pytest.mark.parametrize("exported", params, indirect=True)
