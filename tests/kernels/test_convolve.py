"""Convolution by tensor cores, emulated: threads that wait for each other, copies that arrive late."""

import math

import numpy as np
import pytest
from ops import windows

from onnxvis.ops.device import tensor_cores
from onnxvis.ops.device.tensor_cores import TensorCores
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window

from .compiling import GPP, WHY
from .stand_in import launched, stand_in_gpu

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

KINDS = ("conv_fprop", "conv_dgrad")
POINTWISE = Window((1, 1), (1, 1), (1, 1), (0, 0), (4, 5), (4, 5))


def result_shape(kind, x, w, window):
    if kind == "conv_fprop":
        return (x.shape[0], w.shape[0], *window.size_out)
    return (x.shape[0], w.shape[1], *window.size_in)


def ways(gpu, kind, x, w, window):
    return TensorCores(gpu).ways(kind, x, w, window, result_shape(kind, x, w, window))


def exact(kind, x, w, window):
    name = {"conv_fprop": "conv", "conv_dgrad": "conv_transpose"}[kind]
    with np.errstate(all="ignore"):
        return getattr(HostOps(np.float64), name)(x.astype(np.float64), w.astype(np.float64), window)


def compare(kind, x, w, window, tolerance=1e-6, blocks=tensor_cores.BLOCKS):
    gpu = stand_in_gpu()
    x, w = np.float32(x), np.float32(w)
    expected = exact(kind, x, w, window)
    x, w = gpu.upload(x), gpu.upload(w)
    found = [way for way in ways(gpu, kind, x, w, window) if way.block in blocks]
    assert found
    for way in found:
        y = gpu.download(way(x, w))
        assert y.shape == expected.shape and y.dtype == np.float32
        assert abs(y - expected).max() <= tolerance * max(abs(expected).max(), 1e-30)


def data(rng, kind, window, samples, filters, channels):
    w = rng.normal(size=(filters, channels, *window.kernel))
    given = (channels, window.size_in) if kind == "conv_fprop" else (filters, window.size_out)
    return rng.normal(size=(samples, given[0], *given[1])), w


@pytest.mark.parametrize("kind", KINDS)
def test_random_windows(kind):
    rng = np.random.default_rng(1)
    tried = 0
    for window in windows.random_windows(60, seed=21):
        strided = kind == "conv_dgrad" and max(window.strides) > 1 and window.count > 1
        if len(window.kernel) == 2 and not strided:
            samples, filters, channels = (int(n) for n in rng.integers(1, (4, 20, 20)))
            compare(kind, *data(rng, kind, window, samples, filters, channels), window, blocks=[(64, 64)])
            tried += 1
    assert tried > 5
