"""Methods against formulas written a second time, plainly."""

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper

import onnxvis
from onnxvis.errors import UsageError
from onnxvis.graph.ir import Graph
from onnxvis.rules import Composite

X = normal(2, 3, 12, 12, seed=5)
UNITS = [3, 1]


@pytest.fixture(scope="module")
def model():
    return onnxvis.load(small_cnn(), threads=1)


def score(model, x):
    return model.activations(x, ["logits"])["logits"][range(len(x)), UNITS]


# ---- deconvolutional -----------------------------------------------------------------------------


def test_input_x_gradient(model):
    gradient = model.explain(X, "gradient", target=UNITS).values
    np.testing.assert_allclose(
        model.explain(X, "input_x_gradient", target=UNITS).values, X * gradient, rtol=1e-6
    )


def test_lrp_shares_out_the_score(model):
    """Relevance sums to the score, up to what biases absorb; without biases, exactly."""
    weights = {"w": normal(5, 3, 3, 3), "v": normal(5 * 144, 2, scale=0.1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    plain = onnxvis.load(build(nodes, {"x": ["N", 3, 12, 12]}, ["y"], weights), threads=1)
    for composite in ("epsilon", "epsilon_plus"):
        e = plain.explain(X, "lrp", composite=composite)
        np.testing.assert_allclose(e.values.reshape(2, -1).sum(axis=1), e.score, rtol=1e-3)
        one = plain.explain(X, "lrp", composite=composite, seed="one")
        np.testing.assert_allclose(one.values * e.score.reshape(2, 1, 1, 1), e.values, atol=1e-4)


def test_lrp_settings_are_checked(model):
    for settings in ({"seed": "two"}, {"epsilon": 0}, {"epsilon": "big"}, {"composite": 3}):
        with pytest.raises(UsageError):
            model.explain(X, "lrp", **settings)


# ---- input modification --------------------------------------------------------------------------


def brute_force(model, size, stride, fill):
    """One box at a time, written as plainly as it gets."""
    whole = score(model, X)
    total, count = np.zeros(X.shape), np.zeros(X.shape)
    positions = [
        (top, left)
        for top in range(0, max(12 - size[0], 0) + stride[0], stride[0])
        for left in range(0, max(12 - size[1], 0) + stride[1], stride[1])
    ]
    for top, left in positions:
        box = (slice(None), slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
        covered = X.copy()
        covered[box] = fill
        total[box] += (whole - score(model, covered)).reshape(2, 1, 1, 1)
        count[box] += 1
    return total / count


@pytest.mark.parametrize(
    ("size", "stride"), [((4, 4), (4, 4)), ((4, 4), (2, 2)), ((5, 3), (3, 2)), ((7, 12), (5, 1))]
)
@pytest.mark.parametrize("batch", [1, 16])
def test_occlusion(model, size, stride, batch):
    e = model.explain(X, "occlusion", target=UNITS, size=size, stride=stride, fill=0.5, batch=batch)
    np.testing.assert_allclose(e.values, brute_force(model, size, stride, 0.5), atol=1e-5)


def test_occlusion_fills(model):
    colour = np.array([0.1, -0.2, 0.3], np.float32)
    e = model.explain(X, "occlusion", target=UNITS, size=4, stride=4, fill=colour.tolist())
    np.testing.assert_allclose(
        e.values, brute_force(model, (4, 4), (4, 4), colour.reshape(1, 3, 1, 1)), atol=1e-5
    )
    e = model.explain(X, "occlusion", target=UNITS, size=4, stride=4, fill="mean")
    means = X.mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(e.values, brute_force(model, (4, 4), (4, 4), means), atol=1e-5)
    first, again, other = (
        model.explain(X, "occlusion", target=UNITS, size=4, fill="random", random_state=seed).values
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_occlusion_over_several_sizes_averages_normalised_maps(model):
    single = [model.explain(X, "occlusion", target=UNITS, size=k, stride=2).values for k in (3, 5)]
    expected = np.mean([m / np.abs(m).max(axis=(1, 2, 3), keepdims=True) for m in single], axis=0)
    np.testing.assert_allclose(
        model.explain(X, "occlusion", target=UNITS, size=[3, 5], stride=2).values, expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "settings",
    [{"size": 0}, {"size": 13}, {"size": 2, "stride": 3}, {"size": (1, 2, 3)}, {"fill": "grey"},
     {"fill": [1, 2]}, {"size": [2, 3], "stride": [1, 1, 1]}],
)  # fmt: skip
def test_occlusion_settings_are_checked(model, settings):
    with pytest.raises(UsageError):
        model.explain(X, "occlusion", **settings)


def test_occlusion_keeps_the_other_inputs_of_each_sample():
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["p"]),
        helper.make_node("ReduceSum", ["p"], ["y"], axes=[1, 2, 3], keepdims=0),
    ]
    shapes = {"x": ["N", 3, 6, 6], "gain": ["N", 1, 1, 1]}
    net = onnxvis.load(build(nodes, shapes, ["y"], opset=11), threads=1)
    feeds = {"x": normal(2, 3, 6, 6), "gain": np.array([2, -3], np.float32).reshape(2, 1, 1, 1)}
    found = net.explain(feeds, "occlusion", size=1, stride=1).values
    expected = (feeds["gain"] * feeds["x"]).sum(axis=1, keepdims=True)  # a box covers all channels
    np.testing.assert_allclose(found, np.repeat(expected, 3, axis=1), atol=1e-4)


def test_occlusion_of_a_channels_last_and_of_a_one_dimensional_input():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
    ]
    last = onnxvis.load(build(nodes, {"x": [1, 8, 8, 3]}, ["y"], {"w": normal(2, 3, 3, 3)}), threads=1)
    values = last.explain(normal(1, 8, 8, 3), "occlusion", size=2, stride=2).values
    assert values.shape == (1, 8, 8, 3)
    assert np.ptp(values, axis=3).max() < 1e-6  # a box covers all channels
    assert np.ptp(values[..., 0]) > 1e-4
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2], keepdims=0),
    ]
    sound = onnxvis.load(build(nodes, {"x": ["N", 2, 30]}, ["y"], {"w": normal(3, 2, 5)}), threads=1)
    e = sound.explain(normal(2, 2, 30), "occlusion", size=6, stride=3)
    assert e.heatmap().shape == (2, 30)


