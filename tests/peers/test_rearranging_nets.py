"""Nets that transform, gather, write and sort numbers, against autograd."""

from __future__ import annotations

import pytest

import onnxvis

from .nets import autograd, export, export_newly, nn, randomized, relative_error, torch


class Spectrogram(nn.Module):
    """Logarithms of the power of a signal in some bands, convolved; the strongest moments count."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))
        self.register_buffer("bands", torch.rand(33, 12, generator=torch.Generator().manual_seed(0)))
        self.conv, self.head = nn.Conv1d(12, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        spectrum = torch.stft(x, 64, 16, window=self.window, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        maps = torch.relu(self.conv(torch.log1p(torch.einsum("bft,fm->bmt", power, self.bands))))
        return self.head(maps.topk(3, dim=2).values.mean(2))


class Einsums(nn.Module):
    """Non-local weights (Wang et al. 2018) and bilinear pooling (Lin et al. 2015), as sums of products."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(16, 5)

    def forward(self, x):
        maps = self.stem(x).flatten(2)
        near = torch.einsum("bci,bcj->bij", maps, maps).softmax(2)
        maps = maps + torch.einsum("bij,bcj->bci", near, maps)
        return self.head(torch.einsum("bci,bdi->bcd", maps, maps).flatten(1))


class Written(nn.Module):
    """Writes over some rows, adds to some columns, multiplies up along an axis."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(7, 5)
        self.register_buffer("rows", torch.tensor([0, 3, 5]))
        self.register_buffer("columns", torch.tensor([[1, 1, 0, 6, 2, 2, 3]]))

    def forward(self, x):
        maps = self.stem(x).mean(1)
        written = maps.index_copy(1, self.rows, maps[:, 4:].sigmoid())
        added = written[:, 0].scatter_add(1, self.columns.expand(len(x), -1), written[:, 1])
        return self.head(added * written[:, 2].flip(1))


SHAPES = {Spectrogram: (2, 800), Einsums: (2, 3, 9, 9), Written: (2, 3, 9, 9)}


def net_of(kind):
    return randomized(kind()), torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("executor", ["compiled", "host"])
@pytest.mark.parametrize(
    ("kind", "exporter"),
    [(Spectrogram, export_newly), (Einsums, export), (Einsums, export_newly), (Written, export_newly)],
)
def test_gradient_is_that_of_autograd(kind, exporter, executor):
    net, x = net_of(kind)
    model = onnxvis.load(exporter(net, x), executor=executor, threads=1)
    target = onnxvis.Target(model.outputs[0].name, [1, 3])
    ours = model.explain(x.numpy(), "gradient", target=target).values
    assert relative_error(ours, autograd(net, x, [1, 3])) <= 1e-5
