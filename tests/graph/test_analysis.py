"""What is read off a graph: signs, channel axes, scores, the last spatial layer, shapes."""

import numpy as np
import pytest
from models import build, normal, shared, small_cnn
from onnx import TensorProto, helper

import onnxvis
from onnxvis.engine.engine import Engine
from onnxvis.engine.runtime import Runtime
from onnxvis.errors import TargetError
from onnxvis.graph.analysis import channel_axes, last_spatial, logits, nonnegative, unit_axis
from onnxvis.graph.load import read_model

node = helper.make_node


def specialized(model, **feeds):
    engine = Engine(read_model(model), Runtime(threads=1))
    return engine.specialized(feeds)


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet_fp32",
        "mobilenetv2_fp32",
        "shufflenetv2_fp32",
        "ultraface_rfb_320",
        "winml_cifar10_pytorch",
    ],
)
def test_signs_hold_on_real_models(name):
    model = onnxvis.load(shared("models", f"{name}.onnx"), threads=1)
    spec = model.inputs[0]
    x = (
        np.random.default_rng(0)
        .normal(0, 50, [n if isinstance(n, int) else 1 for n in spec.shape])
        .astype(np.float32)
    )
    graph = model.engine.specialized({spec.name: x})
    claimed = sorted(nonnegative(graph))
    assert len(claimed) > 5
    record = model.engine.run({spec.name: x}, claimed)
    assert all((record[tensor] >= 0).all() for tensor in claimed)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "expected"),
    [
        ("Relu", ["x"], {}, True),
        ("Sigmoid", ["x"], {}, True),
        ("LeakyRelu", ["x"], {}, False),
        ("Identity", ["x"], {}, False),
        ("Clip", ["x", "zero", "six"], {}, True),
        ("Clip", ["x", "minus", "six"], {}, False),
        ("Add", ["r", "positive"], {}, True),
        ("Add", ["r", "negative"], {}, False),
        ("Mul", ["r", "positive"], {}, True),
        ("Sub", ["r", "positive"], {}, False),
        ("MaxPool", ["r"], {"kernel_shape": [2, 2]}, True),
        ("Concat", ["r", "x"], {"axis": 1}, False),
    ],
)
def test_signs(operator, inputs, attributes, expected):
    numbers = {"zero": 0, "six": 6, "minus": -1, "positive": 2, "negative": -2}
    weights = {name: np.float32(number).reshape(()) for name, number in numbers.items()}
    nodes = [node("Relu", ["x"], ["r"]), node(operator, inputs, ["y"], **attributes)]
    graph = read_model(build(nodes, {"x": [1, 2, 4, 4]}, ["y"], weights)).graph
    assert ("y" in nonnegative(graph)) is expected


def test_channels_follow_transposes():
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Transpose", ["r"], ["back"], perm=[0, 2, 3, 1]),
        node("Sigmoid", ["back"], ["y"]),
    ]
    graph = specialized(
        build(nodes, {"x": [1, 8, 8, 3]}, ["y"], {"w": normal(5, 3, 3, 3)}), x=normal(1, 8, 8, 3)
    )
    axes = channel_axes(graph)
    assert {name: axes[name] for name in ("x", "t", "c", "r", "back", "y")} == {
        "x": 3,
        "t": 1,
        "c": 1,
        "r": 1,
        "back": 3,
        "y": 3,
    }


@pytest.mark.parametrize("link", ["Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("carrier", [None, "Identity", "Flatten"])
def test_scores_are_what_comes_before_a_softmax(link, carrier):
    nodes = [node("Relu", ["x"], ["scores"]), node(link, ["scores"], ["p"])]
    nodes += [node(carrier, ["p"], ["y"])] if carrier else []
    graph = read_model(build(nodes, {"x": [1, 4]}, ["y" if carrier else "p"])).graph
    assert logits(graph) == "scores"


def test_scores_without_a_softmax_are_the_output():
    assert logits(read_model(build([node("Relu", ["x"], ["y"])], {"x": [1, 4]}, ["y"])).graph) == "y"


def test_a_model_of_labels_and_maps_has_scores_before_its_softmax():
    model = read_model(shared("models", "winml_mnist_winmltools_fp32.onnx"))
    engine = Engine(model, Runtime(threads=1))
    assert engine.graph.producers[logits(engine.graph)].op_type == "Gemm"


def test_a_model_without_scores():
    model = build([node("Shape", ["x"], ["s"])], {"x": [1, 4]}, ["s"])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(TargetError, match="name a layer"):
        logits(read_model(model).graph)


def test_the_last_spatial_layer():
    graph = specialized(small_cnn(), x=normal(2, 3, 12, 12))
    assert last_spatial(graph, "logits") == "r2"
    assert last_spatial(graph, "r2") == "c2"


def test_the_last_spatial_layer_of_two_heads_is_before_they_part():
    """Heads at two depths, joined as detectors do: the deeper map tells nothing of the other head."""
    nodes = [
        node("Conv", ["x", "w"], ["trunk"]),
        node("Conv", ["trunk", "v"], ["near"]),
        node("MaxPool", ["trunk"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "v"], ["far"]),
        node("Reshape", ["near", "rows"], ["a"]),
        node("Reshape", ["far", "rows"], ["b"]),
        node("Concat", ["a", "b"], ["y"], axis=2),
    ]
    weights = {"w": normal(4, 3, 3, 3), "v": normal(5, 4, 1, 1), "rows": np.array([0, 5, -1], np.int64)}
    graph = specialized(build(nodes, {"x": [1, 3, 8, 8]}, ["y"], weights), x=normal(1, 3, 8, 8))
    assert last_spatial(graph, "y") == "trunk"
    assert last_spatial(graph, "far") == "p"
    assert last_spatial(graph, "near", "far") == "trunk"
    assert unit_axis(graph, "y") == 1


@pytest.mark.parametrize(("opset", "axis", "expected"), [(17, 2, 2), (17, 1, 1), (9, 2, 2), (9, 1, 1)])
def test_a_softmax_tells_where_the_units_are(opset, axis, expected):
    """Boxes × classes out of a Reshape, which says nothing; before opset 13 a softmax may flatten axes."""
    nodes = [
        node("Reshape", ["x", "rows"], ["scores"]),
        node("Softmax", ["scores"], ["y"], axis=axis),
    ]
    model = build(nodes, {"x": [1, 24]}, ["y"], {"rows": np.array([1, 6, 4], np.int64)}, opset=opset)
    assert unit_axis(specialized(model, x=normal(1, 24)), "scores") == expected


def test_no_spatial_layer():
    graph = specialized(build([node("Relu", ["x"], ["y"])], {"x": [1, 4]}, ["y"]), x=normal(1, 4))
    with pytest.raises(TargetError, match="more than one position"):
        last_spatial(graph, "y")


def test_shape_arithmetic_folds_away():
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    model = build(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], weights)
    graph = specialized(model, x=normal(2, 3, 4, 5))
    assert [entry.op_type for entry in graph.nodes] == ["Reshape"]
    assert graph.shape("y") == (2, 60)
    np.testing.assert_array_equal(graph.constant("shape"), [2, -1])


def test_shapes_that_only_a_run_can_tell():
    """An operator that ONNX's shape inference does not know."""
    nodes = [node("Gelu", ["x"], ["a"], domain="com.microsoft"), node("Relu", ["a"], ["y"])]
    model = build(nodes, {"x": ["N", 3]}, ["y"], opset_imports=[helper.make_opsetid("com.microsoft", 1)])
    assert specialized(model, x=normal(5, 3)).shape("y") == (5, 3)
