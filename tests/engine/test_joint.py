"""Both passes as one session: the same numbers as two, and only where one session serves."""

import numpy as np
import onnx
import pytest
from models import build, normal, run_plain, small_cnn
from onnx import TensorProto, helper

import onnxvis
from onnxvis import Target
from onnxvis.engine.engine import Engine

node = helper.make_node
X = normal(1, 3, 12, 12)


def both(model, **options):
    """The model opened twice: its passes as one session, and as two."""
    one, two = (onnxvis.load(model, threads=1, executor="compiled", **options) for _ in range(2))
    two.engine.JOINT = -1
    return one, two


def agree(ours, theirs, tolerance=2e-6):
    assert ours.target == theirs.target
    np.testing.assert_array_equal(ours.score, theirs.score)
    assert abs(theirs.values).max() > 0
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=tolerance * abs(theirs.values).max())


EXPLAINED = [
    ("gradient", {}), ("input_x_gradient", {}), ("deconvnet", {}), ("guided_backprop", {}),
    ("lrp", {}), ("lrp", {"seed": "one", "composite": "epsilon_gamma_box", "low": -4.0, "high": 4.0}),
    ("excitation_backprop", {}), ("gradcam", {}), ("layercam", {"layer": "relu1"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "settings"), EXPLAINED)
@pytest.mark.parametrize("samples", [1, 3])
def test_one_session_is_two(method, settings, samples):
    one, two = both(small_cnn())
    x = normal(samples, 3, 12, 12)
    for target in (None, 2, [1] * samples, [*range(samples)]):
        agree(*(model.explain(x, method, target, **settings) for model in (one, two)))
    assert len(one.engine._joint) == 1  # whatever the unit
    assert not one.engine._executors
    assert two.engine._executors
    assert not two.engine._joint


def test_units_inside_of_maps():
    one, two = both(small_cnn())
    targets = [Target("conv2", unit=3, position="max"), Target("conv2", unit=5), Target("relu1", unit=1)]
    targets.append(Target("conv2", unit=2, reduce="mean"))
    for target in targets:
        agree(*(model.explain(X, "guided_backprop", target) for model in (one, two)))
    assert len(one.engine._joint) == 4


@pytest.mark.parametrize(
    "target",
    [
        Target("conv2", unit=3, position=(2, 1)),
        Target("conv2", position="max"),  # whose unit sums over the map decide
        Target("conv2", unit=3, position=np.eye(6, dtype=bool)),
        {"logits": {0: 1.0, 2: -0.5}},
        {"logits": normal(1, 4)},
        lambda y: {"probabilities": y["probabilities"]},
    ],
)
def test_other_targets_stay_two_sessions(target):
    one, two = both(small_cnn())
    agree(*(model.explain(X, "gradient", target) for model in (one, two)))
    assert not one.engine._joint


def test_the_prediction_is_the_deployed_one_to_the_bit():
    model = onnxvis.load(small_cnn(), threads=1)
    found = model.explain(X, "guided_backprop", Target("probabilities", unit=1))
    assert model.engine._joint
    assert found.score[0] == model.run(X)["probabilities"][0, 1]


def test_another_number_of_samples_has_the_executor_for_any():
    model = onnxvis.load(small_cnn(), threads=1)
    for samples in (1, 2, 5, 1):
        model.explain(normal(samples, 3, 12, 12), "gradient", target=1)
    assert len(model.engine._joint) == 1
    assert len(model.engine._executors) == 1


def test_old_files_stay_two_sessions():
    weights = {"w": normal(6, 3, 3, 3)}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("ReduceSum", ["r"], ["y"], axes=[2, 3]),
    ]
    one, two = both(build(nodes, {"x": [1, 3, 12, 12]}, {"y": [1, 6, 1, 1]}, weights, opset=12))
    agree(*(model.explain(X, "gradient", 1) for model in (one, two)))
    assert not one.engine._joint


