"""Prediction and explanation as one ONNX model, against what the library computes with two sessions."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from models import build, normal, shared, small_cnn
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

import onnxvis
from onnxvis.cli import main
from onnxvis.deployment import exportable, verification
from onnxvis.deployment.pictures import prepare
from onnxvis.errors import OutputError, TargetError, UnknownNameError, UnsupportedError, UsageError
from onnxvis.images import LABELS_KEY, PREPROCESS_KEY, Preprocess
from onnxvis.rules import registry
from onnxvis.rules.composites import COMPOSITES

# Methods that are no single graph: those that run the model many times over.
REFUSED = {"occlusion", "eigencam", "scorecam"}


def unfused_cnn(samples="N"):
    """As a new exporter writes a net: batch norms apart, weights named, a skip, several pools, opset 18."""
    weights = {"w1": normal(16, 3, 3, 3), "w2": normal(16, 16, 3, 3, scale=0.2), "w3": normal(10, 16)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        *batch_norm_and_relu("c1", 16, weights),
        node("MaxPool", ["c1 relu"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["p", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        *batch_norm_and_relu("c2", 16, weights),
        node("Add", ["c2 relu", "p"], ["skip"]),
        node("ReduceMean", ["skip", "axes"], ["g"], keepdims=0),
        node("MatMul", ["g", "w3 transposed"], ["scores"]),
        node("Transpose", ["w3"], ["w3 transposed"]),
    ]
    nodes[-2:] = nodes[-2:][::-1]
    weights["axes"] = np.array([2, 3])
    return build(nodes, {"x": [samples, 3, 24, 24]}, {"scores": [samples, 10]}, weights, opset=18)


def batch_norm_and_relu(name, channels, weights):
    random = np.random.default_rng(len(weights))
    parameters = [f"{name} {key}" for key in ("scale", "bias", "mean", "var")]
    for key in parameters:
        weights[key] = random.uniform(0.5, 1.5, channels).astype(np.float32)
    yield helper.make_node("BatchNormalization", [name, *parameters], [f"{name} normal"])
    yield helper.make_node("Relu", [f"{name} normal"], [f"{name} relu"])


def answers(path, feeds, folder=None):
    """The outputs of an exported model by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def assert_same(found, e, **more):
    for name, wanted in {"explanation": e.values, "heatmap": e.heatmap(), "score": e.score, **more}.items():
        if name in found:
            assert verification.difference(found[name], wanted) <= 1e-6, name


@pytest.fixture
def path(tmp_path):
    return tmp_path / "explained.onnx"


# ---- every method, any batch ---------------------------------------------------------------------


def test_every_method_is_exported_or_refused():
    methods = {m.name for m in onnxvis.methods().values() if m.category != "input reconstruction"}
    assert set(exportable()) | REFUSED == methods


@pytest.mark.parametrize("net", [small_cnn, unfused_cnn])
@pytest.mark.parametrize("method", exportable())
def test_any_batch(method, net, path):
    model = onnxvis.load(net())
    written = model.export(path, method, outputs=["explanation", "heatmap", "score", "unit"])
    assert max(written.difference.values()) <= 1e-6
    size = model.inputs[0].shape[2]
    for count in (1, 2, 5):
        x = normal(count, 3, size, size, seed=count)
        found, e = answers(path, {"x": x}), model.explain(x, method)
        assert_same(found, e, unit=np.array(e.target.unit), **model.run(x))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_composites(composite, path):
    model = onnxvis.load(unfused_cnn())
    bounds = {"low": -4.0, "high": 4.0} if "box" in composite else {}
    written = model.export(path, "lrp", 3, composite=composite, seed="one", **bounds)
    assert max(written.difference.values()) <= 1e-6


