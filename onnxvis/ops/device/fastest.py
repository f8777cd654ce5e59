"""Which of several ways to compute the same is the fastest on a device: found by trying them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from onnxvis.ops.primitives import Array

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["Way", "elapsed", "fastest"]

Way = Callable[..., Array]  # of arrays

SHORT = 0.3  # milliseconds below which handing work over may take longer than doing it
REPEAT = 8


def fastest(gpu: Gpu, ways: Sequence[Way], *arrays: Array) -> Way:
    """The quickest of the ways to make an array of these; where none runs, what the last of them raised."""
    if len(ways) == 1:
        return ways[0]
    least, best, failure = float("inf"), None, None
    for way in ways:
        try:
            took = _milliseconds(gpu, partial(way, *arrays), least)
        except Exception as error:  # out of memory, or what a library says of a plan that it offered
            failure = error
            continue
        if took < least:
            least, best = took, way
    if best is None:
        assert failure is not None
        raise failure
    return best


def _milliseconds(gpu: Gpu, call: Callable[[], object], least: float) -> float:
    """What a call takes on the device; by a CUDA graph where handing it over may take longer.

    It is tried once only if it then takes much more than ``least``.
    """
    call()  # what is loaded, and allocated, at first
    took = elapsed(gpu, call)
    if took > SHORT:
        return took if took > 1.5 * least else min(took, elapsed(gpu, call))

    def several() -> None:
        for _ in range(REPEAT):
            call()

    graph = gpu.capture(several).graph
    return min(elapsed(gpu, lambda: graph.launch(stream=gpu.stream)) for _ in range(3)) / REPEAT


def elapsed(gpu: Gpu, call: Callable[[], object]) -> float:
    """Milliseconds on the device."""
    cuda = gpu.xp.cuda
    start, end = cuda.Event(), cuda.Event()
    start.record(gpu.stream)
    call()
    end.record(gpu.stream)
    end.synchronize()
    return float(cuda.get_elapsed_time(start, end))
