"""The conservation report: what arrives, what is passed on, what is absorbed."""

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper

import onnxvis
from onnxvis.errors import UnknownNameError
from onnxvis.rules.composites import COMPOSITES

X = normal(3, 3, 12, 12, seed=5)


@pytest.fixture(scope="module")
def model():
    return onnxvis.load(small_cnn(), threads=1)


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("seed", ["logit", "one"])
def test_nothing_goes_astray(model, composite, seed):
    settings = {"low": -6, "high": 6} if composite == "epsilon_gamma_box" else {}
    report = model.conservation(X, composite=composite, seed=seed, **settings)
    e = model.explain(X, "lrp", composite=composite, seed=seed, **settings)
    assert report.seed == pytest.approx(e.score.sum() if seed == "logit" else 3, rel=1e-5)
    assert report.relevance == pytest.approx(e.values.sum(), rel=1e-3, abs=1e-3)
    assert report.error <= 1e-9 * max(1, abs(report.seed))
    names = ["conv1 + bn1", "relu1", "pool1", "conv2", "relu2", "gap", "flatten", "dense"]
    assert [layer.name for layer in report.layers] == names
    for layer, earlier in zip(report.layers[1:], report.layers, strict=False):
        assert layer.sent == pytest.approx(earlier.arrived, rel=1e-9, abs=1e-9)


def test_what_a_bias_absorbs():
    """y = Wx + b by the epsilon rule: b's part of y stays."""
    w, b, x = normal(4, 3), normal(3), normal(2, 4)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="dense")]
    model = onnxvis.load(build(nodes, {"x": ["N", 4]}, ["y"], {"w": w, "b": b}), threads=1)
    (layer,) = model.conservation(x, 1, composite="epsilon").layers
    assert (layer.name, layer.operator, layer.rule) == ("dense", "Gemm", "epsilon")
    assert layer.arrived == pytest.approx((x @ w + b)[:, 1].sum(), rel=1e-5)
    assert layer.absorbed == pytest.approx(2 * b[1], rel=1e-4)


def test_sums_over_a_fixed_batch_are_those_of_one_batch(model):
    one = onnxvis.load(small_cnn(1), threads=1)
    ours, theirs = (m.conservation(X, [0, 1, 2]) for m in (one, model))
    assert [layer.sent for layer in ours.layers] == pytest.approx([layer.sent for layer in theirs.layers])
    assert ours.relevance == pytest.approx(theirs.relevance)


def test_branches_are_told_apart():
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Add", ["r", "c"], ["s"], name="add"),
        node("ReduceMean", ["s"], ["y"], name="mean", axes=[2, 3], keepdims=0),
    ]
    model = onnxvis.load(build(nodes, {"x": [1, 2, 3, 3]}, ["y"], {"w": normal(2, 2, 1, 1)}), threads=1)
    found = {layer.name: layer for layer in model.conservation(normal(1, 2, 3, 3)).layers}
    assert found["add"].sent == pytest.approx(found["mean"].arrived, rel=1e-4)
    assert found["relu"].arrived != pytest.approx(found["add"].sent, rel=1e-2)
    assert found["conv"].arrived == pytest.approx(found["add"].sent, rel=1e-9)


def test_the_report_prints_and_plots(model):
    report = model.conservation(X, composite="epsilon")
    lines = str(report).splitlines()
    assert len(lines) == len(report.layers) + 2 and lines[-1].startswith("seed ")
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs the extra 'plot'")
    pyplot.switch_backend("Agg")
    axes = report.plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == [layer.name for layer in report.layers]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [layer.arrived for layer in report.layers])
    pyplot.close("all")


def test_settings_are_those_of_lrp(model):
    with pytest.raises(UnknownNameError, match="no setting of lrp 'composit'"):
        model.conservation(X, composit="epsilon")
