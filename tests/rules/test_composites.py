"""Composites: which rule goes where."""

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper

import onnxvis
from onnxvis.engine.plan import Pass, make_plan
from onnxvis.errors import UnknownNameError, UsageError
from onnxvis.graph.ir import Graph, Node
from onnxvis.rules import Composite, linear, registry
from onnxvis.rules.composites import COMPOSITES, Match, composite
from onnxvis.rules.positions import Positions

GRAPH = Graph("empty", (), {}, (), ())


def node(op_type, name="layer", domain=""):
    return Node(name, op_type, ("x",), ("y",), domain=domain)


@pytest.mark.parametrize(
    ("name", "convolution", "dense"),
    [
        ("epsilon", "epsilon", "epsilon"),
        ("epsilon_plus", "zplus", "epsilon"),
        ("epsilon_plus_flat", "zplus", "epsilon"),
        ("epsilon_alpha2_beta1", "alpha_beta", "epsilon"),
        ("epsilon_alpha2_beta1_flat", "alpha_beta", "epsilon"),
        ("epsilon_gamma_box", "gamma", "epsilon"),
        ("excitation_backprop", "zplus", "zplus"),
    ],
)
def test_tables_of_the_literature(name, convolution, dense):
    table = COMPOSITES[name]
    expected = {
        "Conv": convolution,
        "ConvTranspose": convolution,
        "Gemm": dense,
        "MatMul": dense,
        "Relu": "lrp",
    }
    assert {operator: table.assign(node(operator), GRAPH) for operator in expected} == expected
    assert composite(name) is composite(table) is table


def test_the_first_row_that_fits_counts():
    table = Composite([({"name": "features.*"}, "epsilon"), ("Conv", "zplus"), ("Conv", "epsilon")])
    assert table.assign(node("Conv", "features.0"), GRAPH) == "epsilon"
    assert table.assign(node("Conv", "head"), GRAPH) == "zplus"
    assert table.assign(node("Gemm", "head"), GRAPH) == "lrp"


def test_all_fields_of_a_row_must_fit():
    match = Match.of({"operator": "Conv", "name": "a*", "layer": "convolution"})
    where = Positions(GRAPH)
    assert match.fits(node("Conv", "ab"), where)
    assert not match.fits(node("Conv", "ba"), where)
    assert not match.fits(node("ConvTranspose", "ab"), where)
    assert Match.of(match) is match


def test_operators_of_other_domains_go_by_their_full_name():
    table = Composite([("com.acme::Conv", "zplus")])
    assert table.assign(node("Conv", domain="com.acme"), GRAPH) == "zplus"
    assert table.assign(node("Conv"), GRAPH) == "lrp"


def test_linear_operators_of_ones_own_count_as_layers():
    with registry.scoped():
        linear("Swirl", domain="com.acme")(type("Swirl", (), {"layer": "convolution"}))
        assert COMPOSITES["epsilon_plus"].assign(node("Swirl", domain="com.acme"), GRAPH) == "zplus"


