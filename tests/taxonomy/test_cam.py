"""Class activation maps against the papers' formulas, written a second time, plainly, in double precision."""

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper
from ops.tracing import traced

import onnxvis
from onnxvis.errors import TargetError, UnsupportedError, UsageError
from onnxvis.ops.host import HostOps
from onnxvis.taxonomy.deconvolutional import cam

X = normal(2, 3, 12, 12, seed=5)
UNITS = [3, 1]


@pytest.fixture(scope="module")
def model():
    return onnxvis.load(small_cnn(), threads=1)


def maps_and_gradients(model, layer):
    """What a layer answers, and the targets' gradients there, in double precision."""
    seed = np.zeros((2, 4), np.float32)
    seed[range(2), UNITS] = 1
    found = model.activations(X, [layer])[layer], model.vjp(X, {"logits": seed}, wrt=[layer])[layer]
    return [array.astype(np.float64) for array in found]


# ---- one sample's map: A and G are channels × height × width -------------------------------------


def gradcam(A, G):
    return sum(g.mean() * a for a, g in zip(A, G, strict=True))


def gradcam_plus_plus(A, G):
    """Place by place, as in equation 19 of the paper; a place without gradient has no weight."""
    total = np.zeros(A.shape[1:])
    for a, g in zip(A, G, strict=True):
        weight = 0.0
        for slope in g[g != 0]:
            weight += slope**2 / (2 * slope**2 + a.sum() * slope**3 + 1e-6) * max(slope, 0)
        total += weight * a
    return total


def xgradcam(A, G):
    return sum((g * a).sum() / (a.sum() + 1e-7) * a for a, g in zip(A, G, strict=True))


def hirescam(A, G):
    return sum(g * a for a, g in zip(A, G, strict=True))


def layercam(A, G):
    return sum(np.where(g > 0, g, 0) * a for a, g in zip(A, G, strict=True))


def eigencam(A, G):
    """The eigenvector of the channels' covariance with the largest eigenvalue, signed like the mean map."""
    columns = A.reshape(len(A), -1)
    _, vectors = np.linalg.eigh(np.cov(columns))
    found = (columns - columns.mean(axis=1, keepdims=True)).T @ vectors[:, -1]
    return (found * np.sign(np.corrcoef(found, columns.mean(axis=0))[0, 1])).reshape(A.shape[1:])


FORMULAS = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "xgradcam": xgradcam,
    "hirescam": hirescam,
    "layercam": layercam,
    "eigencam": eigencam,
}


