"""Small nets of many kinds against autograd: the operators that torchvision's nets do not show."""

from __future__ import annotations

import pytest

import onnxvis

from .nets import autograd, export, export_newly, nn, randomized, relative_error, torch


class ChannelsLast(nn.Module):
    """Takes N×H×W×C, as nets from TensorFlow do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3)
        )
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        maps = self.body(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.head(maps.mean((1, 2)))


class SqueezeExcite(nn.Module):
    """Multiplies its maps with gates computed from them, and adds what came in."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid()
        )

    def forward(self, x):
        maps = self.first(x)
        return (maps + maps * self.gate(maps)).mean((2, 3))


def activated(activation):
    layers = [nn.Conv2d(3, 6, 3), activation, nn.Conv2d(6, 8, 3, stride=2), nn.Flatten(), nn.Linear(72, 5)]
    return nn.Sequential(*layers)


def conv1d():
    return nn.Sequential(
        nn.Conv1d(2, 8, 5, padding=2, stride=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(3, 2, padding=1),
        nn.Conv1d(8, 8, 3, dilation=2, groups=4), nn.ELU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


def conv3d():
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(4, 6, (1, 3, 3), stride=(1, 2, 2)), nn.ReLU(), nn.AvgPool3d((3, 1, 2)),
        nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def transposed():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), nn.LeakyReLU(),
        nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1, groups=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def pools():
    return nn.Sequential(
        nn.ReflectionPad2d(2), nn.Conv2d(3, 6, 5, bias=False), nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        nn.ReplicationPad2d((1, 0, 2, 1)), nn.Flatten(), nn.Linear(90, 5),
    )  # fmt: skip


PICTURE, SIGNAL, VOLUME = (2, 3, 9, 9), (2, 2, 33), (2, 1, 6, 10, 10)
NETS = {
    "conv1d": (conv1d, SIGNAL),
    "conv3d": (conv3d, VOLUME),
    "conv_transpose": (transposed, PICTURE),
    "pools": (pools, PICTURE),
    "channels_last": (ChannelsLast, (2, 9, 9, 3)),
    "squeeze_excite": (SqueezeExcite, PICTURE),
    "softmax": (lambda: nn.Sequential(activated(nn.ReLU()), nn.Softmax(1)), PICTURE),
    "log_softmax": (lambda: nn.Sequential(activated(nn.ReLU()), nn.LogSoftmax(1)), PICTURE),
    "prelu": (lambda: activated(nn.PReLU(6, init=0.3)), PICTURE),
    "leaky_relu": (lambda: activated(nn.LeakyReLU(0.2)), PICTURE),
    "relu6": (lambda: activated(nn.ReLU6()), PICTURE),
    "sigmoid": (lambda: activated(nn.Sigmoid()), PICTURE),
    "tanh": (lambda: activated(nn.Tanh()), PICTURE),
    "elu": (lambda: activated(nn.ELU(0.7)), PICTURE),
    "silu": (lambda: activated(nn.SiLU()), PICTURE),
    "gelu": (lambda: activated(nn.GELU()), PICTURE),
    "hardswish": (lambda: activated(nn.Hardswish()), PICTURE),
    "hardsigmoid": (lambda: activated(nn.Hardsigmoid()), PICTURE),
    "softplus": (lambda: activated(nn.Softplus()), PICTURE),
}


def small(name):
    """The net, two samples, and one unit for each: of the output itself, a softmax included."""
    make, shape = NETS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return randomized(make()), x, [1, 3]


def gradient(data, x, units, executor="compiled"):
    model = onnxvis.load(data, executor=executor, threads=1)
    target = onnxvis.Target(model.outputs[0].name, units)
    return model.explain(x.numpy(), "gradient", target=target).values


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("executor", ["compiled", "host"])
def test_gradient_is_that_of_autograd(name, executor):
    net, x, units = small(name)
    assert relative_error(gradient(export(net, x), x, units, executor), autograd(net, x, units)) <= 1e-5


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 18])
@pytest.mark.parametrize("name", ["pools", "conv_transpose", "softmax", "relu6"])
def test_every_opset_gives_the_same(name, opset):
    if opset == 9 and name == "pools":
        pytest.skip("torch exports ceil_mode from opset 10 on")
    net, x, units = small(name)
    assert relative_error(gradient(export(net, x, opset), x, units), autograd(net, x, units)) <= 1e-5


@pytest.mark.parametrize("name", ["conv1d", "pools", "squeeze_excite", "silu", "channels_last", "hardswish"])
def test_the_newer_exporters_files_too(name):
    """torch.export's files: a newer opset, other operators for the same layers, and local functions."""
    net, x, units = small(name)
    assert relative_error(gradient(export_newly(net, x), x, units), autograd(net, x, units)) <= 1e-5