@pytest.mark.parametrize("method", ["lrp", "gradcam"])
def test_onnx_reference(method, path):
    model, x = onnxvis.load(small_cnn()), normal(2, 3, 12, 12)
    model.export(path, method)
    session = ReferenceEvaluator(str(path))
    found = dict(zip(session.output_names, session.run(None, {"x": x}), strict=True))
    e = model.explain(x, method)
    assert verification.difference(found["explanation"], e.values) < 1e-5
    assert verification.difference(found["heatmap"], e.heatmap()) < 1e-5


def test_fixed_batch(path):
    model = onnxvis.load(small_cnn(2))
    assert model.export(path, "gradient").inputs[0].shape == (2, 3, 12, 12)
    x = normal(2, 3, 12, 12)
    assert_same(answers(path, {"x": x}), model.explain(x, "gradient"))
    with pytest.raises(UsageError, match="takes 2 sample"):
        model.export(path, "gradient", batch=3, force=True)
    free = onnxvis.load(small_cnn())
    assert free.export(path, "gradient", [1, 2, 0], batch=3, force=True).inputs[0].shape[0] == 3
    x = normal(3, 3, 12, 12)
    assert_same(answers(path, {"x": x}), free.explain(x, "gradient", [1, 2, 0]))


def test_constants_that_grow_with_the_batch(path):
    """The rule flat starts from ones in the shape of the input."""
    model = onnxvis.load(unfused_cnn())
    model.export(path, "lrp", composite="epsilon_plus_flat")
    x = normal(7, 3, 24, 24)
    assert_same(answers(path, {"x": x}), model.explain(x, "lrp", composite="epsilon_plus_flat"))


# ---- targets -------------------------------------------------------------------------------------

