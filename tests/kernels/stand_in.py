"""CuPy for machines without a GPU: the part of it that onnxvis uses, on NumPy arrays, kernels by g++.

A ``DeviceArray`` mixes with NumPy arrays no more than a CuPy array does, results without axes stay arrays,
and ``empty`` gives NaN.  What runs between ``begin_capture`` and ``end_capture`` is written down, and
``Graph.launch`` does it again on the same memory, so that a CUDA graph's inputs and results can be tried.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from onnxvis.ops.device import DeviceOps, Gpu

from .compiling import compiled

_recorded: list[Callable[[], None]] | None = None
_captured: list[Any] = []  # arrays made meanwhile, whose memory belongs to the graph


class DeviceArray(np.ndarray):
    """An array in the device's memory."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        assert method == "__call__" and "out" not in options
        return _do(ufunc, *inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"NumPy's {function.__name__} was called with an array of the device")

    def __getitem__(self, key: Any) -> Any:
        return _do(lambda x, k: x[k], self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        def write() -> None:
            with np.errstate(all="ignore"):
                _plain(self)[_plain(key)] = _plain(value)

        _check(self, value)
        write()
        if _recorded is not None:
            _recorded.append(write)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:
        return _do(lambda x: x.astype(dtype, copy=copy), self)

    def copy(self) -> Any:
        return _do(lambda x: x.copy(), self)

    def set(self, array: Any, stream: Any) -> None:
        assert type(array) is np.ndarray and array.flags.c_contiguous and _recorded is None
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        _plain(self)[...] = array

    def get(self, stream: Any, out: Any, blocking: bool) -> None:
        assert _recorded is None and not blocking and (out.shape, out.dtype) == (self.shape, self.dtype)
        out[...] = _plain(self)

    def reshape(self, *shape: Any) -> Any:
        return _do(lambda x: x.reshape(*shape), self)

    def transpose(self, axes: Any) -> Any:
        return _do(lambda x: x.transpose(axes), self)

    def swapaxes(self, a: int, b: int) -> Any:
        return _do(lambda x: x.swapaxes(a, b), self)


def _plain(value: Any) -> Any:
    """The same memory as a NumPy array, with axes or without."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def _check(*values: Any) -> None:
    for value in values:
        if isinstance(value, list | tuple):
            _check(*value)
        elif type(value) is np.ndarray:
            raise TypeError("CuPy does not mix its arrays with NumPy's")


def again(step: Callable[[], None]) -> None:
    """Do it, now and in every launch of the graph that is being captured."""
    step()
    if _recorded is not None:
        _recorded.append(step)


def _memcpy_async(target: int, source: int, size: int, kind: int, stream: int) -> None:
    """cudaMemcpyAsync from the host, which is done at once."""
    assert (kind, stream) == (1, _Stream.ptr)
    again(lambda: ctypes.memmove(target, source, size) and None)


def _do(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Run on the memory of the arrays; the result stays on the device."""
    _check(*arguments)
    plain = [_plain(argument) for argument in arguments]
    with np.errstate(all="ignore"):
        result = np.asarray(function(*plain, **options))
    if _recorded is not None and not any(
        np.may_share_memory(result, p) for p in plain if isinstance(p, np.ndarray)
    ):
        _recorded.append(lambda: np.copyto(result, function(*plain, **options)))
        _captured.append(result)
    return result.view(DeviceArray)


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: _do(function, *arguments, **options)


class _Module:
    """RawModule: what a kernel file's text compiles to."""

    def __init__(self, code: str, options: tuple[str, ...], name_expressions: tuple[str, ...]) -> None:
        self.kernels = compiled(code, options, name_expressions)

    def get_function(self, name: str) -> Callable[..., None]:
        return _Kernel(self.kernels[name], name)


class _Kernel:
    """RawKernel."""

    def __init__(self, kernel: Callable[..., None], name: str) -> None:
        self.kernel, self.name, self.max_dynamic_shared_size_bytes = kernel, name, 49152

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int], arguments: tuple[Any, ...], *, shared_mem: int = 0
    ) -> None:
        assert 0 < grid[0] <= 2**31 - 1 and all(0 < n < 65536 for n in grid[1:]) and 0 < block[0] <= 1024
        assert 0 <= shared_mem <= self.max_dynamic_shared_size_bytes <= 101376  # of compute capability 8.6
        LAUNCHED.append(self.name)
        self.kernel(grid, block[0], arguments, shared_mem)
        if _recorded is not None:
            _recorded.append(lambda: self.kernel(grid, block[0], arguments, shared_mem))


LAUNCHED: list[str] = []


class OutOfMemoryError(Exception):
    pass


