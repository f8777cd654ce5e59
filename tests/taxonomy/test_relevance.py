"""LRP as a method: its settings, and what the first layer's input can hold."""

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper

import onnxvis
from onnxvis.errors import UsageError
from onnxvis.rules.composites import COMPOSITES

X = np.random.default_rng(0).uniform(0, 1, (2, 3, 12, 12)).astype(np.float32)
BOX = "epsilon_gamma_box"


@pytest.fixture(scope="module")
def model():
    return onnxvis.load(small_cnn(), threads=1)


def box(model, x=X, **settings):
    return model.explain(x, "lrp", target=1, composite=BOX, **settings).values


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * abs(theirs).max())


@pytest.mark.parametrize("composite", COMPOSITES)
def test_samples_are_explained_by_themselves(model, composite):
    settings = {"low": 0, "high": 1} if composite == BOX else {}
    both = model.explain(X, "lrp", target=1, composite=composite, **settings).values
    alone = [model.explain(x[None], "lrp", target=1, composite=composite, **settings).values for x in X]
    close(both, np.concatenate(alone))


def test_bounds_come_in_many_shapes(model):
    low, high = np.array([-1.0, -0.5, 0.0]), np.array([1.0, 2.0, 3.0])
    expected = box(model, low=low, high=high)
    for shape in ((1, 3, 1, 1), (3, 1, 1)):
        close(box(model, low=low.reshape(shape), high=high.reshape(shape).tolist()), expected)
    full = [np.broadcast_to(bound.reshape(3, 1, 1), X.shape) for bound in (low, high)]
    close(box(model, low=full[0], high=full[1]), expected)


def test_bounds_are_those_of_the_preprocess(model):
    with pytest.raises(UsageError, match="zbox needs low= and high="):
        box(model)  # nothing says what 0..1 means to this model
    told = onnxvis.load(small_cnn(), threads=1, preprocess={"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]})
    mean = np.array([0.1, 0.2, 0.3])
    close(box(told), box(model, low=-mean / 0.5, high=(1 - mean) / 0.5))
    close(box(told, high=9.0), box(model, low=-mean / 0.5, high=9.0))


def test_bounds_go_through_what_comes_before_the_first_layer():
    """A net that takes N×H×W×C and scales it by itself is the net that takes the result."""
    weights = {"w": normal(4, 3, 3, 3), "scale": np.float32([-2, 3, 4])}
    make = helper.make_node
    tail = [
        make("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
        make("Relu", ["c"], ["r"]),
        make("ReduceMean", ["r"], ["y"], axes=[2, 3], keepdims=0),
    ]
    head = [make("Mul", ["x", "scale"], ["b"]), make("Transpose", ["b"], ["t"], perm=[0, 3, 1, 2])]
    whole = onnxvis.load(build([*head, *tail], {"x": [2, 6, 6, 3]}, ["y"], weights), threads=1)
    inner = onnxvis.load(build(tail, {"t": [2, 3, 6, 6]}, ["y"], {"w": weights["w"]}), threads=1)
    x = np.random.default_rng(1).uniform(0.1, 1, (2, 6, 6, 3)).astype(np.float32)
    low, high = np.array([-0.5, 0.1, 0.0]), np.array([1.0, 1.1, 1.2])
    ends = [bound * weights["scale"] for bound in (low, high)]
    t = (x * weights["scale"]).transpose(0, 3, 1, 2)
    expected = box(inner, t, low=np.minimum(*ends), high=np.maximum(*ends)).transpose(0, 2, 3, 1)
    close(box(whole, x, low=low, high=high), expected)


def test_inputs_beyond_the_bounds_are_warned_about(model):
    with pytest.warns(UserWarning, match="the input goes from .* beyond low and high: the rule zbox"):
        box(model, low=0.25, high=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 1, "high": 0}, "low is above high"),
        (
            {"low": [1, 2], "high": 3},
            r"low has shape \(2,\), which does not fit the input's \(2, 3, 12, 12\)",
        ),
        ({"low": "dark", "high": 3}, "low is a number, one a channel or an array, not 'dark'"),
        ({"low": 0, "high": 1, "gamma": -1}, "gamma must be a number from 0"),
        ({"composite": "epsilon", "gamma": 1}, "no rule of the composite 'epsilon' takes 'gamma'"),
        ({"composite": "epsilon", "low": 1}, "no rule of the composite 'epsilon' takes 'low'"),
        ({"composite": "none.toml"}, "cannot read composite file 'none.toml'"),
        ({"composite": "epsilon", "seed": "logits"}, "seed is 'logit' or 'one'"),
    ],
)
def test_settings_are_checked(model, settings, message):
    with pytest.raises(UsageError, match=message):
        model.explain(X, "lrp", **{"composite": BOX, **settings})


def test_excitation_backprop_is_a_composite(model):
    ours = model.explain(X, "excitation_backprop", target=1)
    theirs = model.explain(X, "lrp", target=1, composite="excitation_backprop", seed="one")
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert (ours.values >= 0).all()
    with pytest.raises(UsageError, match="seed is 'logit' or 'one'"):
        model.explain(X, "excitation_backprop", seed=1)


def test_a_composite_from_a_file(model, tmp_path):
    file = tmp_path / "flat.toml"
    file.write_text(
        "[[rows]]\nlayer = 'convolution'\nrule = 'flat'\n[[rows]]\nlayer = 'dense'\nrule = 'epsilon'"
    )
    found = model.explain(X, "lrp", target=1, composite=str(file)).values
    assert np.isfinite(found).all() and abs(found).max() > 0


def test_a_relu_pass_and_a_convolution_pass_for_any_range_of_layers(model):
    """FeatureVis' free combination."""
    seed = {"logits": np.eye(4, dtype=np.float32)[[0, 1]]}

    def walked(rows):
        return model.vjp(X, seed, onnxvis.Composite(rows, default="gradient"))["x"]

    relu, conv = ({"operator": "Relu", "after": "conv2"}, "guided_backprop"), ("Conv", "epsilon")
    mixed = walked([relu, conv])
    for other in ([relu], [conv], [("Relu", "guided_backprop"), conv], []):
        assert np.abs(mixed - walked(other)).max() > 1e-4
    close(walked([("Relu", "guided_backprop")]), model.vjp(X, seed, "guided_backprop")["x"])