MAP = onnxvis.Target
TARGETS = {
    "unit": 2,
    "negative": -1,
    "layer": MAP("conv2", 3),
    "strongest": MAP("relu1"),
    "position": MAP("conv2", 3, (1, 4)),
    "max": MAP("relu1", 2, "max"),
    "strongest max": MAP("relu1", position="max"),
    "region": MAP("conv2", 1, "region"),
    "mask": MAP("relu1", 4, np.eye(12, dtype=bool)),
    "mean": MAP("relu1", 4, reduce="mean"),
    "mean of a mask": MAP("relu1", 4, np.eye(12, dtype=bool), reduce="mean"),
    "weights": {0: 1.0, 3: -0.5},
    "index": MAP("relu1", index=np.s_[:, 2, 3:5]),
    "seed": MAP("logits", seed=np.arange(4.0)),
    "outputs": {"logits": 1, "relu2": MAP("relu2", 3)},
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("method", ["gradient", "lrp"])
def test_targets(name, method, path):
    model = onnxvis.load(small_cnn())
    model.export(path, method, TARGETS[name], outputs=["explanation", "score"])
    x = normal(3, 3, 12, 12)
    assert_same(answers(path, {"x": x}), model.explain(x, method, TARGETS[name]))


def test_target_as_input(path):
    model = onnxvis.load(small_cnn())
    written = model.export(path, "lrp", target_input=True, outputs=["explanation", "unit"])
    assert [spec.name for spec in written.inputs] == ["x", "target"]
    x = normal(4, 3, 12, 12)
    strongest = model.explain(x, "lrp").target.unit
    found = answers(path, {"x": x, "target": np.array([1, -1, 0, 3])})
    wanted = [1, strongest[1], 0, 3]
    assert found["unit"].tolist() == wanted
    assert_same(found, model.explain(x, "lrp", wanted))
    inner = model.export(path, "gradcam", MAP("relu2"), target_input=True, layer="relu1", force=True)
    assert inner.difference["explanation"] <= 1e-6


def test_targets_without_a_unit(path):
    model = onnxvis.load(small_cnn())
    with pytest.raises(UnsupportedError, match="function"):
        model.export(path, "gradient", lambda outputs: {n: np.ones_like(y) for n, y in outputs.items()})
    with pytest.raises(UnsupportedError, match="one unit a sample"):
        model.export(path, "gradient", TARGETS["weights"], outputs=["unit"])
    with pytest.raises(UsageError, match="fixed or an input"):
        model.export(path, "gradient", 1, target_input=True)
    with pytest.raises(UsageError, match="fixed number"):
        model.export(path, "gradient", [0, 1])
    with pytest.raises(TargetError, match="no unit 4"):
        model.export(path, "gradient", 4)
    assert not path.exists()


# ---- what the file holds -------------------------------------------------------------------------


def test_weights_are_stored_once(path):
    model = onnxvis.load(unfused_cnn())
    model.export(path, "lrp", outputs=["explanation"])
    written = onnx.load(path)
    large = [t for t in written.graph.initializer if np.prod(t.dims) >= 1000]
    assert [t.name for t in large] == ["w2"]  # with a batch norm of its own, clipped and flipped
    own = {t.name: t.SerializeToString() for t in unfused_cnn().graph.initializer}
    assert {t.name: t.SerializeToString() for t in written.graph.initializer if t.name in own} == own


def test_weights_that_the_layer_graph_copies(path):
    """MatMul and Add are one layer there, whose weights are the file's own."""
    weights = {"w": normal(48, 32), "b": normal(32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    onnxvis.load(build(nodes, {"x": ["N", 3, 4, 4]}, {"y": ["N", 32]}, weights, opset=18)).export(
        path, "gradient", 1
    )
    graph = onnx.load(path).graph
    assert [t.name for t in graph.initializer if np.prod(t.dims) > 500] == ["w"]
    assert not [node for node in graph.node if node.op_type == "Cast"]


def test_the_files_own_part_is_untouched(path):
    original = unfused_cnn()
    onnxvis.load(original).export(path, "gradient")
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    assert list(written.graph.node[: len(original.graph.node)]) == list(original.graph.node)
    assert [o.name for o in written.graph.output] == ["scores", "explanation", "heatmap"]
    assert written.opset_import == original.opset_import
    assert all(node.name.startswith("onnxvis/") for node in written.graph.node[len(original.graph.node) :])


def of_opset(version):
    """The small CNN, whose operators have meant the same ever since."""
    model = small_cnn()
    model.opset_import[0].version = version
    return model


def test_nodes_are_called_after_the_layer_whose_rule_wrote_them(path):
    source = small_cnn()
    onnxvis.load(source).export(path, "gradcam", layer="relu1", outputs=["explanation"])
    own = {node.name for node in source.graph.node}
    names = [node.name for node in onnx.load(path).graph.node if node.name.startswith("onnxvis/")]
    assert len(set(names)) == len(names)
    layers = [name.partition(" at ")[2] for name in names]
    passed = dict.fromkeys(filter(None, layers))
    assert [*passed] == [node.name for node in source.graph.node[::-1] if node.name in passed]
    assert {*passed} <= own
    assert {"pool1", "conv2", "relu2"} <= {*passed}
    assert "conv1" not in passed
    assert not layers[-1]  # weighting and summing the maps is Grad-CAM's own


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 20, 22])
def test_opsets(opset, path):
    written = onnxvis.load(of_opset(opset)).export(path, "guided_backprop", 1)
    assert written.converted == (opset < 18)
    assert max(written.difference.values()) <= 1e-6
    assert onnx.load(path).opset_import[0].version == max(opset, 18)


def test_weights_among_the_inputs(path):
    """Files of IR 3 list them there, where a caller could replace them."""
    old = of_opset(8)
    old.ir_version = 3
    named = {entry.name for entry in old.graph.input}
    old.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in old.graph.initializer
        if t.name not in named
    )
    onnxvis.load(old).export(path, "gradient")
    assert [entry.name for entry in onnx.load(path).graph.input] == ["x"]


def test_names_that_the_file_has_already(path):
    """An exported model is exported once more."""
    model = onnxvis.load(small_cnn())
    model.export(path, "gradient")
    again = onnxvis.load(path).export(path.with_name("again.onnx"), "gradcam", MAP("logits"))
    assert [spec.name for spec in again.outputs] == [
        "probabilities", "explanation", "heatmap", "explanation_", "heatmap_",
    ]  # fmt: skip


