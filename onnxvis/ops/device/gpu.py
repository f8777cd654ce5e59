"""One CUDA device through CuPy: its stream, its memory, and the kernels that were loaded on it."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from threading import RLock
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from onnxvis.errors import MissingRuntimeError

from .constants import Constants
from .cublas import Cublas, find_cublas
from .sources import KERNELS, expression, expressions, options, source

__all__ = ["DTYPES", "KINDS", "PRECISIONS", "Gpu", "find_gpu", "lies_on_gpu", "on_host"]

# How float32 convolutions and matrix products are computed; everything else is in float32 always.
PRECISIONS = ("float32", "tf32", "float16")
INSTALL = "pip install 'onnxvis[cuda12]' (or 'onnxvis[cuda13]')"
# onnxruntime's names of what CuPy knows too.
DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(bool)": "bool", "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip
KINDS = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}


def on_host(value: Any) -> np.ndarray[Any, Any]:
    """The numbers of an OrtValue in the host's memory: where they lie, if CuPy knows such numbers."""
    array: np.ndarray[Any, Any] | None = getattr(value, "array", None)  # of which it is to be made
    if array is not None:
        return array
    dtype = DTYPES.get(value.data_type())
    if dtype is None or lies_on_gpu(value):
        found: np.ndarray[Any, Any] = value.numpy()
        return found
    shape = tuple(value.shape())
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.empty(shape, dtype)
    memory = (ctypes.c_uint8 * size).from_address(value.data_ptr())
    memory.owner = value  # which the array holds by it
    return np.frombuffer(memory, dtype).reshape(shape)


T = TypeVar("T")


def lies_on_gpu(value: Any) -> bool:
    """Where an OrtValue's memory is: what is not the CPU's, onnxruntime calls by several names.

    Sequences and maps, of which it does not say, are the CPU's.
    """
    return bool(value.is_tensor() and value.device_name().lower() != "cpu")


class Captured(NamedTuple, Generic[T]):
    """A CUDA graph, what the work in it returned, and the constants that it reads, which must outlive it."""

    graph: Any
    made: T
    constants: list[Any]


@cache
def find_gpu(index: int = 0) -> Gpu:
    """The CUDA device of this number; MissingRuntimeError without CuPy or without a device."""
    try:
        import cupy
        from cupyx.scipy.special import erf
    except ImportError as error:
        raise MissingRuntimeError(
            f"the device executor needs CuPy, which cannot be imported ({error}); run: {INSTALL}"
        ) from None
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise MissingRuntimeError(
            f"the device executor needs an NVIDIA GPU, and CuPy finds none ({error}); use device='cpu'"
        ) from None
    if index >= count:
        raise MissingRuntimeError(f"there is no CUDA device {index}: CuPy finds {count}")
    return Gpu(cupy, erf, find_cublas(cupy), index)