def test_files_of_half_precision_stay_two_sessions():
    nodes = [
        node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        node("Conv", ["h", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Cast", ["r"], ["s"], to=TensorProto.FLOAT),
        node("GlobalAveragePool", ["s"], ["y"]),
    ]
    weights = {"w": normal(6, 3, 3, 3).astype(np.float16)}
    one, two = both(build(nodes, {"x": [1, 3, 12, 12]}, {"y": [1, 6, 1, 1]}, weights))
    agree(*(model.explain(X, "gradient", 1) for model in (one, two)))
    assert not one.engine._joint


def test_an_operator_that_the_opset_lacks_makes_two_sessions():
    """Opset 15 has no ScatterND that adds, which the way back from a Gather with equal indices takes."""
    weights = {"i": np.array([0, 2, 2]), "w": normal(3, 4)}
    nodes = [node("Gather", ["x", "i"], ["g"], axis=1), node("MatMul", ["g", "w"], ["y"])]
    one, two = both(build(nodes, {"x": [1, 3]}, {"y": [1, 4]}, weights, opset=15))
    x = normal(1, 3)
    for _ in range(2):
        agree(*(model.explain(x, "gradient", 1) for model in (one, two)))
    assert not one.engine._joint
    assert len(one.engine._apart) == 1
    newer, _ = both(build(nodes, {"x": [1, 3]}, {"y": [1, 4]}, weights, opset=16))
    agree(newer.explain(x, "gradient", 1), two.explain(x, "gradient", 1))
    assert newer.engine._joint


def test_weights_bound_how_many_there_are(monkeypatch):
    weights = {"w": normal(64, 64)}  # a matrix small enough to be reordered
    model = onnxvis.load(
        build([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 64]}, ["y"], weights), threads=1
    )
    held = sum(weight.nbytes for weight in model.engine.file.weights.values())
    monkeypatch.setattr(Engine, "JOINT", 2 * held)
    for method in ("gradient", "deconvnet", "guided_backprop"):
        model.explain(normal(1, 64), method, 1)
    assert len(model.engine._joint) == 2
    assert len(model.engine._executors) == 1


def test_names_that_the_file_has_already():
    model = small_cnn()
    for entry in model.graph.node:
        for names in (entry.input, entry.output):
            names[:] = ["onnxvis/units" if name == "r1" else name for name in names]
    agree(*(each.explain(X, "guided_backprop") for each in both(model)))


def test_large_weights_are_shared_with_the_file(tmp_path):
    """A file with more than is worth reading from it: matrices are fed, convolutions read from the file."""
    weights = {
        "w": normal(96, 3, 3, 3), "v": normal(640, 96, 3, 3), "m": normal(640 * 36, 128), "n": normal(128, 9),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "v"], ["d"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["d"], ["s"]),
        node("Flatten", ["s"], ["f"]),
        node("MatMul", ["f", "m"], ["h"]),
        node("Relu", ["h"], ["k"]),
        node("MatMul", ["k", "n"], ["y"]),
    ]
    path = tmp_path / "large.onnx"
    onnx.save_model(build(nodes, {"x": [1, 3, 12, 12]}, {"y": [1, 9]}, weights), path)
    one, two = both(path)
    for method in ("gradient", "lrp"):
        agree(*(model.explain(X, method, 3) for model in (one, two)))
    (session, *_) = [executor.session for executor in one.engine._joint.values()]
    assert list(session.fed) == ["m"]


def test_weights_listed_as_inputs():
    """As files of IR 3 have them."""
    model = small_cnn(1)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        for tensor in model.graph.initializer
    )
    one, two = both(model)
    agree(*(each.explain(X, "lrp") for each in (one, two)))
    assert one.engine._joint
    logits = one.explain(X, "gradient", 2).score
    assert logits == pytest.approx(run_plain(small_cnn_logits(), {"x": X})[0][:, 2], rel=1e-5)


def small_cnn_logits():
    model = small_cnn(1)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="logits"))
    return model
