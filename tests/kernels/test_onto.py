"""Adjoints that add to what is there: all ways to do so, and passes in which nothing else adds."""

from dataclasses import replace

import numpy as np
import pytest
from engine.branching import close, engine, shared
from models import build, normal
from onnx import helper

from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.plan import Pass
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window
from onnxvis.rules.composites import COMPOSITES

from .compiling import GPP, WHY
from .stand_in import launched, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

FASTEST = "onnxvis.ops.device.convolution.fastest"
WINDOWS = [
    Window((3, 3), (1, 1), (1, 1), (1, 1), (5, 6), (5, 6)),
    Window((3, 3), (2, 2), (1, 1), (1, 1), (5, 6), (3, 3)),
    Window((1, 1), (1, 1), (1, 1), (0, 0), (4, 5), (4, 5)),
    Window((1, 1), (2, 2), (1, 1), (0, 0), (5, 6), (3, 3)),  # some numbers of which nothing sees
]


def operands(window):
    rng = np.random.default_rng(9)
    shapes = ((2, 5, *window.size_in),) * 2 + ((2, 7, *window.size_out), (7, 5, *window.kernel))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def by_every_way(monkeypatch, window, results):
    """What the ways that are taken make of results(ops, window, *operands), what all make, and the host.

    None writes to an operand.
    """
    seen, arrays = [], operands(window)

    def every(gpu, ways, *arrays):
        seen.append([gpu.download(way(*arrays)) for way in ways])
        return ways[0]

    monkeypatch.setattr(FASTEST, every)
    ops, host = stand_in_ops(capability=90), HostOps(np.float64)
    given = [*map(ops.constant, arrays)]
    made = [ops.gpu.download(result) for result in results(ops, window, *given)]
    for array, before in zip(given, arrays, strict=True):
        np.testing.assert_array_equal(ops.gpu.download(array), before)
    return made, seen, [*results(host, window, *(array.astype(np.float64) for array in arrays))]


def results(on, window, onto, a, g, w):
    return (
        on.conv_transpose_onto(onto, g, w, window),
        on.conv_transpose_product_onto(onto, g, [(a, w)], window),
    )


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window.kernel} {window.strides}")
def test_all_ways_add_alike(window, monkeypatch):
    """Those that do it by themselves, and those behind which it follows; what is there stays."""
    for one, found, right in zip(*by_every_way(monkeypatch, window, results), strict=True):
        assert len(found) > 2
        for result in (one, *found):
            np.testing.assert_allclose(result, right, rtol=2e-5, atol=2e-5)


def test_the_fastest_way_to_add_is_looked_for_by_itself(monkeypatch):
    counts = []
    monkeypatch.setattr(FASTEST, lambda gpu, ways, *arrays: counts.append(len(arrays)) or ways[0])
    ops, (window, *_) = stand_in_ops(capability=90), WINDOWS
    onto, a, g, w = map(ops.constant, operands(window))
    for _ in range(2):
        ops.conv_transpose(g, w, window)
        ops.conv_transpose_product(g, [(a, w)], window)
        results(ops, window, onto, a, g, w)
    assert counts == [2, 3, 3, 4]


# ---- passes --------------------------------------------------------------------------------------


def residual():
    """Two blocks: a convolution of what a sum with it skips."""
    node, padded = helper.make_node, {"pads": [1, 1, 1, 1]}
    weights = {"w": normal(8, 3, 3, 3, scale=0.3), "v": normal(8, 5)}
    nodes = [node("Conv", ["x", "w"], ["c"], **padded), node("Relu", ["c"], ["r0"])]
    for i in range(2):
        weights[f"w{i}"], weights[f"v{i}"] = (normal(8, 8, 3, 3, seed=n, scale=0.2) for n in (i, i + 2))
        nodes += [
            node("Conv", [f"r{i}", f"w{i}"], [f"a{i}"], **padded), node("Relu", [f"a{i}"], [f"b{i}"]),
            node("Conv", [f"b{i}", f"v{i}"], [f"c{i}"], **padded),
            node("Add", [f"c{i}", f"r{i}"], [f"s{i}"]), node("Relu", [f"s{i}"], [f"r{i + 1}"]),
        ]  # fmt: skip
    nodes += [node("GlobalAveragePool", ["r2"], ["p"]), node("Flatten", ["p"], ["f"])]
    return build([*nodes, node("Gemm", ["f", "v"], ["y"])], {"x": [2, 3, 6, 6]}, ["y"], weights)


def passed(model, backward, seeds, wrt, monkeypatch, adds=True):
    """How often a kernel only adds, in a pass by tensor cores that the host agrees with."""
    monkeypatch.setattr(FASTEST, lambda gpu, ways, *arrays: ways[-1])
    made, given = engine(model, "host"), {"x": normal(2, 3, 6, 6)}
    host = made.backward(given, backward, seeds, wrt)
    steps = tuple(replace(s, rule=replace(s.rule, adds=s.rule.adds and adds)) for s in host.plan.steps)
    record, ops = made.run(given, host.needs), stand_in_ops(capability=90)
    with launched() as seen:
        found = DeviceExecutor(replace(host.plan, steps=steps), ops).backward(Record(record.raw), seeds)
    for name, expected in host.backward(record, seeds).items():
        close(found[name], expected)
    return seen.count("add<float>")


@pytest.mark.parametrize(
    "method",
    ["gradient", "guided_backprop", COMPOSITES["epsilon_plus"]],
    ids=["gradient", "guided_backprop", "lrp"],
)
def test_nothing_else_adds_in_a_residual_net(method, monkeypatch):
    seeds = {"y": normal(2, 5)}
    counts = [passed(residual(), Pass(method), seeds, ["x"], monkeypatch, adds) for adds in (True, False)]
    assert counts == [0, 2]


@pytest.mark.parametrize(
    ("method", "count"),
    [("epsilon", 1), (COMPOSITES["epsilon_plus"], 2), (COMPOSITES["epsilon_alpha2_beta1"], 3), ("gamma", 3)],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_where_more_meet(method, count, monkeypatch):
    """The first two of three are added before; what two stacked parts make, behind; some rules do not add."""
    seeds = {"y": normal(2, 5)}
    for wrt in (["x"], ["x", "r", "c2"]):
        assert passed(shared(), Pass(method), seeds, wrt, monkeypatch) == count


@pytest.mark.parametrize("method", ["gradient", "zplus", "alpha_beta"])
def test_a_pass_that_starts_in_between(method, monkeypatch):
    seeds = {"y": normal(2, 5), "r": normal(2, 4, 6, 6), "x": normal(2, 3, 6, 6)}
    before = {name: seed.copy() for name, seed in seeds.items()}
    passed(shared(), Pass(method), seeds, ["x", "r"], monkeypatch)
    for name, seed in seeds.items():
        np.testing.assert_array_equal(seed, before[name])


def test_a_repeated_pass_finds_its_seeds_as_they_were():
    """A CUDA graph keeps them where they are."""
    made, given = engine(shared(), "host"), {"x": normal(2, 3, 6, 6)}
    seeds = {"y": normal(2, 5), "r": normal(2, 4, 6, 6), "x": normal(2, 3, 6, 6)}
    host = made.backward(given, Pass("gradient"), seeds, ["x"])
    record = made.run(given, host.needs)
    expected, ours = host.backward(record, seeds), DeviceExecutor(host.plan, stand_in_ops())
    for _ in range(DeviceExecutor.GRAPH_AFTER + 3):
        close(ours.backward(Record(record.raw), seeds)["x"], expected["x"])
    assert ours._graph is not None
