"""The model as a user holds it: running, looking inside, explaining, the raw backward pass."""

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, normal, run_plain, small_cnn
from onnx import helper
from PIL import Image

import onnxvis
from onnxvis.errors import InputError, MissingRuleError, ModelError, TargetError, UnknownNameError, UsageError

node = helper.make_node
X = normal(3, 3, 12, 12, seed=5)


@pytest.fixture(scope="module")
def model():
    return onnxvis.load(small_cnn(), threads=1)


@pytest.fixture(scope="module", params=["compiled", "host"])
def either(request):
    return onnxvis.load(small_cnn(), threads=1, executor=request.param)


# ---- running -------------------------------------------------------------------------------------


def test_what_a_model_says_of_itself(model):
    (spec,) = model.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("x", ("N", 3, 12, 12), np.float32)
    assert [spec.name for spec in model.outputs] == ["probabilities"]
    assert [layer.op_type for layer in model.graph.nodes][:3] == ["Conv", "Relu", "MaxPool"]
    assert "conv1" in str(model.graph)
    assert model.device == "cpu"


def test_run_gives_what_the_file_gives(model):
    np.testing.assert_allclose(model.run(X)["probabilities"], run_plain(small_cnn(), {"x": X})[0], atol=1e-6)
    np.testing.assert_array_equal(model.run({"x": X})["probabilities"], model.run(X)["probabilities"])


def test_activations_by_tensor_and_by_layer_also_where_they_were_merged_away(model):
    found = model.activations(X, ["c1", "relu1", "conv1", "bn1", "x"])
    before, after, relu = run_plain(
        _with_outputs(small_cnn(), "c1", "n1", "r1"), {"x": X}, ["c1", "n1", "r1"]
    )
    np.testing.assert_allclose(found["c1"], before, atol=1e-5)
    np.testing.assert_allclose(found["conv1"], before, atol=1e-5)  # a node of the file: its own output
    np.testing.assert_allclose(found["bn1"], after, atol=1e-5)
    np.testing.assert_allclose(found["relu1"], relu, atol=1e-5)
    np.testing.assert_array_equal(found["x"], X)


def _with_outputs(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model


def test_a_model_of_one_sample_at_a_time_takes_many():
    fixed, free = onnxvis.load(small_cnn(1), threads=1), onnxvis.load(small_cnn(), threads=1)
    np.testing.assert_allclose(fixed.run(X)["probabilities"], free.run(X)["probabilities"], atol=1e-6)
    one, all_at_once = (m.explain(X, "gradient", target=[0, 3, 1]) for m in (fixed, free))
    np.testing.assert_allclose(one.values, all_at_once.values, atol=1e-6)
    np.testing.assert_allclose(one.score, all_at_once.score, atol=1e-5)
    assert one.target.unit == [0, 3, 1]


def test_half_precision_is_explained_in_single():
    from onnx import numpy_helper

    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    w = normal(4, 3, 3, 3).astype(np.float16)
    model = build(nodes, {"x": [1, 3, 6, 6]}, ["y"], {"w": w})
    for entry in (model.graph.input[0], model.graph.output[0]):
        entry.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    x = normal(1, 3, 6, 6).astype(np.float16)
    half = onnxvis.load(model, threads=1).explain(x, "gradient", target=2)
    for entry in (model.graph.input[0], model.graph.output[0]):
        entry.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(w.astype(np.float32), "w"))
    single = onnxvis.load(model, threads=1).explain(x.astype(np.float32), "gradient", target=2)
    assert half.values.dtype == np.float32
    np.testing.assert_allclose(half.values, single.values, atol=1e-5)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[0], InputError, "given an array of shape 3×12×12"),
        (X[:, :, :5], InputError, "3×3×5×12"),
        (X[:0], InputError, "no samples"),
        (X.astype(np.int32), InputError, "astype"),
        ({"y": X}, InputError, "no input 'y'"),
        ({}, InputError, "give 'x' too"),
        ("none.png", onnxvis.errors.ImageError, "none.png"),
    ],
)
def test_bad_inputs(model, x, error, message):
    with pytest.raises(error, match=message):
        model.run(x)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (4, "no unit 4: it has 4, from 0 to 3"),
        (-5, "no unit -5"),
        ([0, 1], "2 units were given for 3 samples"),
        ("cat", "index"),
        (1.5, "index"),
        (onnxvis.Target("conv1", 0, (99, 0)), "no position"),
        (onnxvis.Target("conv1", 0, (1,)), "tuple of 2"),
    ],
)
def test_bad_targets(model, target, message):
    with pytest.raises(TargetError, match=message):
        model.explain(X, "gradient", target=target)


