"""A session on a GPU: where it leaves its outputs, and that it leaves them there again."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from onnxvis.ops.device import DTYPES, Gpu

from .bound import Bound
from .forward_graph import ForwardGraph

__all__ = ["Bindings"]


class Bindings:
    """The I/O bindings of one session on a GPU.

    A run with outputs and input shapes as before takes the binding of before, if nobody holds its outputs any
    more: onnxruntime then writes them where they lay, so that a CUDA graph that reads them there fits.  What
    runs often becomes a CUDA graph itself, unless that was refused.

    ``again``: build sessions for a graph, the model as it is and, where that is possible, with operators made
    one (else None).  Several samples try both, and the faster stays.
    """

    LIMIT = 4  # bindings that are kept
    # Runs after which one becomes a graph, and how many may: each has the weights on the GPU once more.
    GRAPH_AFTER, GRAPHS = 2, 2
    PRECISE = 1e-4  # of the largest number: what rounding differently may change

    def __init__(
        self, module: Any, session: Any, gpu: Gpu, again: tuple[Callable[[], Any], Callable[[], Any | None]]
    ) -> None:
        self.module, self.session, self.gpu, self.again = module, session, gpu, again
        types = {entry.name: entry.type for entry in session.get_outputs()}
        # Strings, sequences and maps are the host's.
        self._on_gpu = {n for n, kind in types.items() if _is_numeric(kind)}
        self._kept: OrderedDict[Hashable, Bound] = OrderedDict()
        self._graphs: dict[Hashable, ForwardGraph] = {}
        self.refused: dict[Hashable, str] = {}  # why there is no graph
        self.apart: dict[Hashable, str] = {}  # why its operators are not made one

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The outputs as OrtValues, on the GPU where it can hold them (there they may still be computed), and
        those of the inputs that lie there too.
        """
        shapes = [(name, value.data_type(), *value.shape()) for name, value in feeds.items()]
        key = (tuple(outputs), *shapes)
        graph = self._graphs.get(key)
        if graph is not None and graph.free:
            return graph.run(feeds)
        bound = self._kept.pop(key, None)
        if bound is not None and bound.free:
            try:
                values, placed = bound.run(feeds)
            except Exception:  # an output of another shape than before does not fit
                del bound
            else:
                self._keep(key, bound)
                if bound.runs >= self.GRAPH_AFTER and self._may_capture(key):
                    self._capture(key, outputs, feeds, values)
                return values, placed
        bound = Bound(self.session, self.gpu)
        for name in outputs:
            bound.output(name, on_gpu=name in self._on_gpu)
        values, placed = bound.run(feeds)
        if sum(map(_bytes, values)) <= self.gpu.share:
            self._keep(key, bound)
        return values, placed

    def _keep(self, key: Hashable, bound: Bound) -> None:
        self._kept[key] = bound
        while len(self._kept) > self.LIMIT:
            self._kept.popitem(last=False)

    def _may_capture(self, key: Hashable) -> bool:
        return len(self._graphs) < self.GRAPHS and key not in self._graphs and key not in self.refused

    def _capture(
        self, key: Hashable, outputs: Sequence[str], feeds: Mapping[str, Any], expected: list[Any]
    ) -> None:
        """From the next run on a graph, if it can be one."""

        def build(session: Any, **tolerance: float) -> ForwardGraph:
            return ForwardGraph(self.module, session, self.gpu, outputs, feeds, expected, **tolerance)

        try:
            graph = build(self.again[0]())
        except Exception as error:  # onnxruntime's, one class a status code, CUDA's, and ours
            self.refused[key] = _said(error)
            return
        if any(value.shape()[0] > 1 for value in feeds.values() if value.shape()):
            graph = self._faster(key, graph, build)
        self._graphs[key] = graph
        del self._kept[key]  # which has memory for the same outputs

    def _faster(self, key: Hashable, plain: ForwardGraph, build: Callable[..., ForwardGraph]) -> ForwardGraph:
        """The graph, or one with operators made one, where that runs, is as precise, and faster."""
        try:
            session = self.again[1]()
            if session is None:
                self.apart[key] = "there is nothing to make one"
                return plain
            fused = build(session, tolerance=self.PRECISE)
        except Exception as error:  # as above
            self.apart[key] = _said(error)
            return plain
        if self.gpu.full:  # what is found by trying may compute in large buffers
            self.apart[key] = "it takes too much memory"
        elif plain.milliseconds() <= fused.milliseconds():
            self.apart[key] = "it is slower"
        return plain if key in self.apart else fused


def _said(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _is_numeric(kind: str) -> bool:
    return kind.startswith("tensor(") and kind != "tensor(string)"


def _bytes(value: Any) -> int:
    """What a tensor takes on the GPU."""
    dtype = DTYPES.get(value.data_type()) if value.is_tensor() else None
    return math.prod(value.shape()) * np.dtype(dtype).itemsize if dtype else 0
