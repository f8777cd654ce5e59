"""Times on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from onnxvis.ops.device import Gpu

__all__ = ["Clock"]


class Clock:
    """Milliseconds of a call by events on the engine's stream: the median of ``rounds``.

    A call that ends when its results are there is timed whole, the host's part too, on whichever stream it
    computes.  Slow calls get fewer rounds: no more than ``seconds`` for one call, but five.
    """

    WARM, FEWEST = 5, 5

    def __init__(self, gpu: Gpu, rounds: int = 30, seconds: float = 5.0) -> None:
        self.gpu, self.rounds, self.seconds = gpu, rounds, seconds

    def __call__(self, call: Callable[[], object], repeat: int = 1) -> float:
        """``repeat``: calls between two events, for those that only hand work to the GPU."""
        for _ in range(self.WARM):
            call()
        times: list[float] = []
        until = time.perf_counter() + self.seconds
        while len(times) < self.rounds and (len(times) < self.FEWEST or time.perf_counter() < until):
            times.append(self._once(call, repeat) / repeat)
        return statistics.median(times)

    def _once(self, call: Callable[[], object], repeat: int) -> float:
        cuda, stream = self.gpu.xp.cuda, self.gpu.stream
        stream.synchronize()
        start, end = cuda.Event(), cuda.Event()
        start.record(stream)
        for _ in range(repeat):
            call()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(start, end))
