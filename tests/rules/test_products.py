"""Relevance at products of two activations: to the signal, not to the gate."""

import numpy as np
import pytest
from models import build, normal
from onnx import helper

import onnxvis
from onnxvis.errors import MissingRuleError
from onnxvis.rules import Composite

node = helper.make_node
X, R = normal(2, 4, 3, 3), normal(2, 4, 3, 3, seed=1)
WEIGHTS = {
    "w": normal(4, 4, 1, 1, scale=0.3), "one": np.float32(1), "two": np.float32(2), "three": np.float32(3),
    "six": np.float32(6), "zero": np.float32(0), "root": np.float32(2**0.5), "half": np.float32(0.5),
    "four": np.array([2, 4, 1, 1], np.int64), "cube": np.float32(3), "back": np.float32(-0.5),
    "tiny": np.float32(1e-5), "scale": normal(4, 1, 1, seed=2), "shift": normal(4, 1, 1, seed=3),
    "some": np.float32([1e-6, 0, -2, 1]).reshape(4, 1, 1), "axis": np.array([1], np.int64),
}  # fmt: skip


def arrived(nodes, wrt=("x",), executor="compiled", output="y", r=R, **inputs):
    """What the rule "lrp" sends back to tensors of a small net, for the seed R at its output."""
    given = {"x": X, **inputs}
    used = {name for n in nodes for name in n.input}
    weights = {name: array for name, array in WEIGHTS.items() if name in used}
    model = build(nodes, {name: [*array.shape] for name, array in given.items()}, [output], weights)
    opened = onnxvis.load(model, threads=1, executor=executor)
    return opened.vjp(given, {output: r}, Composite([("Conv", "epsilon"), ("MatMul", "epsilon")]), wrt=wrt)


GATES = {
    "sigmoid": [node("Sigmoid", ["g"], ["s"])],
    "hard sigmoid": [node("HardSigmoid", ["g"], ["s"])],
    "softmax": [node("Softmax", ["g"], ["s"], axis=1)],
    "clip": [node("Clip", ["g", "zero", "one"], ["s"])],
    "reshaped": [
        node("Sigmoid", ["g"], ["a"]),
        node("Identity", ["a"], ["b"]),
        node("Expand", ["b", "four"], ["s"]),
    ],
    "scaled clip": [node("Clip", ["g", "zero", "six"], ["a"]), node("Div", ["a", "six"], ["s"])],
    "tanh moved to 0..1": [
        node("Tanh", ["g"], ["a"]),
        node("Add", ["one", "a"], ["b"]),
        node("Mul", ["b", "half"], ["s"]),
    ],
    "sigmoid in pieces": [
        node("Neg", ["g"], ["a"]),
        node("Exp", ["a"], ["b"]),
        node("Add", ["b", "one"], ["c"]),
        node("Reciprocal", ["c"], ["s"]),
    ],
    "minimum of a maximum": [
        node("Max", ["g", "zero"], ["a"]),
        node("Min", ["one", "a"], ["s"]),
    ],
    "one minus a gate": [node("Sigmoid", ["g"], ["a"]), node("Sub", ["one", "a"], ["s"])],
}


