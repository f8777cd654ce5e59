"""Matrix products by cuBLAS, called by its C interface.

Not through CuPy, which refuses to while a stream is captured (cupy issue 6290), so that no net with a dense
layer could become a CUDA graph.  cuBLAS itself may be captured, the more so with a workspace of its own: it
then allocates nothing.
"""

from __future__ import annotations

import ctypes
import math
import os
from ctypes import c_int, c_longlong, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.errors import MissingRuntimeError, OnnxvisError
from onnxvis.ops.primitives import Array

if TYPE_CHECKING:
    from .gpu import Gpu

__all__ = ["Cublas", "find_cublas"]

# From cublas_api.h and library_types.h.
_PLAIN, _TRANSPOSED = 0, 1
_TYPES = {"float32": 0, "float64": 1, "float16": 2}
_SINGLE, _DOUBLE, _TF32 = 68, 70, 77
_DEFAULT = -1
_GEMM = (c_void_p, *[c_int] * 5, c_void_p, *(c_void_p, c_int, c_int) * 2, c_void_p, c_void_p, *[c_int] * 4)
_BATCHED = (
    c_void_p, *[c_int] * 5, c_void_p, *(c_void_p, c_int, c_int, c_longlong) * 2, c_void_p,
    c_void_p, c_int, c_int, c_longlong, c_int, c_int, c_int,
)  # fmt: skip
_PARAMETERS = {
    "cublasCreate_v2": (c_void_p,),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasGetStatusString": (c_int,),
    "cublasGemmEx": _GEMM,
    "cublasGemmStridedBatchedEx": _BATCHED,
}


def find_cublas(xp: Any) -> Any:
    """The library that CuPy computes with; MissingRuntimeError where it cannot be loaded."""
    version = xp.cuda.runtime.runtimeGetVersion() // 1000
    name = f"cublas64_{version}.dll" if os.name == "nt" else f"libcublas.so.{version}"
    try:
        # CuPy loads it, from wherever it finds it, when its own module is first named.
        _ = xp.cuda.cublas
        return ctypes.CDLL(name)  # known by its name alone from then on
    except (AttributeError, ImportError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise MissingRuntimeError(
            f"the device executor needs cuBLAS, which CuPy finds nowhere: {first}"
        ) from None


class _Factor(NamedTuple):
    """A factor as cuBLAS reads it: transposed or not, and how far its rows and its matrices lie apart."""

    array: Array
    operation: int
    leading: int
    apart: int  # numbers from one matrix to the next


class Cublas:
    """Products on one device; what they compute in is said with each."""

    WORKSPACE = 32 * 2**20  # what NVIDIA recommends for the largest GPUs

    def __init__(self, library: Any, gpu: Gpu) -> None:
        self.library, self.gpu = library, gpu
        self._handle: c_void_p | None = None
        for name, parameters in _PARAMETERS.items():
            getattr(library, name).argtypes = parameters
        library.cublasGetStatusString.restype = ctypes.c_char_p

    def product(self, a: Array, b: Array, dtype: Any, tf32: bool = False) -> Array:
        """The matrix product over the last two axes, of ``dtype``; the other axes are broadcast.

        Factors are of ``dtype``, or both of float16 for a product in float32; sums are in ``dtype``.
        ``tf32``: factors of float32 may be rounded to 10 bits.
        """
        rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
        if b.shape[-2] != inner:
            raise OnnxvisError(f"shapes {a.shape} and {b.shape} have no matrix product")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        count = math.prod(lead)
        shape = (*lead, rows, columns)
        if not (count * rows * inner * columns):
            return self.gpu.xp.zeros(shape, dtype)
        result = self.gpu.xp.empty(shape, dtype)
        # Rows here are columns there, so what it computes is the transposed product: bᵀ·aᵀ.
        self._multiply(
            (columns, rows, inner), self._factor(b, lead), self._factor(a, lead), result, count, tf32
        )
        return result

    def _multiply(
        self,
        sizes: tuple[int, int, int],
        first: _Factor,
        second: _Factor,
        result: Array,
        count: int,
        tf32: bool,
    ) -> None:
        rows, columns, _ = sizes
        double = result.dtype == np.float64
        scalar = ctypes.c_double if double else ctypes.c_float
        one, zero = ctypes.byref(scalar(1)), ctypes.byref(scalar(0))
        compute = _DOUBLE if double else _TF32 if tf32 and first.array.dtype == np.float32 else _SINGLE
        batched = count > 1

        def matrix(array: Array, leading: int, apart: int) -> tuple[int, ...]:
            named = array.data.ptr, _TYPES[array.dtype.name], leading
            return (*named, apart) if batched else named

        arguments = (
            self._ready(), first.operation, second.operation, *sizes, one,
            *(value for f in (first, second) for value in matrix(f.array, f.leading, f.apart)), zero,
            *matrix(result, rows, rows * columns), *([count] if batched else []), compute, _DEFAULT,
        )  # fmt: skip
        name = "cublasGemmStridedBatchedEx" if batched else "cublasGemmEx"
        self._check(getattr(self.library, name)(*arguments))

    def _factor(self, x: Array, lead: tuple[int, ...]) -> _Factor:
        """Copied where neither its rows nor its columns lie in one piece."""
        matrix = x.shape[-2:]
        if math.prod(x.shape[:-2]) == 1:
            x = x.reshape(matrix)
        else:
            x = self.gpu.xp.broadcast_to(x, (*lead, *matrix)).reshape(-1, *matrix)
        way = _way(x)
        if way is None:
            x = x.copy()
            way = _PLAIN, matrix[1]
        return _Factor(x, *way, x.strides[0] // x.itemsize if x.ndim > 2 else 0)

    def _ready(self) -> c_void_p:
        if self._handle is None:
            handle = c_void_p()
            self._check(self.library.cublasCreate_v2(ctypes.byref(handle)))
            self._check(self.library.cublasSetStream_v2(handle, self.gpu.stream.ptr))
            # After the stream, which puts the workspace back to cuBLAS' own.
            self._workspace = self.gpu.xp.empty(self.WORKSPACE, np.uint8)
            self._check(self.library.cublasSetWorkspace_v2(handle, self._workspace.data.ptr, self.WORKSPACE))
            self._handle = handle
        return self._handle

    def _check(self, status: int) -> None:
        if status:
            raise OnnxvisError(f"cuBLAS failed: {self.library.cublasGetStatusString(status).decode()}")


def _way(x: Array) -> tuple[int, int] | None:
    """Whether cuBLAS reads matrices transposed, and how far rows (columns) lie apart; None if it cannot.

    It counts by columns, so what lies row by row is to it the transposed matrix, which is what it is to read.
    """
    (rows, columns), (down, right) = x.shape[-2:], (stride // x.itemsize for stride in x.strides[-2:])
    if x.strides[0] < 0:
        return None
    if (right == 1 or columns == 1) and (rows == 1 or down >= columns):
        return _PLAIN, down if rows > 1 else columns
    if (down == 1 or rows == 1) and (columns == 1 or right >= rows):
        return _TRANSPOSED, right if columns > 1 else rows
    return None
