"""CUDA sources compiled by g++ through ``shim.h``, and their kernels called as a GPU's driver calls them."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

GPP = shutil.which("g++")
WHY = "needs g++, which compiles the kernels for the CPU"
HERE = Path(__file__).parent
GUARD = 64  # numbers in front of and behind every array, which no kernel may touch
SHIFT = 0  # numbers by which arrays start behind a multiple of 16 bytes
_FOLDER = tempfile.TemporaryDirectory(prefix="onnxvis-kernels-")

Kernel = Callable[[tuple[int, ...], int, Sequence[Any], int], None]


@cache
def compiled(code: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Kernel]:
    """The named instantiations of a source: functions of (blocks, threads, arguments, shared bytes)."""
    entries = (
        f'extern "C" void launch_{i}(unsigned x, unsigned y, unsigned t, unsigned s, void** a) '
        f"{{ shim_launch(&{name}, {{x, y}}, t, s, a); }}\n"
        f'extern "C" int parameters_{i}(int* bytes) {{ return shim_parameters(&{name}, bytes); }}\n'
        for i, name in enumerate(names)
    )
    text = "\n".join(['#include "shim.h"', code, *entries])
    stem = Path(_FOLDER.name) / hashlib.sha256(text.encode()).hexdigest()[:16]
    source, library = stem.with_suffix(".cpp"), stem.with_suffix(".so")
    source.write_text(text)
    told = ["-O1", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC", f"-I{HERE}", *options]
    if "__syncthreads" in code:
        told += ["-DSHIM_TOGETHER", "-U_FORTIFY_SOURCE"]  # which forbids jumps between stacks
    command = [str(GPP), *told, "-o", str(library), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    loaded = ctypes.CDLL(str(library))
    return {name: _kernel(loaded, i, name) for i, name in enumerate(names)}


def _kernel(library: Any, number: int, name: str) -> Kernel:
    bytes_of = (ctypes.c_int * 32)()
    parameters = bytes_of[: getattr(library, f"parameters_{number}")(bytes_of)]

    def run(blocks: tuple[int, ...], threads: int, arguments: Sequence[Any], shared_bytes: int = 0) -> None:
        given = [_Argument(value) for value in arguments]
        sizes = [argument.size for argument in given]
        assert sizes == list(parameters), f"{name} takes parameters of {parameters} bytes, got {sizes}"
        pointers = (ctypes.c_void_p * len(given))(*(argument.pointer for argument in given))
        getattr(library, f"launch_{number}")(*(*blocks, 1)[:2], threads, shared_bytes, pointers)
        for argument in given:
            argument.collect(name)

    return run


class _Argument:
    """One argument in memory; an array in a copy of its own, with guards on both sides."""

    def __init__(self, value: Any) -> None:
        self.array = None
        if _is_data(value):
            assert value.flags.c_contiguous, "kernels take arrays that lie in one piece"
            self.array = value
            guard = GUARD * value.itemsize
            self.guarded = np.full(value.nbytes + 2 * guard + 16, 0xFF, np.uint8)  # NaN, as a number
            start = guard + -(self.guarded.ctypes.data + guard) % 16 + SHIFT * value.itemsize
            self.inside = slice(start, start + value.nbytes)
            self.guarded[self.inside] = np.frombuffer(value.tobytes(), np.uint8)
            self.held: Any = np.uint64(self.guarded.ctypes.data + self.inside.start)
            self.size = -8
        else:
            self.held = np.asarray(value)
            # A null pointer travels as the number 0 of a pointer's size.
            self.size = -8 if self.held.dtype == np.uint64 else self.held.nbytes
        self.held = np.array(self.held)
        self.pointer = self.held.ctypes.data

    def collect(self, name: str) -> None:
        """Write back what the kernel wrote."""
        if self.array is None:
            return
        around = np.delete(self.guarded, np.arange(self.inside.start, self.inside.stop))
        assert (around == 0xFF).all(), f"{name} wrote outside of an array of shape {self.array.shape}"
        written = self.guarded[self.inside].view(self.array.dtype).reshape(self.array.shape)
        if self.array.flags.writeable:
            np.copyto(self.array.view(np.ndarray), written)


def _is_data(value: Any) -> bool:
    """True for an array in the device's memory; a struct passed by value is a NumPy array."""
    return isinstance(value, np.ndarray) and type(value) is not np.ndarray