def test_names_are_case_sensitive():
    assert Composite([({"name": "Conv*"}, "zplus")]).assign(node("Conv", "conv1"), GRAPH) == "lrp"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Composite([("Conv", "zpluss")]), UnknownNameError, "no rule or method 'zpluss'.*'zplus'"),
        (lambda: Composite([], default="nothing"), UnknownNameError, "no rule or method 'nothing'"),
        (
            lambda: Composite([({"op": "Conv"}, "zplus")]),
            UnknownNameError,
            "no condition of a composite 'op'",
        ),
        (
            lambda: Composite([("Conv", ("gamma", {"gama": 1}))]),
            UnknownNameError,
            "rule 'gamma' 'gama'.*'gamma'",
        ),
        (
            lambda: Composite([("Conv", ("zplus", 3))]),
            UsageError,
            "settings of the rule 'zplus' are a mapping",
        ),
        (lambda: Composite([("Conv", ("alpha_beta", {"alpha": 3}))]), UsageError, "alpha = beta"),
        (lambda: Composite([("Conv", ("alpha_beta", {"alpha": 0, "beta": -1}))]), UsageError, "beta from 0"),
        (
            lambda: Composite([("Conv", ("gamma", {"gamma": -1}))]),
            UsageError,
            "gamma must be a number from 0",
        ),
        (lambda: Composite([({"position": "frist"}, "flat")]), UnknownNameError, "did you mean 'first'"),
        (
            lambda: Composite([({"before": 3}, "flat")]),
            UsageError,
            "'before' of a composite is a text, not 3",
        ),
        (lambda: Composite([(3, "flat")]), UsageError, "an operator or a mapping of fields, not 3"),
        (lambda: composite("epsilon_pluss"), UnknownNameError, "no composite.*'epsilon_plus'"),
        (lambda: composite(None), UsageError, "a composite is a name, a .toml file or a Composite, not None"),
    ],
)
def test_what_does_not_exist_is_refused_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_equal_tables_have_equal_keys():
    rows = [({"layer": "dense"}, "epsilon"), ("Conv", "zplus")]
    assert Composite(rows, name="one").key == Composite(rows, name="other").key
    assert Composite(rows).key != Composite(rows[::-1]).key
    assert Composite(rows, default="gradient").key != Composite(rows).key
    quarter, half = (Composite([("Conv", ("gamma", {"gamma": number}))]).key for number in (0.25, 0.5))
    assert quarter != half
    first, again, other = (
        Composite([("Conv", ("zbox", {"low": np.array([0.0, low]), "high": 1}))]).key for low in (0, 0, -1)
    )
    assert hash(first) == hash(again) and first == again != other


def test_methods_lists_every_rule_once():
    assert Composite([("Conv", "zplus"), ("Gemm", "zplus")], default="lrp").methods == ["zplus", "lrp"]


# ---- positions -----------------------------------------------------------------------------------


def net():
    """Two stems, a residual block with a shortcut, an auxiliary head, a dense head; nodes in odd order."""
    make = helper.make_node
    nodes = [
        make("Relu", ["x"], ["r0"], name="relu0"),
        make("Conv", ["r0", "w"], ["a"], name="stem"),
        make("Conv", ["a", "w"], ["b"], name="block"),
        make("Conv", ["x", "w"], ["c"], name="other stem"),
        make("Relu", ["b"], ["r1"], name="relu1"),
        make("Sum", ["r1", "a", "c"], ["s"], name="sum"),
        make("Conv", ["s", "w"], ["aux"], name="auxiliary"),
        make("Flatten", ["s"], ["f"], name="flatten"),
        make("MatMul", ["f", "d"], ["h"], name="hidden"),
        make("Relu", ["h"], ["r2"], name="relu2"),
        make("MatMul", ["r2", "e"], ["y"], name="head"),
    ]
    weights = {"w": normal(2, 2, 1, 1), "d": normal(18, 5), "e": normal(5, 3)}
    model = build(nodes, {"x": [1, 2, 3, 3]}, ["y", "aux"], weights)
    return onnxvis.load(model, threads=1).graph


def chosen(condition, *seeds):
    graph = net()
    on = Composite([(condition, "flat")]).on(graph, seeds)
    return {node.name for node in graph.nodes if on(node).rule == "flat"}


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ({"position": "first"}, {"stem", "other stem"}),
        ({"position": "last"}, {"auxiliary", "head"}),
        ({"before": "block"}, {"relu0", "stem"}),
        ({"after": "flatten"}, {"hidden", "relu2", "head"}),
        ({"after": "block", "operator": "Relu"}, {"relu1", "relu2"}),
        ({"after": "stem", "before": "s"}, {"block", "relu1"}),
        ({"after": "stem", "before": "hidden", "layer": "convolution"}, {"block"}),
        ({"name": "*stem", "position": "first", "before": "b"}, {"stem"}),
    ],
)
def test_positions_in_the_data_flow(condition, names):
    assert chosen(condition) == names


def test_the_last_layer_is_the_last_before_the_target():
    assert chosen({"position": "last"}, "y") == {"head"}
    assert chosen({"position": "last"}, "aux") == {"auxiliary"}
    assert chosen({"position": "last"}, "s") == {"block", "other stem"}


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(UnknownNameError, match="no layer 'blocks'; did you mean 'block'"):
        chosen({"before": "blocks"})


