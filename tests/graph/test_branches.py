"""Branches that are decided when the file is read."""

import numpy as np
import onnx
import pytest
from models import build, normal, run_plain
from onnx import TensorProto, helper, numpy_helper

import onnxvis
from onnxvis.errors import OnnxvisError
from onnxvis.graph.load import read_model

node = helper.make_node
X = normal(2, 3, 4)


def branch(*nodes, output="t", weights=None, name="branch"):
    tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
    return helper.make_graph([*nodes], name, [], [onnx.ValueInfoProto(name=output)], tensors)


def choice(then, other, output="y", condition="c", **attributes):
    return node("If", [condition], [output], then_branch=then, else_branch=other, **attributes)


def rank_is(number):
    """Whether x has so many axes, as exporters ask."""
    return [
        node("Shape", ["x"], ["shape"]), node("Size", ["shape"], ["rank"]),
        node("Constant", [], ["number"], value_int=number), node("Equal", ["rank", "number"], ["c"]),
    ]  # fmt: skip


def dimension_is(number, axis):
    return [
        node("Shape", ["x"], ["shape"]), node("Constant", [], ["axis"], value_int=axis),
        node("Gather", ["shape", "axis"], ["n"]), node("Constant", [], ["number"], value_int=number),
        node("Equal", ["n", "number"], ["c"]),
    ]  # fmt: skip


RELU, NEG = branch(node("Relu", ["x"], ["t"])), branch(node("Neg", ["x"], ["t"]))


def operators(model):
    return [
        entry.op_type for entry in read_model(model).graph.nodes if entry.op_type in ("If", "Relu", "Neg")
    ]


def check_same(model, **feeds):
    feeds = feeds or {"x": X}
    file = read_model(model)
    for ours, theirs in zip(run_plain(file.model(), feeds), run_plain(model, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return file.graph


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        (rank_is(3), "Relu"), (rank_is(4), "Neg"), (dimension_is(3, 1), "Relu"),
        (dimension_is(4, -1), "Relu"), (dimension_is(4, 1), "Neg"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [[2, 3, 4], ["batch", 3, 4]])
def test_conditions_on_known_shapes_are_decided(condition, taken, shape):
    """An open batch size tells nothing against a rank or another dimension."""
    model = build([*condition, choice(RELU, NEG)], {"x": shape}, ["y"])
    assert operators(model) == [taken]
    check_same(model)


@pytest.mark.parametrize("condition", [True, False])
def test_constant_conditions_are_decided(condition):
    model = build([choice(RELU, NEG)], {"x": [2, 3, 4]}, ["y"], {"c": np.array(condition)})
    assert operators(model) == ["Relu" if condition else "Neg"]
    check_same(model)


def test_an_open_dimension_and_the_data_decide_nothing():
    batch = build([*dimension_is(2, 0), choice(RELU, NEG)], {"x": ["batch", 3, 4]}, ["y"])
    data = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
        choice(RELU, NEG, name="gate"),
    ]
    assert operators(batch) == ["If"]
    model = build(data, {"x": [2, 3, 4]}, ["y"])
    assert operators(model) == ["If"]
    assert read_model(model).model() == model
    with pytest.raises(OnnxvisError, match=r"If.*'gate'"):
        onnxvis.load(model, threads=1).vjp({"x": X}, {"y": X})


def test_names_of_branches_do_not_meet():
    """Both Ifs call their tensors alike."""
    inner = [node("Add", ["x", "w"], ["a"]), node("Relu", ["a"], ["t"])]
    first, second = (branch(*inner, weights={"w": normal(4, seed=seed)}) for seed in (1, 2))
    nodes = [
        *rank_is(3), choice(first, NEG, "p"), choice(second, NEG, "q"), node("Add", ["p", "q"], ["y"]),
    ]  # fmt: skip
    graph = check_same(build(nodes, {"x": [2, 3, 4]}, ["y"]))
    assert "If" not in [entry.op_type for entry in graph.nodes]


def test_a_branch_that_hands_on_a_constant():
    given = branch(output="w", weights={"w": normal(2, 3, 4, seed=3)})
    check_same(build([*rank_is(3), choice(given, NEG)], {"x": [2, 3, 4]}, ["y"]))


def test_a_branch_in_a_branch_and_one_that_stays():
    """The inner one of the first depends on the rank of what it is given; that of the second on the data."""
    squeezed = branch(
        node("Unsqueeze", ["x", "axis"], ["u"]),
        node("Shape", ["u"], ["s"]),
        node("Size", ["s"], ["r"]),
        node("Equal", ["r", "four"], ["again"]),
        choice(branch(node("Relu", ["u"], ["v"]), output="v"), NEG, "t", "again"),
        weights={"axis": np.array([0], np.int64), "four": np.int64(4)},
    )
    check_same(build([*rank_is(3), choice(squeezed, NEG)], {"x": [2, 3, 4]}, ["y"]))
    waits = branch(
        node("Add", ["x", "x"], ["d"]),
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["b"], to=TensorProto.BOOL),
        choice(branch(node("Relu", ["d"], ["v"]), output="v"), NEG, "t", "b"),
    )
    nodes = [*rank_is(3), choice(waits, NEG, "e"), node("Add", ["x", "e"], ["y"])]
    graph = check_same(build(nodes, {"x": [2, 3, 4]}, ["y"]))
    assert "If" in [entry.op_type for entry in graph.nodes]


def test_one_decision_lets_the_next_be_made():
    nodes = [
        *rank_is(3),
        choice(branch(node("Unsqueeze", ["x", "axis"], ["t"])), NEG, "e"),
        node("Shape", ["e"], ["shape_2"]), node("Size", ["shape_2"], ["rank_2"]),
        node("Equal", ["rank_2", "number"], ["c_2"]),
        choice(branch(node("Relu", ["e"], ["t"])), branch(node("Neg", ["e"], ["t"])), condition="c_2"),
    ]  # fmt: skip
    model = build(nodes, {"x": [2, 3, 4]}, ["y"], {"axis": np.array([0], np.int64)})
    assert operators(model) == ["Neg"]
    check_same(model)