def test_metadata(path):
    model = onnxvis.load(small_cnn(), preprocess="unit", labels=["a", "b", "c", "d"])
    model.export(path, "lrp", "b", composite="epsilon")
    written = onnx.load(path)
    metadata = {entry.key: entry.value for entry in written.metadata_props}
    assert metadata["onnxvis.version"] == onnxvis.__version__
    assert metadata["onnxvis.method"] == "lrp"
    assert json.loads(metadata["onnxvis.settings"])["composite"] == "epsilon"
    assert metadata["onnxvis.target"] == "b"
    assert json.loads(metadata[LABELS_KEY]) == ["a", "b", "c", "d"]
    assert "lrp of b" in written.doc_string
    reloaded = onnxvis.load(path)
    assert reloaded.preprocess == model.preprocess
    assert reloaded.labels == model.labels


def test_external_data(path):
    model = onnxvis.load(unfused_cnn())
    written = model.export(path, "lrp", external_data=True)
    assert [file.name for file in written.files] == ["explained.onnx", "explained.onnx.data"]
    x = normal(2, 3, 24, 24)
    assert_same(answers(path, {"x": x}), model.explain(x, "lrp"))
    # A file whose own weights lie elsewhere.
    again = onnxvis.load(path).export(path.with_name("again.onnx"), "gradient", MAP("scores"))
    assert len(again.files) == 1
    # One file replaces two.
    assert len(model.export(path, "lrp", force=True).files) == 1
    assert sorted(file.name for file in path.parent.iterdir()) == ["again.onnx", "explained.onnx"]


def test_weights_beyond_what_a_file_holds(path, monkeypatch):
    monkeypatch.setattr("onnxvis.deployment.writing.LIMIT", 1000)
    assert len(onnxvis.load(unfused_cnn()).export(path, "gradient").files) == 2