def test_merged_nodes_go_by_any_of_their_names():
    graph = onnxvis.load(small_cnn(), threads=1).graph
    on = Composite([({"after": "bn1", "layer": "convolution"}, "flat")]).on(graph)
    assert [node.name for node in graph.nodes if on(node).rule == "flat"] == ["conv2"]


def test_rows_carry_settings_and_a_pass_overrides_them():
    table = Composite([("Conv", ("epsilon", {"epsilon": 0.25})), ("Gemm", "epsilon")])
    graph = onnxvis.load(small_cnn(2), threads=1).engine.specialized({"x": normal(2, 3, 12, 12)})

    def found(**settings):
        plan = make_plan(graph, Pass(table, settings), ["logits"], ["x"])
        return {step.node.op_type: step.settings["epsilon"] for step in plan.steps}

    assert (found()["Conv"], found()["Gemm"]) == (0.25, 1e-6)
    assert set(found(epsilon=0.5).values()) == {0.5}


# ---- files ---------------------------------------------------------------------------------------

TEXT = """
name = "mine"
default = "gradient"

[[rows]]
layer = "convolution"
position = "first"
rule = "zbox"
settings = { low = [-1, -2, -3], high = 1.5 }

[[rows]]
operator = "Conv"
before = "conv9"
rule = "alpha_beta"
settings = { alpha = 3, beta = 2 }
"""


@pytest.mark.parametrize("as_path", [False, True, str])
def test_from_toml(as_path, tmp_path):
    source = TEXT
    if as_path:
        source = tmp_path / "table.toml"
        source.write_text(TEXT)
        source = source if as_path is True else str(source)
    found = Composite.from_toml(source)
    rows = [
        ({"layer": "convolution", "position": "first"}, ("zbox", {"low": [-1, -2, -3], "high": 1.5})),
        ({"operator": "Conv", "before": "conv9"}, ("alpha_beta", {"alpha": 3, "beta": 2})),
    ]
    assert found.name == "mine"
    assert found.key == Composite(rows, default="gradient").key
    if as_path is str:
        assert composite(source).key == found.key


def test_a_file_without_name_goes_by_its_own(tmp_path):
    (tmp_path / "table.toml").write_text("[[rows]]\nrule = 'epsilon'\noperator = 'Conv'")
    assert Composite.from_toml(tmp_path / "table.toml").name == "table"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = 3", "composite has no rows"),
        ("", "composite has no rows"),
        ("[[rows]", "composite is not valid TOML"),
        ("defalt = 'lrp'", "key of composite, 'defalt'; did you mean 'default'"),
        ("default = 'lpr'\n[[rows]]\nrule='flat'", "composite: no rule or method 'lpr'; did you mean 'lrp'"),
        ("[[rows]]\noperator = 'Conv'", "row 1 of composite has no rule"),
        ("[[rows]]\nrule = 3", "rule of row 1 of composite is a text, not 3"),
        ("[[rows]]\nrule='flat'\n[[rows]]\nrule='flatt'", "row 2 of composite: no rule or method 'flatt'"),
        ("[[rows]]\nrule='flat'\nop='Conv'", "key of row 1 of composite, 'op'.*operator"),
        ("[[rows]]\nrule='flat'\nposition='second'", "row 1 of composite: no position of a layer 'second'"),
        ("[[rows]]\nrule='flat'\nname=3", "row 1 of composite: the condition 'name'.*is a text, not 3"),
        ("[[rows]]\nrule='gamma'\nsettings={gama=1}", "row 1 of composite: no setting of the rule 'gamma'"),
        ("[[rows]]\nrule='gamma'\nsettings=3", "row 1 of composite: settings of the rule 'gamma' are a map"),
        ("[[rows]]\nrule='alpha_beta'\nsettings={alpha=1}", "row 1 of composite: alpha_beta takes"),
    ],
)
def test_files_that_cannot_be_understood_say_where(text, message):
    with pytest.raises(UsageError, match=message):
        Composite.from_toml(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read composite file '.*none\.toml': No such file"):
        composite(str(tmp_path / "none.toml"))
