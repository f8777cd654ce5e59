"""Convolution, addition and rectifier made one operator, where nobody reads what is between."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest
from models import build, normal
from onnx import TensorProto, helper

from onnxvis.engine.fused import fuse

WEIGHTS = {"w": normal(4, 4, 3, 3, scale=0.3), "v": normal(4, 4, 3, 3, seed=1, scale=0.3), "b": normal(4)}


def conv(x, y, weights="w", **attributes):
    return helper.make_node("Conv", [x, weights, "b"], [y], pads=[1, 1, 1, 1], **attributes)


def relu(x, y):
    return helper.make_node("Relu", [x], [y])


def add(a, b, y):
    return helper.make_node("Add", [a, b], [y])


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def kinds(model):
    return dict(Counter(node.op_type for node in model.graph.node))


CASES = {
    "a rectifier": ([conv("x", "c"), relu("c", "y")], {"FusedConv": 1}),
    "an addition": ([conv("x", "c"), add("x", "c", "s"), relu("s", "y")], {"FusedConv": 1}),
    "the other way round": ([conv("x", "c"), add("c", "x", "s"), relu("s", "y")], {"FusedConv": 1}),
    "two convolutions": (
        [conv("x", "c"), conv("x", "d", "v"), add("c", "d", "s"), relu("s", "y")],
        {"Conv": 1, "FusedConv": 1},
    ),
    "two convolutions, the first behind": (
        [conv("x", "d", "v"), conv("x", "c"), add("c", "d", "s"), relu("s", "y")],
        {"Conv": 1, "FusedConv": 1},
    ),
    "a residual block": (
        [
            conv("x", "c"), relu("c", "r"), conv("r", "d", "v"), add("d", "x", "s"), relu("s", "t"),
            conv("t", "e"), relu("e", "y"),
        ],
        {"FusedConv": 3},
    ),
    "twice the same": ([conv("x", "c"), add("c", "c", "s"), relu("s", "y")], None),
    "read by others": ([conv("x", "c"), relu("c", "r"), add("c", "r", "y")], None),
    "added and read": ([conv("x", "c"), add("c", "x", "s"), relu("s", "r"), add("s", "r", "y")], None),
    "another rectifier": ([conv("x", "c"), helper.make_node("Sigmoid", ["c"], ["y"])], None),
    "no convolution": ([relu("x", "y")], None),
    "no bias": ([helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), relu("c", "y")], None),
    "a column is added": (
        [
            helper.make_node("GlobalAveragePool", ["x"], ["p"]), conv("x", "c"), add("c", "p", "s"),
            relu("s", "y"),
        ],
        None,
    ),
    "attributes stay": (
        [conv("x", "c", strides=[2, 2], dilations=[1, 1], group=1), relu("c", "y")], {"FusedConv": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("samples", [2, "N"])
def test_the_same_numbers(name, samples):
    nodes, expected = CASES[name]
    model = build(nodes, {"x": [samples, 4, 6, 6]}, ["y"], WEIGHTS)
    x, before = normal(2, 4, 6, 6), kinds(model)
    (theirs,) = run(model, x)
    assert fuse(model) == (expected is not None)
    assert kinds(model) == (expected or before)
    (ours,) = run(model, x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * abs(theirs).max())


def test_what_is_an_output_stays():
    model = build([conv("x", "c"), relu("c", "y")], {"x": [1, 4, 6, 6]}, ["y", "c"], WEIGHTS)
    assert not fuse(model) and kinds(model) == {"Conv": 1, "Relu": 1}


def test_what_a_subgraph_reads_stays():
    branch = helper.make_graph([relu("c", "z")], "branch", [], [helper.make_empty_tensor_value_info("z")])
    nodes = [
        conv("x", "c"), relu("c", "r"),
        helper.make_node("If", ["yes"], ["o"], then_branch=branch, else_branch=branch), add("r", "o", "y"),
    ]  # fmt: skip
    weights = {**WEIGHTS, "yes": np.array(True)}
    model = build(nodes, {"x": [1, 4, 6, 6]}, ["y"], weights)
    assert not fuse(model)


def test_where_lengths_are_not_known_nothing_is_added():
    nodes = [conv("x", "c"), add("c", "x", "s"), relu("s", "y")]
    model = build(nodes, {"x": [1, 4, None, None]}, ["y"], WEIGHTS)
    assert not fuse(model)


def test_weights_may_be_elsewhere():
    """As in the model that sessions are built of, whose large weights are handed over."""
    model = build([conv("x", "c"), add("c", "x", "s"), relu("s", "y")], {"x": [1, 4, 6, 6]}, ["y"], WEIGHTS)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere")
    assert fuse(model) and kinds(model) == {"FusedConv": 1}
