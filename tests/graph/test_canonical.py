"""The canonical form computes what the file computes, and knows a layer in every way it is written."""

import numpy as np
import onnx
import pytest
from models import SHARED, batch_norm, build, exact_bytes, normal, run_plain, small_cnn
from onnx import helper, numpy_helper

from onnxvis.errors import OnnxvisError
from onnxvis.graph.canonical import canonicalize, is_layer
from onnxvis.graph.emit import to_model
from onnxvis.graph.load import read_model
from onnxvis.graph.shapes import infer, with_types

node = helper.make_node
X = {"x": [2, 4, 8, 8]}


def canonical(model: onnx.ModelProto, keep=()):
    file = read_model(model)
    return canonicalize(with_types(file.graph, infer(file)), keep)


def kinds(graph) -> list[str]:
    return [entry.op_type for entry in graph.nodes]


def check_same(model: onnx.ModelProto, graph, shapes=X, tolerance=1e-5) -> None:
    feeds = {name: normal(*shape, seed=9) for name, shape in shapes.items()}
    for ours, theirs in zip(run_plain(to_model(graph), feeds), run_plain(model, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


def conv_then(*tail, weights=None, **attributes):
    """A Conv (x to c) followed by nodes that end in y."""
    all_weights = {"w": normal(6, 4, 3, 3), **(weights or {})}
    return build([node("Conv", ["x", "w"], ["c"], name="conv", **attributes), *tail], X, ["y"], all_weights)


def scale_shift_cases():
    per_channel = normal(6, seed=3)
    for shape in [(1, 6, 1, 1), (6, 1, 1)]:
        weights = {"k": per_channel.reshape(shape)}
        for op in ("Add", "Sub", "Mul", "Div"):
            yield f"{op} {shape}", conv_then(node(op, ["c", "k"], ["y"]), weights=weights)
        for op in ("Add", "Sub", "Mul"):
            yield f"{op} {shape}, constant first", conv_then(node(op, ["k", "c"], ["y"]), weights=weights)
    weights = {"s": np.float32(1.5).reshape(()), "k": per_channel.reshape(1, 6, 1, 1)}
    yield "Mul by a scalar", conv_then(node("Mul", ["c", "s"], ["y"]), weights=weights)
    yield (
        "Mul, Add",
        conv_then(node("Mul", ["c", "k"], ["m"]), node("Add", ["m", "k"], ["y"]), weights=weights),
    )
    parameters: dict = {}
    yield "BatchNormalization", conv_then(batch_norm("bn", "c", "y", 6, parameters, 1), weights=parameters)


@pytest.mark.parametrize("model", [pytest.param(model, id=name) for name, model in scale_shift_cases()])
def test_per_channel_constants_after_a_convolution_belong_to_it(model):
    graph = canonical(model)
    assert kinds(graph) == ["Conv"]
    assert len(graph.nodes[0].inputs) == 3
    assert graph.nodes[0].outputs == ("y",)
    assert graph.nodes[0].origin[0] == "conv"
    check_same(model, graph)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((1, 6, 6, 6), "differs by position"),
        ((6,), "runs along the width"),
        ((2, 6, 1, 1), "differs by sample"),
    ],
)
def test_other_constants_stay_by_themselves(shape, why):
    model = conv_then(node("Add", ["c", "k"], ["y"]), weights={"k": normal(*shape)})
    graph = canonical(model)
    assert kinds(graph) == ["Conv", "Add"], why
    check_same(model, graph)


def test_a_reciprocal_is_not_folded():
    model = conv_then(node("Div", ["k", "c"], ["y"]), weights={"k": normal(6, 1, 1)})
    assert kinds(canonical(model)) == ["Conv", "Div"]


def test_what_somebody_else_reads_is_not_merged_away():
    parameters: dict = {}
    tail = [batch_norm("bn", "c", "n", 6, parameters, 1), node("Add", ["n", "c"], ["y"])]
    model = conv_then(*tail, weights=parameters)
    graph = canonical(model)
    assert kinds(graph) == ["Conv", "BatchNormalization", "Add"]
    check_same(model, graph)