# ---- heat maps and pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gradient", "lrp", "gradcam"])
def test_normalized(method, path):
    model = onnxvis.load(small_cnn())
    model.export(path, method, outputs=["heatmap"], normalize=True)
    x = normal(3, 3, 12, 12)
    heat, found = model.explain(x, method).heatmap(), answers(path, {"x": x})["heatmap"]
    for one, other in zip(found, heat, strict=True):
        if method == "lrp":
            assert np.allclose((one - 0.5) * 2 * np.abs(other).max(), other, atol=1e-6)
        else:
            assert (one.min(), one.max()) == (0, pytest.approx(1))
            assert np.allclose(one * np.ptp(other) + other.min(), other, atol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_pictures(layout, path):
    model = onnxvis.load("zoo:shapes")
    written = model.export(path, "gradcam", pictures=layout)
    assert max(written.difference.values()) <= 1e-6
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    fed = photos if layout == "NHWC" else photos.transpose(0, 3, 1, 2)
    e = model.explain([Image.fromarray(photo) for photo in photos], "gradcam")
    assert_same(answers(path, {"pictures": fed}), e)
    assert PREPROCESS_KEY not in {entry.key for entry in onnx.load(path).metadata_props}


PREPARED = [
    {"resize": "stretch"},
    {"resize": "shortest"},
    {"resize": "shortest", "resize_to": 36},
    {"resize": "shortest", "resize_to": 26},
    {"resize": "longest"},
    {"color": "BGR", "range": (0, 255), "mean": (104, 117, 123)},
    {"color": "L", "mean": (0.5,), "std": (0.25,), "resize": "longest"},
    {"range": (-1, 1), "layout": "NHWC", "interpolation": "bicubic"},
    {"range": (0, 255), "dtype": "uint8"},
]


@pytest.mark.parametrize("settings", PREPARED, ids=str)
def test_preparation_is_that_of_preprocess(settings):
    """Resized photos differ by single levels of 255, since Pillow rounds between rows and columns."""
    preprocess = Preprocess(size=(32, 28), **settings)
    graph = helper.make_graph(
        prepare(preprocess, "photos", "x", "NHWC", "p/"),
        "preparation",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info(
                "x", helper.np_dtype_to_tensor_dtype(np.dtype(preprocess.dtype)), [None] * 4
            )
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    level = (preprocess.range[1] - preprocess.range[0]) / 255 / max(preprocess.std)
    random = np.random.default_rng(0)
    for height, width in ((32, 28), (40, 50), (61, 47), (20, 33)):
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        photo = coarse.resize((width, height), Image.Resampling.BICUBIC)
        wanted = preprocess.apply(photo).array
        (found,) = answers(model.SerializeToString(), {"photos": np.asarray(photo)[None]}).values()
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        apart = np.abs(found.astype(np.float64) - wanted) / level
        assert apart.max() < 4.5 and apart.mean() < 0.5
        if (height, width) == (32, 28) and "resize_to" not in settings:
            assert apart.max() < 1e-4


def test_a_filter_that_onnx_lacks(path):
    model = onnxvis.load("zoo:shapes")
    lanczos = {**model.preprocess.to_json(), "interpolation": "lanczos"}
    with pytest.raises(UnsupportedError, match="lanczos"):
        onnxvis.load("zoo:shapes", preprocess=lanczos).export(path, "gradcam", pictures="NHWC")


# ---- what is refused -----------------------------------------------------------------------------


def test_refusals(path):
    model = onnxvis.load(small_cnn())
    with pytest.raises(UnsupportedError, match=r"'occlusion' cannot be exported.*gradcam"):
        model.export(path, "occlusion")
    with pytest.raises(UnsupportedError, match=r"'eigencam' cannot be exported: it decomposes a matrix"):
        model.export(path, "eigencam")
    with pytest.raises(UnknownNameError, match="explanaton"):
        model.export(path, "gradient", outputs=["explanaton"])
    with pytest.raises(UnknownNameError, match="CHWN"):
        model.export(path, "gradient", pictures="CHWN")
    with pytest.raises(UsageError, match="batch"):
        model.export(path, "gradient", batch=0)
    with pytest.raises(UsageError, match="normalize"):
        model.export(path, "gradient", outputs=["explanation"], normalize=True)
    with pytest.raises(UnknownNameError, match="setting"):
        model.export(path, "gradient", composite="epsilon")
    assert not list(path.parent.iterdir())


def test_a_rule_in_plain_python(path):
    with registry.scoped():

        @onnxvis.rule("Relu", needs="y", traceable=False, override=True)
        def relu(step, g):
            return g * (np.asarray(step.y) > 0)

        with pytest.raises(UnsupportedError, match="plain Python"):
            onnxvis.load(small_cnn()).export(path, "gradient")


def test_destinations(path):
    model = onnxvis.load(small_cnn())
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        model.export(path.with_suffix(".txt"), "gradient")
    with pytest.raises(OutputError, match="no folder"):
        model.export(path.parent / "none" / "a.onnx", "gradient")
    path.write_text("kept")
    with pytest.raises(OutputError, match="already"):
        model.export(path, "gradient")
    assert path.read_text() == "kept"
    model.export(path, "gradient", force=True)
    assert onnx.load(path).graph.output[-1].name == "heatmap"


def test_a_model_that_answers_differently_is_not_written(path, monkeypatch):
    model = onnxvis.load(small_cnn())
    path.write_text("kept")
    gradient = onnxvis.deployment.recipes._RECIPES["gradient"]
    monkeypatch.setitem(onnxvis.deployment.recipes._RECIPES, "gradient", lambda d: gradient(d) * 1.001)
    with pytest.raises(UnsupportedError, match=r"answers differently.*'explanation' by 0\.001"):
        model.export(path, "gradient", force=True)
    assert path.read_text() == "kept"
    assert list(path.parent.iterdir()) == [path]
    assert model.export(path, "gradient", force=True, tolerance=0.01).difference["explanation"] > 9e-4


def test_a_batch_that_matters_otherwise(path):
    """Numbers that differ between samples are no repetition: said, not guessed."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
    ]
    model = onnxvis.load(build(nodes, {"x": ["N", 2, 5, 5]}, {"f": ["N", 300]}, {"w": normal(300, 2, 3, 3)}))
    with registry.scoped():

        @onnxvis.rule("Flatten", override=True)
        def flatten(step, g):
            uneven = np.arange(g.shape[0] * 300.0).reshape(g.shape)
            return step.reshape(g * uneven, step.shape())

        with pytest.raises(UnsupportedError, match="batch=1"):
            model.export(path, "gradient", 0)
        model.export(path, "gradient", 0, batch=2)


def test_opsets_that_cannot_be_converted(path):
    with pytest.raises(UnsupportedError, match=r"opset 7.*ImageScaler"):
        onnxvis.load(shared("models", "winml_mnist_winmltools_fp32.onnx")).export(path, "gradient")
    with pytest.raises(UnsupportedError, match=r"opset 9.*'Upsample__306:0' no more"):
        onnxvis.load(shared("models", "node_editor_deeplab_v3_nhwc.onnx")).export(path, "gradcam")


@pytest.mark.parametrize("name", ["squeezenet_fp32", "mobilenetv2_fp32", "onnxzoo_shufflenet_v2_12_int8"])
def test_real_models(name, path):
    source = shared("models", f"{name}.onnx")
    written = onnxvis.load(source).export(path, "gradient")
    assert max(written.difference.values()) <= 1e-6
    assert written.size <= (1.05 if "int8" not in name else 1.1) * source.stat().st_size


def test_double_precision(path):
    weight = normal(40, 12, scale=0.3).astype(np.float64)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    double = build(nodes, {"x": ["N", 10, 2, 2]}, {"y": ["N", 12]}, {"w": weight})
    for entry in (*double.graph.input, *double.graph.output):
        entry.type.tensor_type.elem_type = TensorProto.DOUBLE
    model = onnxvis.load(double)
    model.export(path, "lrp", composite="epsilon")
    x = normal(2, 10, 2, 2).astype(np.float64)
    found = answers(path, {"x": x})["explanation"]
    assert found.dtype == np.float64
    assert verification.difference(found, model.explain(x, "lrp", composite="epsilon").values) < 1e-12


# ---- the checker itself --------------------------------------------------------------------------


def test_difference_sees_what_is_wrong():
    a = normal(3, 4)
    assert verification.difference(a, a) == 0
    assert verification.difference(a * 1.01, a) == pytest.approx(0.01, rel=0.01)
    assert verification.difference(a[:2], a) == np.inf
    assert verification.difference(np.where(a > 0, np.nan, a), a) == np.inf
    assert verification.difference(np.array([1, 2]), np.array([1, 3])) == np.inf


# ---- the command ---------------------------------------------------------------------------------


def test_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = tmp_path / "small.onnx"
    onnx.save(small_cnn(), small)
    options = ["--set", "composite=epsilon", "--target-input", "--outputs", "heatmap,unit", "--external-data"]
    result = CliRunner().invoke(main, ["export", str(small), "-m", "lrp", *options])
    assert result.exit_code == 0, result.output
    files, (*_, unit) = result.stdout.splitlines()[:2], result.stdout.splitlines()
    assert [line.split("\t")[0] for line in files] == ["small.lrp.onnx", "small.lrp.onnx.data"]
    assert unit == "unit\tint64[N]\t0"
    model, x = onnxvis.load(small), normal(2, 3, 12, 12)
    found = answers("small.lrp.onnx", {"x": x, "target": np.array([2, 0])})
    assert_same(found, model.explain(x, "lrp", [2, 0], composite="epsilon"))
    again = CliRunner().invoke(main, ["export", str(small), "-m", "lrp"])
    assert (again.exit_code, "already" in again.stderr) == (2, True)
    assert CliRunner().invoke(main, ["export", str(small), "-m", "occlusion"]).exit_code == 3
