"""Indices and conditions that the model computes while it runs."""

import numpy as np
import pytest
from engine.branching import engine
from models import build
from onnx import helper

from onnxvis.engine.plan import Pass

node = helper.make_node


def gradient(nodes, x, seed, executor, **constants):
    model = build(nodes, {"x": list(x.shape)}, ["y"], constants, opset=18)
    _, found = engine(model, executor).vjp({"x": x}, {"y": seed}, ["y"], ["x"], Pass("gradient"))
    return found["x"]


@pytest.fixture(params=["host", "compiled"])
def executor(request):
    return request.param


X = np.array([[3, -1, 2, 5], [-4, 6, 0.5, 1], [1.5, -2, 7, -3]], np.float32)


def test_where_on_a_computed_condition(executor):
    nodes = [node("Greater", ["x", "zero"], ["c"]), node("Where", ["c", "x", "zero"], ["y"])]
    found = gradient(nodes, X, X + 1, executor, zero=np.zeros((), np.float32))
    np.testing.assert_array_equal(found, np.where(X > 0, X + 1, 0))


def test_gather_by_a_computed_index(executor):
    """The row of the largest number of the first column, twice."""
    first = {"starts": np.array([0]), "ends": np.array([1]), "axes": np.array([1])}
    nodes = [
        node("Slice", ["x", "starts", "ends", "axes"], ["column"]),
        node("ArgMax", ["column"], ["row"], axis=0, keepdims=0),
        node("Concat", ["row", "row"], ["rows"], axis=0),
        node("Gather", ["x", "rows"], ["y"], axis=0),
    ]
    found = gradient(nodes, X, np.ones((2, 4), np.float32), executor, **first)
    np.testing.assert_array_equal(found, np.array([[2] * 4, [0] * 4, [0] * 4]))


def test_gather_elements_by_computed_indices_from_the_end(executor):
    nodes = [
        node("ArgMax", ["x"], ["place"], axis=1, keepdims=1),
        node("Sub", ["place", "four"], ["indices"]),
        node("GatherElements", ["x", "indices"], ["y"], axis=1),
    ]
    seed = np.array([[1], [2], [3]], np.float32)
    found = gradient(nodes, X, seed, executor, four=np.array(4))
    np.testing.assert_array_equal(found, np.where(X.max(1, keepdims=True) == X, seed, 0))


def test_gather_nd_by_computed_places(executor):
    nodes = [
        node("ArgMax", ["x"], ["column"], axis=1, keepdims=1),
        node("Sub", ["column", "four"], ["back"]),
        node("Concat", ["rows", "back"], ["places"], axis=1),
        node("GatherND", ["x", "places"], ["y"]),
    ]
    rows, seed = np.arange(3)[:, None], np.array([1, 2, 3], np.float32)
    found = gradient(nodes, X, seed, executor, rows=rows, four=np.array(4))
    np.testing.assert_array_equal(found, np.where(X.max(1, keepdims=True) == X, seed[:, None], 0))


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("none", np.where(X.max(1, keepdims=True) == X, 0, 1)),
        ("add", np.ones((3, 4))),
        ("max", np.where(X.max(1, keepdims=True) == X, 0, 1)),
        ("min", np.ones((3, 4))),
    ],
)
def test_scatter_at_computed_places(executor, reduction, expected):
    """9 at the largest number of each row, counted from the end."""
    nodes = [
        node("ArgMax", ["x"], ["place"], axis=1, keepdims=1),
        node("Sub", ["place", "four"], ["indices"]),
        node("ScatterElements", ["x", "indices", "nines"], ["y"], axis=1, reduction=reduction),
    ]
    constants = {"four": np.array(4), "nines": np.full((3, 1), 9, np.float32)}
    found = gradient(nodes, X, np.ones((3, 4), np.float32), executor, **constants)
    np.testing.assert_array_equal(found, expected)


def test_equal_extremes_of_scatter_share(executor):
    nodes = [
        node("Identity", ["x"], ["data"]),
        node("ScatterElements", ["data", "places", "x"], ["y"], axis=1, reduction="max"),
    ]
    x, places = np.array([[1, 1, 1, 5]], np.float32), np.array([[1, 2, 2, 0]])
    # y = (5, 1, 1, 5): the first is written last; the second is kept and written; the third likewise, twice.
    found = gradient(nodes, x, np.array([[2, 4, 6, 8]], np.float32), executor, places=places)
    np.testing.assert_allclose(found, np.array([[2, 2 + 2, 2 + 2, 2 + 8]]))


def test_reverse_sequence_by_computed_lengths(executor):
    """Each row backwards up to its largest number."""
    nodes = [
        node("ArgMax", ["x"], ["place"], axis=1, keepdims=0),
        node("Add", ["place", "one"], ["lengths"]),
        node("ReverseSequence", ["x", "lengths"], ["y"], batch_axis=0, time_axis=1),
    ]
    seed = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = gradient(nodes, X, seed, executor, one=np.array(1))
    np.testing.assert_array_equal(found, [[3, 2, 1, 0], [5, 4, 6, 7], [10, 9, 8, 11]])


def ties(operator, executor, x, **attributes):
    found = gradient([node(operator, ["x"], ["y"], **attributes)], x, np.ones((1, 1), np.float32), executor)
    return found.tolist()


def test_of_equal_extremes_the_first_gets_everything(executor):
    x = np.array([[1, 2, 2], [2, 1, 1]], np.float32)
    assert ties("ReduceMax", executor, x) == [[0, 1, 0], [0, 0, 0]]
    assert ties("ReduceMin", executor, x) == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_of_equal_operands_the_first_gets_everything(executor, operator):
    nodes = [node("Identity", ["x"], ["a"]), node(operator, ["a", "twos", "x"], ["y"])]
    x, seed = np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32)
    found = gradient(nodes, x, seed, executor, twos=np.full(3, 2, np.float32))
    assert found.tolist() == ([0, 2, 4] if operator == "Max" else [1, 2, 0])
