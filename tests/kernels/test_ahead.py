"""Forward passes that begin before they are asked for, on stand-ins for a GPU."""

import gc
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
from engine.branching import close
from models import small_cnn

import onnxvis
from onnxvis.engine.ahead import Ahead
from onnxvis.engine.engine import Engine
from onnxvis.engine.forward import Forward
from onnxvis.errors import OnnxvisError

from .compiling import GPP, WHY

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

X = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)


@pytest.fixture
def order(monkeypatch):
    """What happens: "pass" for a forward pass, "asked" where the engine is asked for both."""
    happened = []

    def telling(what, real):
        def told(*given):
            happened.append(what)
            return real(*given)

        return told

    monkeypatch.setattr(Forward, "run", telling("pass", Forward.run))
    monkeypatch.setattr(Engine, "vjps", telling("asked", Engine.vjps))
    return happened


@pytest.fixture
def model(cuda):
    return onnxvis.load(small_cnn(), device="cuda")


def right(model, x=X, method="gradient", **given):
    theirs = onnxvis.load(small_cnn(), device="cpu").explain(x, method, **given)
    close(model.explain(x, method, **given).values, theirs.values)


@contextmanager
def failing(monkeypatch, owner, name):
    """What calls it inside says so."""

    def fail(*given):
        raise OnnxvisError(f"no {name} today")

    with monkeypatch.context() as patch, pytest.raises(OnnxvisError, match=f"no {name} today"):
        patch.setattr(owner, name, fail)
        yield


def activation(x):
    return onnxvis.load(small_cnn(), device="cpu").activations(x, ["r1"])["r1"]


def test_a_call_like_one_before_begins_with_its_forward_pass(model, order):
    expected = onnxvis.load(small_cnn(), device="cpu").explain(X, "gradient", target=1).values
    for number in range(6):  # some of them as CUDA graphs
        order.clear()
        found = model.explain(X, "gradient", target=1)
        assert order == (["pass", "asked"] if number else ["asked", "pass"])
        close(found.values, expected)


@pytest.mark.parametrize(
    "target", [None, onnxvis.Target("logits", 1), "c"], ids=["the strongest", "a target", "a class"]
)
def test_so_does_each_of_many_pictures(model, order, target):
    model.labels = ["a", "b", "c", "d"]
    found = []
    for each in model.explain_each([X[:1], X[1:], -X[:1]], "gradient", target):
        found.append([*order])
        order.clear()
        right(model, each.inputs, target=each.target)
        order.clear()
    assert found == [["asked", "pass"], *[["pass", "asked"]] * 2]


@pytest.mark.parametrize(
    "other",
    [
        {"x": X[:1]}, {"target": 2}, {"target": [0, 1]}, {"method": "deconvnet"},
        {"method": "lrp", "composite": "epsilon_plus"},
    ],
    ids=["of fewer samples", "another target", "a target a sample", "another method", "with settings"],
)  # fmt: skip
def test_another_call_does_not(model, order, other):
    for given in ({}, {}, other):
        order.clear()
        model.explain(**{"x": X, "method": "gradient", "target": 1, **given})
    assert order == ["asked", "pass"]
    right(model, **{"target": 1, **other})


@pytest.mark.parametrize(
    "given",
    [
        {"target": {0: 1.0, 1: -2.0}},
        {"target": onnxvis.Target("logits", seed=np.ones((2, 4), np.float32))},
        {"target": lambda outputs: {"probabilities": np.ones_like(outputs["probabilities"])}},
        {
            "target": 1,
            "method": "lrp",
            "composite": "epsilon_gamma_box",
            "low": [-2.0] * 3,
            "high": [2.0] * 3,
        },
    ],
    ids=["a sum", "a seed", "a function", "a list"],
)
def test_calls_that_cannot_be_told_apart_are_like_no_other(model, given):
    for x in (X, -X, 2 * X):
        right(model, x, **given)
    assert not model.engine.ahead._asked


def test_what_is_asked_for_after_all_may_be_something_else(model, order, monkeypatch):
    for names in (("r1",), ("r1", "probabilities")):
        model.explain(X, "gradient", target=1)
        (key,) = model.engine.ahead._asked
        model.engine.ahead._asked[key] = names
        order.clear()
        found = model.explain(-X, "gradient", target=1)
        assert order == ["pass", "asked", "pass"] and model.engine.ahead._asked[key] != names
        right(model, -X, target=1)
        close(found.values, model.explain(-X, "gradient", target=1).values)


def test_only_the_first_pass_over_the_inputs_of_a_call_begins_before(model):
    """Others are made of what it finds."""
    ahead, feeds = model.engine.ahead, {"x": X}
    theirs = [activation(x) for x in (-X, X)]
    for _ in range(2):
        with ahead.of("a call", feeds):
            close(ahead.run({"x": -X}, ("r1",))["r1"], theirs[0])
            close(ahead.run(feeds, ("r1",))["r1"], theirs[1])
            ahead.run(feeds, ("c1",))
    assert [*ahead._asked.values()] == [("r1",)]


def test_nobody_else_holds_what_it_computed(model):
    """Activations are let go of as they are used up."""
    ahead, feeds = model.engine.ahead, {"x": X}
    for _ in range(2):
        with ahead.of("a call", feeds):
            record = weakref.ref(ahead.run(feeds, ("r1",)))
            assert record() is None


def test_a_pass_that_nobody_asks_for_is_let_go_of(model, monkeypatch):
    """So that the next one finds the places that it writes to free."""
    for _ in range(6):
        model.explain(X, "gradient", target=1)
    with failing(monkeypatch, Engine, "vjps"):
        model.explain(X, "gradient", target=1)
    gc.collect()
    (session,) = model.engine.forward._sessions.values()
    (graph,) = session.bindings._graphs.values()
    assert graph.free
    right(model, -X, target=1)


def test_a_pass_that_fails_as_it_begins_fails_as_it_would(model, monkeypatch):
    ahead, feeds = model.engine.ahead, {"x": X}
    model.explain(X, "gradient", target=1)
    with failing(monkeypatch, Forward, "run"):
        model.explain(X, "gradient", target=1)
    assert ahead.current is None and [*ahead.run(feeds, ("r1",))] == ["x", "r1"]


def test_a_call_within_a_call_leaves_the_outer_its_own(model):
    """A target function, say, that explains something itself."""
    ahead, feeds = model.engine.ahead, {"x": X}
    theirs = [activation(x) for x in (-X, X)]
    for _ in range(2):
        with ahead.of("outer", feeds):
            with ahead.of("inner", inner := {"x": -X}):
                close(ahead.run(inner, ("r1",))["r1"], theirs[0])
            close(ahead.run(feeds, ("r1",))["r1"], theirs[1])
    assert {call for call, *_ in ahead._asked} == {"outer", "inner"}


def test_few_calls_are_remembered(model, monkeypatch):
    monkeypatch.setattr(Ahead, "KNOWN", 2)
    for target in (0, 1, 2, 3):
        model.explain(X, "gradient", target=target)
    assert len(model.engine.ahead._asked) == 2


def test_on_a_cpu_nothing_begins_before():
    model = onnxvis.load(small_cnn(), device="cpu", executor="host")
    for _ in range(2):
        right(model, target=1)
    assert not model.engine.ahead._asked