# ---- again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("gradient", {}),
        ("gradcam", {}),
        ("guided_gradcam", {}),
        ("lrp", {"composite": "epsilon_gamma_box", "low": -9.0, "high": 9.0}),
    ],
)
def test_a_second_explanation_searches_no_graph(model, monkeypatch, method, settings):
    """What only depends on the graph was found for the first: on small nets it would take the longest."""
    first = model.explain(X, method, UNITS, **settings).values

    def search(*_):
        raise AssertionError("the graph is searched again")

    for name in ("ancestors", "tensor"):
        monkeypatch.setattr(Graph, name, search)
    monkeypatch.setattr(Composite, "on", search)
    np.testing.assert_array_equal(model.explain(X, method, UNITS, **settings).values, first)


def test_an_outcome_has_the_score_of_its_record(model):
    """Of whichever is given; for the last one it is computed once."""
    wanted = onnxvis.target.normal(UNITS, model.names)
    case = model._cases.case(onnxvis.inputs.Batch({"x": X}), "x", wanted)
    records = [model.engine.run({"x": x}, case.aim.reads) for x in (X, 2 * X)]
    for record, x in zip((*records, records[0]), (X, 2 * X, X), strict=True):
        found = case.outcome(X, record)
        np.testing.assert_allclose(found.score, score(model, x), rtol=1e-5)
        assert case.outcome(X, record).score is found.score
