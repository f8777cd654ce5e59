"""One compiled session for every number of samples but the first."""

import numpy as np
import pytest
from models import build, normal
from onnx import helper

import onnxvis
from onnxvis.rules import registry

node = helper.make_node


def net():
    nodes = [
        node("Conv", ["x", "w1"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", ["p", "w2"], ["d"], pads=[1, 1, 1, 1]),
        node("Add", ["d", "p"], ["s"]),
        node("AveragePool", ["s"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["a"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]
    weights = {
        "w1": normal(6, 3, 3, 3), "w2": normal(6, 6, 3, 3), "w3": normal(24, 5), "b3": normal(5, seed=2),
    }  # fmt: skip
    return build(nodes, {"x": ["N", 3, 18, 18]}, {"y": ["N", 5]}, weights)


EXPLAINED = [
    ("gradient", {}), ("guided_backprop", {}), ("lrp", {}), ("gradcam", {}),
    ("lrp", {"composite": "epsilon_gamma_box", "low": -4.0, "high": 4.0}),
    ("lrp", {"composite": "epsilon_alpha2_beta1_flat"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "settings"), EXPLAINED)
def test_every_number_of_samples_agrees_with_the_host(method, settings):
    compiled, host = (onnxvis.load(net(), threads=1, executor=executor) for executor in ("compiled", "host"))
    for samples in (2, 3, 1, 7):
        x = normal(samples, 3, 18, 18)
        ours, theirs = (model.explain(x, method, target=2, **settings).values for model in (compiled, host))
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * abs(theirs).max())
    assert (len(compiled.engine._joint), len(compiled.engine._executors)) == (1, 1)


def test_what_depends_on_the_number_itself_is_compiled_for_each():
    """A mean over the samples: its gradient holds their number."""
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        node("Sub", ["x", "m"], ["y"]),
    ]
    model = build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]})
    compiled, host = (onnxvis.load(model, threads=1, executor=executor) for executor in ("compiled", "host"))
    for samples in (2, 3, 5):
        x, seed = normal(samples, 4), normal(samples, 4, seed=1)
        ours, theirs = (loaded.vjp(x, {"y": seed})["x"] for loaded in (compiled, host))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert len(compiled.engine._executors) == 3


def test_a_fixed_batch_has_no_other():
    given = net()
    given.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model = onnxvis.load(given, threads=1)
    model.explain(normal(2, 3, 18, 18), "gradient", target=1)
    model.explain(normal(4, 3, 18, 18), "gradient", target=1)
    assert (len(model.engine._joint), len(model.engine._executors)) == (1, 0)


def test_shapes_that_only_a_run_can_tell_are_not_found_by_running_many_samples(monkeypatch):
    nodes = [
        node("Trilu", ["x"], ["t"], domain="com.microsoft"),
        node("Relu", ["t"], ["y"]),
    ]
    model = build(nodes, {"x": ["N", 4, 4]}, ["y"], opset_imports=[helper.make_opsetid("com.microsoft", 1)])
    with registry.scoped():
        onnxvis.rule("Trilu", domain="com.microsoft")(lambda step, g: g * 1.0)
        compiled = onnxvis.load(model, threads=1, executor="compiled")
        seen, types = [], compiled.engine.forward.types

        def counted(feeds, names):
            seen.append(len(feeds["x"]))
            return types(feeds, names)

        monkeypatch.setattr(compiled.engine.forward, "types", counted)
        for samples in (2, 3, 4):
            compiled.vjp(normal(samples, 4, 4), {"y": normal(samples, 4, 4)})
    assert seen == [2, 3, 4]
    assert len(compiled.engine._executors) == 3
