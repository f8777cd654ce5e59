"""Adjoints that rectify what they make: all ways to do so, and passes in which nothing else rectifies."""

from dataclasses import replace

import numpy as np
import pytest
from engine.branching import close, engine, shared
from models import normal

from onnxvis.engine.device import DeviceExecutor, _Kept
from onnxvis.engine.forward import Record
from onnxvis.engine.plan import Pass
from onnxvis.ops.device.convolution import End
from onnxvis.ops.host import HostOps

from .compiling import GPP, WHY
from .stand_in import launched, stand_in_ops
from .test_onto import FASTEST, WINDOWS, by_every_way, operands, residual

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

GATES = ("gradient", "guided", "deconvnet")
METHODS = ("gradient", "guided_backprop", "deconvnet")


@pytest.fixture
def taken(monkeypatch):
    """The arrays that ways are tried with."""
    seen = []
    monkeypatch.setattr(FASTEST, lambda gpu, ways, *arrays: seen.append(arrays) or ways[0])
    return seen


def results(on, window, onto, a, g, w):
    """Behind every gate, of a sum and of an adjoint alone."""
    for gate in GATES:
        y = None if gate == "deconvnet" else on.positive(a)
        for there in (None, onto):
            yield on.conv_transpose_gated(gate, y, there, g, w, window)


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window.kernel} {window.strides}")
def test_all_ways_rectify_alike(window, monkeypatch):
    """Those that do it by themselves, and those behind which it follows; what is there stays."""
    made, seen, expected = by_every_way(monkeypatch, window, results)
    assert len(seen) == len(expected) == 6
    for one, found, right in zip(made, seen, expected, strict=True):
        assert len(found) > 2 and (right == 0).any() and (right > 0).any()
        for result in (one, *found):
            np.testing.assert_allclose(result, right, rtol=2e-5, atol=2e-5)


def test_the_fastest_way_is_looked_for_by_itself(taken):
    ops, (window, *_) = stand_in_ops(capability=90), WINDOWS
    onto, a, g, w = map(ops.constant, operands(window))
    for _ in range(2):
        ops.conv_transpose(g, w, window)
        ops.conv_transpose_onto(onto, g, w, window)
        [*results(ops, window, onto, a, g, w)]
    assert [len(arrays) for arrays in taken] == [2, 3, 3, 4, 3, 4, 2, 3]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("group", [1, 2])
def test_views_and_other_numbers(dtype, group, taken):
    """Of any dtype, in groups, and where they do not lie in one piece; y where nothing reads it."""
    rng, ops, host = np.random.default_rng(4), stand_in_ops(dtype), HostOps(np.float64)
    window = WINDOWS[0]
    a, onto = rng.normal(size=(2, 3, 2 * group, *window.size_in)).astype(dtype)
    w = rng.normal(size=(3 * group, 2, *window.kernel)).astype(dtype)
    g = rng.normal(size=(3, 3 * group, *window.size_out)).astype(dtype)

    def made(on):
        arrays = (on.constant(array.swapaxes(0, 1).copy()) for array in (onto, a))
        onto_, y = (on.transpose(array, (1, 0, 2, 3)) for array in arrays)
        for gate in GATES:
            for there in (None, onto_):
                yield on.conv_transpose_gated(gate, y, there, *map(on.constant, (g, w)), window, group)

    for ours, theirs in zip(made(ops), made(host), strict=True):
        bound = 3e-2 if dtype == "float16" else 1e-5
        np.testing.assert_allclose(ops.gpu.download(ours), theirs, rtol=bound, atol=bound)
    assert {len(arrays) for arrays in taken} == {2, 3, 4}
    assert all(array.flags.c_contiguous for arrays in taken for array in arrays)


def test_whole_numbers_are_compared_as_they_are(taken):
    """A rectifier's output need not be of the working dtype, which kernels expect."""
    ops, (window, *_) = stand_in_ops(capability=90), WINDOWS
    _, a, g, w = operands(window)
    whole = (a > 0).astype(np.int64)
    ours, theirs = (
        on.conv_transpose_gated(
            "gradient", *map(on.constant, (whole,)), None, *map(on.constant, (g, w)), window
        )
        for on in (ops, HostOps())
    )
    np.testing.assert_allclose(ops.gpu.download(ours), theirs, rtol=2e-5, atol=2e-5)
    assert [len(arrays) for arrays in taken] == [2]


def test_nothing_to_do():
    ops, (window, *_) = stand_in_ops(), WINDOWS
    onto = ops.constant(normal(2, 5, *window.size_in))
    g, w = ops.zeros((2, 0, *window.size_out)), ops.zeros((0, 5, *window.kernel))
    for gate in GATES:
        found = ops.conv_transpose_gated(gate, None if gate == "deconvnet" else onto, onto, g, w, window)
        np.testing.assert_array_equal(ops.gpu.download(found), np.maximum(ops.gpu.download(onto), 0))


