"""Composites: which rule goes where."""

import pytest

from onnxvis.errors import UnknownNameError, UsageError
from onnxvis.graph.ir import Graph, Node
from onnxvis.rules import Composite, linear, registry
from onnxvis.rules.composites import COMPOSITES, Match, composite

GRAPH = Graph("empty", (), {}, (), ())


def node(op_type, name="layer", domain=""):
    return Node(name, op_type, ("x",), ("y",), domain=domain)


@pytest.mark.parametrize(
    ("name", "convolution", "dense"),
    [("epsilon", "epsilon", "epsilon"), ("epsilon_plus", "zplus", "epsilon")],
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
    assert match.fits(node("Conv", "ab"))
    assert not match.fits(node("Conv", "ba"))
    assert not match.fits(node("ConvTranspose", "ab"))
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
        (lambda: composite("epsilon_pluss"), UnknownNameError, "no composite.*'epsilon_plus'"),
        (lambda: composite(None), UsageError, "a composite is a name or a Composite, not None"),
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


def test_methods_lists_every_rule_once():
    assert Composite([("Conv", "zplus"), ("Gemm", "zplus")], default="lrp").methods == ["zplus", "lrp"]