class _Pool:
    def __init__(self, allocator: Any = None) -> None:
        pass

    def set_limit(self, *, fraction: float) -> None:
        assert 0 < fraction <= 1

    def malloc(self, size: int) -> None:
        raise AssertionError("NumPy allocates")

    def free_all_blocks(self) -> None:
        pass


class _Stream:
    ptr = 1

    def __init__(self, non_blocking: bool) -> None:
        assert non_blocking

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        assert _recorded is None, "a stream cannot be waited for while it is captured"

    def is_capturing(self) -> bool:
        return _recorded is not None

    def begin_capture(self) -> None:
        global _recorded
        assert _recorded is None
        _recorded = []

    def end_capture(self) -> _Graph:
        global _recorded
        assert _recorded is not None
        graph, _recorded = _Graph(_recorded, [*_captured]), None
        _captured.clear()
        return graph


class _Event:
    """A moment: what is handed over is done at once."""

    def __init__(self, disable_timing: bool = False) -> None:
        pass

    def record(self, stream: _Stream) -> None:
        assert _recorded is None
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass


class _Graph:
    def __init__(self, steps: list[Callable[[], None]], memory: list[Any]) -> None:
        self.steps, self.memory, self.launches = steps, memory, 0

    def launch(self, stream: _Stream) -> None:
        self.launches += 1
        with np.errstate(all="ignore"):
            for step in self.steps:
                step()


def _to_device(array: Any, dtype: Any = None, *, copy: bool = False, order: str = "K") -> DeviceArray:
    if _recorded is not None and not isinstance(array, DeviceArray):
        raise RuntimeError("operation not permitted when stream is capturing")
    if isinstance(array, DeviceArray):
        return _do(lambda x: np.array(x, dtype, order=order), array)
    return np.array(array, dtype, order=order).view(DeviceArray)


def _empty(shape: Any, dtype: Any) -> DeviceArray:
    """Full of what nobody wrote: NaN, or the like."""
    array = np.empty(shape, dtype)
    array[...] = np.nan if array.dtype.kind == "f" else 77
    if _recorded is not None:
        _captured.append(array)
    return array.view(DeviceArray)


def _borrow(shape: Any, dtype: Any, memptr: Any) -> DeviceArray:
    memory, offset = memptr
    bytes_ = (ctypes.c_uint8 * memory.size).from_address(memory.pointer + offset)
    if _recorded is None:  # a graph holds addresses only
        bytes_.owner = memory.owner  # type: ignore[attr-defined]  # which views hold as well
    return np.frombuffer(bytes_, dtype).reshape(shape).view(DeviceArray)


class _Device(nullcontext[None]):
    compute_capability = "75"  # whose tensor cores are of no use: to imitate them takes long
    mem_info = (2**29, 2**30)  # bytes that are free, and all

    def __init__(self, index: int) -> None:
        super().__init__()
        self.attributes = {"MultiProcessorCount": 132}


