"""Activations in pieces: told by what they compute, and replaced by one operator that computes the same."""

import numpy as np
import onnx
import pytest
from models import normal, run_plain
from onnx import parser

import onnxvis
from onnxvis.graph.canonical import canonicalize
from onnxvis.graph.emit import to_model
from onnxvis.graph.load import read_model
from onnxvis.graph.shapes import infer, with_types

CONSTANTS = """
float half = {0.5}, float[1] one = {1.0}, float two = {2.0}, float three = {3.0}, float six = {6.0},
float zero = {0.0}, float sixth = {0.16666667}, float root = {1.4142135}, float back = {0.70710677},
float tenth = {0.1}, float quick = {1.702}, float cubic = {0.044715}, float outer = {0.7978846},
float[2,3,4] many = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, float[1,1,1,1] lifted = {6.0}
"""

SPELLINGS = {
    "x·sigmoid(x)": ("Swish", "s = Sigmoid(x) y = Mul(x, s)"),
    "sigmoid(x)·x": ("Swish", "s = Sigmoid(x) y = Mul(s, x)"),
    "x/(1 + e⁻ˣ)": ("Swish", "n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(x, d)"),
    "x·sigmoid(1.702x)": ("Swish", "q = Mul(x, quick) s = Sigmoid(q) y = Mul(x, s)"),
    "x·clip(x + 3)/6": (
        "HardSwish", "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    ),
    "x·(clip(x + 3)/6)": (
        "HardSwish", "a = Add(three, x) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)",
    ),
    "x·clip(x + 3)·0.1667": (
        "HardSwish", "a = Add(x, three) c = Clip(a, zero, six) d = Mul(c, sixth) y = Mul(x, d)",
    ),
    "x·hardsigmoid(x)": ("HardSwish", "h = HardSigmoid <alpha: float = 0.16666667> (x) y = Mul(x, h)"),
    "clip(x + 3)/6": ("HardSigmoid", "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)"),
    "0.5x(1 + erf(x/√2))": (
        "Gelu", "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    ),
    "(0.5x)(1 + erf(x·√½))": (
        "Gelu", "d = Mul(x, back) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a)",
    ),
    "gelu by tanh": (
        "Gelu",
        """p = Pow(x, three) q = Mul(p, cubic) r = Add(x, q) s = Mul(r, outer) t = Tanh(s) a = Add(t, one)
           h = Mul(x, half) y = Mul(h, a)""",
    ),
    "gelu by tanh, x·x·x": (
        "Gelu",
        """p = Mul(x, x) pp = Mul(p, x) q = Mul(cubic, pp) r = Add(q, x) s = Mul(outer, r) t = Tanh(s)
           a = Add(one, t) h = Mul(a, half) y = Mul(h, x)""",
    ),
    "x·tanh(softplus(x))": ("Mish", "s = Softplus(x) t = Tanh(s) y = Mul(x, t)"),
    "x·tanh(log(1 + eˣ))": ("Mish", "e = Exp(x) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(x, t)"),
    "log(1 + eˣ)": ("Softplus", "e = Exp(x) a = Add(e, one) y = Log(a)"),
    "1/(1 + e⁻ˣ)": ("Sigmoid", "n = Neg(x) e = Exp(n) d = Add(e, one) y = Reciprocal(d)"),
    "x/(1 + |x|)": ("Softsign", "b = Abs(x) a = Add(b, one) y = Div(x, a)"),
    "max(x, 0)": ("Relu", "y = Max(x, zero)"),
    "max(x, 0.1x)": ("LeakyRelu", "m = Mul(x, tenth) y = Max(x, m)"),
    "0.5(x + |x|)": ("Relu", "b = Abs(x) a = Add(x, b) y = Mul(a, half)"),
}  # fmt: skip

NOT_ONE = {
    "a gate of something else": "s = Sigmoid(z) y = Mul(x, s)",
    "twice a swish": "s = Sigmoid(x) m = Mul(x, s) y = Mul(m, two)",
    "a constant a number": "s = Sigmoid(x) m = Mul(s, many) y = Mul(x, m)",
    "a constant lifts the rank": "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, lifted) y = Mul(x, d)",
    "almost hard swish": "a = Add(x, two) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    "nothing at all": "m = Mul(x, two) y = Div(m, two)",
    "a mean of x": "g = ReduceMean(x) s = Sigmoid(g) y = Mul(x, s)",
}


def model(body: str) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[2,3,4] x, float[2,3,4] z) => (y) <{CONSTANTS}> {{ {body} }}"""
    return parser.parse_model(text)


def canonical(given: onnx.ModelProto, keep=()):
    file = read_model(given)
    return canonicalize(with_types(file.graph, infer(file)), keep)


def kinds(graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_one_operator_that_computes_the_same(name):
    operator, body = SPELLINGS[name]
    given = model(body)
    graph = canonical(given)
    assert kinds(graph) == [operator]
    feeds = {"x": 3 * normal(2, 3, 4), "z": normal(2, 3, 4, seed=1)}
    written = to_model(graph)
    read = {entry.name for entry in written.graph.input}
    ours = run_plain(written, {name: array for name, array in feeds.items() if name in read})[0]
    np.testing.assert_allclose(ours, run_plain(given, feeds)[0], atol=3e-6)


@pytest.mark.parametrize("name", NOT_ONE)
def test_what_is_something_else_stays(name):
    graph = canonical(model(NOT_ONE[name]))
    assert len(graph.nodes) > 1
    assert not {"Swish", "HardSwish", "LeakyRelu"}.intersection(kinds(graph)[-1:])


def test_arithmetic_on_sizes_is_left_alone():
    """Whole numbers divide by other rules, and nothing rectifies them."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,C] x) => (y)
        <int64 zero = {0}, int64 two = {2}> {
        n = Shape(x) h = Div(n, two) m = Max(h, zero) d = Mul(m, two) y = Expand(x, d) }"""
    assert kinds(canonical(parser.parse_model(text))) == ["Shape", "Div", "Max", "Mul", "Expand"]


def test_a_layer_in_between_is_not_swallowed():
    graph = canonical(model("r = Relu(x) s = Sigmoid(r) y = Mul(r, s)"))
    assert kinds(graph) == ["Relu", "Swish"]
    assert graph.nodes[1].origin == (*graph.nodes[1].origin[:1], graph.nodes[1].name)


def test_a_piece_that_someone_looks_at_stays():
    given = model("s = Sigmoid(x) y = Mul(x, s)")
    assert kinds(canonical(given, keep={"s"})) == ["Sigmoid", "Mul"]
    loaded = onnxvis.load(given)
    x, seed = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    arrived = loaded.vjp({"x": x, "z": x}, {"y": seed}, wrt="s")["s"]
    np.testing.assert_allclose(arrived, seed * x, rtol=1e-6)


def test_a_piece_that_is_read_elsewhere_stays_beside_it():
    graph = canonical(model("s = Sigmoid(x) m = Mul(x, s) g = Mul(z, s) y = Add(m, g)"))
    assert kinds(graph) == ["Sigmoid", "Swish", "Mul", "Add"]


def test_rectifier_rules_apply_to_pieces():
    """DeconvNet and guided backpropagation see the activation, not a product with a gate."""
    pieces = onnxvis.load(model(SPELLINGS["x·sigmoid(x)"][1]))
    x = 2 * normal(2, 3, 4)
    seed = normal(2, 3, 4, seed=5)
    s = 1 / (1 + np.exp(-x.astype(np.float64)))
    slope = s * (1 + x * (1 - s))
    for method in ("deconvnet", "guided_backprop"):
        values = pieces.vjp({"x": x, "z": x}, {"y": seed}, method=method)["x"]
        np.testing.assert_allclose(values, np.maximum(seed * slope, 0), atol=1e-6)
