"""Convolutions by cuDNN, through nvidia-cudnn-frontend (``import cudnn``): optional.

A graph, with its algorithm and the size of its workspace, is built once for each shape and kept.  What
cuDNN does not take (padding that is negative, windows that leave out more than a stride at the end, a
shape that no engine supports) is left to the caller: ``forward`` and ``adjoint`` then return None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["Cudnn", "find_cudnn"]


def find_cudnn() -> Any:
    """The module ``cudnn`` where nvidia-cudnn-frontend is installed and loads, else None."""
    try:
        import cudnn
    except ImportError:
        return None
    return cudnn


class _Built(NamedTuple):
    """A graph that can be executed: its tensors, the shape of its result, its workspace in bytes."""

    graph: Any
    first: Any
    second: Any
    result: Any
    workspace: int


class Cudnn:
    """Convolution and its adjoint on one device, in one precision.

    float32 keeps to engines without tensor cores, which would round to TF32; "tf32" allows them; "float16"
    rounds operands and result to float16 and sums in float32.
    """

    def __init__(self, cudnn: Any, gpu: Gpu, precision: str = "float32") -> None:
        self.cudnn, self.gpu, self.precision = cudnn, gpu, precision
        self.refused: dict[Any, str] = {}  # why, by shape
        self._built: dict[Any, _Built | None] = {}
        self._handle: Any = None

    def forward(self, x: Array, w: Array, window: Window, group: int) -> Array | None:
        """Cross-correlation, N×M×size_out; None where cuDNN does not take it."""
        del group  # follows from the shapes
        return self._run("conv_fprop", x, w, window, (x.shape[0], w.shape[0], *window.size_out))

    def adjoint(self, g: Array, w: Array, window: Window, group: int) -> Array | None:
        """The adjoint in x, N×C×size_in; None where cuDNN does not take it."""
        return self._run("conv_dgrad", g, w, window, (g.shape[0], group * w.shape[1], *window.size_in))

    def _run(self, kind: str, x: Array, w: Array, window: Window, shape: tuple[int, ...]) -> Array | None:
        key = (kind, x.shape, w.shape, window, x.dtype.str)
        if key not in self._built:
            self._built[key] = self._try(key, kind, x, w, window, shape)
        built = self._built[key]
        if built is None:
            return None
        kept, dtype = x.dtype, np.dtype(np.float16) if self._half(x) else x.dtype
        result = self.gpu.xp.empty(shape, dtype)
        workspace = self.gpu.xp.empty(max(1, built.workspace), np.uint8)
        x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
        # Addresses, since to hand an array over by DLPack waits for another stream.
        tensors = {built.first: x.data.ptr, built.second: w.data.ptr, built.result: result.data.ptr}
        built.graph.execute(tensors, workspace, handle=self._handle)
        return result.astype(kept, copy=False)

    def _half(self, x: Array) -> bool:
        return self.precision == "float16" and x.dtype == np.float32

    def _try(
        self, key: Any, kind: str, x: Array, w: Array, window: Window, shape: tuple[int, ...]
    ) -> _Built | None:
        if not _fits(window):
            self.refused[key] = "padding that cuDNN does not describe"
            return None
        try:
            return self._build(kind, x, w, window, shape)
        except Exception as error:  # the frontend has several classes, by version
            self.refused[key] = str(error).strip().split("\n")[0]
            return None

    def _build(self, kind: str, x: Array, w: Array, window: Window, shape: tuple[int, ...]) -> _Built:
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
            pre_padding=[*window.before, *extra],
            post_padding=[*(max(0, n) for n in window.after), *extra],
            stride=[*window.strides, *ones],
            dilation=[*window.dilations, *ones],
        )
        result.set_output(True).set_data_type(kept)
        result.set_dim(_planar(shape)).set_stride(_strides(_planar(shape)))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        if self.precision == "float32" and not double:
            graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
        graph.check_support()
        graph.build_plans()
        return _Built(graph, first, second, result, graph.get_workspace_size())


def _fits(window: Window) -> bool:
    """True where cuDNN's formula for the output's size gives ``size_out``."""
    ends = zip(window.after, window.strides, strict=True)
    return min(window.before) >= 0 and all(after > -stride for after, stride in ends)


def _planar(shape: Sequence[int]) -> list[int]:
    """A shape with at least two spatial axes."""
    return [*shape, *[1] * (4 - len(shape))]


def _strides(shape: Sequence[int]) -> list[int]:
    """Of a contiguous array, in numbers."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]
