"""Samples of a batch one by one, several at a time: the same explanations, what they need built once."""

import threading
import time

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper

import onnxvis
from onnxvis.engine import side_by_side
from onnxvis.engine.engine import Engine
from onnxvis.rules import registry

X = normal(7, 3, 12, 12, seed=5)
SAMPLES = [X[i : i + 1] for i in range(len(X))]
TIME = 30  # seconds after which a thread that should have come has not


@pytest.fixture
def large(monkeypatch):
    """Every tensor counts as one that leaves the caches."""
    monkeypatch.setattr(side_by_side, "LARGE", 1)


def opened(threads=2, **how):
    return onnxvis.load(small_cnn(), threads=threads, **how)


# ---- the same, whichever way -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "gradcam", "lrp", "guided_gradcam", "cam"])
def test_equal_to_the_batch(large, threads, method):
    model, batch = opened(threads), opened(threads, executor="host")
    found, expected = model.explain(X, method), batch.explain(X, method)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)
    assert found.target == expected.target and found.layer == expected.layer
    assert found.input_shape == expected.input_shape and found.labels == expected.labels


@pytest.mark.parametrize(
    "target",
    [
        2,
        [3, 1, 0, 2, 2, 1, 3],
        {"conv1": onnxvis.Target(unit=2), "conv2": onnxvis.Target(unit=1, position="max")},
        [1, onnxvis.Target("conv2", 3), {"conv1": 2}, 0, 1, 2, 3],
        # what sees the axis of the samples stays together
        onnxvis.Target("conv2", index=np.s_[:, 2, 0]),
        lambda outputs: {"probabilities": outputs["probabilities"] - outputs["probabilities"].mean(axis=0)},
    ],
    ids=["index", "units", "sum", "kinds", "numpy index", "function"],
)
def test_every_kind_of_target(large, target):
    found, expected = (model.explain(X, "gradient", target) for model in (opened(), opened(executor="host")))
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


@pytest.mark.parametrize("size", [None, 1, 4, 20])
def test_many_pictures(large, size):
    model, expected = opened(), [opened().explain(x, "gradient") for x in SAMPLES]
    for one, other in zip(model.explain_each(SAMPLES, "gradient", batch_size=size), expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-6)
        assert one.target == other.target


# ---- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threads", "samples", "pays"),
    [(1, 1, False), (1, 2, True), (2, 2, True), (2, 3, True), (4, 2, False), (4, 3, True), (4, 5, False)],
)
def test_where_the_cores_are_busy(large, threads, samples, pays):
    """Else operators do better to share the cores."""
    model = opened(threads)
    assert model.engine.side_by_side.pays({"x": X[:samples]}, samples) is pays


@pytest.mark.parametrize(
    ("net", "how", "shape", "pays"),
    [
        (small_cnn(), {}, (4, 3, 12, 12), False),  # all of it stays in the caches
        (small_cnn(size=256), {}, (4, 3, 256, 256), True),
        (small_cnn(size=256), {"executor": "host"}, (4, 3, 256, 256), False),
        (small_cnn(size=256, samples=4), {}, (4, 3, 256, 256), False),
    ],
    ids=["small", "large", "on the host", "fixed"],
)
def test_for_which_nets(net, how, shape, pays):
    model = onnxvis.load(net, threads=2, **how)
    assert model.engine.side_by_side.pays({"x": np.zeros(shape, np.float32)}, 4) is pays


def test_large_dense_layers_are_read_once_for_all(large):
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["y"])]
    net = build(nodes, {"x": ["N", 3, 12, 12]}, {"y": ["N", 20000]}, {"m": normal(432, 20000)})
    assert not onnxvis.load(net, threads=2).engine.side_by_side.pays({"x": X}, 7)


def test_samples_that_set_the_range_of_each_other_stay_together(large, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    import onnx

    onnx.save(small_cnn(), tmp_path / "plain.onnx")
    quantization.quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "dynamic.onnx")
    model = onnxvis.load(tmp_path / "dynamic.onnx", threads=2)
    assert model.engine.free_batch and not model.engine.side_by_side.pays({"x": X}, 7)


# ---- at the same time ------------------------------------------------------------------------------


def test_as_many_as_there_are_threads():
    """Times out (and fails) where a sample waits for the one before."""
    together = threading.Barrier(3)

    def work(i):
        together.wait(TIME)
        return i

    assert [*opened(threads=3).engine.side_by_side.run(work, range(6))] == [*range(6)]


def test_what_they_need_is_built_once(large, monkeypatch):
    model = opened(threads=3)
    session, built = type(model.engine.runtime).session, []

    def slow(runtime, *arguments):
        time.sleep(0.05)  # long enough for the other threads to come and find nothing
        built.append(runtime.threads)
        return session(runtime, *arguments)

    monkeypatch.setattr(type(model.engine.runtime), "session", slow)
    model.explain(X, "gradient")
    assert built == [1]
    monkeypatch.setattr(Engine, "JOINT", -1)
    opened(threads=3).explain(X, "gradient")
    assert built == [1, 1, 1]  # the way forward and the way back


def test_the_shared_engine_is_left_as_it_was(large):
    model = opened(threads=2)
    model.explain(X, "gradient")
    apart = model.engine.side_by_side.engine
    assert apart.runtime.threads == 1 and model.engine.runtime.threads == 2
    assert len(apart._joint) == 1 and not model.engine._joint
    assert apart._graphs is model.engine._graphs  # found once for both


def test_rules_in_plain_python_are_run_by_one_thread_at_a_time(large):
    inside, seen = [], []
    with registry.scoped():

        @onnxvis.rule("Relu", needs="y", traceable=False, override=True)
        def relu(step, g):
            inside.append(threading.get_ident())
            seen.append(len(inside))
            time.sleep(0.01)
            inside.pop()
            return g * (np.asarray(step.y) > 0)

        found = opened(threads=3).explain(X, "gradient").values
    np.testing.assert_allclose(
        found, opened(executor="host").explain(X, "gradient").values, rtol=1e-4, atol=1e-6
    )
    assert len(seen) == 2 * len(X) and set(seen) == {1}


def test_an_error_is_raised_and_no_thread_left_running(large):
    model = opened(threads=2)
    with pytest.raises(onnxvis.errors.OnnxvisError):
        model.explain(X, "gradient", [0, 1, 2, 3, 0, 1, 99])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxvis")]


# ---- changed inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [0.0, "mean", "random"])
def test_occlusion_is_the_same_on_any_number_of_threads(fill):
    settings = {"size": 5, "stride": 2, "fill": fill, "batch": 4}
    found = [opened(threads).explain(X[:2], "occlusion", **settings).values for threads in (1, 2, 5)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5, atol=1e-6)


def test_changed_inputs_run_at_the_same_time(monkeypatch):
    """Times out (and fails) where one waits for the one before."""
    run, together, sizes = Engine.run, threading.Barrier(2), []

    def watched(engine, feeds, names):
        if engine.runtime.threads == 1:
            together.wait(TIME)
            sizes.append(len(feeds["x"]))
        return run(engine, feeds, names)

    monkeypatch.setattr(Engine, "run", watched)
    opened().explain(X[:1], "occlusion", size=6, stride=6, batch=4)
    assert sizes == [2, 2]  # four boxes, four at a time
