"""Run what a function writes down through ``TraceOps``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxvis.engine.compiled import IR_VERSION, OPSET, _info, _node
from onnxvis.engine.runtime import Runtime
from onnxvis.ops.trace import Traced, TraceOps

Array = np.ndarray[Any, Any]
RUNTIME = Runtime("cpu", threads=1)


def inputs(ops: TraceOps, arrays: Sequence[Array], signs: Sequence[int] = ()) -> list[Traced]:
    """A graph input for every array."""
    known = [*signs, *[0] * (len(arrays) - len(signs))]
    return [Traced(ops, f"input {i}", a.shape, a.dtype, known[i]) for i, a in enumerate(arrays)]


def model(ops: TraceOps, given: Sequence[Traced], result: Traced) -> onnx.ModelProto:
    """The ONNX model that computes ``result``."""
    final = ops.emit("Identity", [result], result.shape, dtype=result.dtype, result_name="result")
    graph = helper.make_graph(
        [_node(node) for node in ops.nodes],
        "traced",
        [_info(entry) for entry in given],
        [_info(Traced(ops, "result", final.shape, final.dtype))],
        [numpy_helper.from_array(array, name) for name, array in ops.constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def run(given: Sequence[Traced], result: Traced, arrays: Sequence[Array]) -> Array:
    """What onnxruntime makes of it."""
    session = RUNTIME.session(model(result.ops, given, result).SerializeToString())
    feeds = {entry.name: RUNTIME.value(array) for entry, array in zip(given, arrays, strict=True)}
    (value,) = RUNTIME.run(session, ["result"], feeds)
    array: Array = value.numpy()
    return array


def traced(function: Callable[..., Traced], *arrays: Array, dtype: Any = np.float32) -> Array:
    """``function(ops, *arrays)`` written down and run."""
    ops = TraceOps(dtype)
    given = inputs(ops, arrays)
    return run(given, function(ops, *given), arrays)
