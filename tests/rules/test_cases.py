"""The table of cases: complete, and computing what onnxruntime computes."""

import numpy as np
import onnxruntime
import pytest

from onnxvis.rules import registry, rule
from rules.cases import CASES, named, pairs

# Forms that the specification has and onnxruntime has no kernel for: rules, but no forward pass.
NOT_IN_ONNXRUNTIME = {
    "PRelu-6-a_slope_a_channel", "PRelu-6-one_slope", "Dropout-6", "Selu-1",  # nothing below opset 7
    "LRN-13-size_2", "LRN-13-size_4",  # odd sizes only
    "GlobalLpPool-22", "MaxRoiPool-22",
    *(f"RoiAlign-22-opset_22_{mode}_{ratio}" for mode in ("avg", "max") for ratio in (0, 2)),
    "SwiGLU-28", "SwiGLU-28-alpha",
}  # fmt: skip
VERSION = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
if VERSION < (1, 32):
    NOT_IN_ONNXRUNTIME |= {"Mod-28-floor", "SpaceToDepth-28-CRD"}  # nothing above opset 26


def run_onnxruntime(case):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    data = case.model(case.drawn, np.float32).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds(case.drawn, np.float32))


def without_case():
    """(domain, operator, method, since) of every registered rule that no case calls up."""
    registered = {
        (r.domain, r.op_type, r.method, r.since) for rules in registry.rules.values() for r in rules
    }
    registered |= {(*operator, method, 1) for operator in registry.linears for method in registry.for_linear}
    found = (case.rule(method) for case, method in pairs())
    return registered - {(r.domain, r.op_type, r.method, r.since) for r in found}


def test_names_are_unique():
    ids = [case.id for case in CASES]
    assert sorted(set(ids)) == sorted(ids)


def test_every_registered_rule_has_a_case():
    assert not without_case()


def test_a_rule_without_a_case_is_noticed():
    with registry.scoped():
        rule("Swirl", domain="com.acme")(lambda step, g: g)
        rule("Relu", since=99)(lambda step, g: g)
        registry.linears["", "Twist"] = registry.linears["", "Gemm"]
        missing = without_case()
    assert ("com.acme", "Swirl", "gradient", 1) in missing
    assert ("", "Relu", "gradient", 99) in missing
    assert {("", "Twist", method, 1) for method in registry.for_linear} <= missing


@pytest.mark.parametrize(**named([case for case in CASES if case.id not in NOT_IN_ONNXRUNTIME]))
def test_onnxruntime_computes_the_same(case):
    # Only the first output: what is held against rules does not depend on masks and indices.
    np.testing.assert_allclose(run_onnxruntime(case)[0], case.computed[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(**named([case for case in CASES if case.id in NOT_IN_ONNXRUNTIME]))
def test_onnxruntime_still_cannot(case):
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|size|under development"):
        run_onnxruntime(case)
