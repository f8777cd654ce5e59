"""The executors give the same numbers: for every rule, and for graphs in which tensors are shared."""

import gc
import weakref

import numpy as np
import onnx
import pytest
from models import build, normal
from onnx import helper, numpy_helper
from rules.cases import named_pairs, pairs

import onnxvis
from engine.branching import RUNTIME, SEEDS, WRT, branching, close, engine, feeds, tail, tapped
from onnxvis.engine.compiled import CompiledExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.engine.runtime import Runtime
from onnxvis.ops.trace import NotTraceableError
from onnxvis.rules.composites import COMPOSITES


def both_executors(plan, record, seeds):
    """{tensor: array} by the host and by the compiled executor."""
    raw = Record({name: RUNTIME.value(array) for name, array in record.items()})
    on_host = HostExecutor(plan).backward(record, seeds)
    compiled = CompiledExecutor(plan, RUNTIME).backward(raw, seeds)
    assert on_host.keys() == compiled.keys() == set(plan.wrt)
    return [(compiled[name], on_host[name]) for name in plan.wrt]


# ---- every rule ----------------------------------------------------------------------------------


def on_host_only(case, method):
    """True where the rule reads numbers in plain Python that the model computes."""
    return case.operator == "GridSample" and 1 in case.varying(method)


@pytest.mark.parametrize(**named_pairs([pair for pair in pairs() if not on_host_only(*pair)]))
def test_compiled_is_host(case, method):
    plan = case.plan(method, np.float32)
    for ours, theirs in both_executors(plan, case.record(np.float32), {"y": case.seed(np.float32)}):
        close(ours, theirs)


@pytest.mark.parametrize(**named_pairs([pair for pair in pairs() if on_host_only(*pair)]))
def test_what_cannot_be_compiled_says_so(case, method):
    with pytest.raises(NotTraceableError, match="no numbers yet"):
        CompiledExecutor(case.plan(method, np.float32), RUNTIME)


# ---- a graph with branches -----------------------------------------------------------------------


def random_seeds(names):
    rng = np.random.default_rng(2)
    return {name: rng.normal(size=SEEDS[name]).astype(np.float32) for name in names}


def arrived(executor, method, seeds, wrt):
    _, found = engine(branching(), executor).vjp(feeds(), seeds, seeds, wrt, Pass(method))
    return found


def slope(run, given, step, seeds):
    """d/dt Σ ⟨seed, run(given + t·step)⟩ at t = 0, in float64."""

    def at(t):
        moved = {name: array + t * step[name] if name in step else array for name, array in given.items()}
        return sum(np.vdot(seed, y) for seed, y in zip(seeds.values(), run([*seeds], moved), strict=True))

    return (at(1e-6) - at(-1e-6)) / 2e-6


@pytest.mark.parametrize("executor", ["host", "compiled"])
@pytest.mark.parametrize(
    "names", [("scores",), ("mean",), ("scores", "mean"), ("scores", "mean", "r1")], ids=" ".join
)
def test_gradient_is_the_slope(executor, names):
    seeds, given = random_seeds(names), feeds(np.float64)
    found = arrived(executor, "gradient", seeds, [*given])
    rng = np.random.default_rng(3)
    step = {name: rng.normal(size=array.shape) for name, array in given.items()}
    theirs = slope(tapped("r1").run, given, step, seeds)
    np.testing.assert_allclose(sum(np.vdot(step[n], g) for n, g in found.items()), theirs, rtol=1e-4)


@pytest.mark.parametrize("executor", ["host", "compiled"])
@pytest.mark.parametrize("cut", ["c2", "residual", "pooled", "flat"])
def test_gradient_at_an_inner_tensor(executor, cut):
    seeds = random_seeds(["scores", "mean"] if cut in ("c2", "residual") else ["scores"])
    found = arrived(executor, "gradient", seeds, [cut])[cut]
    given = feeds(np.float64)
    x = tapped(cut).run([cut], given)[0]
    step = {cut: np.random.default_rng(4).normal(size=x.shape)}
    theirs = slope(tail(cut, x.shape).run, {**given, cut: x}, step, seeds)
    assert found.shape == x.shape
    np.testing.assert_allclose(np.vdot(step[cut], found), theirs, rtol=1e-4)


@pytest.mark.parametrize("method", ["gradient", "deconvnet", "guided_backprop"])
def test_executors_agree_on_a_graph(method):
    seeds = random_seeds(SEEDS)
    ours, theirs = (arrived(name, method, seeds, WRT) for name in ("compiled", "host"))
    assert [*ours] == [*WRT]
    for name in WRT:
        close(ours[name], theirs[name])


def test_what_arrives_at_a_seed_is_the_seed_and_what_comes_from_above():
    seeds = random_seeds(SEEDS)
    alone = arrived("host", "gradient", {"r1": seeds["r1"]}, ["r1"])["r1"]
    np.testing.assert_array_equal(alone, seeds["r1"])
    both = arrived("host", "gradient", seeds, ["r1"])["r1"]
    above = arrived("host", "gradient", {n: seeds[n] for n in ("scores", "mean")}, ["r1"])["r1"]
    np.testing.assert_allclose(both, seeds["r1"] + above, rtol=1e-5)


def test_results_do_not_depend_on_what_else_is_asked_for():
    seeds = random_seeds(["scores"])
    together = arrived("compiled", "gradient", seeds, WRT)
    for name in WRT:
        close(arrived("compiled", "gradient", seeds, [name])[name], together[name], 1e-6)


