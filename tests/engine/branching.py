"""Models in which tensors are used several times, one of them with two inputs and two outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from models import build, normal
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxvis.engine.engine import Engine
from onnxvis.engine.runtime import Runtime
from onnxvis.graph.load import read_model

Array = np.ndarray[Any, Any]
RUNTIME = Runtime("cpu", threads=1)
SHAPES = {"x": (2, 3, 6, 6), "gate": (2, 4, 1, 1)}
SEEDS = {"scores": (2, 5), "mean": (2,), "r1": (2, 4, 6, 6)}
WRT = ("x", "gate", "r1", "residual", "pooled")


def branching(dtype: Any = np.float32) -> onnx.ModelProto:
    """Two convolutions of x; a residual; a gate from outside; the same tensor into two heads."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["residual"], name="add"),
        node("Mul", ["residual", "gate"], ["gated"], name="mul"),
        node("Concat", ["gated", "r1"], ["both"], name="concat", axis=1),
        node("MaxPool", ["both"], ["pooled"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pooled"], ["flat"], name="flatten"),
        node("Gemm", ["flat", "w3", "b3"], ["scores"], name="dense"),
        node("ReduceMean", ["residual"], ["mean"], name="mean", axes=[1, 2, 3], keepdims=0),
    ]
    weights = {
        "w1": rng.normal(size=(4, 3, 3, 3)),
        "b1": rng.normal(size=4),
        "w2": rng.normal(size=(4, 4, 3, 3)) / 4,
        "w3": rng.normal(size=(72, 5)) / 8,
        "b3": rng.normal(size=5),
    }
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info(name, element, shape) for name, shape in SHAPES.items()],
        [onnx.ValueInfoProto(name=name) for name in ("scores", "mean")],
        [numpy_helper.from_array(array.astype(dtype), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def shared() -> onnx.ModelProto:
    """``x`` is read by two convolutions, ``r`` by two and a sum."""
    node, padded = helper.make_node, {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="conv1", **padded),
        node("Relu", ["c1"], ["r"], name="relu"),
        node("Conv", ["r", "w2"], ["c2"], name="conv2", **padded),
        node("Add", ["c2", "r"], ["s"], name="add"),
        node("Conv", ["r", "w3"], ["c3"], name="conv3"),
        node("Add", ["s", "c3"], ["t"], name="add3"),
        node("Conv", ["x", "w4"], ["c4"], name="conv4"),
        node("Add", ["t", "c4"], ["u"], name="add4"),
        node("GlobalAveragePool", ["u"], ["a"], name="average"),
        node("Flatten", ["a"], ["f"], name="flatten"),
        node("Gemm", ["f", "w5"], ["y"], name="dense"),
    ]
    weights = {
        "w1": normal(4, 3, 3, 3, scale=0.4), "w2": normal(4, 4, 3, 3, scale=0.3),
        "w3": normal(4, 4, 1, 1), "w4": normal(4, 3, 1, 1), "w5": normal(4, 5),
    }  # fmt: skip
    return build(nodes, {"x": ["N", 3, 6, 6]}, ["y"], weights)


def feeds(dtype: Any = np.float32) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def engine(model: onnx.ModelProto, executor: str = "auto") -> Engine:
    return Engine(read_model(model), RUNTIME, executor)


def tapped(name: str) -> ReferenceEvaluator:
    """The model in float64 with a further output."""
    model = branching(np.float64)
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    return ReferenceEvaluator(model)


def tail(cut: str, shape: tuple[int, ...]) -> ReferenceEvaluator:
    """The model in float64 with the tensor ``cut`` as a further input."""
    model = branching(np.float64)
    model.graph.input.append(helper.make_tensor_value_info(cut, onnx.TensorProto.DOUBLE, shape))
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == cut:
                node.output[i] = f"{cut} as computed"
    return ReferenceEvaluator(model)


def close(ours, theirs, tolerance=1e-5):
    """max|a − b| / max|b|."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert abs(ours - theirs).max(initial=0) <= tolerance * abs(theirs).max(initial=1e-30)
