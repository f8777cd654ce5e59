"""Convolutions by cuDNN, through nvidia-cudnn-frontend (``import cudnn``): optional.

cuDNN has several plans for a shape (an engine, its algorithm, a workspace), of which the caller chooses.
What it does not take (padding that is negative, windows that leave out more than a stride at the end, a
shape that no engine supports) is left to the caller as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from onnxvis.ops.primitives import Array, Shape
from onnxvis.ops.window import Window

from .fastest import Way

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["Cudnn", "find_cudnn"]

# Nonsense: what a float16 holds, too, and bytes that are a large number of any type; numbers on both sides.
LARGE, LARGE_BYTE, AROUND = 3e4, 0x75, 2**14
Padding: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # before and after


def find_cudnn() -> Any:
    """The module ``cudnn`` where nvidia-cudnn-frontend is installed and loads, else None."""
    try:
        import cudnn
    except ImportError:
        return None
    return cudnn


class _Plan(NamedTuple):
    """One of a graph's plans: the graph's tensors, the plan's number, the bytes of its workspace."""

    graph: Any
    tensors: tuple[Any, Any, Any]  # data, weights, result
    number: int
    workspace: int


class Cudnn:
    """Plans for a convolution or its adjoint on one device, in one precision.

    float32 keeps to engines without tensor cores, which would round to TF32; "tf32" allows them; "float16"
    rounds operands and result to float16 and sums in float32.
    """

    PLANS = 10  # for one shape: what the heuristics put last is slow

    def __init__(self, cudnn: Any, gpu: Gpu, precision: str = "float32") -> None:
        self.cudnn, self.gpu, self.precision = cudnn, gpu, precision
        self.refused: dict[Any, str] = {}  # why, by shape
        self._handle: Any = None

    def ways(self, kind: str, x: Array, w: Array, window: Window, shape: Shape) -> list[Way]:
        """The plans that cuDNN has for these shapes, none where it does not take them.

        ``kind``: "conv_fprop", cross-correlation of x (N×C×size_in), or "conv_dgrad", its adjoint, of x
        (N×M×size_out); ``shape``: that of the result.  Groups follow from the shapes.
        """
        try:
            plans = [*self._plans(kind, x, w, window, shape)]
        except Exception as error:  # the frontend has several classes, by version
            self.refused[kind, x.shape, w.shape, window] = str(error).strip().split("\n")[0]
            return []
        return [partial(self._run, plan, shape) for plan in plans]

    def _run(self, plan: _Plan, shape: Shape, x: Array, w: Array, nonsense: bool = False) -> Array:
        """``nonsense``: what a plan should not read is full of what would show, to see whether it does."""
        kept, dtype = x.dtype, np.dtype(np.float16) if self._half(x) else x.dtype
        result = self.gpu.xp.empty(shape, dtype)
        workspace = self.gpu.xp.empty(max(1, plan.workspace), np.uint8)
        x, w = (array.astype(dtype, copy=False) for array in (x, w))
        if nonsense:
            result[...], workspace[...] = np.nan, LARGE_BYTE
            x, w = map(self._surrounded, (x, w))
        arrays = x, w, result
        # Addresses, since to hand an array over by DLPack waits for another stream, which no capture may.
        places = {tensor: array.data.ptr for tensor, array in zip(plan.tensors, arrays, strict=True)}
        plan.graph.execute_plan_at_index(places, workspace.data.ptr, index=plan.number, handle=self._handle)
        return result.astype(kept, copy=False)

    def _surrounded(self, array: Array) -> Array:
        """A copy between large numbers."""
        around = self.gpu.xp.empty(array.size + 2 * AROUND, array.dtype)
        around[...] = LARGE
        copy = around[AROUND : AROUND + array.size].reshape(array.shape)
        copy[...] = array
        return copy

    def _half(self, x: Array) -> bool:
        """Whether operands and result are float16: as they are, or because that is the precision."""
        return bool(x.dtype == np.float16 or (self.precision == "float16" and x.dtype == np.float32))

    def _plans(self, kind: str, x: Array, w: Array, window: Window, shape: Shape) -> Iterator[_Plan]:
        """Those that can be built, and whose workspace is not out of proportion."""
        padding = _padding(window)
        if padding is None:
            raise ValueError("padding that cuDNN does not describe")
        graph, tensors = self._graph(kind, x, w, window, padding, shape)
        found = 0
        for number in range(graph.get_execution_plan_count()):
            with suppress(Exception):  # not in this precision, or not for this device after all
                graph.build_plan_at_index(number)
                workspace = graph.get_workspace_size_plan_at_index(number)
                if workspace <= self.gpu.share:
                    found += 1
                    yield _Plan(graph, tensors, number, workspace)
            if found == self.PLANS:
                return
        if not found:
            raise ValueError("no plan of cuDNN's can be built")

    def _graph(
        self, kind: str, x: Array, w: Array, window: Window, padding: Padding, shape: Shape
    ) -> tuple[Any, tuple[Any, Any, Any]]:
        """A graph of one operation with its plans, and its tensors."""
        cudnn = self.cudnn
        if self._handle is None:
            self._handle = cudnn.create_handle()
            cudnn.set_stream(handle=self._handle, stream=self.gpu.stream.ptr)
        double = x.dtype == np.float64
        number = cudnn.data_type.DOUBLE if double else cudnn.data_type.FLOAT
        kept = cudnn.data_type.HALF if self._half(x) else number
        graph = cudnn.pygraph(
            io_data_type=kept, intermediate_data_type=number, compute_data_type=number, handle=self._handle
        )
        first, second = (
            graph.tensor(name=name, dim=_planar(a.shape), stride=_strides(_planar(a.shape)), data_type=kept)
            for name, a in (("data", x), ("weights", w))
        )
        # A third spatial axis or none: cuDNN knows two and three, so one gets company.
        extra = [0] * (len(_planar(shape)) - len(shape))
        ones = [1] * len(extra)
        result = getattr(graph, kind)(
            first,
            second,
            pre_padding=[*padding[0], *extra],
            post_padding=[*padding[1], *extra],
            stride=[*window.strides, *ones],
            dilation=[*window.dilations, *ones],
        )
        result.set_output(True).set_data_type(kept)
        result.set_dim(_planar(shape)).set_stride(_strides(_planar(shape)))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        if self.precision == "float32" and kept == number and not double:
            graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
        graph.check_support()
        return graph, (first, second, result)


def _padding(window: Window) -> Padding | None:
    """The padding with which cuDNN's formula gives ``size_out``, None if there is none.

    The same before and after where that does: many engines take no other.
    """
    for after in (window.before, tuple(max(0, n) for n in window.after)):
        sizes = (
            (n + a + b - (k - 1) * d - 1) // s + 1
            for n, a, b, k, d, s in zip(
                window.size_in, window.before, after, window.kernel, window.dilations, window.strides,
                strict=True,
            )
        )  # fmt: skip
        if min(window.before) >= 0 and tuple(sizes) == window.size_out:
            return window.before, after
    return None


def _planar(shape: Sequence[int]) -> list[int]:
    """A shape with at least two spatial axes."""
    return [*shape, *[1] * (4 - len(shape))]


def _strides(shape: Sequence[int]) -> list[int]:
    """Of a contiguous array, in numbers."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]
