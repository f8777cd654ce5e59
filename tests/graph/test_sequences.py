"""Sequences of tensors, taken apart: the same numbers and gradients as without them."""

import numpy as np
import pytest
from models import build, normal, run_plain
from onnx import TensorProto, helper

import onnxvis
from onnxvis.errors import MissingRuleError
from onnxvis.graph.emit import to_model

node = helper.make_node
SHAPES = {"x": [2, 6, 3], "z": [2, 6, 3]}
NUMBERS = {
    "none": np.int64(0), "one": np.int64(1), "last": np.int64(-1), "two": np.int64(2),
    "parts": np.array([1, 3, 2], np.int64), "four": np.int64(4), "scale": np.float32(2),
}  # fmt: skip

FORMS = {
    "concat": [
        node("SequenceConstruct", ["x", "z"], ["s"]),
        node("ConcatFromSequence", ["s"], ["y"], axis=1),
    ],
    "stack": [
        node("SequenceConstruct", ["x", "z", "x"], ["s"]),
        node("ConcatFromSequence", ["s"], ["y"], axis=-1, new_axis=1),
    ],
    "one of several": [
        node("SequenceConstruct", ["x", "z"], ["s"]),
        node("SequenceAt", ["s", "last"], ["a"]),
        node("Mul", ["a", "x"], ["y"]),
    ],
    "parts of given sizes": [
        node("SplitToSequence", ["x", "parts"], ["s"], axis=1),
        node("SequenceAt", ["s", "one"], ["a"]),
        node("SequenceAt", ["s", "last"], ["b"]),
        node("Concat", ["b", "a", "z"], ["y"], axis=1),
    ],
    "parts of equal size, the last smaller": [
        node("SplitToSequence", ["x", "four"], ["s"], axis=-2),
        node("SequenceAt", ["s", "one"], ["a"]),
        node("Concat", ["a", "z"], ["y"], axis=1),
    ],
    "single indices": [
        node("SplitToSequence", ["x"], ["s"], axis=1, keepdims=0),
        node("SequenceAt", ["s", "two"], ["a"]),
        node("SequenceAt", ["s", "last"], ["b"]),
        node("Mul", ["a", "b"], ["y"]),
    ],
    "split and joined again": [
        node("SplitToSequence", ["x", "parts"], ["s"], axis=1),
        node("ConcatFromSequence", ["s"], ["a"], axis=1),
        node("Mul", ["a", "z"], ["y"]),
    ],
    "split and stacked": [
        node("SplitToSequence", ["x"], ["s"], axis=1),
        node("ConcatFromSequence", ["s"], ["y"], axis=0, new_axis=1),
    ],
    "filled one by one": [
        node("SequenceEmpty", [], ["e"], dtype=TensorProto.FLOAT),
        node("SequenceInsert", ["e", "x"], ["s1"]),
        node("SequenceInsert", ["s1", "z", "none"], ["s2"]),
        node("SequenceInsert", ["s2", "x", "last"], ["s3"]),
        node("SequenceErase", ["s3", "one"], ["s4"]),
        node("ConcatFromSequence", ["s4"], ["a"], axis=2),
        node("SequenceErase", ["s3"], ["s5"]),
        node("ConcatFromSequence", ["s5"], ["b"], axis=2),
        node("Mul", ["a", "b"], ["y"]),
    ],
}  # fmt: skip


def model(nodes, opset=17):
    used = {name for entry in nodes for name in entry.input}
    weights = {name: np.asarray(number) for name, number in NUMBERS.items() if name in used}
    inputs = {name: shape for name, shape in SHAPES.items() if name in used}
    return build(nodes, inputs, ["y"], weights, opset=opset)


def inputs(made):
    return {entry.name: normal(*SHAPES[entry.name], seed=i) for i, entry in enumerate(made.graph.input)}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_has_none_and_computes_the_same(form, opset):
    made = model(FORMS[form], opset)
    feeds = inputs(made)
    graph = onnxvis.load(made, threads=1).engine.specialized(feeds)
    assert not [entry for entry in graph.nodes if "Sequence" in entry.op_type]
    np.testing.assert_array_equal(run_plain(to_model(graph), feeds)[0], run_plain(made, feeds)[0])


@pytest.mark.parametrize("executor", ["compiled", "host"])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_slopes(form, executor):
    """Every form is at most quadratic in its inputs, for which central differences are exact."""
    made = model(FORMS[form])
    feeds = inputs(made)
    (y,) = run_plain(made, feeds)
    seed = normal(*y.shape, seed=7)
    opened = onnxvis.load(made, executor=executor, threads=1)
    found = opened.vjp(feeds, {"y": seed}, wrt=[*feeds])
    for name, g in found.items():
        direction = normal(*SHAPES[name], seed=8)
        up, down = (run_plain(made, {**feeds, name: feeds[name] + sign * direction})[0] for sign in (1, -1))
        assert (g * direction).sum() == pytest.approx((seed * (up - down)).sum() / 2, rel=1e-4, abs=1e-4)


def test_a_position_that_depends_on_the_data_is_refused_by_name():
    nodes = [
        node("SequenceConstruct", ["x", "z"], ["s"], name="pair"),
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["i"], to=TensorProto.INT64),
        node("Clip", ["i", "none", "one"], ["p"]),
        node("SequenceAt", ["s", "p"], ["y"], name="choice"),
    ]
    opened = onnxvis.load(model(nodes), threads=1)
    feeds = {name: normal(*shape) for name, shape in SHAPES.items()}
    with pytest.raises(MissingRuleError, match=r"SequenceAt.*'choice'"):
        opened.vjp(feeds, {"y": feeds["x"]})
