"""What arrives from several sides: rules that add to what is there make the same sums, in the same order."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from models import build, normal, run_plain
from onnx import helper

import onnxvis
from engine.branching import SEEDS, WRT, branching, close, engine, feeds, shared
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window
from onnxvis.rules import Linear, Step, linear, registry, rule
from onnxvis.rules.composites import COMPOSITES
from onnxvis.rules.gradient.layers import Conv

node = helper.make_node
PADDED = {"pads": [1, 1, 1, 1]}
BOX = {"low": -4.0, "high": 4.0}


def walked(model, given, method, seeds, wrt, settings=MappingProxyType({})):
    """What arrives, and what does where no rule adds to what it finds."""
    made = engine(model, "host")
    plan = made.backward(given, Pass(method, settings), seeds, wrt).plan
    alone = replace(plan, steps=tuple(replace(s, rule=replace(s.rule, adds=False)) for s in plan.steps))
    record = made.run(given, plan.needs)
    found, expected = (HostExecutor(each).backward(record, seeds) for each in (plan, alone))
    assert found.keys() == expected.keys() == {*wrt}
    return found, expected


@pytest.fixture
def added(monkeypatch):
    """Shapes of what adjoints added to, which they left as it was."""
    shapes = []

    def watched(own):
        def adjoint(ops, onto, *others):
            before = onto.copy()
            result = own(ops, onto, *others)
            np.testing.assert_array_equal(onto, before)
            shapes.append(result.shape)
            return result

        return adjoint

    for name in ("conv_transpose_onto", "conv_transpose_product_onto"):
        monkeypatch.setattr(HostOps, name, watched(getattr(HostOps, name)))
    return shapes


ADDING = ("gradient", "deconvnet", "guided_backprop", "epsilon", "norm", "zplus")
OTHERS = ("alpha_beta", "gamma", "zbox", "wsquare", "flat")


@pytest.mark.parametrize(
    ("names", "count"),
    [(("y",), 2), (("y", "r"), 3), (("r", "y"), 3), (("y", "r", "x"), 4), (("t", "c2"), 1)],
)
@pytest.mark.parametrize("method", [*ADDING, *OTHERS])
def test_sums_are_the_same(method, names, count, added):
    """Wherever the pass starts, and wherever its results are collected."""
    shapes = {"y": (2, 5), "x": (2, 3, 6, 6)}
    seeds = {name: normal(*shapes.get(name, (2, 4, 6, 6)), seed=3) for name in names}
    settings, given = BOX if method == "zbox" else {}, {"x": normal(2, 3, 6, 6)}
    for wrt in (["x"], ["x", "r", "c2"]):
        added.clear()
        found, expected = walked(shared(), given, method, seeds, wrt, settings)
        for name in wrt:
            np.testing.assert_array_equal(found[name], expected[name])
            assert abs(found[name]).max() > 0
        assert len(added) == (count if method in ADDING else 0)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_sums_of_relevance_are_the_same(composite, added):
    settings = BOX if composite == "epsilon_gamma_box" else {}
    seeds, given = {"y": normal(2, 5)}, {"x": normal(2, 3, 6, 6)}
    found, expected = walked(shared(), given, COMPOSITES[composite], seeds, ["x", "r"], settings)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    adding = ("epsilon", "epsilon_plus", "epsilon_plus_flat", "excitation_backprop")
    assert bool(added) == (composite in adding)


@pytest.mark.parametrize("method", ["gradient", "guided_backprop"])
def test_sums_with_branches_are_the_same(method, added):
    seeds = {name: normal(*shape, seed=4) for name, shape in SEEDS.items()}
    found, expected = walked(branching(), feeds(), method, seeds, WRT)
    for name in WRT:
        np.testing.assert_array_equal(found[name], expected[name])
    assert added == [(2, 4, 6, 6)]  # at r1


def test_data_that_are_their_own_weights(added):
    """What such a convolution returns for both goes to one tensor."""
    nodes = [node("Conv", ["x", "x"], ["c"]), node("Sum", ["c", "p"], ["y"])]
    nodes.insert(1, node("AveragePool", ["x"], ["p"], kernel_shape=[2, 2]))
    seeds, given = {"y": normal(3, 3, 1, 1, seed=1)}, {"x": normal(3, 3, 2, 2)}
    found, expected = walked(build(nodes, {"x": [3, 3, 2, 2]}, ["y"]), given, "gradient", seeds, ["x"])
    np.testing.assert_array_equal(found["x"], expected["x"])
    assert not added


@pytest.mark.parametrize("executor", ["compiled", "auto"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [("gradient", {}), ("guided_backprop", {}), ("lrp", {"composite": "epsilon_plus"}),
     ("lrp", {"composite": "epsilon_alpha2_beta1"}), ("lrp", {"composite": "epsilon"})],
)  # fmt: skip
def test_executors_agree(executor, method, settings):
    """As two sessions, and as one; as one for any number of samples."""
    ours, theirs = (onnxvis.load(shared(), threads=1, executor=name) for name in (executor, "host"))
    for x in (normal(samples, 3, 6, 6) for samples in (2, 3, 1, 3)):
        found, expected = (model.explain(x, method, 1, **settings) for model in (ours, theirs))
        close(found.values, expected.values)


def test_an_export_agrees(tmp_path):
    model = onnxvis.load(shared(), threads=1)
    for method in ("gradient", "lrp"):
        path, x = tmp_path / f"{method}.onnx", normal(2, 3, 6, 6, seed=1)
        model.export(path, method, 2, outputs=["explanation"])
        found = run_plain(path.read_bytes(), {"x": x}, ["explanation"])
        close(*found, model.explain(x, method, 2).values)


def test_what_layers_send_is_their_own(added):
    """The report of what each layer passes on does not count what others did."""
    model = onnxvis.load(shared(), threads=1)
    for composite in ("epsilon", "epsilon_plus"):
        report = model.conservation(normal(2, 3, 6, 6), 1, composite=composite)
        assert report.error <= 1e-9 * max(1, abs(report.seed)) and not added


# ---- rules of one's own --------------------------------------------------------------------------


def skipping():
    """y = Conv(x) + x."""
    nodes = [node("Conv", ["x", "w"], ["c"], **PADDED), node("Add", ["c", "x"], ["y"])]
    return build(nodes, {"x": [1, 2, 4, 4]}, ["y"], {"w": normal(2, 2, 3, 3)})


def calls_the_body():
    """Another rule that doubles what the gradient's returns."""

    @rule("Conv", method="deconvnet", needs="x w")
    def doubled(step, g):
        data, *_ = registry.find("Conv", "gradient").body(step, g)
        return 2.0 * data


