"""Normalizations: their further outputs, what cannot be decided, conservation, agreement with PyTorch."""

import numpy as np
import pytest
from engine.branching import engine
from models import build, normal
from onnx import helper

from onnxvis.engine.plan import Pass
from onnxvis.errors import MissingRuleError

node = helper.make_node
X = normal(2, 3, 4)


def relevance(model, r, name="y", wrt=("x",), feeds=None):
    _, found = engine(model, "compiled").vjp(feeds or {"x": X}, {name: r}, [name], wrt, Pass("lrp"))
    return found


@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_mean_and_deviation_of_layer_normalization_have_slopes(executor):
    """A net that adds what it took away: x = y/inverse + mean."""
    nodes = [
        node("LayerNormalization", ["x", "ones"], ["y", "mean", "inverse"], epsilon=0.5),
        node("Div", ["y", "inverse"], ["centred"]),
        node("Add", ["centred", "mean"], ["back"]),
        node("Mul", ["inverse", "mean"], ["product"]),
        node("Add", ["back", "product"], ["z"]),
    ]
    model = build(nodes, {"x": [2, 3, 4]}, ["z"], {"ones": np.ones(4, np.float32)})
    seed, direction = normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)
    _, found = engine(model, executor).vjp({"x": X}, {"z": seed}, ["z"], ["x"], Pass("gradient"))

    def at(step):
        x = X.astype(np.float64) + step * direction
        mean, inverse = x.mean(-1, keepdims=True), 1 / np.sqrt(x.var(-1, keepdims=True) + 0.5)
        return np.vdot(seed, x + mean * inverse)

    expected = (at(1e-6) - at(-1e-6)) / 2e-6
    np.testing.assert_allclose(np.vdot(found["x"], direction), expected, rtol=1e-4)


def test_relevance_does_not_go_through_statistics():
    nodes = [
        node("LayerNormalization", ["x", "ones"], ["normed", "mean"]),
        node("Add", ["normed", "mean"], ["y"]),
    ]
    model = build(nodes, {"x": [2, 3, 4]}, ["y"], {"ones": np.ones(4, np.float32)})
    with pytest.raises(MissingRuleError, match=r"its mean or deviation \('mean'\) is used by itself"):
        relevance(model, X)


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([node("InstanceNormalization", ["x", "scale", "zero"], ["y"])], {"scale": 3, "zero": 3}),
        ([node("LayerNormalization", ["x", "scale"], ["y"])], {"scale": 4}),
        ([node("MeanVarianceNormalization", ["x"], ["y"], axes=[0, 2])], {}),
    ],
    ids=["instance", "layer", "mean variance"],
)
def test_without_a_bias_relevance_is_conserved(nodes, weights):
    arrays = {name: normal(n) * (name != "zero") for name, n in weights.items()}
    model = build(nodes, {"x": [2, 3, 4]}, ["y"], arrays)
    r = normal(2, 3, 4, seed=3)
    np.testing.assert_allclose(relevance(model, r)["x"].sum(), r.sum(), rtol=1e-3)


def test_the_sum_of_a_skip_carries_on_what_arrives():
    """What goes round the next block: its gradient as it comes, its relevance in proportion."""
    fused = node(
        "SkipLayerNormalization", ["x", "z", "scale"], ["normed", "", "", "y"], domain="com.microsoft"
    )
    z = normal(2, 3, 4, seed=4)
    imports = [helper.make_opsetid("com.microsoft", 1)]
    shapes = {"x": [2, 3, 4], "z": [2, 3, 4]}
    model = build([fused], shapes, ["y"], {"scale": np.ones(4, np.float32)}, opset_imports=imports)
    r = normal(2, 3, 4, seed=5)
    found = relevance(model, r, wrt=("x", "z"), feeds={"x": X, "z": z})
    total = X + z
    _, slopes = engine(model, "host").vjp({"x": X, "z": z}, {"y": r}, ["y"], ["x", "z"], Pass("gradient"))
    np.testing.assert_allclose(slopes["x"], r, rtol=1e-6)
    np.testing.assert_allclose(slopes["z"], r, rtol=1e-6)
    for name, part in (("x", X), ("z", z)):
        expected = part * r / (total + np.where(total >= 0, 1e-6, -1e-6))
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("executor", ["host", "compiled"])
@pytest.mark.parametrize("p", [1, 2])
def test_at_a_norm_of_0_the_gradient_is_0(p, executor):
    model = build([node("LpNormalization", ["x"], ["y"], p=p)], {"x": [2, 2]}, ["y"])
    x, seed = np.array([[0, 0], [3, 4]], np.float32), np.array([[1, 1], [1, 2]], np.float32)
    _, found = engine(model, executor).vjp({"x": x}, {"y": seed}, ["y"], ["x"], Pass("gradient"))
    np.testing.assert_array_equal(found["x"][0], [0, 0])
    assert found["x"][1].any()