def test_unknown_names_list_what_there_is(model):
    with pytest.raises(UnknownNameError, match="did you mean 'gradcam'"):
        model.explain(X, "grad_cam")
    with pytest.raises(UnknownNameError, match="Known: composite, epsilon, gamma, low, high, seed"):
        model.explain(X, "lrp", composit="epsilon")
    with pytest.raises(UnknownNameError, match="composite"):
        model.explain(X, "lrp", composite="epsilon_minus")
    with pytest.raises(UnknownNameError, match="relu1"):
        model.explain(X, "gradcam", layer="relu_1")
    with pytest.raises(UnknownNameError, match=r"model\.reconstruct"):
        model.explain(X, "inversion")
    with pytest.raises(UnknownNameError, match="preset"):
        onnxvis.load(small_cnn(), preprocess="imagnet")
    with pytest.raises(UsageError, match="'auto', 'cpu' and 'cuda'"):
        onnxvis.load(small_cnn(), device="gpu")
    with pytest.raises(UsageError, match="threads"):
        onnxvis.load(small_cnn(), threads=0)


def test_cuda_is_not_answered_by_the_cpu_in_silence():
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(onnxvis.errors.UnsupportedError, match="cuda"):
        onnxvis.load(small_cnn(), device="cuda")


def test_an_operator_that_the_runtime_does_not_know():
    model = build(
        [node("Swirl", ["x"], ["y"], domain="com.acme")],
        {"x": [1, 2]},
        ["y"],
        opset_imports=[helper.make_opsetid("com.acme", 1)],
    )
    with pytest.raises(ModelError, match=r"onnxruntime .* cannot run this model: .*Swirl"):
        onnxvis.load(model).run(normal(1, 2))


def test_other_sessions_of_the_process_are_left_alone():
    """A user's own onnxruntime session works after onnxvis has built its own."""
    onnxvis.load(small_cnn()).explain(X, "gradient")
    assert run_plain(small_cnn(), {"x": X})


def test_a_net_that_takes_bytes_gets_and_explains_bytes():
    nodes = [
        node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
        node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"]),
        node("GlobalAveragePool", ["c"], ["y"]),
    ]
    model = build(nodes, {"x": ["N", 8, 8, 3]}, ["y"], {"w": normal(4, 3, 3, 3)})
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    bytewise = onnxvis.load(model, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bytewise.preprocess.apply(pixels).array[0], pixels)
    e = bytewise.explain(Image.fromarray(pixels), "input_x_gradient", target=1)
    np.testing.assert_allclose(e.values.sum(), e.score[0], rtol=1e-4)  # the net is linear


def test_plot_draws_with_matplotlib(model):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs the extra 'plot'")
    pyplot.switch_backend("Agg")
    axes = model.explain(X, "gradcam").plot(1)
    assert axes.get_title().startswith("gradcam")
    pyplot.close("all")


# ---- gradients -----------------------------------------------------------------------------------


def test_gradient_is_the_slope_of_the_score(either):
    """Central differences through onnxruntime along random directions."""
    e = either.explain(X, "gradient", target=[1, 2, 0])
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.standard_normal(X.shape).astype(np.float32)
        step = 2e-4
        up, down = (_scores(either, X + sign * step * direction, [1, 2, 0]) for sign in (1, -1))
        slope = (up - down) / (2 * step)
        expected = (e.values * direction).reshape(3, -1).sum(axis=1)
        # Even a small step crosses the kink of a ReLU here and there.
        np.testing.assert_allclose(slope, expected, rtol=0, atol=0.05 * np.linalg.norm(e.values[0]))


def _scores(model, x, units):
    return model.activations(x, ["logits"])["logits"][range(len(x)), units].astype(np.float64)


def test_the_target_is_the_logit_not_the_probability(model):
    e = model.explain(X, "gradient")
    logits = model.activations(X, ["logits"])["logits"]
    np.testing.assert_allclose(e.score, logits.max(axis=1), rtol=1e-6)
    assert e.target == onnxvis.Target("logits", [int(unit) for unit in logits.argmax(axis=1)])


@pytest.mark.parametrize("layer", ["relu1", "c1", "pool1", "conv2"])
def test_any_unit_of_any_layer_at_any_position_is_a_target(either, layer):
    target = onnxvis.Target(layer, unit=2, position=(1, 3))
    e = either.explain(X, "gradient", target=target)
    maps = either.activations(X, [layer])[layer]
    np.testing.assert_allclose(e.score, maps[:, 2, 1, 3], atol=1e-5)
    seed = np.zeros_like(maps)
    seed[:, 2, 1, 3] = 1
    raw = either.vjp(X, {layer: seed}, wrt=["x"])["x"]
    np.testing.assert_allclose(e.values, raw, atol=1e-6)
    reached = np.abs(e.values).sum(axis=(0, 1)) > 0
    assert reached.any() and not reached.all()  # a receptive field, not the whole picture


