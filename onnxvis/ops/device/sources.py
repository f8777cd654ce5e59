"""The CUDA sources in ``kernels/``: which kernel lies where, and for which types it is compiled."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from onnxvis.resources import resource

__all__ = ["FOLDER", "KERNELS", "NUMBERS", "Kernel", "expression", "expressions", "options", "source"]

FOLDER = "kernels"
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
# C++ types of numbers, by dtype; Half is defined in kernels/numbers.cuh.
NUMBERS = {"float32": "float", "float64": "double", "float16": "Half"}


class Kernel(NamedTuple):
    """A template over the type of numbers, ``dtypes``, and what each of the ``variants`` adds to it.

    ``alone``: compiled when it is needed, rather than with what else its file holds, since that takes long.
    """

    file: str
    variants: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = tuple(NUMBERS)
    alone: bool = False


_INDEXED = ("int", "long long")
# Windows with kernels of their own: sides of the kernel, strides; of their inputs, columns that a thread has.
_FIXED = ("3, 2", "2, 2", "3, 1")
_FIXED_INPUTS = ("3, 2, 1", "3, 2, 2", "2, 2, 1", "2, 2, 2", "3, 1, 1")
# Of kernels/convolve.cu: what becomes of a sum; the blocks, whether they are loaded 16 bytes at a time, the
# phases of an adjoint of strides, and a step's offsets.
_ENDS = ("PLAIN", "TIMES", "GATED", "QUOTIENT")
_BLOCKS = ("128, 128", "64, 128", "64, 64")
_TILES = (
    *(f"{block}, {wide}, {end}, 1, 1" for block in _BLOCKS for wide in ("false", "true") for end in _ENDS),
    *(f"{block}, false, {end}, 4, 1" for block in _BLOCKS for end in _ENDS[:3]),
    *(f"{block}, false, {end}, 1, {n}" for block in _BLOCKS[1:] for end in _ENDS[::3] for n in (2, 4)),
)
KERNELS = {
    "rectify": Kernel("rectifier.cu", ("GRADIENT", "DECONVNET", "GUIDED")),
    "between": Kernel("rectifier.cu"),
    "split": Kernel("split.cu"),
    "stabilize": Kernel("stabilize.cu"),
    "quotient": Kernel("stabilize.cu"),
    "quotient_by_channel": Kernel("stabilize.cu", _INDEXED),
    "proportions": Kernel("stabilize.cu"),
    "multiply": Kernel("multiply_back.cu"),
    "multiply_back": Kernel("multiply_back.cu"),
    "multiply_stacked": Kernel("multiply_back.cu", _INDEXED),
    "add": Kernel("add.cu"),
    "max_first": Kernel("max_route.cu", _INDEXED),
    "max_route": Kernel("max_route.cu", _INDEXED),
    "max_first_fixed": Kernel("max_route.cu", _FIXED),
    "max_route_fixed": Kernel("max_route.cu", _FIXED_INPUTS),
    "window_sum": Kernel("window_sum.cu", _INDEXED),
    "window_sum_fixed": Kernel("window_sum.cu", _FIXED),
    "window_spread": Kernel("window_spread.cu", _INDEXED),
    "window_spread_fixed": Kernel("window_spread.cu", _FIXED_INPUTS),
    "im2col": Kernel("im2col.cu", _INDEXED),
    "col2im": Kernel("col2im.cu", _INDEXED),
    "put": Kernel("put.cu", _INDEXED),
    "convolve": Kernel("convolve.cu", _TILES, ("float32",), alone=True),
    "by_offset": Kernel("convolve.cu", (), ("float32",)),
    "add_parts": Kernel("convolve.cu", _ENDS, ("float32",)),
}


def expression(kernel: str, dtype: Any, variant: str = "") -> str:
    """The instantiated template's name in C++: ``im2col<float, int>``."""
    arguments = [NUMBERS[np.dtype(dtype).name], *([variant] if variant else [])]
    return f"{kernel}<{', '.join(arguments)}>"


def expressions(file: str, dtype: Any, alone: tuple[bool, ...] = (False, True)) -> tuple[str, ...]:
    """All kernels of a file that there are for one type of numbers, instantiated; or those not ``alone``."""
    return tuple(
        expression(name, dtype, variant)
        for name, kernel in KERNELS.items()
        if kernel.file == file and kernel.alone in alone and np.dtype(dtype).name in kernel.dtypes
        for variant in kernel.variants or ("",)
    )


def source(file: str) -> str:
    """The text of a kernel's file, with that of the files that it includes in their place.

    CuPy knows what it has compiled by the text that it was given, not by what that includes.
    """
    return _INCLUDE.sub(lambda found: source(found[1]), _text(file))


def _text(file: str) -> str:
    return resource(FOLDER, file).read_text(encoding="utf-8").replace("#pragma once\n", "")


def options() -> tuple[str, ...]:
    """What NVRTC is told."""
    return ("-std=c++17",)
