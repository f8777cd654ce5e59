"""Quantised nets: explained as the float net that they stand for, with the forward pass that is deployed."""

import functools

import models
import numpy as np
import onnx
import pytest
from onnx import helper

import onnxvis
from onnxvis.engine.plan import Pass
from onnxvis.graph.analysis import logits
from onnxvis.rules.composites import COMPOSITES

quantization = pytest.importorskip("onnxruntime.quantization")

FORMATS = ("QDQ", "QOperator")
STATIC = [(form, dtype, per) for form in FORMATS for dtype in ("QUInt8", "QInt8") for per in (False, True)]
VARIANTS = [*STATIC, ("dynamic", "QUInt8", False), ("dynamic", "QInt8", False)]
METHODS = ("gradient", "guided_backprop", "deconvnet", "lrp")


def feeds(seed=100):
    return models.normal(1, 3, 12, 12, seed=seed)


class Calibration(quantization.CalibrationDataReader):
    def __init__(self):
        self.given = iter([{"x": feeds(seed)} for seed in range(24)])

    def get_next(self):
        return next(self.given, None)


@functools.cache
def quantized(folder, variant):
    """The small CNN, quantised by onnxruntime: BatchNormalization folded first, and weights in the reduced
    range of 7 bits, as its guide says (``models.bytes_saturate``).
    """
    form, dtype, per_channel = variant
    float_file, plain = folder / "float.onnx", folder / "plain.onnx"
    onnx.save(models.small_cnn(1), float_file)
    options = quantization.quant_pre_process
    options(str(float_file), str(plain), skip_symbolic_shape=True)
    path = folder / f"{form}_{dtype}_{per_channel}.onnx"
    if form == "dynamic":
        kind = getattr(quantization.QuantType, dtype)
        quantization.quantize_dynamic(plain, path, weight_type=kind, reduce_range=True)
    else:
        quantization.quantize_static(
            plain, path, Calibration(), quant_format=quantization.QuantFormat[form], per_channel=per_channel,
            activation_type=quantization.QuantType[dtype], weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quantized")


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}-{v[1]}-{'channels' if v[2] else 'tensor'}")
def path(request, folder):
    return quantized(folder, request.param)


def float_net():
    return onnxvis.load(models.small_cnn(1), threads=1)


def cosine(a, b):
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("method", METHODS)
def test_explanations_are_those_of_the_float_net(path, method):
    net = onnxvis.load(path, threads=1)
    found, expected = [], []
    for seed in range(200, 210):
        theirs = float_net().explain(feeds(seed), method)
        found.append(net.explain(feeds(seed), method, target=theirs.target.unit).values)
        expected.append(theirs.values)
    assert cosine(found, expected) > 0.97


@pytest.mark.parametrize("method", [*METHODS, *COMPOSITES])
def test_compiled_is_host(path, method):
    settings = {}
    if method in COMPOSITES:
        settings = {"composite": method, "low": -4.0, "high": 4.0} if method.endswith("box") else {
            "composite": method
        }  # fmt: skip
        method = "lrp"
    ours, theirs = (
        onnxvis.load(path, threads=1, executor=executor).explain(feeds(), method, target=1, **settings).values
        for executor in ("compiled", "host")
    )
    assert np.isfinite(ours).all()
    assert abs(theirs).max() > 0
    assert abs(ours - theirs).max() <= 2e-5 * abs(theirs).max()


@pytest.mark.parametrize("method", ["gradcam", "cam", "input_x_gradient", "occlusion"])
def test_other_methods_run(path, method):
    settings = {"size": 6, "stride": 6} if method == "occlusion" else {}
    ours = onnxvis.load(path, threads=1).explain(feeds(), method, target=1, **settings)
    theirs = float_net().explain(feeds(), method, target=1, **settings)
    assert cosine(ours.heatmap(), theirs.heatmap()) > 0.9
    assert ours.values.shape == theirs.values.shape


@pytest.mark.parametrize("method", ["gradient", "deconvnet", "zplus", "epsilon"])
def test_the_forward_pass_is_the_deployed_one(path, method):
    """What rules read does not change what onnxruntime fuses: the answer is the model's own, to the bit."""
    net, x = onnxvis.load(path, threads=1), {"x": feeds()}
    executor = net.engine.backward(x, Pass(method), [logits(net.graph)], ["x"])
    record = net.engine.run(x, [*executor.needs, "probabilities"])
    np.testing.assert_array_equal(record["probabilities"], net.run(x)["probabilities"])
    if "dynamic" not in path.name:  # where the real numbers never exist
        assert all(record[name].dtype.kind in "iu" for name in executor.needs)


