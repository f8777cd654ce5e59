"""Everything is resolved before anything runs, and what cannot be is said in one clear error."""

import numpy as np
import pytest
from models import build, normal
from onnx import TensorProto, helper

from engine.branching import branching, engine, feeds
from onnxvis.engine.compiled import CompiledExecutor
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.errors import MissingRuleError, OnnxvisError, TargetError, UnknownNameError
from onnxvis.ops.trace import NotTraceableError
from onnxvis.rules import Composite, registry, rule

X = normal(2, 3)
SEED = {"y": np.ones((2, 3), np.float32)}


@pytest.fixture(autouse=True)
def scoped():
    """A registry without rules for two operators that onnxruntime has."""
    with registry.scoped():
        for operator in ("Sin", "Sinh"):
            del registry.rules["", operator, "gradient"]
        yield registry


def chain(*operators, opset=13, shape=(2, 3), **attributes):
    """x → operator → … → y, the nodes called a, b, c …"""
    names = ["x", *(f"t{i}" for i in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(operator, [names[i]], [names[i + 1]], name="abcdefgh"[i], **attributes)
        for i, operator in enumerate(operators)
    ]
    return build(nodes, {"x": list(shape)}, {"y": None}, opset=opset)


def executor_of(model, method="gradient", wrt=("x",), executor="auto", given=None, **settings):
    given = given or {"x": X}
    return engine(model, executor).backward(given, Pass(method, settings), ["y"], wrt)


def backward(model, method="gradient", executor="auto", **settings):
    _, found = engine(model, executor).vjp({"x": X}, SEED, SEED, ["x"], Pass(method, settings))
    return found["x"]


# ---- what is missing -----------------------------------------------------------------------------


def test_all_missing_rules_are_named_at_once():
    model = chain("Relu", "Sin", "Sinh", "Sin", "Sin", "Sin", "Relu")
    with pytest.raises(MissingRuleError) as raised:
        executor_of(model)
    message = str(raised.value)
    assert "no 'gradient' rule for Sin of opset 13" in message
    assert "no 'gradient' rule for Sinh of opset 13" in message
    assert "'b', 'd', 'e' and 1 more" in message
    assert "'c'" in message
    assert "registered for it: none" in message
    assert "@onnxvis.rule('Sin', method='gradient')" in message
    assert "Relu" not in message


def test_a_missing_rule_says_what_exists_for_the_operator():
    with pytest.raises(
        MissingRuleError, match=r"no 'lrp' rule for Exp.*registered for it: gradient, deconvnet"
    ):
        executor_of(chain("Exp"), "lrp")


def test_an_operator_of_another_domain_is_named_with_it():
    nodes = [helper.make_node("Trilu", ["x"], ["y"], name="gelu", domain="com.microsoft")]
    model = build(
        nodes, {"x": [2, 3]}, {"y": [2, 3]}, opset_imports=[helper.make_opsetid("com.microsoft", 1)]
    )
    expected = r"com.microsoft::Trilu.*@onnxvis.rule\('Trilu', domain='com.microsoft', method='gradient'\)"
    with pytest.raises(MissingRuleError, match=expected):
        executor_of(model)


def test_nodes_that_are_not_on_the_way_need_no_rule():
    nodes = [
        helper.make_node("Sin", ["x"], ["before"]),
        helper.make_node("Relu", ["before"], ["between"]),
        helper.make_node("Exp", ["between"], ["y"]),
        helper.make_node("Sin", ["y"], ["after"]),
        helper.make_node("Sin", ["x"], ["beside"]),
    ]
    model = build(nodes, {"x": [2, 3]}, ["y", "after", "beside"])
    plan = executor_of(model, wrt=["before"]).plan
    assert [step.node.op_type for step in plan.steps] == ["Exp", "Relu"]


def test_a_subgraph_is_not_looked_into():
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", 1, [2, 3])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], name="branch", then_branch=body, else_branch=body),
    ]
    with pytest.raises(MissingRuleError, match=r"If runs a subgraph.*'branch'"):
        executor_of(build(nodes, {"x": [2, 3]}, {"y": [2, 3]}))