class Gpu:
    """A CUDA device.

    ``xp``: the CuPy module; ``erf``: a function that it keeps elsewhere; ``cublas``: multiplies matrices;
    ``stream``: on which everything runs, onnxruntime included, one thread's work at a time (``lock``);
    ``pool``: what arrays are allocated from, bounded to ``SHARE`` of the device's memory so that others find
    some left.
    """

    SHARE = 0.9
    THREADS, BLOCKS = 256, 2**20  # a block's threads; at most that many blocks, each walks in strides
    PINNED = 2**28

    def __init__(self, xp: Any, erf: Callable[[Any], Any], cublas: Any, index: int = 0) -> None:
        self.xp, self.erf, self.index = xp, erf, index
        self.cublas, self.lock = Cublas(cublas, self), RLock()
        with xp.cuda.Device(index):
            self.stream = xp.cuda.Stream(non_blocking=True)
            self.pool = xp.cuda.MemoryPool()
            self.pool.set_limit(fraction=self.SHARE)
        self.constants = Constants(self.upload, lambda: self.share // 4)
        self._pinned = 0
        self._modules: dict[tuple[str, ...], Any] = {}
        self._functions: dict[str, Any] = {}

    @contextmanager
    def running(self, pool: Any = None) -> Iterator[None]:
        """Everything inside runs on this device, on ``stream``, with memory from ``pool``."""
        memory = self.xp.cuda.using_allocator((pool or self.pool).malloc)
        with self.lock, self.xp.cuda.Device(self.index), self.stream, memory:
            yield

    @cached_property
    def share(self) -> int:
        """Bytes that one thing may keep for itself: a sixteenth of the device's memory."""
        return int(self.xp.cuda.Device(self.index).mem_info[1]) // 16

    @property
    def full(self) -> bool:
        """Whether less than a quarter of the device's memory is free, by whomever it was taken."""
        free, whole = self.xp.cuda.Device(self.index).mem_info
        return bool(free < whole // 4)

    def pool_that_keeps(self) -> Any:
        """A pool that gives no block back to the device, not even when that is full, as long as it lives.

        A CUDA graph's memory must stay: CuPy's pools, when they cannot have more, free what seems unused.
        """
        cuda, blocks = self.xp.cuda, []

        def allocate(size: int) -> Any:
            blocks.append(cuda.MemoryPointer(cuda.Memory(size), 0))
            return blocks[-1]

        return cuda.MemoryPool(allocate)

    def capture(self, work: Callable[[], T]) -> Captured[T]:
        """What ``work`` hands to the stream as a CUDA graph; where it raises, that is raised."""
        self.stream.synchronize()
        self.stream.begin_capture()
        constants = self.constants.held = []
        try:
            made = work()
        except BaseException:
            self.end_broken_capture()
            raise
        finally:
            self.constants.held = None
        return Captured(self.stream.end_capture(), made, constants)

    @cached_property
    def capability(self) -> int:
        """The compute capability, times 10: 90 for an H100."""
        return int(self.xp.cuda.Device(self.index).compute_capability)

    @cached_property
    def processors(self) -> int:
        """How many multiprocessors there are."""
        return int(self.xp.cuda.Device(self.index).attributes["MultiProcessorCount"])

    def end_broken_capture(self) -> None:
        """The stream computes again, where something failed while it was captured, by whomever."""
        try:
            capturing = self.stream.is_capturing()
        except Exception:  # that it is, and broken
            capturing = True
        if capturing:
            with suppress(Exception):  # that it is broken, once more
                self.stream.end_capture()

    # ---- kernels ---------------------------------------------------------------------------------

    def launch(self, kernel: str, dtype: Any, variant: str, count: int, *arguments: Any) -> None:
        """Run a kernel over ``count`` items; nothing where there are none."""
        if count:
            blocks = min(-(-count // self.THREADS), self.BLOCKS)
            self._function(kernel, dtype, variant)((blocks,), (self.THREADS,), arguments)

    def launch_indexed(
        self, kernel: str, dtype: Any, index: Any, threads: int, *arguments: Any, count: int | None = None
    ) -> None:
        """Run a kernel with indices of this type, which is told last how many items there are.

        ``count``: these, where a thread has several.
        """
        self.launch(kernel, dtype, index.cpp, threads, *arguments, index(threads if count is None else count))

    def launch_blocks(
        self, kernel: str, dtype: Any, variant: str, blocks: tuple[int, ...], threads: int, shared: int,
        *arguments: Any,
    ) -> None:  # fmt: skip
        """Run a kernel whose blocks are of so many threads and share so many bytes."""
        function = self._function(kernel, dtype, variant)
        if function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function(blocks, (threads,), arguments, shared_mem=shared)

    def _function(self, kernel: str, dtype: Any, variant: str) -> Any:
        name, given = expression(kernel, dtype, variant), KERNELS[kernel]
        if name not in self._functions:
            names = (name,) if given.alone else expressions(given.file, dtype, (False,))
            self._functions[name] = self._module(given.file, names).get_function(name)
        return self._functions[name]

    def _module(self, file: str, names: tuple[str, ...]) -> Any:
        """Kernels of a file; CuPy keeps what it compiled in its own cache."""
        if names not in self._modules:
            self._modules[names] = self.xp.RawModule(
                code=source(file), options=options(), name_expressions=names
            )
        return self._modules[names]

    # ---- to the device and back ------------------------------------------------------------------

    def upload(self, array: np.ndarray[Any, Any]) -> Any:
        """A copy on the device."""
        return self.xp.asarray(np.asarray(array, order="C"))

    def download(self, array: Any) -> np.ndarray[Any, Any]:
        """A copy in the host's memory; waits for what computes it."""
        found = self.room(tuple(array.shape), array.dtype)
        self.fetch(array, found)
        self.stream.synchronize()
        return found

    def fetch(self, array: Any, into: np.ndarray[Any, Any]) -> None:
        """Copy it into one in the host's memory, where it is once the stream has come so far."""
        array.get(stream=self.stream, out=into, blocking=False)

    def room(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """An array in the host's memory: page-locked, into which copies take a third of the time, while
        arrays that somebody holds take less than ``PINNED`` bytes of that.
        """
        size = math.prod(shape) * dtype.itemsize
        if not size or self._pinned + size > self.PINNED:
            return np.empty(shape, dtype)
        memory = self.xp.cuda.alloc_pinned_memory(size)
        found = np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)
        self._pinned += size
        weakref.finalize(found, self._unpinned, size).atexit = False
        return found

    def _unpinned(self, size: int) -> None:
        self._pinned -= size

    def tensor(self, value: Any) -> Any:
        """An onnxruntime OrtValue as an array: where it lies if that is on this device, else a copy.

        The array keeps the OrtValue alive.  Its address is taken, rather than DLPack's capsule, because
        onnxruntime exports that for some builds and dtypes only; both are without a copy, and there is
        nothing to wait for, since onnxruntime computes on ``stream``.
        """
        dtype = DTYPES.get(value.data_type())
        if not lies_on_gpu(value) or dtype is None:
            array = np.asarray(on_host(value))
            # bfloat16, which CuPy does not know, among them
            return self.upload(array if array.dtype.kind in "biuf" else array.astype(np.float32))
        shape = tuple(value.shape())
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not size:
            return self.xp.empty(shape, dtype)
        memory = self.xp.cuda.UnownedMemory(value.data_ptr(), size, value, self.index)
        return self.xp.ndarray(shape, dtype, memptr=self.xp.cuda.MemoryPointer(memory, 0))