@pytest.mark.parametrize("executor", ["compiled", "host"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("order", [("x", "s"), ("s", "x")])
def test_the_signal_gets_it_all(gate, order, executor):
    """The gate comes from a Reciprocal, of which LRP knows nothing: its branch is not walked."""
    pooled = np.abs(normal(2, 4, 1, 1)) + 1
    nodes = [node("Reciprocal", ["p"], ["g"]), *GATES[gate], node("Mul", order, ["y"])]
    np.testing.assert_array_equal(arrived(nodes, executor=executor, p=pooled)["x"], R)


SELF_GATED = {
    "silu": [node("Sigmoid", ["c"], ["s"]), node("Mul", ["c", "s"], ["y"])],
    "hard swish": [
        node("Add", ["c", "three"], ["a"]),
        node("Clip", ["a", "zero", "six"], ["s"]),
        node("Mul", ["c", "s"], ["m"]),
        node("Div", ["m", "six"], ["y"]),
    ],
    "hard swish, divided first": [
        node("Add", ["c", "three"], ["a"]),
        node("Clip", ["a", "zero", "six"], ["b"]),
        node("Div", ["b", "six"], ["s"]),
        node("Mul", ["c", "s"], ["y"]),
    ],
    "silu in pieces": [
        node("Neg", ["c"], ["a"]),
        node("Exp", ["a"], ["b"]),
        node("Add", ["one", "b"], ["s"]),
        node("Div", ["c", "s"], ["y"]),
    ],
    "softsign in pieces": [
        node("Abs", ["c"], ["a"]),
        node("Add", ["a", "one"], ["s"]),
        node("Div", ["c", "s"], ["y"]),
    ],
    "hard swish by minimum and maximum": [
        node("Add", ["c", "three"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Min", ["b", "six"], ["s"]),
        node("Mul", ["s", "c"], ["m"]),
        node("Div", ["m", "six"], ["y"]),
    ],
    "mish in pieces": [
        node("Softplus", ["c"], ["a"]),
        node("Tanh", ["a"], ["s"]),
        node("Mul", ["c", "s"], ["y"]),
    ],
    "gelu": [
        node("Div", ["c", "root"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "one"], ["s"]),
        node("Mul", ["c", "s"], ["m"]),
        node("Mul", ["m", "half"], ["y"]),
    ],
    "gelu by tanh": [
        node("Pow", ["c", "cube"], ["a"]),
        node("Add", ["a", "c"], ["b"]),
        node("Tanh", ["b"], ["t"]),
        node("Add", ["t", "one"], ["s"]),
        node("Mul", ["c", "half"], ["h"]),
        node("Mul", ["h", "s"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", SELF_GATED)
def test_activations_written_as_products_pass_relevance_on(name):
    nodes = [node("Conv", ["x", "w"], ["c"]), *SELF_GATED[name]]
    expected = arrived([node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])])["x"]
    np.testing.assert_allclose(arrived(nodes)["x"], expected, atol=2e-4 * abs(expected).max())


def test_squeeze_and_excite():
    branch = [
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Conv", ["p", "w"], ["e"]),
        node("Sigmoid", ["e"], ["s"]),
        node("Mul", ["c", "s"], ["y"]),
    ]
    found = arrived([node("Conv", ["x", "w"], ["c"], name="stem"), *branch], wrt=["x", "c"])
    np.testing.assert_array_equal(found["c"], R)
    assert abs(found["x"]).max() > 0


@pytest.mark.parametrize("second", ["z", "x"])
def test_half_to_each_where_neither_is_a_gate(second):
    nodes = [node("Mul", ["x", second], ["y"])]
    inputs = {} if second == "x" else {"z": normal(4, 1, 3)}
    found = arrived(nodes, wrt=["x", *inputs], **inputs)
    np.testing.assert_allclose(found["x"], R if second == "x" else R / 2, rtol=1e-6)
    if inputs:
        sums = R.sum(axis=(0, 2)).reshape(4, 1, 3)
        np.testing.assert_allclose(found["z"], sums / 2, rtol=1e-4, atol=1e-6)


def test_half_to_each_where_both_are_gates_and_for_a_wider_clip():
    nodes = [
        node("Sigmoid", ["x"], ["a"]), node("Sigmoid", ["z"], ["b"]), node("Mul", ["a", "b"], ["m"]),
        node("Clip", ["v", "zero", "six"], ["c"]), node("Mul", ["m", "c"], ["y"]),
    ]  # fmt: skip
    found = arrived(nodes, wrt=["x", "z", "v"], z=X, v=X)
    for name, part in (("x", 4), ("z", 4), ("v", 2)):
        np.testing.assert_allclose(found[name], R / part, rtol=1e-6)


def test_a_stretched_signal_gets_the_sum():
    nodes = [node("Sigmoid", ["g"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    found = arrived(nodes, x=X[:, :, :1, :1], g=X)["x"]
    np.testing.assert_allclose(found, R.sum(axis=(2, 3), keepdims=True), rtol=1e-5, atol=1e-6)


def test_what_is_divided_by_more_than_nothing_is_the_signal():
    """1/(1 + eᵍ) is between 0 and 1."""
    nodes = [node("Exp", ["g"], ["a"]), node("Add", ["a", "one"], ["s"]), node("Div", ["x", "s"], ["y"])]
    np.testing.assert_array_equal(arrived(nodes, g=X)["x"], R)


# ---- constants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["compiled", "host"])
@pytest.mark.parametrize("order", [("x", "some"), ("some", "x")])
def test_relevance_passes_a_constant_factor_as_it_came(order, executor):
    """However small the factor is; where it is 0, nothing of the signal was left."""
    found = arrived([node("Mul", order, ["y"])], executor=executor)["x"]
    np.testing.assert_array_equal(found, R * (WEIGHTS["some"] != 0))


def test_a_signal_stretched_by_a_constant_gets_the_sum():
    found = arrived([node("Div", ["x", "scale"], ["y"])], x=X[:, :1])["x"]
    np.testing.assert_allclose(found, R.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-6)


# ---- normalizations in pieces --------------------------------------------------------------------

CENTRE = [node("ReduceMean", ["x"], ["mean"], axes=[1]), node("Sub", ["x", "mean"], ["d"])]
DEVIATION = [
    node("Mul", ["d", "d"], ["square"]),
    node("ReduceMean", ["square"], ["variance"], axes=[1]),
    node("Add", ["variance", "tiny"], ["v"]),
]
DIVIDED = {
    "by a root": [node("Sqrt", ["v"], ["s"]), node("Div", ["d", "s"], ["y"])],
    "by one over a root": [
        node("Sqrt", ["v"], ["s"]), node("Div", ["one", "s"], ["i"]), node("Mul", ["d", "i"], ["y"]),
    ],
    "by a scaled reciprocal": [
        node("Sqrt", ["v"], ["s"]), node("Reciprocal", ["s"], ["r"]), node("Mul", ["r", "scale"], ["i"]),
        node("Mul", ["i", "d"], ["y"]),
    ],
    "by a power": [node("Pow", ["v", "back"], ["i"]), node("Mul", ["d", "i"], ["y"])],
    "by the root of E(x²) − E(x)²": [
        node("Mul", ["x", "x"], ["xx"]), node("ReduceMean", ["xx"], ["m2"], axes=[1]),
        node("Mul", ["mean", "mean"], ["mm"]), node("Sub", ["m2", "mm"], ["u"]), node("Sqrt", ["u"], ["s"]),
        node("Div", ["d", "s"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", DIVIDED)
def test_what_a_normalization_divides_by_is_a_number(form):
    """The mean takes its share, so that all relevance arrives: x·(s − mean s), s = R / (x − mean x)."""
    s = R.astype(float) / (X - X.mean(axis=1, keepdims=True).astype(float))
    expected = X * (s - s.mean(axis=1, keepdims=True))
    found = arrived([*CENTRE, *DEVIATION, *DIVIDED[form]])["x"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), R.sum(axis=1), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "norm",
    [
        [node("ReduceL2", ["x"], ["n"], axes=[1])],
        [node("ReduceL2", ["x"], ["m"], axes=[1]), node("Max", ["m", "tiny"], ["n"])],
        [node("GlobalAveragePool", ["x"], ["n"])],
        [node("Abs", ["x"], ["a"]), node("ReduceSum", ["a", "axis"], ["n"])],
    ],
)
def test_what_is_divided_by_a_norm_keeps_its_relevance(norm):
    np.testing.assert_array_equal(arrived([*norm, node("Div", ["x", "n"], ["y"])])["x"], R)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Div", ["x", "z"], ["y"], name="ratio")], "something that the model computes.*'ratio'"),
        ([node("Div", ["one", "x"], ["y"], name="over")], "something that the model computes.*'over'"),
        ([node("MatMul", ["x", "z"], ["y"], name="attention")], "'z' is computed by the model.*'attention'"),
        ([node("Exp", ["x"], ["y"], name="exp")], "no 'lrp' rule for Exp.*'exp'"),
        ([node("Pow", ["x", "two"], ["y"], name="square")], "no 'lrp' rule for Pow.*'square'"),
        ([node("Softmax", ["x"], ["y"], name="inner")], "no 'lrp' rule for Softmax.*'inner'"),
    ],
)  # fmt: skip
def test_what_cannot_be_treated_soundly_is_refused_by_name(nodes, message):
    inputs = {"z": X} if "z" in nodes[0].input else {}
    with pytest.raises(MissingRuleError, match=message):
        arrived(nodes, **inputs)
