"""Every way in which tensor cores convolve, of which otherwise only the fastest would be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from onnxvis.ops.device import DeviceOps
from onnxvis.ops.device.tensor_cores import TensorCores, Way
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window

from .correctness import Row, compared

__all__ = ["WINDOWS", "ways"]


def _window(kernel: int, stride: int, before: int, size: int, dilation: int = 1) -> Window:
    out = (size + 2 * before - (kernel - 1) * dilation - 1) // stride + 1
    return Window(*((n, n) for n in (kernel, stride, dilation, before, size, out)))


WINDOWS = (
    _window(3, 1, 1, 14),
    _window(3, 1, 1, 7),
    _window(3, 1, 2, 12, 2),
    _window(1, 1, 0, 14),
    _window(1, 1, 0, 7),
    _window(3, 2, 1, 14),
    _window(1, 2, 0, 14),
    _window(7, 2, 3, 23),
    _window(2, 2, 0, 13),
)
# Filters and channels, alone and as many as fill blocks; so few channels that a step takes several offsets.
SIZES = ((130, 200), (64, 3), (33, 8))
EPSILON = 0.5


def ways(
    ops: DeviceOps, windows: Sequence[Window] = WINDOWS, sizes: Sequence[tuple[int, int]] = SIZES
) -> Iterator[Row]:
    """Alone and with all that a convolution may end in, against sums in double precision."""
    cores, rng = TensorCores(ops.gpu), np.random.default_rng(0)
    for window in windows:
        for filters, channels in sizes:
            x, g = ((3, n, *size) for n, size in ((channels, window.size_in), (filters, window.size_out)))
            w = _random(rng, (filters, channels, *window.kernel))
            for kind, given, shape in (("conv_fprop", x, g), ("conv_dgrad", g, x)):
                arrays = [_random(rng, given), w, *(_random(rng, shape) for _ in range(2))]
                z = _exact(kind, window, *arrays[:2])
                for way in cores.ways(kind, *map(ops.gpu.upload, arrays[:2]), window, shape):
                    what = f"{kind} {window} {tuple(way.block)} {way.at_once} {way.taps}"
                    for name, compute in _ends(ops, kind, way, arrays, z):
                        yield compared(f"{what} {name}", compute)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return np.float32(rng.uniform(0.5, 1.5, shape))  # no sums around 0, where rounding tells the sign


def _exact(kind: str, window: Window, x: Any, w: Any) -> Any:
    host = HostOps(np.float64)
    use = host.conv if kind == "conv_fprop" else host.conv_transpose
    return use(x.astype(np.float64), w.astype(np.float64), window)


def _ends(
    ops: DeviceOps, kind: str, way: Way, arrays: Sequence[Any], z: Any
) -> Iterator[tuple[str, Callable[[], tuple[Any, Any]]]]:
    """What a way makes, and what it should."""
    _, _, r, onto = arrays
    bias = np.float32(np.arange(z.shape[1]) % 7)
    stabilized = z + bias[:, None, None] + EPSILON
    uses: dict[str, tuple[Callable[..., Any], Sequence[Any], Any]] = {
        "plain": (way, arrays[:2], z),
        "onto": (lambda x, w, onto: way(x, w, onto=onto), [*arrays[:2], onto], z + onto),
        "product": (way.product, arrays[:3], z * r),
        "product onto": (lambda x, w, r, onto: way.product(x, w, r, onto=onto), arrays, z * r + onto),
    }
    if kind == "conv_dgrad":
        away = np.float32(-z * onto)  # so that numbers have both signs
        for gate in ("gradient", "guided", "deconvnet"):
            uses[gate] = (partial(_gated, way, gate), [*arrays[:3], away], _gate(gate, z + away, r))
    if kind == "conv_fprop":
        divided = partial(way.quotient, epsilon=EPSILON)
        uses["quotient"] = (divided, [*arrays[:3], bias], r / stabilized)
    for name, (use, given, expected) in uses.items():

        def compute(use: Any = use, given: Any = given, expected: Any = expected) -> tuple[Any, Any]:
            with ops.gpu.running():
                found = ops.gpu.download(use(*map(ops.gpu.upload, given)))
            return found, expected.astype(np.float32)

        yield name, compute


def _gated(way: Way, gate: str, x: Any, w: Any, r: Any, onto: Any) -> Any:
    """Through a gate that is open where r > 1."""
    return way(x, w, onto, gate, r - 1)


def _gate(gate: str, g: Any, r: Any) -> Any:
    host = HostOps(np.float64)
    return host.positive(g) if gate == "deconvnet" else host.gate(g, r - 1, gate == "guided")