def test_double_precision_stays():
    """onnxruntime convolves in single precision only; what it computes in double is explained in double."""
    nodes = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("MatMul", ["t", "w"], ["y"])]
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    graph = helper.make_graph(
        nodes,
        "double",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, x.shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    seeds = {"y": np.ones((2, 2))}
    for executor in ("host", "compiled"):
        _, found = engine(model, executor).vjp({"x": x}, seeds, seeds, ["x"], Pass("gradient"))
        assert found["x"].dtype == np.float64
        np.testing.assert_allclose(found["x"], w.sum(axis=1) / np.cosh(x) ** 2, rtol=1e-12)


# ---- relevance -----------------------------------------------------------------------------------

RELEVANCE = {name: Pass(table) for name, table in COMPOSITES.items()}
RELEVANCE["epsilon_gamma_box"] = Pass(COMPOSITES["epsilon_gamma_box"], {"low": -4.0, "high": [3.5, 4.0, 4.5]})


@pytest.mark.parametrize("composite", [*COMPOSITES])
@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_composites_on_a_residual_net(composite, executor):
    """Without biases and padding-free of products, relevance is conserved from the scores to the input."""
    x = normal(2, 3, 6, 6)
    _, found = engine(residual(), executor).vjp(
        {"x": x},
        lambda record: {"y": record["y"]},
        ["y"],
        ["x", "r"],
        RELEVANCE[composite],
        also=["y"],
    )
    score = engine(residual()).run({"x": x}, ["y"])["y"].sum()
    for name in ("x", "r"):
        np.testing.assert_allclose(found[name].sum(), score, rtol=1e-3)
    _, other = engine(residual(), "host").vjp(
        {"x": x}, lambda record: {"y": record["y"]}, ["y"], ["x", "r"], RELEVANCE[composite]
    )
    close(found["x"], other["x"])


def residual():
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c"], name="conv1"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Conv", ["r", "w2"], ["d"], name="conv2", pads=[1, 1, 1, 1]),
        node("Relu", ["d"], ["e"], name="relu2"),
        node("Add", ["e", "r"], ["s"], name="add"),
        node("GlobalAveragePool", ["s"], ["g"], name="average"),
        node("Flatten", ["g"], ["f"], name="flatten"),
        node("Gemm", ["f", "w3"], ["y"], name="dense"),
    ]
    weights = {"w1": normal(4, 3, 3, 3), "w2": normal(4, 4, 3, 3), "w3": abs(normal(4, 2))}
    return build(nodes, {"x": [2, 3, 6, 6]}, ["y"], weights)


# ---- numbers without axes, and names -------------------------------------------------------------


@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_an_input_without_axes(executor):
    nodes = [helper.make_node("Mul", ["x", "scale"], ["z"]), helper.make_node("Exp", ["scale"], ["y"])]
    model = build(nodes, {"x": [2, 3], "scale": []}, ["z", "y"])
    given = {"x": normal(2, 3), "scale": np.array(0.5, np.float32)}
    seeds = {"z": np.ones((2, 3), np.float32), "y": np.array(2.0, np.float32)}
    _, found = engine(model, executor).vjp(given, seeds, seeds, ["scale"], Pass("gradient"))
    assert found["scale"].shape == ()
    np.testing.assert_allclose(found["scale"], given["x"].sum() + 2 * np.exp(0.5), rtol=1e-5)


@pytest.mark.parametrize("name", ["v0", "c0", "v1", "result", "seed of y", "result at v0", "kept v0"])
def test_tensors_of_the_file_may_have_any_name(name):
    nodes = [helper.make_node("Exp", ["x"], [name]), helper.make_node("Mul", [name, name], ["y"])]
    model = build(nodes, {"x": [3]}, ["y"])
    x, seed = normal(3), {"y": np.ones(3, np.float32)}
    _, found = engine(model, "compiled").vjp({"x": x}, seed, seed, ["x", name], Pass("gradient"))
    np.testing.assert_allclose(found["x"], 2 * np.exp(2 * x), rtol=1e-5)
    np.testing.assert_allclose(found[name], 2 * np.exp(x), rtol=1e-5)


def test_large_constants_live_as_long_as_their_session(monkeypatch):
    """onnxruntime reads them where they lie; the zeros for the part that nobody reads are nobody else's."""
    given = []
    value = Runtime.value

    def watched(self, array):
        made = value(self, array)
        given.append(weakref.ref(made))
        return made

    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Split", ["r", "parts"], ["y", "z"], axis=1),
    ]
    model = build(nodes, {"x": [1, 64, 40, 40]}, ["y", "z"], {"parts": np.array([40, 24])})
    compiled = onnxvis.load(model, threads=1, executor="compiled")
    x, seed = abs(normal(1, 64, 40, 40)), normal(1, 40, 40, 40, seed=1)
    monkeypatch.setattr(Runtime, "value", watched)
    executor = compiled.engine.backward({"x": x}, Pass("gradient"), ["y"], ["x"])
    gc.collect()
    assert given
    assert all(reference() is not None for reference in given)
    found = executor.backward(Record({"r": RUNTIME.value(x)}), {"y": seed})["x"]
    np.testing.assert_array_equal(found[:, :40], seed)
    assert not found[:, 40:].any()
