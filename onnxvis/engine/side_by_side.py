"""Samples one by one, side by side on a CPU's cores: for most nets quicker than as one batch.

What one sample's operators hand to each other stays in a core's cache, and with a thread for each sample none
waits for another within an operator.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from onnxvis.graph.ir import Value
from onnxvis.overlap import overlapped

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["SideBySide"]

# Measured on two cores with SqueezeNet, ResNet-50 and AlexNet (benchmarks/README.md):
LARGE = 1 << 20  # bytes of a sample's largest tensor from which on a batch leaves the caches
DENSE = 32 << 20  # bytes of matrices from which on it pays that a batch reads them once
BUSY = 0.75  # share of the cores that have a sample, on average, from which on each is left to one

P = TypeVar("P")
R = TypeVar("R")


class SideBySide:
    """Parts of the work of an engine, each on a thread, as many at a time as the engine has threads."""

    def __init__(self, engine: Engine) -> None:
        self._shared = engine
        self._large: dict[object, bool] = {}  # by the shapes of a sample

    @cached_property
    def threads(self) -> int:
        """How many parts run at the same time: one where a GPU does it, or samples depend on each other."""
        engine = self._shared
        if engine.device != "cpu" or engine.mixes_samples:
            return 1
        return engine.runtime.threads or _cores()

    @cached_property
    def engine(self) -> Engine:
        """What each of them runs on."""
        return self._shared if self.threads == 1 else self._shared.on_one_thread()

    def run(self, function: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
        """``function`` of each part, in order; few of them are drawn ahead, all by the calling thread."""
        if self.threads == 1:
            return map(function, parts)
        return overlapped(function, parts, ahead=self.threads, workers=self.threads)

    # ---- samples of a batch ----------------------------------------------------------------------

    @property
    def fitting(self) -> int:
        """How many samples to give it at a time."""
        return self.threads if self._possible else 1

    def pays(self, feeds: Mapping[str, np.ndarray[Any, Any]], samples: int) -> bool:
        """Whether so many samples, with inputs of these shapes, are explained sooner than as one batch."""
        if samples < 2 or not self._possible:
            return False
        rounds = math.ceil(samples / self.threads)
        return samples >= BUSY * rounds * self.threads and self._is_large(feeds)

    @cached_property
    def _possible(self) -> bool:
        """On a CPU, for a net that takes any number of samples and keeps them apart."""
        engine, weights = self._shared, self._shared.file.weights.values()
        compiled = engine.executor in ("auto", "compiled") and engine.device == "cpu"
        dense = sum(weight.nbytes for weight in weights if len(weight.shape) == 2)
        return compiled and engine.free_batch and not engine.mixes_samples and dense < DENSE

    def _is_large(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> bool:
        one = {name: array[:1] for name, array in feeds.items()}
        key = tuple(sorted((name, array.shape) for name, array in one.items()))
        if key not in self._large:
            graph = self._shared.specialized(one)
            tensors = (value for name, value in graph.values.items() if not graph.is_constant(name))
            self._large[key] = any(_bytes(value) >= LARGE for value in tensors)
        return self._large[key]


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bytes(value: Value) -> int:
    """The size of a tensor; 0 where it is not known."""
    lengths = [n for n in value.shape or () if isinstance(n, int)]
    if value.dtype is None or len(lengths) != len(value.shape or ()):
        return 0
    return math.prod(lengths) * value.dtype.itemsize
