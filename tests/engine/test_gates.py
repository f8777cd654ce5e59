"""Adjoints that do what the rectifier in front of them does: the same numbers, to the last bit."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from models import build, normal, run_plain
from onnx import helper

import onnxvis
from engine.branching import SEEDS, WRT, branching, close, engine, feeds, shared
from onnxvis.engine.compiled import trace
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.engine.walk import walk
from onnxvis.errors import UnknownNameError
from onnxvis.ops.host import HostOps
from onnxvis.rules import linear, registry, rule
from onnxvis.rules.composites import COMPOSITES
from onnxvis.rules.gradient.layers import Conv

node = helper.make_node
PADDED = {"pads": [1, 1, 1, 1]}
METHODS = ("gradient", "guided_backprop", "deconvnet")
SHAPES = {"y": (2, 5), "x": (2, 3, 6, 6)}


def net(*between, end="c"):
    """Two convolutions with these nodes, from ``r`` on, between them, and a dense layer on ``end``."""
    nodes = [
        node("Conv", ["x", "w1"], ["b"], name="conv1", **PADDED), node("Relu", ["b"], ["r"], name="relu"),
        *between, node("GlobalAveragePool", [end], ["a"]), node("Flatten", ["a"], ["f"]),
        node("Gemm", ["f", "w5"], ["y"]),
    ]  # fmt: skip
    weights = {
        "w1": normal(4, 3, 3, 3, scale=0.4), "w2": normal(4, 4, 3, 3, scale=0.3), "w3": normal(4, 4, 1, 1),
        "w5": normal(4, 5),
    }  # fmt: skip
    return build(nodes, {"x": ["N", 3, 6, 6]}, ["y"], weights)


CONV = node("Conv", ["r", "w2"], ["c"], name="conv2", **PADDED)
ADD = node("Add", ["c", "d"], ["s"])
POOL = node("AveragePool", ["r"], ["d"], kernel_shape=[3, 3], **PADDED)
POINTWISE = node("Conv", ["r", "w3"], ["d"], name="conv3")


def plans(model, given, method, seeds, wrt):
    """A plan; one in which nothing is a gate; what both read."""
    made = engine(model, "host")
    plan = made.backward(given, Pass(method), seeds, wrt).plan
    alone = replace(plan, steps=tuple(replace(s, rule=replace(s.rule, gate=None)) for s in plan.steps))
    return plan, alone, made.run(given, plan.needs)


def alike(model, given, method, seeds, wrt):
    plan, alone, record = plans(model, given, method, seeds, wrt)
    found, expected = (HostExecutor(each).backward(record, seeds) for each in (plan, alone))
    assert found.keys() == expected.keys() == {*wrt}
    for name in wrt:
        np.testing.assert_array_equal(found[name], expected[name])
        assert abs(found[name]).max() > 0
    return found


@pytest.fixture
def gated(monkeypatch):
    """The gate of each adjoint that had one, and whether it added to something, which stayed as it was."""
    seen, own = [], HostOps.conv_transpose_gated

    def watched(ops, gate, y, onto, *others):
        before = None if onto is None else onto.copy()
        result = own(ops, gate, y, onto, *others)
        assert onto is None or (onto == before).all()
        assert (y is None) == (gate == "deconvnet")
        seen.append((gate, onto is not None))
        return result

    monkeypatch.setattr(HostOps, "conv_transpose_gated", watched)
    return seen


def gate_of(method):
    return {"guided_backprop": "guided"}.get(method, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("between", "end", "ontos"),
    [
        ([CONV], "c", [False]),
        ([CONV, node("Relu", ["c"], ["q"]), node("Conv", ["q", "w2"], ["d"], **PADDED)], "d", [False] * 2),
        ([CONV, POOL, ADD], "s", [True]),  # what the pool sends is there before
        ([POOL, CONV, ADD], "s", []),  # and here comes after
        ([CONV, POINTWISE, ADD], "s", [True]),
        ([CONV, node("Relu", ["c"], ["q"]), node("Relu", ["r"], ["d"]), node("Add", ["q", "d"], ["s"])],
         "s", [True]),
        ([POOL], "d", []),  # no convolution
        ([node("Relu", ["r"], ["q"])], "q", []),
        ([CONV, node("LeakyRelu", ["c"], ["q"]), node("Conv", ["q", "w2"], ["d"], **PADDED)], "d", [False]),
    ],
)  # fmt: skip
def test_numbers_are_the_same(method, between, end, ontos, gated):
    given, seeds = {"x": normal(2, 3, 6, 6)}, {"y": normal(2, 5, seed=3)}
    alike(net(*between, end=end), given, method, seeds, ["x"])
    assert gated == [(gate_of(method), onto) for onto in ontos]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("names", "wrt", "count"),
    [
        (("y",), ["x"], 1), (("y", "r"), ["x"], 1), (("r",), ["x"], 0), (("c2",), ["x"], 1),
        (("c2", "c1"), ["x"], 1), (("y", "r", "x"), ["x", "c2"], 1), (("r", "t"), ["c1"], 1),
        (("y",), ["r"], 0), (("y", "r"), ["r", "x"], 0), (("c2",), ["x", "r"], 0), (("y",), ["w1"], 1),
    ],
)  # fmt: skip
def test_wherever_a_pass_starts_and_ends(method, names, wrt, count, gated):
    """What arrives at the rectifier's output is a result itself, where that is asked for."""
    seeds = {name: normal(*SHAPES.get(name, (2, 4, 6, 6)), seed=3) for name in names}
    alike(shared(), {"x": normal(2, 3, 6, 6)}, method, seeds, wrt)
    assert len(gated) == count