def calls_the_method():
    """A linear operator that doubles what it inherits."""

    @linear("Conv", override=True)
    class Doubled(Conv):
        def gradient(self, step, g):
            data, *others = super().gradient(step, g)
            return 2.0 * data, *others


def overrides_the_adjoint():
    """A linear operator that knows nothing of sums."""

    @linear("Conv", override=True)
    class Doubled(Linear):
        def adjoint(self, step, g, w):
            return 2.0 * step.conv_transpose(g, w, step.window(step.shape(1)[2:]))


@pytest.mark.parametrize("register", [calls_the_body, calls_the_method, overrides_the_adjoint])
def test_a_rule_that_changes_what_another_returns(register):
    """It gets what that one makes by itself."""
    with registry.scoped():
        register()
        g, made = normal(1, 2, 4, 4, seed=1), engine(skipping(), "host")
        _, found = made.vjp({"x": normal(1, 2, 4, 4)}, {"y": g}, ["y"], ["x"], Pass("deconvnet"))
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), (4, 4), (4, 4))
    back = HostOps().conv_transpose(g, normal(2, 2, 3, 3), window)
    np.testing.assert_allclose(found["x"], g + 2 * back, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("factors", "inputs", "given"),
    [(("x", "z"), (0, 1), True), (("x", "z"), (0,), False), (("z", "z"), (0, 1), False)],
)
def test_what_a_rule_finds(factors, inputs, given):
    """What has arrived, once; nothing at an input that is not wanted, or of which there are two."""
    arrays, g, told = {"x": normal(2, 3), "z": normal(2, 3, seed=2)}, normal(2, 3, seed=1), []
    with registry.scoped():

        @rule("Mul", needs="xs", inputs=inputs, adds=True, override=True)
        def product(step, g):
            told.extend([step.taken(1), step.taken(1)])
            first, second = g * step.w, g * step.x
            return first, second if told[0] is None else told[0] + second

        nodes = [node("Mul", factors, ["m"]), node("Sum", ["m", "x", "z"], ["y"])]
        net = build(nodes, {name: [2, 3] for name in arrays}, ["y"])
        _, found = engine(net, "host").vjp(arrays, {"y": g}, ["y"], [*arrays], Pass("gradient"))
    assert told[1] is None and (told[0] is not None) == given
    for name in arrays:
        parts = [g * arrays[factors[1 - i]] for i in inputs if factors[i] == name]
        np.testing.assert_allclose(found[name], sum(parts, g), rtol=1e-6)


@pytest.mark.parametrize(
    "arrived", [np.ones((1, 2, 4, 4)), np.ones((2, 4, 4), np.float32)], ids=["dtype", "shape"]
)
def test_what_is_unlike_the_result_stays(arrived):
    """It is summed as ever."""
    g = normal(1, 2, 4, 4)
    plan = engine(skipping(), "host").backward({"x": g}, Pass("gradient"), ["y"], ["x"]).plan
    *_, conv = plan.steps
    parts = {"x": [g, arrived]}
    step = Step(HostOps(), plan.graph, conv.node, conv.rule, parts.get, {}, conv.wanted, parts)
    assert step.taken() is None and len(parts["x"]) == 2
    parts["x"] = [g, g]
    np.testing.assert_array_equal(step.taken(), 2 * g)
    assert step.taken() is None and not parts
