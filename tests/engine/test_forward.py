"""The forward pass: what is kept, and what is left out because nobody asked for it."""

import numpy as np
import pytest
from models import build, normal
from onnx import helper

from onnxvis.engine.forward import Forward
from onnxvis.engine.runtime import Runtime
from onnxvis.graph.load import read_model

node = helper.make_node


@pytest.fixture
def forward():
    """Two heads on one trunk."""
    nodes = [
        node("Conv", ["x", "w"], ["trunk"]),
        node("Relu", ["trunk"], ["features"]),
        node("Conv", ["features", "v"], ["box"]),
        node("Conv", ["features", "u"], ["mask"]),
        node("Sigmoid", ["mask"], ["probability"]),
    ]
    weights = {"w": normal(4, 3, 3, 3), "v": normal(2, 4, 1, 1), "u": normal(5, 4, 1, 1)}
    model = build(nodes, {"x": [1, 3, 6, 6]}, ["box", "probability"], weights)
    return Forward(read_model(model), Runtime(threads=1))


def sessions(forward):
    return [{entry.name for entry in s.get_outputs()} for s in forward._sessions.values()]


X = {"x": normal(1, 3, 6, 6)}


def test_other_heads_are_left_out(forward):
    record = forward.run(X, ["features", "box"])
    assert sessions(forward) == [{"features", "box"}]
    whole = forward.outputs(X)
    np.testing.assert_array_equal(record["box"], whole["box"])
    assert sorted(whole) == ["box", "probability"]


def test_all_outputs_come_from_the_file_as_it_is(forward):
    assert sorted(forward.outputs(X)) == ["box", "probability"]
    forward.run(X, ["box", "probability"])
    assert len(forward._sessions) == 1


def test_a_session_that_gives_more_is_used_again(forward):
    forward.run(X, ["features", "box", "mask"])
    record = forward.run(X, ["features", "mask"])
    assert len(forward._sessions) == 1
    assert record["mask"].shape == (1, 5, 4, 4)


def test_only_so_many_are_kept(forward):
    for taps in (["trunk"], ["features"], ["box"], ["mask"], ["probability"]):
        forward.run(X, taps)
    assert len(forward._sessions) <= Forward.LIMIT