def test_position_max_and_sum(model):
    maps = model.activations(X, ["r2"])["r2"]
    highest = model.explain(X, "gradient", target=onnxvis.Target("r2", 1, "max"))
    np.testing.assert_allclose(highest.score, maps[:, 1].max(axis=(1, 2)), rtol=1e-6)
    total = model.explain(X, "gradient", target=onnxvis.Target("r2", 1))
    np.testing.assert_allclose(total.score, maps[:, 1].sum(axis=(1, 2)), rtol=1e-5)


def test_vjp_to_inner_tensors_and_from_several_seeds(either):
    seeds = {"logits": normal(3, 4, seed=1), "r1": normal(3, 6, 12, 12, seed=2)}
    together = either.vjp(X, seeds, wrt=["x", "r1", "p1"])
    apart = [either.vjp(X, {name: seed}, wrt=["x"])["x"] for name, seed in seeds.items()]
    np.testing.assert_allclose(together["x"], apart[0] + apart[1], atol=1e-5)
    from_logits = either.vjp(X, {"logits": seeds["logits"]}, wrt=["r1"])["r1"]
    np.testing.assert_allclose(together["r1"], from_logits + seeds["r1"], atol=1e-5)
    assert together["p1"].shape == (3, 6, 6, 6)


def test_vjp_of_a_single_node_for_every_input(either):
    """Weights that are inputs have gradients too."""
    model = build([node("Gemm", ["a", "b", "c"], ["y"])], {"a": [2, 3], "b": [3, 4], "c": [4]}, ["y"])
    feeds = {"a": normal(2, 3), "b": normal(3, 4), "c": normal(4)}
    seed = normal(2, 4, seed=7)
    found = onnxvis.load(model, executor=either.engine.executor).vjp(feeds, {"y": seed})
    np.testing.assert_allclose(found["a"], seed @ feeds["b"].T, atol=1e-5)
    np.testing.assert_allclose(found["b"], feeds["a"].T @ seed, atol=1e-5)
    np.testing.assert_allclose(found["c"], seed.sum(axis=0), atol=1e-5)


def test_a_seed_of_the_wrong_shape(model):
    with pytest.raises(InputError, match=r"seed of 'logits' has shape \(3, 5\)"):
        model.vjp(X, {"logits": normal(3, 5)})


def test_an_operator_without_a_rule_is_named_with_what_to_do():
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Trilu", ["r"], ["a"], domain="com.microsoft", name="g1"),
        node("Trilu", ["a"], ["y"], domain="com.microsoft", name="g2"),
    ]
    model = build(nodes, {"x": [1, 3]}, ["y"], opset_imports=[helper.make_opsetid("com.microsoft", 1)])
    with pytest.raises(
        MissingRuleError,
        match=r"com\.microsoft::Trilu.*@onnxvis\.rule\('Trilu', domain='com\.microsoft'.*'g1', 'g2'",
    ):
        onnxvis.load(model).explain(normal(1, 3), "gradient")


def test_composites_combine_a_relu_pass_with_a_convolution_pass(either):
    """FeatureVis' free choice of the two (Grün et al. 2016, section 3)."""
    seed = {"logits": np.eye(4, dtype=np.float32)[[0, 1, 2]]}
    mixed = onnxvis.Composite([("Relu", "guided_backprop"), ("Conv", "gradient")], default="gradient")
    np.testing.assert_allclose(
        either.vjp(X, seed, mixed)["x"], either.vjp(X, seed, "guided_backprop")["x"], atol=1e-6
    )
    relevance = onnxvis.Composite([("Relu", "guided_backprop"), ("Conv", "epsilon")], default="gradient")
    assert (
        np.abs(either.vjp(X, seed, relevance, epsilon=1e-3)["x"] - either.vjp(X, seed, mixed)["x"]).max()
        > 1e-3
    )


def test_sessions_are_kept(model):
    model.explain(X, "gradient")
    before = dict(model.engine._joint)
    model.explain(X * 2, "gradient")
    assert dict(model.engine._joint) == before
    assert before


# ---- pictures ------------------------------------------------------------------------------------


def test_pictures_go_through_the_preprocess(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    model = onnxvis.load(small_cnn(), preprocess="tf", threads=1)
    array = model.preprocess.apply(path).array
    assert array.shape == (1, 3, 12, 12)
    np.testing.assert_array_equal(model.run(path)["probabilities"], model.run(array)["probabilities"])
    e = model.explain([path, Image.fromarray(pixels)], "gradcam", layer="relu1")
    assert e.heatmap().shape == (2, 12, 12)
    e.save(tmp_path / "why.png")
    assert e.picture(1).size == (30, 20)
    with Image.open(tmp_path / "why.png") as grid:
        assert grid.height > 2 * 100
