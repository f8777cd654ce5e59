"""Small ONNX models that tests build, and the real ones that they look for."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ONNXVIS_SHARED", ROOT.parent / "shared"))


def shared(*parts: str) -> Path:
    """A real model or photo; the test is skipped where it is not at hand."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} from the shared files (set ONNXVIS_SHARED)")
    return path


def build(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: list[str] | dict[str, Any],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    **extra: Any,
) -> onnx.ModelProto:
    """A model of these nodes; ``inputs``: {name: shape}, float32; ``outputs``: names or {name: shape}."""
    if isinstance(outputs, list):
        outputs = dict.fromkeys(outputs)
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *extra.pop("opset_imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **extra)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Seeded float32 noise."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def batch_norm(
    name: str, source: str, output: str, channels: int, weights: dict[str, np.ndarray], seed: int
) -> onnx.NodeProto:
    """A BatchNormalization with parameters that are far from trivial."""
    rng = np.random.default_rng(seed)
    parameters = {
        "scale": rng.uniform(0.5, 1.5, channels),
        "bias": rng.normal(0, 0.5, channels),
        "mean": rng.normal(0, 0.5, channels),
        "var": rng.uniform(0.5, 1.5, channels),
    }
    for key, array in parameters.items():
        weights[f"{name}.{key}"] = array.astype(np.float32)
    return helper.make_node(
        "BatchNormalization", [source, *(f"{name}.{key}" for key in parameters)], [output], name=name
    )


def small_cnn(samples: Any = "N", size: int = 12) -> onnx.ModelProto:
    """Conv, BatchNorm, ReLU, MaxPool, Conv, ReLU, global average, Gemm, softmax: N×3×size×size to N×4."""
    weights = {
        "w1": normal(6, 3, 3, 3, scale=0.4),
        "w2": normal(8, 6, 3, 3, scale=0.3),
        "b2": normal(8, scale=0.1),
        "w3": normal(4, 8, scale=0.5),
        "b3": normal(4, scale=0.1),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        batch_norm("bn1", "c1", "n1", 6, weights, seed=1),
        node("Relu", ["n1"], ["r1"], name="relu1"),
        node("MaxPool", ["r1"], ["p1"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("GlobalAveragePool", ["r2"], ["g"], name="gap"),
        node("Flatten", ["g"], ["f"], name="flatten"),
        node("Gemm", ["f", "w3", "b3"], ["logits"], name="dense", transB=1),
        node("Softmax", ["logits"], ["probabilities"], name="softmax"),
    ]
    return build(nodes, {"x": [samples, 3, size, size]}, {"probabilities": [samples, 4]}, weights)


@functools.cache
def bytes_saturate() -> bool:
    """Whether onnxruntime's sums of two products of bytes are cut off at 16 bits.

    So they are on x86 processors without VNNI, where weights take more than 7 bits.
    """
    weights = {"w": np.full((64, 4), 127, np.int8)}
    model = build([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], {"x": [1, 64]}, ["y"], weights)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    (y,) = run_plain(model, {"x": np.full((1, 64), 255, np.uint8)})
    return bool((y != 64 * 127 * 255).any())


def exact_bytes() -> None:
    """Skip a test of quantised numbers that holds where onnxruntime computes them exactly."""
    if bytes_saturate():
        pytest.skip("onnxruntime's products of bytes saturate on this processor (x86 without VNNI)")


def run_plain(
    model: onnx.ModelProto | bytes, feeds: dict[str, np.ndarray], outputs: list[str] | None = None
) -> list[Any]:
    """What onnxruntime computes without any rewriting of the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return list(onnxruntime.InferenceSession(data, options).run(outputs, feeds))