def test_kept_tensors_stay():
    model = small_cnn(2)
    assert "c1" not in canonical(model).producers
    graph = canonical(model, keep=["c1"])
    assert graph.producers["c1"].name == "conv1"
    assert graph.producers["n1"].op_type == "BatchNormalization"
    check_same(model, graph, {"x": [2, 3, 12, 12]})


@pytest.mark.parametrize("group", [1, 2])
def test_batch_norm_after_a_transposed_convolution(group):
    weights = {"w": normal(4, 6, 3, 3)}
    bn = batch_norm("bn", "c", "y", 6 * group, weights, 2)
    model = build(
        [node("ConvTranspose", ["x", "w"], ["c"], group=group, strides=[2, 2]), bn], X, ["y"], weights
    )
    graph = canonical(model)
    assert kinds(graph) == ["ConvTranspose"]
    check_same(model, graph)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_before_a_convolution_without_padding(group, bias):
    weights = {"w": normal(6, 4 // group, 3, 3), "b": normal(6)}
    bn = batch_norm("bn", "x", "n", 4, weights, 2)
    conv = node("Conv", ["n", "w", "b"][: 3 if bias else 2], ["y"], group=group)
    model = build([bn, conv], X, ["y"], weights)
    graph = canonical(model)
    assert kinds(graph) == ["Conv"]
    assert graph.nodes[0].inputs[0] == "x"
    check_same(model, graph)


@pytest.mark.parametrize("transpose", [0, 1])
@pytest.mark.parametrize("before", [True, False])
def test_batch_norm_around_a_dense_layer(transpose, before):
    weights = {"w": normal(5, 6) if transpose else normal(6, 5), "b": normal(5)}
    ends = ("n", "y") if before else ("x", "m")
    dense = node("Gemm", [ends[0], "w", "b"], [ends[1]], transB=transpose)
    bn = batch_norm("bn", "x" if before else "m", "n" if before else "y", 6 if before else 5, weights, 3)
    model = build([bn, dense] if before else [dense, bn], {"x": [3, 6]}, ["y"], weights)
    graph = canonical(model)
    assert kinds(graph) == ["Gemm"]
    check_same(model, graph, {"x": [3, 6]})


@pytest.mark.parametrize("attributes", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER"}])
def test_batch_norm_before_padding_is_not_folded(attributes):
    weights = {"w": normal(6, 4, 3, 3)}
    bn = batch_norm("bn", "x", "n", 4, weights, 2)
    model = build([bn, node("Conv", ["n", "w"], ["y"], **attributes)], X, ["y"], weights)
    graph = canonical(model)
    assert kinds(graph) == ["BatchNormalization", "Conv"]
    check_same(model, graph)


@pytest.mark.parametrize("bias_shape", [(5,), (1, 5), ()])
def test_matmul_and_add_are_a_layer(bias_shape):
    weights = {"w": normal(6, 5), "b": normal(*bias_shape) if bias_shape else np.float32(0.7).reshape(())}
    model = build(
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["y"])], {"x": [3, 6]}, ["y"], weights
    )
    graph = canonical(model)
    assert kinds(graph) == ["MatMul"]
    assert is_layer(graph.nodes[0], graph)
    assert graph.constant(graph.nodes[0].inputs[2]).shape == (5,)
    check_same(model, graph, {"x": [3, 6]})


@pytest.mark.parametrize(
    "attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1, "alpha": 0.5}]
)
def test_a_layers_gemm_has_no_factors(attributes):
    weights = {"w": normal(5, 6) if attributes.get("transB") else normal(6, 5), "b": normal(5)}
    model = build([node("Gemm", ["x", "w", "b"], ["y"], **attributes)], {"x": [3, 6]}, ["y"], weights)
    graph = canonical(model)
    assert set(graph.nodes[0].attributes) <= {"transB"}
    assert is_layer(graph.nodes[0], graph)
    check_same(model, graph, {"x": [3, 6]})


def test_gemm_with_transposed_data_is_left_alone():
    model = build([node("Gemm", ["x", "w"], ["y"], transA=1)], {"x": [6, 3]}, ["y"], {"w": normal(6, 5)})
    graph = canonical(model)
    assert graph.nodes[0].attributes["transA"] == 1
    assert not is_layer(graph.nodes[0], graph)


def test_weights_behind_other_operators_are_constants():
    array = np.arange(-12, 12, dtype=np.int8).reshape(6, 4, 1, 1)
    nodes = [
        node("Constant", [], ["q"], value=numpy_helper.from_array(array)),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("Identity", ["d"], ["i"]),
        node("Cast", ["i"], ["w"], to=onnx.TensorProto.FLOAT),
        node("Conv", ["x", "w"], ["y"]),
    ]
    model = build(nodes, X, ["y"], {"scale": np.float32(0.1), "zero": np.int8(3)}, opset=13)
    graph = canonical(model)
    assert kinds(graph) == ["Conv"]
    np.testing.assert_allclose(graph.constant("w"), (array.astype(np.float32) - 3) * np.float32(0.1))


def test_weights_standardized_by_a_batch_norm_are_constants():
    """Exporters write weight standardization as one in training mode, with outputs that nobody reads."""
    parameters = {
        "scale": normal(6), "shift": normal(6), "mean": normal(6), "variance": abs(normal(6)) + 1,
        "shape": np.array([6, 4, 3, 3]), "flat": normal(1, 6, 36),
    }  # fmt: skip
    outputs = ["standard", "mean_out", "variance_out", "saved_mean", "saved_variance"]
    nodes = [
        node("BatchNormalization", ["flat", "scale", "shift", "mean", "variance"], outputs),
        node("Reshape", ["standard", "shape"], ["w"]),
        node("Conv", ["x", "w"], ["y"]),
    ]
    model = build(nodes, X, ["y"], parameters, opset=13)
    graph = canonical(model)
    assert kinds(graph) == ["Conv"]
    check_same(model, graph)


def test_operands_of_the_old_kind_of_broadcasting():
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Add", ["c", "b"], ["y"], broadcast=1, axis=1)]
    model = build(nodes, X, ["y"], {"w": normal(6, 4, 3, 3), "b": normal(6)}, opset=6)
    graph = canonical(model)
    assert kinds(graph) == ["Conv"]  # onnxruntime has no Add of opset 6 to compare with
    np.testing.assert_array_equal(graph.constant(graph.nodes[0].inputs[2]), normal(6))


def test_training_mode_is_not_folded():
    parameters: dict = {}
    bn = batch_norm("bn", "c", "y", 6, parameters, 1)
    bn.output.extend(["mean", "var"])
    bn.attribute.append(helper.make_attribute("training_mode", 1))
    assert kinds(canonical(conv_then(bn, weights=parameters))) == ["Conv", "BatchNormalization"]


@pytest.mark.parametrize("path", sorted((SHARED / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_real_models_compute_the_same(path):
    """Every model at hand that runs, against the untouched file: relative 3e-5 in float32."""
    try:
        file = read_model(path)
        graph = canonicalize(with_types(file.graph, infer(file)))
        feeds = {name: _noise(graph.value(name)) for name in graph.inputs}
        theirs = run_plain(file.model(), feeds)
    except OnnxvisError as error:
        pytest.skip(str(error))
    except Exception as error:
        pytest.skip(f"onnxruntime does not run the file itself: {str(error)[:80]}")
    if graph.quantized:
        exact_bytes()
    half = any(value.dtype == np.float16 for value in graph.values.values())
    if any(entry.attributes and "captured" in str(entry.attributes) for entry in graph.nodes):
        pytest.skip("holds subgraphs, which are not written back")
    compared = 0
    for ours, expected in zip(run_plain(to_model(graph), feeds), theirs, strict=True):
        if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
            compared += 1
            # One number rounded the other way sets off others in every quantised layer behind it.
            tolerance = 1e-2 if half else 0.1 if graph.quantized else 3e-5
            limit = tolerance * np.abs(expected).max()
            np.testing.assert_allclose(ours, expected, atol=limit, rtol=0)
        elif not isinstance(expected, np.ndarray):
            compared += 1
            _compare_maps(ours, expected)
    assert compared


def _noise(value) -> np.ndarray:
    shape = [n if isinstance(n, int) else 64 if i > 1 else 1 for i, n in enumerate(value.shape)]
    return np.random.default_rng(0).random(shape).astype(value.dtype)


def _compare_maps(ours, theirs) -> None:
    """WinML's classifiers answer with a list of {class: probability}."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-5)