def test_relevance_is_conserved(path):
    report = onnxvis.load(path, threads=1).conservation(feeds(), target=1)
    assert report.error <= 1e-5 * abs(report.seed)


# ---- by hand -------------------------------------------------------------------------------------

RNG = np.random.default_rng(3)
SCALES = {"x": 0.03, "w1": 0.02, "h": 0.05, "w2": RNG.uniform(0.01, 0.02, 5), "y": 0.08}
ZEROS = {"x": 120, "w1": 0, "h": 0, "w2": 0, "y": 130}  # h starts at 0: a rectifier
SHAPES = {"1": (6, 4), "2": (5, 6)}
WEIGHTS = {f"w{i}": RNG.integers(-90, 90, shape).astype(np.int8) for i, shape in SHAPES.items()}
BIASES = {f"b{i}": RNG.integers(-4000, 4000, shape[0]).astype(np.int32) for i, shape in SHAPES.items()}


def two_layers():
    """QuantizeLinear, two pointwise QLinearConv with a folded Relu between, DequantizeLinear."""
    weights = {f"{n}_s": np.float32(s) for n, s in SCALES.items()}
    weights |= {f"{n}_z": np.asarray(z, np.int8 if n[0] == "w" else np.uint8) for n, z in ZEROS.items()}
    weights["w2_z"] = np.zeros(5, np.int8)
    weights |= {n: w[..., None, None] for n, w in WEIGHTS.items()} | BIASES

    def convolution(x, w, b, y, source):
        triples = [n for name in (x, w) for n in (source if name == x else w, f"{name}_s", f"{name}_z")]
        return helper.make_node("QLinearConv", [*triples, f"{y}_s", f"{y}_z", b], [f"{y}q"], name=w)

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["xq"]),
        convolution("x", "w1", "b1", "h", "xq"),
        convolution("h", "w2", "b2", "y", "hq"),
        helper.make_node("DequantizeLinear", ["yq", "y_s", "y_z"], ["y"]),
    ]
    return models.build(nodes, {"x": [1, 4, 3, 3]}, ["y"], weights)


def scale(name):
    """As the file holds it; a column where there is one for each channel."""
    array = np.asarray(np.float32(SCALES[name]), np.float64)
    return array.reshape(-1, 1) if array.ndim else array


def real(name, whole):
    return (whole.astype(float) - ZEROS[name]) * scale(name)


@pytest.fixture
def by_hand():
    """The net, its input, a seed, and the real numbers of its layers in float64: 4, 6 and 5 by position."""
    net = onnxvis.load(two_layers(), threads=1)
    x = RNG.normal(0, 1.2, (1, 4, 3, 3)).astype(np.float32)
    found = net.activations(x, ["xq", "hq"])
    kept = {name: array.reshape(array.shape[1], -1) for name, array in found.items()}
    w1, w2 = real("w1", WEIGHTS["w1"]), real("w2", WEIGHTS["w2"])
    units = (scale("x") * scale("w1"), (scale("h") * scale("w2")).ravel())
    biases = [b * unit for b, unit in zip(BIASES.values(), units, strict=True)]
    seed = RNG.normal(size=(5, 9))
    return net, x, seed, (real("x", kept["xq"]), real("h", kept["hq"])), (w1, w2), biases


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "deconvnet"])
def test_straight_through_by_hand(by_hand, method):
    net, x, seed, (_, h), (w1, w2), _ = by_hand
    assert 0.2 < (h > 0).mean() < 0.8
    g = w2.T @ seed
    g = {
        "gradient": g * (h > 0), "guided_backprop": np.maximum(g, 0) * (h > 0), "deconvnet": np.maximum(g, 0)
    }[method]  # fmt: skip
    found = net.vjp(x, {"y": seed.reshape(1, 5, 3, 3).astype(np.float32)}, method)["x"]
    np.testing.assert_allclose(found.reshape(4, 9), w1.T @ g, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["epsilon", "zplus"])
def test_relevance_by_hand(by_hand, rule):
    net, x, seed, data, weights, biases = by_hand
    r = seed
    for a, w, b in zip(data[::-1], weights[::-1], biases[::-1], strict=True):
        parts = w[:, :, None] * a[None]  # output × input × position
        b = np.asarray(b)
        if rule == "zplus":
            parts, b = np.maximum(parts, 0), np.maximum(b, 0)
        z = parts.sum(axis=1) + b[:, None]
        r = (parts * (r / (z + np.where(z >= 0, 1e-6, -1e-6)))[:, None]).sum(axis=0)
    found = net.vjp(x, {"y": seed.reshape(1, 5, 3, 3).astype(np.float32)}, rule)["x"]
    np.testing.assert_allclose(found.reshape(4, 9), r, rtol=1e-3, atol=1e-3 * abs(r).max())


