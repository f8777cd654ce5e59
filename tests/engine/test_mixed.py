"""Rules in plain Python: they run on the host, and everything between them stays compiled."""

import numpy as np
import pytest
from models import build, normal
from onnx import helper

import onnxvis
from onnxvis.engine.compiled import CompiledExecutor
from onnxvis.engine.mixed import MixedExecutor
from onnxvis.rules import registry

node = helper.make_node


@pytest.fixture
def plain_tanh():
    """A rule that only arrays can run: it indexes by a mask."""
    with registry.scoped():

        @onnxvis.rule("Tanh", needs="y", override=True)
        def tanh(step, g):
            result = np.array(g, copy=True)
            result[step.y > -2] *= 1 - step.y[step.y > -2] ** 2
            return result

        yield


def net():
    """Two branches and a shortcut; the one has a Tanh in the middle, the shortcut goes around it."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Tanh", ["r"], ["t"]),
        node("Conv", ["t", "v"], ["d"], pads=[1, 1, 1, 1]),
        node("Add", ["d", "r"], ["s"]),
        node("Tanh", ["s"], ["u"]),
        node("GlobalAveragePool", ["u"], ["y"]),
    ]
    return build(nodes, {"x": [2, 3, 6, 6]}, ["y"], {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 3, 3)})


X = {"x": normal(2, 3, 6, 6)}


@pytest.mark.parametrize(
    ("seeds", "wrt"),
    [(("y",), ("x",)), (("y",), ("x", "r", "t", "s")), (("y", "r"), ("x",)), (("s", "t"), ("x", "r"))],
)
def test_equal_to_the_host(plain_tanh, seeds, wrt):
    given = {
        name: normal(*shape, seed=i)
        for i, (name, shape) in enumerate(
            {"y": (2, 4, 1, 1), "r": (2, 4, 6, 6), "s": (2, 4, 6, 6), "t": (2, 4, 6, 6)}.items()
        )
        if name in seeds
    }
    mixed, host = (onnxvis.load(net(), threads=1, executor=executor) for executor in ("auto", "host"))
    ours, theirs = (model.vjp(X, given, wrt=list(wrt)) for model in (mixed, host))
    (executor,) = mixed.engine._executors.values()
    assert isinstance(executor, MixedExecutor)
    for name in wrt:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5 * abs(theirs[name]).max())


def test_what_lies_between_is_compiled(plain_tanh):
    model = onnxvis.load(net(), threads=1)
    model.explain(X, "gradient", target=1)
    (executor,) = model.engine._executors.values()
    kinds = [type(stretch.executor) is CompiledExecutor for stretch in executor.stretches]
    assert kinds == [True, False, True, False, True]
    on_host = [s.executor.plan.steps for s in executor.stretches if type(s.executor) is not CompiledExecutor]
    assert [[step.node.op_type for step in steps] for steps in on_host] == [["Tanh"], ["Tanh"]]


def test_the_true_gradient(plain_tanh):
    model, reference = onnxvis.load(net(), threads=1), None
    values = model.explain(X, "gradient", target=1).values
    with registry.scoped():

        @onnxvis.rule("Tanh", needs="y", override=True)
        def tanh(step, g):
            return g * (1.0 - step.y * step.y)

        reference = onnxvis.load(net(), threads=1, executor="compiled").explain(X, "gradient", target=1)
    np.testing.assert_allclose(values, reference.values, atol=1e-6)


def test_compiled_alone_is_refused(plain_tanh):
    model = onnxvis.load(net(), threads=1, executor="compiled")
    with pytest.raises(onnxvis.errors.OnnxvisError, match="traced value"):
        model.explain(X, "gradient", target=1)
