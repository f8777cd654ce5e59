"""The device executor's primitives: CuPy arrays, and the CUDA kernels of ``kernels/``."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .cudnn import find_cudnn
from .fastest import elapsed
from .gpu import DTYPES, KINDS, PRECISIONS, Gpu, find_gpu, lies_on_gpu, on_host
from .operators import DeviceOps
from .sending import Sender

__all__ = [
    "DTYPES", "KINDS", "PRECISIONS", "DeviceOps", "Gpu", "Sender", "device_ops", "elapsed", "find_gpu",
    "lies_on_gpu", "on_host",
]  # fmt: skip


@cache
def device_ops(dtype: Any = np.float32, precision: str = "float32") -> DeviceOps:
    """The first GPU's primitives, which plans share; MissingRuntimeError without CuPy or a GPU."""
    return DeviceOps(find_gpu(), dtype, precision, find_cudnn())