@pytest.mark.parametrize("onto", [False, True])
def test_an_end_says_what_a_way_takes_last(onto):
    for gate, last in ((None, []), ("gradient", ["y"]), ("guided", ["y"]), ("deconvnet", [])):
        assert End(onto=onto, gate=gate).last == ["onto"] * onto + last


# ---- passes --------------------------------------------------------------------------------------


def passed(model, method, seeds, wrt, monkeypatch, gates=True, way=-1):
    """How often a kernel only rectifies or adds, in a pass that the host agrees with."""
    monkeypatch.setattr(FASTEST, lambda gpu, ways, *arrays: ways[way])
    made, given = engine(model, "host"), {"x": normal(2, 3, 6, 6)}
    host = made.backward(given, Pass(method), seeds, wrt)
    steps = tuple(
        replace(s, rule=replace(s.rule, gate=s.rule.gate if gates else None)) for s in host.plan.steps
    )
    record, ops = made.run(given, host.needs), stand_in_ops(capability=90)
    with launched() as seen:
        found = DeviceExecutor(replace(host.plan, steps=steps), ops).backward(Record(record.raw), seeds)
    for name, expected in host.backward(record, seeds).items():
        close(found[name], expected)
    return [sum(name.startswith(kernel) for name in seen) for kernel in ("rectify<", "add<")]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_else_rectifies_in_a_residual_net(method, monkeypatch):
    """The last one gets what a mean spreads, for which there is no such kernel."""
    for gates, counts in ((True, [0, 0]), (False, [4, 0])):
        assert passed(residual(), method, {"y": normal(2, 5)}, ["x"], monkeypatch, gates) == counts


@pytest.mark.parametrize("method", METHODS)
def test_ways_that_do_not_rectify_are_followed_by_it(method, monkeypatch):
    assert passed(residual(), method, {"y": normal(2, 5)}, ["x"], monkeypatch, way=0) == [4, 2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("names", "wrt", "count"), [(("y",), ["x", "r"], 1), (("y", "r", "x"), ["x"], 0)])
def test_a_pass_that_starts_or_ends_in_between(method, names, wrt, count, monkeypatch):
    shapes = {"y": (2, 5), "x": (2, 3, 6, 6), "r": (2, 4, 6, 6)}
    seeds = {name: normal(*shapes[name]) for name in names}
    before = {name: seed.copy() for name, seed in seeds.items()}
    assert passed(shared(), method, seeds, wrt, monkeypatch)[0] == count
    for name, seed in seeds.items():
        np.testing.assert_array_equal(seed, before[name])


def test_what_a_gate_reads_stays_until_the_rectifiers_step(monkeypatch):
    """Which still says that it is over, and lets go of it."""
    made, given, seeds = engine(residual(), "host"), {"x": normal(2, 3, 6, 6)}, {"y": normal(2, 5)}
    host = made.backward(given, Pass("guided_backprop"), seeds, ["x"])
    record, kept, own = made.run(given, host.needs), [], _Kept.done

    def done(self, planned):
        kept.append(({*self._arrays}, planned.node.op_type, planned.node.outputs[0]))
        own(self, planned)
        assert planned.node.op_type != "Relu" or planned.node.outputs[0] not in self._arrays

    monkeypatch.setattr(_Kept, "done", done)
    DeviceExecutor(host.plan, stand_in_ops()).backward(Record(dict(record.raw)), seeds)
    rectifiers = [name in arrays for arrays, kind, name in kept if kind == "Relu"]
    assert rectifiers == [True] * 5 and len(kept) == len(host.plan.steps)


@pytest.mark.parametrize("method", METHODS)
def test_a_repeated_pass_reads_what_a_gate_does(method, monkeypatch):
    """A CUDA graph, for other activations each time."""
    monkeypatch.setattr(FASTEST, lambda gpu, ways, *arrays: ways[-1])
    made, seeds = engine(residual(), "host"), {"y": normal(2, 5)}
    host = made.backward({"x": normal(2, 3, 6, 6)}, Pass(method), seeds, ["x"])
    ours = DeviceExecutor(host.plan, stand_in_ops(capability=90))
    for seed in range(DeviceExecutor.GRAPH_AFTER + 3):
        record = made.run({"x": normal(2, 3, 6, 6, seed=seed)}, host.needs)
        expected = host.backward(record, seeds)
        close(ours.backward(Record(dict(record.raw)), seeds)["x"], expected["x"])
    assert ours._graph is not None
