"""CuPy for machines without a GPU: the part of it that onnxvis uses, on NumPy arrays, kernels by g++.

A ``DeviceArray`` mixes with NumPy arrays no more than a CuPy array does, results without axes stay arrays,
and ``empty`` gives NaN.  What runs between ``begin_capture`` and ``end_capture`` is written down, and
``Graph.launch`` does it again on the same memory, so that a CUDA graph's inputs and results can be tried.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from onnxvis.ops.device import DeviceOps, Gpu

from .compiling import compiled

_recorded: list[Callable[[], None]] | None = None


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

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:
        return _do(lambda x: x.astype(dtype, copy=copy), self)

    def copy(self) -> Any:
        return _do(lambda x: x.copy(), self)

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
    return result.view(DeviceArray)


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: _do(function, *arguments, **options)


class _Module:
    """RawModule: what a kernel file's text compiles to."""

    def __init__(self, code: str, options: tuple[str, ...], name_expressions: tuple[str, ...]) -> None:
        self.kernels = compiled(code, options, name_expressions)

    def get_function(self, name: str) -> Callable[..., None]:
        kernel = self.kernels[name]

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            assert 0 < grid[0] <= 2**31 - 1 and 0 < block[0] <= 1024
            LAUNCHED.append(name)
            kernel(grid[0], block[0], arguments)
            if _recorded is not None:
                _recorded.append(lambda: kernel(grid[0], block[0], arguments))

        return launch


LAUNCHED: list[str] = []


class OutOfMemoryError(Exception):
    pass


class _Pool:
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

    def begin_capture(self) -> None:
        global _recorded
        assert _recorded is None
        _recorded = []

    def end_capture(self) -> _Graph:
        global _recorded
        assert _recorded is not None
        graph, _recorded = _Graph(_recorded), None
        return graph


class _Graph:
    def __init__(self, steps: list[Callable[[], None]]) -> None:
        self.steps, self.launches = steps, 0

    def launch(self, stream: _Stream) -> None:
        self.launches += 1
        with np.errstate(all="ignore"):
            for step in self.steps:
                step()


class _Core:
    """How float32 products are computed."""

    _routines_linalg = SimpleNamespace(COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7)

    def __init__(self) -> None:
        self.compute_type = 2

    def get_compute_type(self, dtype: Any) -> int:
        return self.compute_type

    def set_compute_type(self, dtype: Any, compute_type: int) -> None:
        self.compute_type = compute_type


def _to_device(array: Any, dtype: Any = None, *, copy: bool = False, order: str = "K") -> DeviceArray:
    if _recorded is not None and not isinstance(array, DeviceArray):
        raise RuntimeError("operation not permitted when stream is capturing")
    if isinstance(array, DeviceArray):
        return _do(lambda x: np.array(x, dtype, order=order), array)
    return np.array(array, dtype, order=order).view(DeviceArray)


def _to_host(array: DeviceArray) -> np.ndarray[Any, Any]:
    assert isinstance(array, DeviceArray) and _recorded is None
    return _plain(array).copy()


def _empty(shape: Any, dtype: Any) -> DeviceArray:
    """Full of what nobody wrote: NaN, or the like."""
    array = np.empty(shape, dtype)
    array[...] = np.nan if array.dtype.kind == "f" else 77
    return array.view(DeviceArray)


def _borrow(shape: Any, dtype: Any, memptr: Any) -> DeviceArray:
    memory, offset = memptr
    bytes_ = (ctypes.c_uint8 * memory.size).from_address(memory.pointer + offset)
    array = np.frombuffer(bytes_, dtype).reshape(shape).view(DeviceArray)
    _OWNERS[memory.pointer] = memory.owner
    return array


_OWNERS: dict[int, Any] = {}


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
        "broadcast_to", "concatenate", "matmul", "take", "argsort", "searchsorted",
    )  # fmt: skip
    memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda = SimpleNamespace(
        Device=lambda index: nullcontext(),
        Stream=_Stream,
        MemoryPool=_Pool,
        using_allocator=lambda malloc: nullcontext(),
        memory=memory,
        UnownedMemory=lambda pointer, size, owner, device: SimpleNamespace(
            pointer=pointer, size=size, owner=owner
        ),
        MemoryPointer=lambda memory, offset: (memory, offset),
    )
    return SimpleNamespace(
        **{name: _function(getattr(np, name)) for name in names},
        ndarray=_Ndarray,
        asarray=_to_device,
        array=_to_device,
        asnumpy=_to_host,
        empty=_empty,
        zeros=lambda shape, dtype: _do(lambda: np.zeros(shape, dtype)),
        arange=lambda count: _do(lambda: np.arange(count)),
        RawModule=_Module,
        cuda=cuda,
        _core=_Core(),
    )


def stand_in_gpu() -> Gpu:
    return Gpu(cupy(), _function(special.erf))


def stand_in_ops(dtype: Any = np.float32, precision: str = "float32", cudnn: Any = None) -> DeviceOps:
    return DeviceOps(stand_in_gpu(), dtype, precision, cudnn)


@contextmanager
def launched() -> Any:
    """The kernels that were launched inside."""
    LAUNCHED.clear()
    found: list[str] = []
    yield found
    found += LAUNCHED