@pytest.mark.parametrize("method", FORMULAS)
@pytest.mark.parametrize("layer", ["r1", "n1", "c2", "r2"])  # after a rectifier and before one
def test_formula(model, method, layer):
    A, G = maps_and_gradients(model, layer)
    expected = np.stack([FORMULAS[method](a, g) for a, g in zip(A, G, strict=True)])[:, None]
    e = model.explain(X, method, target=UNITS, layer=layer)
    assert e.layer == layer and e.values.dtype == np.float32
    np.testing.assert_allclose(e.values, expected, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(e.score, model.activations(X, ["logits"])["logits"][range(2), UNITS])
    assert e.heatmap().shape == (2, 12, 12)


@pytest.mark.parametrize("method", FORMULAS)
def test_the_last_spatial_layer_is_the_default(model, method):
    e = model.explain(X, method, target=UNITS)
    assert e.layer == "r2"
    np.testing.assert_array_equal(e.values, model.explain(X, method, target=UNITS, layer="relu2").values)


@pytest.mark.parametrize("method", FORMULAS)
def test_channels_last_and_one_axis(method):
    """A layer whose maps are N×H×W×C, and one that hears."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        node("Relu", ["t"], ["r"]),
        node("ReduceMean", ["r"], ["y"], axes=[1, 2], keepdims=0),
    ]
    last = onnxvis.load(build(nodes, {"x": ["N", 3, 8, 8]}, ["y"], {"w": normal(5, 3, 3, 3)}), threads=1)
    x = normal(2, 3, 8, 8)
    A = np.moveaxis(last.activations(x, ["r"])["r"], -1, 1).astype(np.float64)
    G = np.zeros_like(A)
    G[:, 1] = 1 / 36
    expected = np.stack([FORMULAS[method](a, g) for a, g in zip(A, G, strict=True)])[:, None]
    np.testing.assert_allclose(last.explain(x, method, 1, layer="r").values, expected, atol=1e-4)
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("ReduceMean", ["c"], ["y"], axes=[2], keepdims=0),
    ]
    sound = onnxvis.load(build(nodes, {"x": ["N", 2, 30]}, ["y"], {"w": normal(3, 2, 5)}), threads=1)
    e = sound.explain(normal(2, 2, 30), method)
    assert e.values.shape == (2, 1, 26) and e.heatmap().shape == (2, 30)


@pytest.mark.parametrize("method", FORMULAS)
def test_a_layer_without_positions_is_refused(model, method):
    with pytest.raises(TargetError, match="no spatial axes"):
        model.explain(X, method, layer="f")


# ---- what the papers promise ---------------------------------------------------------------------


def test_behind_the_last_maps_gradients_are_the_same_everywhere(model):
    """So that HiResCAM and XGrad-CAM are Grad-CAM there, and HiResCAM adds up to the score."""
    gradcam, xgradcam, hirescam = (
        model.explain(X, method, target=UNITS) for method in ("gradcam", "xgradcam", "hirescam")
    )
    np.testing.assert_allclose(hirescam.values, gradcam.values, atol=1e-6)
    np.testing.assert_allclose(xgradcam.values, gradcam.values, atol=1e-6)
    bias = model.engine.file_graph.constant("b3")[UNITS]
    np.testing.assert_allclose(hirescam.values.sum(axis=(1, 2, 3)) + bias, hirescam.score, atol=1e-5)


def test_xgradcam_conserves_what_hirescam_adds_up_to(model):
    """The axiom of conservation (Fu et al. 2020, equation 6)."""
    sums = [
        model.explain(X, method, target=UNITS, layer="r1").values.sum(axis=(1, 2, 3))
        for method in ("xgradcam", "hirescam")
    ]
    np.testing.assert_allclose(*sums, rtol=1e-4)


def test_layercam_of_a_rectified_layer_is_never_negative(model):
    assert model.explain(X, "layercam", target=UNITS, layer="r1").values.min() >= 0


# ---- principal components ------------------------------------------------------------------------


def pooled(channels):
    """Weightless: the maps are the input."""
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("GlobalAveragePool", ["r"], ["y"])]
    return onnxvis.load(build(nodes, {"x": ["N", channels, 4, 5]}, ["y"]), threads=1)


def test_eigencam_does_not_depend_on_the_target(model):
    first, other = (model.explain(X, "eigencam", target=unit).values for unit in (0, 3))
    np.testing.assert_array_equal(first, other)


def test_eigencam_finds_the_pattern_that_maps_share():
    pattern = np.abs(normal(4, 5))
    x = np.stack([k * pattern for k in (1.0, 3.0, 0.5)])[None].astype(np.float32)
    found = pooled(3).explain(x, "eigencam", layer="r").values[0, 0]
    np.testing.assert_allclose(found, np.sqrt(1 + 9 + 0.25) * (pattern - pattern.mean()), rtol=1e-4)


@pytest.mark.parametrize("seed", range(8))  # the decomposition gives one sign or the other
def test_eigencam_without_a_correlation_shows_the_largest_magnitude(seed):
    """Two maps whose mean is the same everywhere."""
    pattern = np.random.default_rng(seed).integers(0, 64, (4, 5)).astype(np.float32) / 64
    x = np.stack([1 + pattern, 1 - pattern])[None]
    found = pooled(2).explain(x, "eigencam", layer="r").values[0, 0]
    expected = np.sqrt(2) * (pattern - pattern.mean())
    expected *= np.sign(expected.flat[np.abs(expected).argmax()])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_eigencam_of_maps_without_a_pattern_is_zero():
    values = pooled(3).explain(np.ones((1, 3, 4, 5), np.float32), "eigencam", layer="r").values
    np.testing.assert_array_equal(values, np.zeros((1, 1, 4, 5)))


def test_eigencam_refuses_numbers_that_have_no_components():
    with pytest.raises(UnsupportedError, match=r"'eigencam' needs finite numbers, but 'r'"):
        pooled(3).explain(np.full((1, 3, 4, 5), np.inf, np.float32), "eigencam", layer="r")


# ---- Score-CAM -----------------------------------------------------------------------------------


def stretched(map, size):
    """Bilinear, corners on corners: along the rows, then along the columns."""
    for axis, length in enumerate(size):
        places = np.linspace(0, map.shape[axis] - 1, length)
        map = np.apply_along_axis(
            lambda line, at: np.interp(at, np.arange(len(line)), line), axis, map, places
        )
    return map


def scorecam(maps, x, score):
    """One channel at a time: ``score`` of what is left of the input x (C×…) under each map."""
    powers = []
    for a in maps:
        mask = stretched(a, x.shape[1:])
        mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
        powers.append(np.exp(score((x * mask).astype(np.float32))))
    return np.einsum("c,c...->...", powers, maps) / sum(powers)


@pytest.mark.parametrize("layer", ["r1", "c2", "r2"])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_scorecam(model, layer, batch):
    maps = model.activations(X, [layer])[layer].astype(np.float64)
    expected = [
        scorecam(a, x, lambda x, unit=unit: model.activations(x[None], ["logits"])["logits"][0, unit])
        for a, x, unit in zip(maps, X, UNITS, strict=True)
    ]
    e = model.explain(X, "scorecam", target=UNITS, layer=layer, batch=batch)
    assert e.layer == layer and e.heatmap().shape == (2, 12, 12)
    np.testing.assert_allclose(e.values[:, 0], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(e.score, model.activations(X, ["logits"])["logits"][range(2), UNITS])


def test_scorecam_of_scores_that_an_exponential_does_not_hold():
    """A softmax over scores of thousands."""
    x = 1e4 * np.abs(normal(1, 3, 4, 5))
    e = pooled(3).explain(x, "scorecam", 1)
    assert np.isfinite(e.values).all() and e.values.any()


def test_scorecam_of_a_channels_last_and_of_a_one_dimensional_input():
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"]),
        node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
    ]
    last = onnxvis.load(build(nodes, {"x": [1, 8, 7, 3]}, ["y"], {"w": normal(2, 3, 3, 3)}), threads=1)
    x = normal(1, 8, 7, 3)
    expected = scorecam(
        last.activations(x, ["c"])["c"][0],
        x[0].transpose(2, 0, 1),
        lambda x: last.activations(x.transpose(1, 2, 0)[None], ["y"])["y"][0, 1],
    )
    np.testing.assert_allclose(last.explain(x, "scorecam", 1).values[0, 0], expected, atol=1e-5)
    nodes = [node("Conv", ["x", "w"], ["c"]), node("ReduceMean", ["c"], ["y"], axes=[2], keepdims=0)]
    sound = onnxvis.load(build(nodes, {"x": ["N", 2, 30]}, ["y"], {"w": normal(3, 2, 5)}), threads=1)
    x = normal(1, 2, 30)
    expected = scorecam(
        sound.activations(x, ["c"])["c"][0], x[0], lambda x: sound.activations(x[None], ["y"])["y"][0, 2]
    )
    np.testing.assert_allclose(sound.explain(x, "scorecam", 2).values[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["scorecam", "guided_gradcam"])
def test_maps_have_to_lie_over_the_input(method):
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2], keepdims=0),
    ]
    weights = {"w": normal(3, 2, 5), "shape": np.array([0, 2, 16])}
    net = onnxvis.load(build(nodes, {"x": [1, 2, 4, 4]}, ["y"], weights), threads=1)
    with pytest.raises(UsageError, match=r"maps of shape .* cannot be laid over 'x' of shape"):
        net.explain(normal(1, 2, 4, 4), method)


# ---- Guided Grad-CAM -----------------------------------------------------------------------------


def half_pixel(map, size):
    """Bilinear, pixel centres at half-integers, edges clamped."""
    for axis, length in enumerate(size):
        old = map.shape[axis]
        places = ((np.arange(length) + 0.5) * old / length - 0.5).clip(0, old - 1)
        map = np.apply_along_axis(
            lambda line, at: np.interp(at, np.arange(len(line)), line), axis, map, places
        )
    return map


@pytest.mark.parametrize("layer", ["r1", "c2", "r2"])
def test_guided_gradcam(model, layer):
    A, G = maps_and_gradients(model, layer)
    maps = [half_pixel(np.maximum(gradcam(a, g), 0), (12, 12)) for a, g in zip(A, G, strict=True)]
    expected = model.explain(X, "guided_backprop", UNITS).values * np.stack(maps)[:, None]
    e = model.explain(X, "guided_gradcam", UNITS, layer=layer)
    assert e.layer == layer and e.values.shape == X.shape and e.values.dtype == np.float32
    np.testing.assert_allclose(e.values, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(e.heatmap(), np.abs(expected).max(axis=1), atol=1e-5 * np.abs(expected).max())


def test_guided_gradcam_runs_the_model_once(model, monkeypatch):
    runs, forward = [], model.engine.forward
    real = forward.run
    monkeypatch.setattr(forward, "run", lambda *args: runs.append(args) or real(*args))
    model.explain(X, "guided_gradcam", UNITS)
    assert len(runs) == 1


# ---- CAM -----------------------------------------------------------------------------------------


def test_cam_and_gradcam_agree_up_to_the_number_of_positions(model):
    """Selvaraju et al. 2017, section 3: for such a net Grad-CAM is CAM over the number of positions."""
    cam = model.explain(X, "cam", target=UNITS).values
    gradcam = model.explain(X, "gradcam", target=UNITS).values
    np.testing.assert_allclose(cam / 36, gradcam, atol=1e-5)


def test_cam_averages_to_the_score_without_bias(model):
    e = model.explain(X, "cam", target=UNITS)
    bias = model.engine.file_graph.constant("b3")[UNITS]
    np.testing.assert_allclose(e.values.mean(axis=(1, 2, 3)) + bias, e.score, atol=1e-5)


def test_cam_says_what_it_needs():
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    dense = onnxvis.load(build(nodes, {"x": [1, 3, 2, 2]}, ["y"], {"w": normal(12, 2)}), threads=1)
    with pytest.raises(UnsupportedError, match=r"needs global average pooling.*use 'gradcam'"):
        dense.explain(normal(1, 3, 2, 2), "cam")


def test_cam_heatmaps_are_scaled_and_resized(model):
    e = model.explain(X, "gradcam", target=UNITS)
    heat = e.heatmap()
    assert heat.shape == (2, 12, 12)
    assert heat.min() >= 0 and heat.max() <= 1
    cam = np.maximum(e.values[:, 0], 0)
    assert heat.max() <= 1.0 and (cam.max() == 0 or heat.max() > 0.5)


# ---- how exactly -----------------------------------------------------------------------------------


def on_host(formula, *arrays):
    return formula(HostOps(np.float32), *arrays)


@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "hirescam", "layercam"])
@pytest.mark.parametrize("run", [on_host, traced], ids=["host", "traced"])
def test_thousands_of_channels_are_added_up_without_loss(run, name):
    """Σ over 2048 channels that mostly cancel: one sum after the other is off by 1e-6."""
    found, exact = [], []
    for seed in range(4):
        maps = np.maximum(normal(1, 2048, 7, 7, seed=seed), 0)
        gradients = np.repeat(normal(1, 2048, 1, 1, seed=seed + 9), 49).reshape(maps.shape)
        found.append(run(cam.FORMULAS[name], maps, gradients))
        exact.append(cam.FORMULAS[name](HostOps(np.float64), *map(np.float64, (maps, gradients))))
    errors = [abs(a - b).max() / abs(b).max() for a, b in zip(found, exact, strict=True)]
    assert max(errors) <= 4e-7, errors


@pytest.mark.parametrize("channels", [1, 7, 24, 32])
@pytest.mark.parametrize("name", cam.FORMULAS)
def test_any_number_of_channels(name, channels):
    """In parts or not: as much as the channels one by one."""
    maps, gradients = normal(2, channels, 3, 2), normal(2, channels, 3, 2, seed=1)
    parts = [cam.FORMULAS[name](HostOps(np.float64), *(a[:, [c]].astype(float) for a in (maps, gradients)))
             for c in range(channels)]  # fmt: skip
    np.testing.assert_allclose(on_host(cam.FORMULAS[name], maps, gradients), sum(parts), rtol=1e-4, atol=1e-5)
