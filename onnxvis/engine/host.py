"""The host executor: rule bodies on NumPy arrays, one node after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxvis.errors import OnnxvisError
from onnxvis.ops.host import HostOps
from onnxvis.ops.primitives import Array

from .plan import Plan
from .walk import walk

__all__ = ["HostExecutor"]


class HostExecutor:
    """Runs a plan on arrays; what the other executors are held to."""

    name = "host"

    def __init__(self, plan: Plan, dtype: Any = np.float32) -> None:
        self.plan, self.ops = plan, HostOps(dtype)
        self.needs = plan.needs
        self._weights = plan.weights  # held, or each pass would read the file

    def backward(self, record: Mapping[str, Any], seeds: Mapping[str, Any]) -> dict[str, Array]:
        """What arrives at ``plan.wrt``: arrays by tensor name.

        ``record``: the tensors in ``needs``; ``seeds``: arrays of the shapes of ``plan.seeds``.
        """

        def read(name: str) -> Array:
            if name not in record:
                raise OnnxvisError(f"the forward pass did not keep {name!r}")
            return self.ops.constant(record[name])

        with np.errstate(all="ignore"):  # as onnxruntime does: 0/0 is NaN, without a word
            started = {name: self.ops.constant(seed) for name, seed in seeds.items()}
            results = walk(self.plan, self.ops, read, started)
        return {name: np.asarray(array, self.ops.dtype, order="C") for name, array in results.items()}