def test_a_unit_of_whole_numbers_is_a_target(by_hand):
    """Its derivative is in units of the whole number."""
    net, x, *_ = by_hand
    seed = np.ones((1, 5, 3, 3), np.float32)
    real_units = net.vjp(x, {"y": seed})["x"]
    whole_units = net.vjp(x, {"yq": seed})["x"]
    np.testing.assert_allclose(whole_units * np.float32(SCALES["y"]), real_units, rtol=1e-5, atol=1e-6)
    assert net.explain(x, "gradient", onnxvis.Target("yq", unit=2)).values.shape == x.shape


def test_scales_are_no_signal():
    """Where a layer's whole numbers are read twice, its Mul by the scales stays; they get no share."""
    make = helper.make_node
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        make("MatMulInteger", ["xq", "w", "xz"], ["yi"]),
        make("Mul", ["xs", "ws"], ["scales"]),
        make("Cast", ["yi"], ["yf"], to=onnx.TensorProto.FLOAT),
        make("Mul", ["yf", "scales"], ["y"]),
        make("Neg", ["yf"], ["other"]),
    ]
    weights = {"w": np.array([[3, -2], [5, 7], [-4, 1]], np.int8), "ws": np.float32(0.5)}
    x, seed = np.array([[1.0, -0.5, 0.25]], np.float32), np.array([[1.0, 2.0]], np.float32)
    plain, read_twice = (
        onnxvis.load(models.build(part, {"x": [1, 3]}, outputs, weights), threads=1)
        for part, outputs in ((nodes[:-1], ["y"]), (nodes, ["y", "other"]))
    )
    expected = plain.vjp(x, {"y": seed}, "epsilon")["x"]
    np.testing.assert_allclose(expected.sum(), 3, rtol=1e-5)
    np.testing.assert_allclose(read_twice.vjp(x, {"y": seed}, "epsilon")["x"], expected, rtol=1e-5)
    gradient = plain.vjp(x, {"y": seed})["x"]
    np.testing.assert_allclose(gradient, seed @ weights["w"].T.astype(np.float32) * 0.5, rtol=1e-5)
    np.testing.assert_allclose(read_twice.vjp(x, {"y": seed})["x"], gradient, rtol=1e-5)


def test_scores_may_be_whole_numbers():
    model = two_layers()
    del model.graph.node[-1], model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("yq", onnx.TensorProto.UINT8, [1, 5, 3, 3]))
    net, x = onnxvis.load(model, threads=1), RNG.normal(0, 1.2, (1, 4, 3, 3)).astype(np.float32)
    for method in (*METHODS, "gradcam", "occlusion"):
        e = net.explain(x, method, target=2, **({"size": 2, "stride": 1} if method == "occlusion" else {}))
        assert e.score == net.run(x)["yq"][0, 2].sum()
        assert abs(e.values).max() > 0


def test_weights_and_activations_in_bfloat16():
    """What onnxruntime runs of it on a CPU: casts to and fro, and what moves numbers."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    make, half = helper.make_node, onnx.TensorProto.BFLOAT16
    nodes = [
        make("Cast", ["wb"], ["w"], to=onnx.TensorProto.FLOAT),
        make("Cast", ["x"], ["xb"], to=half),
        make("Transpose", ["xb"], ["t"], perm=[0, 1, 3, 2]),
        make("Cast", ["t"], ["xf"], to=onnx.TensorProto.FLOAT),
        make("Conv", ["xf", "w"], ["c"]),
        make("Relu", ["c"], ["r"]),
        make("GlobalAveragePool", ["r"], ["y"]),
    ]
    weight = models.normal(4, 3, 3, 3).astype(ml_dtypes.bfloat16)
    x, seed = models.normal(1, 3, 8, 8), np.float32([[[[1]], [[0]], [[-1]], [[2]]]])
    single = [
        make("Transpose", ["x"], ["xf"], perm=[0, 1, 3, 2]),
        *(node for node in nodes if node.op_type not in ("Cast", "Transpose")),
    ]
    plain = models.build(single, {"x": x.shape}, ["y"], {"w": weight.astype(np.float32)})
    rounded = models.build(nodes, {"x": x.shape}, ["y"], {"wb": weight})
    x = x.astype(ml_dtypes.bfloat16).astype(np.float32)  # so that the casts change nothing
    for method in ("gradient", "zplus"):
        expected = onnxvis.load(plain, threads=1).vjp(x, {"y": seed}, method)["x"]
        for executor in ("compiled", "host"):
            found = onnxvis.load(rounded, threads=1, executor=executor).vjp(x, {"y": seed}, method)["x"]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