@pytest.mark.parametrize(
    ("operator", "attributes", "why"),
    [("ArgMax", {"axis": 1}, "piecewise constant"), ("Floor", {}, "piecewise constant")],
)
def test_an_operator_that_nothing_passes_is_named(operator, attributes, why):
    nodes = [
        helper.make_node(operator, ["x"], ["i"], name="the_end", **attributes),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    model = build(nodes, {"x": ["N", 3]}, ["y"])
    with pytest.raises(TargetError, match=rf"'y' does not depend on 'x'.*{operator} \(the_end\): .*{why}"):
        executor_of(model)


def test_a_shape_does_not_depend_on_the_numbers():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(TargetError, match="'y' does not depend on 'x'"):
        executor_of(build(nodes, {"x": ["N", 3]}, ["y"]))


def test_a_stop_beside_another_way_is_walked_round():
    nodes = [
        helper.make_node("Greater", ["x", "limit"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["gate"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "gate"], ["y"]),
    ]
    model = build(nodes, {"x": [2, 3]}, ["y"], {"limit": np.zeros((), np.float32)})
    for executor in ("host", "compiled"):
        np.testing.assert_array_equal(backward(model, executor=executor), (X > 0).astype(np.float32))


def test_a_target_that_does_not_depend_on_what_is_explained():
    model = build([helper.make_node("Exp", ["z"], ["y"])], {"x": [2, 3], "z": [2, 3]}, ["y"])
    with pytest.raises(TargetError, match="'y' does not depend on 'x'"):
        executor_of(model, given={"x": X, "z": X})


# ---- LRP does not guess --------------------------------------------------------------------------


@pytest.mark.parametrize(("operator", "method"), [("MatMul", "epsilon"), ("MatMul", "zplus"), ("Div", "lrp")])
def test_lrp_refuses_products_of_two_activations(operator, method):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Sigmoid", ["x"], ["b"]),
        helper.make_node(operator, ["a", "b"], ["y"], name="attention"),
    ]
    model = build(nodes, {"x": [3, 3]}, ["y"])
    with pytest.raises(MissingRuleError, match=rf"{operator}.*'attention'"):
        executor_of(model, method, given={"x": normal(3, 3)})


def test_lrp_refuses_to_divide_by_an_activation():
    model = build(
        [helper.make_node("Div", ["one", "x"], ["y"])], {"x": [2, 3]}, ["y"], {"one": np.ones(3, np.float32)}
    )
    with pytest.raises(MissingRuleError, match="divides by something that the model computes"):
        executor_of(model, "lrp")


@pytest.mark.parametrize(
    ("operator", "weights"), [("Conv", (4, 3, 3, 3)), ("Gemm", (3, 4)), ("ConvTranspose", (3, 4, 2, 2))]
)
def test_lrp_refuses_weights_that_the_model_computes(operator, weights):
    nodes = [
        helper.make_node("Exp", ["z"], ["w"]),
        helper.make_node(operator, ["x", "w"], ["y"], name="layer"),
    ]
    given = {"x": normal(2, 3, 5, 5) if len(weights) > 2 else X, "z": normal(*weights)}
    model = build(nodes, {name: [*array.shape] for name, array in given.items()}, ["y"])
    with pytest.raises(MissingRuleError, match=rf"{operator}: its operand 'w'.*'layer'"):
        executor_of(model, "epsilon", given=given)


def test_lrp_refuses_a_layer_whose_data_is_the_constant():
    model = build([helper.make_node("MatMul", ["a", "x"], ["y"])], {"x": [2, 3]}, ["y"], {"a": normal(4, 2)})
    with pytest.raises(MissingRuleError, match="MatMul: its operand 'x' is computed by the model"):
        executor_of(model, "epsilon")


def test_there_is_no_plain_gradient_inside_lrp():
    """An operator with a gradient and no relevance rule is refused, not passed by the gradient."""
    with pytest.raises(MissingRuleError, match="no 'lrp' rule for Abs"):
        executor_of(chain("Abs"), Composite([], default="lrp"))


# ---- which rule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("opset", "factor"), [(9, 1), (10, 10), (12, 10), (13, 100), (17, 100)])
def test_the_newest_rule_not_above_the_opset_is_taken(scoped, opset, factor):
    for since, number in ((1, 1.0), (13, 100.0), (10, 10.0)):
        rule("Sin", since=since)(lambda step, g, n=number: g * n)
    np.testing.assert_array_equal(backward(chain("Sin", opset=opset)), np.full((2, 3), float(factor)))


def test_a_rule_for_later_opsets_only_is_missing_below(scoped):
    rule("Sin", since=14)(lambda step, g: g)
    with pytest.raises(MissingRuleError, match="no 'gradient' rule for Sin of opset 13"):
        executor_of(chain("Sin"))


def test_the_parent_serves_what_a_method_has_no_rule_for(scoped):
    registry.add_method("mine", "guided_backprop")
    rule("Exp", method="mine")(lambda step, g: 7.0 * g)
    methods = [step.rule.method for step in executor_of(chain("Tanh", "Abs", "Exp"), "mine").plan.steps]
    assert methods == ["mine", "gradient", "guided_backprop"]


def test_settings_come_from_the_method_its_parents_and_the_call(scoped):
    registry.add_method("parent", factor=2.0, offset=1.0)
    registry.add_method("child", "parent", factor=3.0)
    rule("Exp", method="parent")(lambda step, g: g * step.settings["factor"] + step.settings["offset"])
    assert backward(chain("Exp"), "parent").flat[0] == 3.0
    rule("Exp", method="child")(lambda step, g: g * step.settings["factor"] + step.settings["offset"])
    assert backward(chain("Exp"), "child").flat[0] == 4.0
    assert backward(chain("Exp"), "child", offset=5.0).flat[0] == 8.0


def test_a_composite_gives_each_node_its_rule():
    composite = Composite([({"name": "b"}, "deconvnet"), ("Relu", "guided_backprop")], default="gradient")
    steps = executor_of(chain("Relu", "Relu", "Exp"), composite).plan.steps
    assert [step.rule.method for step in steps] == ["gradient", "deconvnet", "guided_backprop"]


def test_a_composite_that_misses_rules_is_named():
    with pytest.raises(MissingRuleError, match="no 'lrp' rule for Sin"):
        executor_of(chain("Sin"), Composite([("Conv", "zplus")], default="lrp"))


def test_an_unknown_method():
    with pytest.raises(UnknownNameError, match="no rule or method 'gradiant'; did you mean 'gradient'"):
        executor_of(chain("Exp"), "gradiant")


def test_a_changed_rule_is_planned_anew(scoped):
    model = engine(chain("Exp"))
    kinds = [model.vjp({"x": X}, SEED, SEED, ["x"], Pass())[1]["x"].flat[0]]
    rule("Exp", override=True)(lambda step, g: 0.0 * g)
    kinds.append(model.vjp({"x": X}, SEED, SEED, ["x"], Pass())[1]["x"].flat[0])
    assert kinds[0] != 0
    assert kinds[1] == 0


# ---- what is kept --------------------------------------------------------------------------------


def test_only_what_the_rules_read_is_kept():
    given = feeds()
    on_host = engine(branching(), "host").backward(given, Pass(), ["scores"], ["x"])
    compiled = engine(branching(), "compiled").backward(given, Pass(), ["scores"], ["x"])
    assert set(compiled.needs) == {"r1", "both", "gate"}
    # What rules declare and do not read here: data of layers and the product, for gradients of other factors.
    assert set(on_host.needs) - set(compiled.needs) == {"x", "flat", "residual"}


def test_rules_propagate_only_where_it_is_wanted():
    plan = engine(branching()).backward(feeds(), Pass(), ["scores"], ["gate"]).plan
    assert [step.node.name for step in plan.steps] == ["dense", "flatten", "pool", "concat", "mul"]
    assert [sorted(step.wanted) for step in plan.steps] == [[0], [0], [0], [0], [1]]


# ---- rules that do what they must not ------------------------------------------------------------


@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_a_tensor_that_was_not_declared(scoped, executor):
    rule("Sin")(lambda step, g: g * step.x)
    with pytest.raises(
        OnnxvisError, match=r"test_plan.*for Sin reads 'x' of node 'a'.*declares only needs=''"
    ):
        backward(chain("Sin"), executor=executor)


@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_a_wrong_shape(scoped, executor):
    rule("Sin")(lambda step, g: step.sum(g, [0]))
    with pytest.raises(
        OnnxvisError, match=r"test_plan.*returned shape \(3,\) for input 0 of Sin node 'a'.*\(2, 3\)"
    ):
        backward(chain("Sin"), executor=executor)


# ---- plain Python --------------------------------------------------------------------------------


def plain(step, g):
    """Works on arrays only."""
    result = np.asarray(g).copy()
    result[np.asarray(step.y) < 0] = 0
    return result


def test_a_rule_that_says_so_runs_on_the_host(scoped):
    rule("Sin", needs="y", traceable=False)(plain)
    (stretch,) = executor_of(chain("Sin")).stretches
    assert isinstance(stretch.executor, HostExecutor)
    np.testing.assert_array_equal(backward(chain("Sin")), (np.sin(X) >= 0).astype(np.float32))


@pytest.mark.parametrize(
    "body",
    [
        plain,
        lambda step, g: np.where(step.y < 0, 0, g),
        lambda step, g: g if g.sum() > 0 else -g,
        lambda step, g: np.exp(g) * np.cos(step.y),
        lambda step, g: g**2,
        lambda step, g: g.copy(),
    ],
    ids=["asarray", "where", "method", "exp", "power", "copy"],
)
def test_a_rule_in_plain_numpy_falls_back_to_the_host(scoped, body):
    rule("Sin", needs="y")(body)
    (stretch,) = executor_of(chain("Sin")).stretches
    assert isinstance(stretch.executor, HostExecutor)
    assert backward(chain("Sin")).dtype == np.float32
    with pytest.raises(NotTraceableError):
        executor_of(chain("Sin"), executor="compiled")


def test_a_rule_may_return_numpy_arrays_that_are_known_beforehand(scoped):
    rule("Sin")(lambda step, g: np.full(step.shape(), 2.0))
    assert isinstance(executor_of(chain("Exp", "Sin")), CompiledExecutor)
    np.testing.assert_array_equal(backward(chain("Sin")), np.full((2, 3), 2.0, np.float32))


def test_traceable_rules_are_compiled():
    assert isinstance(executor_of(chain("Exp", "Relu")), CompiledExecutor)
