"""Linear operators: ⟨A(x, w), g⟩ = ⟨x, Aᵀ(g, w)⟩ = ⟨w, Aʷ(g, x)⟩, and A is what the operator computes."""

import numpy as np
import pytest

from onnxvis.ops.host import HostOps
from onnxvis.rules import Step, registry
from rules.cases import CASES, named

LINEAR = [case for case in CASES if (case.domain, case.operator) in registry.linears]


def step_of(case):
    """The node with its weights computed by the model, as it stands in the file."""
    (planned,) = case.plan("gradient").steps
    record = case.record()
    return Step(
        HostOps(np.float64),
        case.graph(case.drawn),
        planned.node,
        planned.rule,
        record.__getitem__,
        planned.settings,
        planned.wanted,
    )


def same(ours, theirs):
    assert abs(ours - theirs) <= 1e-10 * max(abs(ours), abs(theirs)), f"{ours!r} is not {theirs!r}"


@pytest.mark.parametrize(**named(LINEAR))
def test_forward_with_bias_is_the_operator(case):
    step = step_of(case)
    y = step.forward(case.array(0), case.array(1))
    if len(case.given) > 2:
        y = y + step.linear.bias(step, case.array(2))
    np.testing.assert_allclose(y, case.computed[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(**named(LINEAR))
def test_adjoints(case):
    step, rng = step_of(case), np.random.default_rng(0)
    x, w = (rng.normal(size=case.array(i).shape) for i in (0, 1))
    g = rng.normal(size=case.computed[0].shape)
    product = np.vdot(step.forward(x, w), g)
    same(np.vdot(x, step.adjoint(g, w)), product)
    same(np.vdot(w, step.linear.weight_adjoint(step, g, x)), product)
