"""Every operator of the ONNX standard has a rule, stops the way back, or is refused for a reason."""

import onnx
import pytest
from onnx import helper

from onnxvis.engine.plan import Pass, make_plan
from onnxvis.errors import MissingRuleError
from onnxvis.graph.load import read_model
from onnxvis.rules import registry

SCHEMAS = [schema for schema in onnx.defs.get_all_schemas() if not schema.domain]
NAMES = sorted(schema.name for schema in SCHEMAS if schema.inputs)

# Rewritten before rules are looked up (quantised layers, sequences), so that none needs to be there.
REWRITTEN = {
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SplitToSequence",
}  # fmt: skip


def known(name):
    return registry.find(name, "gradient") is not None or any(
        ("", name) in table for table in (registry.stops, registry.refusals)
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_is_known(name):
    assert known(name) or name in REWRITTEN


@pytest.mark.parametrize("table", ["stops", "refusals"])
def test_what_stops_or_is_refused_is_in_the_standard_and_has_no_rule(table):
    standard = {schema.name for schema in SCHEMAS}
    for domain, name in getattr(registry, table):
        assert domain or name in standard
        assert registry.find(name, "gradient", domain) is None
    assert not registry.stops.keys() & registry.refusals.keys()


@pytest.mark.parametrize("name", [name for domain, name in registry.refusals if not domain])
def test_a_refusal_gives_its_reason(name):
    """Whatever its inputs: the error comes before they are looked at."""
    node = helper.make_node(name, ["x"], ["y"], name="refused")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=10)
    with pytest.raises(MissingRuleError, match=rf"no 'gradient' rule for {name}: ") as error:
        make_plan(read_model(model).graph, Pass("gradient"), ["y"], ["x"])
    assert registry.refusals["", name] in str(error.value)
