"""Files that onnxruntime saved after optimizing them are explained as the originals are."""

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, normal, small_cnn
from onnx import helper

import onnxvis
from onnxvis.errors import MissingRuleError
from onnxvis.graph.load import read_model

node = helper.make_node
METHODS = ("gradient", "deconvnet", "guided_backprop", "lrp")


def optimized(model, path, level="ORT_ENABLE_EXTENDED"):
    """What onnxruntime makes of a model, saved and read back."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def every_fusion():
    """Convolutions and a dense layer before each activation that is fused, and scaled products."""
    weights = {"w": normal(3, 3, 3, 3), "b": normal(3), "dense": normal(5, 3), "half": np.float32(0.5)}
    weights |= {"low": np.float32(0.1), "high": np.float32(1.5), "last": normal(5, 4)}
    weights = {name: np.asarray(array) for name, array in weights.items()}
    pads = {"pads": [1, 1, 1, 1]}
    nodes, source = [], "x"
    for op_type, more, attributes in (
        ("Relu", (), {}),
        ("Clip", ("low", "high"), {}),
        ("LeakyRelu", (), {"alpha": 0.25}),
        ("Sigmoid", (), {}),
        ("Tanh", (), {}),
        ("HardSigmoid", (), {"alpha": 0.125, "beta": 0.375}),
    ):
        nodes.append(node("Conv", [source, "w", "b"], [f"c{op_type}"], **pads))
        nodes.append(node(op_type, [f"c{op_type}", *more], [f"a{op_type}"], **attributes))
        source = f"a{op_type}"
    nodes += [
        node("GlobalAveragePool", [source], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "dense"], ["d"], transB=1),
        node("LeakyRelu", ["d"], ["r"], alpha=0.375),
        node("MatMul", ["r", "last"], ["m"]),
        node("Mul", ["m", "half"], ["y"]),
    ]
    return build(nodes, {"x": [2, 3, 6, 6]}, ["y"], weights)


@pytest.mark.parametrize("model", [small_cnn(samples=2), every_fusion()], ids=["small", "every"])
@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_explanations_are_those_of_the_original(model, executor, tmp_path):
    fused = optimized(model, tmp_path / "fused.onnx")
    assert {"FusedConv"} <= {entry.op_type for entry in fused.graph.node}
    ours, original = (onnxvis.load(proto, threads=1) for proto in (fused, model))
    ours.engine.executor = original.engine.executor = executor
    x = normal(2, *original.inputs[0].shape[1:])
    np.testing.assert_array_equal([*ours.run(x).values()], run(fused, x))
    for method in METHODS:
        found, expected = (net.explain(x, method, target=1).values for net in (ours, original))
        assert abs(expected).max() > 0
        assert abs(found - expected).max() <= 2e-6 * abs(expected).max(), method


def run(model, x):
    """What onnxruntime computes as it comes."""
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})


def fused_conv(inputs, opset=17, **attributes):
    """One FusedConv, of a weight for 3 channels and a summand of the input's shape."""
    weights = {"w": normal(3, 3, 3, 3), "b": normal(3)}
    nodes = [
        node("FusedConv", inputs, ["y"], name="conv", domain="com.microsoft", pads=[1] * 4, **attributes)
    ]
    imports = [helper.make_opsetid("com.microsoft", 1)]
    used = {name: array for name, array in weights.items() if name in inputs}
    return build(nodes, {"x": [1, 3, 4, 4], "z": [1, 3, 4, 4]}, ["y"], used, opset, opset_imports=imports)


@pytest.mark.parametrize(
    ("inputs", "attributes", "expected"),
    [
        (["x", "w"], {}, ["Conv"]),
        (["x", "w", "b"], {"activation": "Relu"}, ["Conv", "Relu"]),
        (["x", "w", "", "z"], {"activation": "Tanh"}, ["Conv", "Add", "Tanh"]),
        (["x", "w", "b", "z"], {}, ["Conv", "Add"]),
        (["x", "w"], {"activation": "Clip", "activation_params": [0.0, 1.0]}, ["Conv", "Clip"]),
    ],
)
@pytest.mark.parametrize("opset", [9, 17])
def test_parts_of_a_fused_convolution(inputs, attributes, expected, opset):
    model = fused_conv(inputs, opset, **attributes)
    file = read_model(model)
    assert [entry.op_type for entry in file.graph.nodes] == expected
    assert file.graph.nodes[0].name == "conv"
    assert file.graph.nodes[-1].outputs == ("y",)
    feeds = {"x": normal(1, 3, 4, 4), "z": normal(1, 3, 4, 4, seed=1)}
    ours, theirs = (
        onnxruntime.InferenceSession(data)
        for data in (file.model().SerializeToString(), model.SerializeToString())
    )
    rounding = 1e-5 if "z" in inputs else 0  # a summand is added before the products there
    np.testing.assert_allclose(
        ours.run(None, feeds)[0], theirs.run(None, feeds)[0], rtol=rounding, atol=rounding
    )


def test_an_activation_that_is_not_known_stays_fused():
    (only,) = read_model(fused_conv(["x", "w"], activation="Swirl")).graph.nodes
    assert only.kind == "com.microsoft::FusedConv"


def test_a_plain_file_runs_as_it_is():
    data = small_cnn().SerializeToString()
    assert read_model(data).model() == onnx.load_model_from_string(data)


def test_layouts_of_one_processor_are_refused_with_advice(tmp_path):
    model = optimized(small_cnn(samples=1), tmp_path / "all.onnx", "ORT_ENABLE_ALL")
    if not any(entry.domain == "com.microsoft.nchwc" for entry in model.graph.node):
        pytest.skip("onnxruntime has no blocked layout for this processor")
    with pytest.raises(
        MissingRuleError, match=r"com.microsoft.nchwc::.*save it with the level ORT_ENABLE_EXTENDED"
    ):
        onnxvis.load(model).explain(normal(1, 3, 12, 12))