@pytest.mark.parametrize("method", METHODS)
def test_a_graph_with_branches(method, gated):
    seeds = {name: normal(*shape, seed=4) for name, shape in SEEDS.items()}
    for wrt, count in ((WRT, 0), (("x", "gate"), 1)):
        gated.clear()
        alike(branching(), feeds(), method, seeds, wrt)
        assert gated == [(gate_of(method), True)] * count


def test_relevance_has_no_gates(gated):
    given, seeds = {"x": normal(2, 3, 6, 6)}, {"y": normal(2, 5)}
    for composite in ("epsilon_plus", "epsilon_alpha2_beta1"):
        alike(shared(), given, COMPOSITES[composite], seeds, ["x"])
    assert not gated


def test_data_that_are_their_own_weights(gated):
    """What such a convolution returns for both goes to one tensor."""
    nodes = [node("Relu", ["x"], ["r"]), node("Conv", ["r", "r"], ["y"])]
    given, seeds = {"x": normal(3, 3, 2, 2)}, {"y": normal(3, 3, 1, 1, seed=1)}
    alike(build(nodes, {"x": [3, 3, 2, 2]}, ["y"]), given, "gradient", seeds, ["x"])
    assert not gated


def test_weights_that_a_rectifier_made(gated):
    """It is in front of the second input only."""
    nodes = [node("Relu", ["v"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    given, seeds = {"x": normal(2, 3, 2, 2), "v": normal(4, 3, 1, 1)}, {"y": normal(2, 4, 2, 2)}
    net = build(nodes, {name: [*array.shape] for name, array in given.items()}, ["y"])
    alike(net, given, "gradient", seeds, ["x", "v"])
    assert not gated


def test_steps_are_over_one_after_the_other():
    """As if each had done its own."""
    given, seeds = {"x": normal(2, 3, 6, 6)}, {"y": normal(2, 5)}

    def heard(plan, record):
        names = []
        walk(plan, HostOps(), record.__getitem__, seeds, lambda p: names.append(p.node.name), names.append)
        return names

    plan, alone, record = plans(shared(), given, "gradient", seeds, ["x"])
    told = heard(plan, record)
    assert told == heard(alone, record) and told.count("relu") == 2


# ---- executors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_traces_hold_the_same_operators(method):
    for model in (shared(), net(CONV), net(POOL, CONV, ADD, end="s")):
        made = plans(model, {"x": normal(2, 3, 6, 6)}, method, ["y"], ["x"])[:2]
        found, expected = (Counter(n.op_type for n in trace(plan).model.graph.node) for plan in made)
        assert found == expected


@pytest.mark.parametrize("executor", ["compiled", "auto"])
@pytest.mark.parametrize("method", METHODS)
def test_executors_agree(executor, method):
    """As two sessions, and as one; as one for any number of samples."""
    for net_ in (shared(), net(CONV)):
        ours, theirs = (onnxvis.load(net_, threads=1, executor=name) for name in (executor, "host"))
        for x in (normal(samples, 3, 6, 6) for samples in (2, 3, 1, 3)):
            found, expected = (model.explain(x, method, 1) for model in (ours, theirs))
            close(found.values, expected.values)
            seed = {"y": normal(len(x), 5)}
            close(*(model.vjp(x, seed, method, wrt=["r"])["r"] for model in (ours, theirs)))


@pytest.mark.parametrize("method", METHODS)
def test_an_export_agrees(tmp_path, method):
    model, path, x = onnxvis.load(shared(), threads=1), tmp_path / "model.onnx", normal(2, 3, 6, 6, seed=1)
    model.export(path, method, 2, outputs=["explanation"])
    found = run_plain(path.read_bytes(), {"x": x}, ["explanation"])
    close(*found, model.explain(x, method, 2).values)


def test_a_rule_in_plain_python_between(gated):
    """Where it is cut there, what comes before ends with the rectifier's output."""
    with registry.scoped():

        @rule("Conv", needs="x w", traceable=False, override=True)
        def by_hand(step, g):
            return registry.linears["", "Conv"].adjoint(step, g, step.w)

        ours, theirs = (onnxvis.load(shared(), threads=1, executor=name) for name in ("auto", "host"))
        x = normal(2, 3, 6, 6)
        close(*(model.explain(x, "guided_backprop", 1).values for model in (ours, theirs)))
    assert not gated


# ---- rules of one's own --------------------------------------------------------------------------


def test_rules_are_the_gates_that_they_say():
    """For every rule with one, on arrays of both signs and zeros."""
    found = [r for rules in registry.rules.values() for r in rules if r.gate]
    assert {(r.op_type, r.method, r.gate) for r in found} == {("Relu", m, gate_of(m)) for m in METHODS}
    g, y = normal(50), np.maximum(normal(50, seed=1), 0)
    g[::7] = 0
    step = HostOps()
    step.y = y
    for each in found:
        np.testing.assert_array_equal(each.body(step, g), step.rectify(g, each.gate, y))


@pytest.mark.parametrize("method", METHODS)
def test_a_rectifier_of_ones_own_is_no_gate(method, gated):
    given, g = {"x": normal(2, 3, 6, 6)}, normal(2, 4, 6, 6, seed=1)
    with registry.scoped():

        @rule("Relu", method=method, needs="y", override=True)
        def doubled(step, g):
            return 2.0 * step.gate(g, step.y)

        found = alike(net(CONV), given, method, {"c": g}, ["b"])["b"]
    assert not gated
    plain = alike(net(CONV), given, "gradient", {"c": g}, ["b"])["b"]
    np.testing.assert_array_equal(found, 2 * plain)


def test_a_rectifier_of_ones_own_can_be_a_gate(gated):
    given, g = {"x": normal(2, 3, 6, 6)}, {"c": normal(2, 4, 6, 6, seed=1)}
    nodes = [node("Softsign", ["r"], ["p"]), node("Conv", ["p", "w2"], ["c"], **PADDED)]
    with registry.scoped():

        @rule("Softsign", needs="y", gate="guided", override=True)
        def guided(step, g):
            raise AssertionError("the convolution does it")

        made = engine(net(*nodes), "host")
        _, found = made.vjp(given, g, ["y"], ["x"], Pass("gradient"))
    assert gated == [("guided", False)] and found["x"].any()
    with pytest.raises(UnknownNameError, match="gate"):
        rule("Softsign", gate="both")


def calls_the_body():
    """Another rule that doubles what the gradient's returns."""

    @rule("Conv", method="deconvnet", needs="x w")
    def doubled(step, g):
        data, *_ = registry.find("Conv", "gradient").body(step, g)
        return -2.0 * data


def calls_the_method():
    """A linear operator that doubles what it inherits."""

    @linear("Conv", override=True)
    class Doubled(Conv):
        def gradient(self, step, g):
            data, *others = super().gradient(step, g)
            return -2.0 * data, *others


def overrides_the_adjoint():
    """A linear operator that inherits the gate of another adjoint."""

    @linear("Conv", override=True)
    class Doubled(Conv):
        def adjoint(self, step, g, w):
            return -2.0 * super().adjoint(step, g, w)


@pytest.mark.parametrize("register", [calls_the_body, calls_the_method, overrides_the_adjoint])
def test_a_rule_that_changes_what_another_returns(register, gated):
    """It gets what that one makes by itself: of what is negative, nothing would be left to turn round."""
    given, g = {"x": normal(2, 3, 6, 6)}, normal(2, 4, 6, 6, seed=1)
    with registry.scoped():
        register()
        found = alike(net(CONV), given, "deconvnet", {"c": g}, ["b"])["b"]
    assert not gated
    np.testing.assert_array_equal(found, alike(net(CONV), given, "deconvnet", {"c": -2 * g}, ["b"])["b"])


def test_a_subclass_that_overrides_nothing_of_it(gated):
    with registry.scoped():

        @linear("Conv", override=True)
        class Same(Conv):
            pass

        alike(net(CONV), {"x": normal(2, 3, 6, 6)}, "gradient", {"y": normal(2, 5)}, ["x"])
    assert gated == [("gradient", False)]


@pytest.mark.parametrize("takes", [True, False])
def test_a_part_of_a_sum_is_not_rectified(takes):
    """A rule that leaves what has arrived where it is, is no rule that may rectify its own."""
    told = []
    with registry.scoped():

        @rule("Conv", needs="x w", adds=True, override=True)
        def asks(step, g):
            onto = step.taken() if takes else None
            told.append((onto is not None, step.gating() is not None, step.gating()))
            operator = registry.linears["", "Conv"]
            return operator.adjoint(step, g, step.w)

        model = engine(net(CONV, POOL, ADD, end="s"), "host")
        model.vjp({"x": normal(2, 3, 6, 6)}, {"y": normal(2, 5)}, ["y"], ["x"], Pass("gradient"))
    assert told[0] == (takes, takes, None)  # and once only