class _NdarrayMeta(type):
    """Arrays are instances of ``cupy.ndarray``, which called makes one of borrowed memory."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, DeviceArray)

    def __call__(cls, shape: Any, dtype: Any, memptr: Any) -> DeviceArray:
        return _borrow(shape, dtype, memptr)


class _Ndarray(metaclass=_NdarrayMeta):
    pass


def cupy() -> Any:
    """A stand-in for the module ``cupy``."""
    names = (
        "where", "maximum", "minimum", "abs", "exp", "log", "sqrt", "tanh", "sin", "power", "sum", "argmax",
        "broadcast_to", "take", "argsort", "searchsorted", "max",
    )  # fmt: skip
    memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda = SimpleNamespace(
        Device=_Device,
        Event=_Event,
        get_elapsed_time=lambda start, end: 1000 * (end.at - start.at),
        Stream=_Stream,
        MemoryPool=_Pool,
        using_allocator=lambda malloc: nullcontext(),
        memory=memory,
        UnownedMemory=lambda pointer, size, owner, device: SimpleNamespace(
            pointer=pointer, size=size, owner=owner
        ),
        alloc_pinned_memory=bytearray,
        runtime=SimpleNamespace(memcpyAsync=_memcpy_async),
        MemoryPointer=lambda memory, offset: (memory, offset),
    )
    return SimpleNamespace(
        **{name: _function(getattr(np, name)) for name in names},
        ndarray=_Ndarray,
        asarray=_to_device,
        array=_to_device,
        empty=_empty,
        zeros=lambda shape, dtype: _do(lambda: np.zeros(shape, dtype)),
        arange=lambda count, dtype=None: _do(lambda: np.arange(count, dtype=dtype)),
        RawModule=_Module,
        cuda=cuda,
    )


# ---- cuBLAS --------------------------------------------------------------------------------------

_NUMBERS = {0: np.float32, 1: np.float64, 2: np.float16}  # cudaDataType_t


def _matrix(pointer: int, kind: int, rows: int, columns: int, leading: int) -> np.ndarray[Any, Any]:
    """A matrix in memory, column by column."""
    dtype = np.dtype(_NUMBERS[kind])
    assert leading >= rows > 0 < columns
    size = (leading * (columns - 1) + rows) * dtype.itemsize
    numbers = np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype)
    return np.lib.stride_tricks.as_strided(
        numbers, (rows, columns), (dtype.itemsize, leading * dtype.itemsize), writeable=True
    )


def _gemm(
    handle: Any, first: int, second: int, m: int, n: int, k: int,
    alpha: Any, a: int, a_kind: int, a_leading: int, b: int, b_kind: int, b_leading: int,
    beta: Any, c: int, c_kind: int, c_leading: int, compute: int, how: int,
) -> int:  # fmt: skip
    """cublasGemmEx: c = op(a)·op(b) by columns, op being the matrix or its transpose."""
    assert handle.value == 7 and {first, second} <= {0, 1} and how == -1
    scalar = ctypes.c_double if compute == 70 else ctypes.c_float
    assert [ctypes.cast(s, ctypes.POINTER(scalar))[0] for s in (alpha, beta)] == [1, 0]
    assert a_kind == b_kind
    assert (a_kind, c_kind, compute) in {(0, 0, 68), (0, 0, 77), (1, 1, 70), (2, 0, 68), (2, 2, 68)}
    COMPUTED.append(compute)
    left = _matrix(a, a_kind, *((k, m) if first else (m, k)), a_leading)
    right = _matrix(b, b_kind, *((n, k) if second else (k, n)), b_leading)
    result = _matrix(c, c_kind, m, n, c_leading)

    def multiply() -> None:
        one, other = (
            x.astype(result.dtype) for x in (left.T if first else left, right.T if second else right)
        )
        result[...] = one @ other

    with np.errstate(all="ignore"):
        multiply()
    if _recorded is not None:
        _recorded.append(multiply)
    return 0


def _gemm_batched(*arguments: Any) -> int:
    """cublasGemmStridedBatchedEx: as many products, their matrices so far apart."""
    head, (a, b, c) = arguments[:7], (arguments[7:11], arguments[11:15], arguments[16:20])
    beta, count, rest = arguments[15], arguments[20], arguments[21:]
    for i in range(count):
        moved = [
            (pointer + i * apart * np.dtype(_NUMBERS[kind]).itemsize, kind, leading)
            for pointer, kind, leading, apart in (a, b, c)
        ]
        _gemm(*head, *moved[0], *moved[1], beta, *moved[2], *rest)
    return 0


COMPUTED: list[int] = []  # what products were computed in


def cublas() -> Any:
    """A stand-in for cuBLAS' library: it does what the header says, on the host's memory."""
    order: list[str] = []

    def create(handle: Any) -> int:
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 7
        return 0

    def set_stream(handle: Any, stream: int) -> int:
        order.append("stream")
        return 0 if (handle.value, stream) == (7, _Stream.ptr) else 1

    def set_workspace(handle: Any, memory: int, size: int) -> int:
        assert order == ["stream"], "setting the stream puts the workspace back"
        return 0 if handle.value == 7 and memory and size else 1

    given = {
        "cublasCreate_v2": create, "cublasSetStream_v2": set_stream, "cublasSetWorkspace_v2": set_workspace,
        "cublasGetStatusString": lambda status: b"status %d" % status,
        "cublasGemmEx": _gemm, "cublasGemmStridedBatchedEx": _gemm_batched,
    }  # fmt: skip
    return SimpleNamespace(**{name: _declared(function) for name, function in given.items()})


def _declared(function: Callable[..., Any]) -> Any:
    """Called with what its declared parameters take, as a function of a C library is."""

    def call(*arguments: Any) -> Any:
        for value, parameter in zip(arguments, call.argtypes, strict=True):  # type: ignore[attr-defined]
            parameter.from_param(value)
        return function(*arguments)

    return call


def stand_in_gpu(capability: int = 75) -> Gpu:
    gpu = Gpu(cupy(), _function(special.erf), cublas())
    gpu.capability = capability  # type: ignore[misc]
    return gpu


def stand_in_ops(
    dtype: Any = np.float32, precision: str = "float32", cudnn: Any = None, capability: int = 75
) -> DeviceOps:
    return DeviceOps(stand_in_gpu(capability), dtype, precision, cudnn)


@contextmanager
def launched() -> Any:
    """The kernels that were launched inside."""
    LAUNCHED.clear()
    found: list[str] = []
    yield found
    found += LAUNCHED
