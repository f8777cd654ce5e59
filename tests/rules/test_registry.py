"""Registering rules, methods and linear operators, and forgetting them."""

import importlib.metadata

import numpy as np
import pytest

from onnxvis.engine.host import HostExecutor
from onnxvis.errors import MissingRuleError, OnnxvisError, UnknownNameError, UsageError
from onnxvis.rules import linear, lrp_rule, refuse, registry, rule, stop
from rules.cases import Case, normal


@pytest.fixture(autouse=True)
def scoped():
    with registry.scoped():
        yield


def body(step, g):
    return g


def test_a_duplicate_is_refused_with_its_origin():
    where = r"\(onnxvis\.rules\.gradient\.activations\.relu\)"
    with pytest.raises(
        UsageError, match=rf"already a 'gradient' rule for Relu since opset 1 {where}.*override"
    ):
        rule("Relu")(body)


def test_a_rule_for_another_opset_or_domain_is_no_duplicate():
    rule("Relu", since=14)(body)
    rule("Relu", domain="com.acme")(body)
    assert registry.find("Relu", "gradient", opset=14).body is body
    assert registry.find("Relu", "gradient", opset=13).body is not body
    assert registry.find("Relu", "gradient", "com.acme").kind == "com.acme::Relu"


def test_override():
    rule("Relu", override=True)(body)
    assert registry.find("Relu", "gradient").body is body
    assert registry.find("Relu", "deconvnet").body is not body


def test_every_registration_changes_the_version():
    before = registry.version
    rule("Relu", override=True)(body)
    assert registry.version != before


def test_scoped_restores_everything():
    tables = (
        "rules", "methods", "linears", "for_linear", "stops", "stopped_outputs", "refusals", "version",
    )  # fmt: skip
    before = {name: repr(getattr(registry, name)) for name in tables}
    with registry.scoped():
        rule("Relu", since=9)(body)
        rule("Swirl")(body)
        registry.add_method("mine")
        lrp_rule("gamma_of_mine")(body)
        stop("Swirl", why="because")
        stop("Twirl", why="because", output=1)
        refuse("Whirl", why="because")
        linear("Twist")(type("Twist", (), {"forward": body, "adjoint": body}))
        assert all(repr(getattr(registry, name)) != before[name] for name in tables)
    assert {name: repr(getattr(registry, name)) for name in tables} == before


def test_scoped_restores_after_an_error():
    with pytest.raises(ZeroDivisionError), registry.scoped():
        rule("Swirl")(body)
        raise ZeroDivisionError
    assert registry.find("Swirl", "gradient") is None


def test_a_rule_for_an_unknown_method():
    with pytest.raises(UnknownNameError, match=r"no method 'gradeint'; did you mean 'gradient'.*add_method"):
        rule("Swirl", method="gradeint")(body)


def test_an_unknown_parent():
    with pytest.raises(UnknownNameError, match="no method 'nobody'"):
        registry.add_method("mine", "nobody")


def test_methods_of_an_operator_include_those_of_parents():
    rule("Swirl")(body)
    assert registry.methods_of("Swirl") == ["gradient", "deconvnet", "guided_backprop"]
    assert set(registry.for_linear) <= set(registry.methods_of("Conv"))


def test_operators():
    rule("Swirl", domain="com.acme")(body)
    assert ("com.acme", "Swirl") in registry.operators()
    assert ("", "Conv") in registry.operators()


# ---- linear operators ----------------------------------------------------------------------------


def doubled(domain=""):
    """A linear operator as a plain class: y = 2x + b."""

    @linear("HardSwish", domain=domain, override=True)
    class Doubled:
        def forward(self, step, x, w):
            return 2.0 * x

        def adjoint(self, step, g, w):
            return 2.0 * g


@pytest.mark.parametrize("method", ["gradient", "epsilon", "zplus"])
def test_every_rule_follows_from_forward_and_adjoint(method):
    doubled()
    case = Case("HardSwish", 14, [normal(2, 3)])
    seed, y = case.seed(), 2 * case.array(0)
    record = {**case.record(), "y": y}
    found = HostExecutor(case.plan(method), np.float64).backward(record, {"y": seed})["x0"]
    stabilized = seed * y / (y + np.where(y >= 0, 1e-6, -1e-6))
    np.testing.assert_allclose(found, 2 * seed if method == "gradient" else stabilized)


def test_a_linear_operator_without_weight_adjoint_says_so():
    @linear("Mul", override=True)
    class Scaled:
        def forward(self, step, x, w):
            return x * w

        adjoint = forward

    case = Case("Mul", 13, [normal(2, 3), normal(2, 3)])
    with pytest.raises(OnnxvisError, match="Mul has no gradient with respect to its weight"):
        HostExecutor(case.plan("gradient"), np.float64).backward(case.record(), {"y": case.seed()})


def test_an_lrp_rule_of_ones_own_serves_every_linear_operator():
    @lrp_rule("flat_of_mine", factor=3.0)
    def flat(step, r):
        """R shared without a look at the numbers."""
        return step.adjoint(r, step.w) * step.settings["factor"]

    case = Case("Gemm", 13, [normal(2, 3), normal(3, 4)])
    found = HostExecutor(case.plan("flat_of_mine"), np.float64).backward(case.record(), {"y": case.seed()})
    np.testing.assert_allclose(found["x0"], 3 * case.seed() @ case.array(1).T)
    assert registry.methods["flat_of_mine"].doc == "R shared without a look at the numbers."
    assert registry.find("Relu", "flat_of_mine").method == "lrp"


def test_a_stop_is_no_rule():
    stop("HardSwish", why="because")
    assert registry.stops["", "HardSwish"] == "because"


# ---- plugins -------------------------------------------------------------------------------------


class EntryPoint:
    name, value = "swirls", "swirls.rules"

    def __init__(self, load):
        self.load = load


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package announces rules; returns the groups that were asked for."""
    asked = []

    def install(load):
        def entry_points(group):
            asked.append(group)
            return [EntryPoint(load)]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        monkeypatch.setattr(registry, "_plugins_loaded", False)
        return asked

    return install


def test_installed_rules_are_found_when_a_rule_is_first_looked_up(installed):
    asked = installed(lambda: rule("Swirl", domain="com.acme")(body))
    assert asked == []
    assert registry.find("Swirl", "gradient", "com.acme").body is body
    registry.find("Swirl", "gradient", "com.acme")
    assert asked == ["onnxvis.rules"]


@pytest.mark.parametrize("look", [registry.operators, lambda: registry.find("Relu", "gradient")])
def test_every_way_to_look_loads_them(installed, look):
    asked = installed(lambda: None)
    look()
    assert asked == ["onnxvis.rules"]


def test_a_broken_plugin_is_named(installed):
    installed(lambda: 1 / 0)
    with pytest.raises(OnnxvisError, match=r"plugin 'swirls' \(swirls.rules\).*ZeroDivisionError"):
        registry.find("Relu", "gradient")


def test_a_plugin_that_registers_what_is_there_is_told_so(installed):
    installed(lambda: rule("Relu")(body))
    with pytest.raises(UsageError, match="already a 'gradient' rule for Relu"):
        registry.find("Relu", "gradient")


def test_refusals_of_a_rule_of_ones_own_are_reported():
    rule("HardSwish", override=True, refuses=lambda node, graph: "it is too hard")(body)
    with pytest.raises(MissingRuleError, match="'gradient' does not apply to HardSwish: it is too hard"):
        Case("HardSwish", 14, [normal(2, 3)]).plan("gradient")
