"""The profiling benchmark: whose operator it was, how much it computed, and that parts sum to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import helper

from onnxvis.engine.engine import Engine
from onnxvis.graph.load import read_model
from onnxvis.images import preset
from onnxvis.model import Model

WHY = "needs benchmarks/ beside tests/"
profile = pytest.importorskip("benchmarks.profile", reason=WHY)
sessions = pytest.importorskip("benchmarks.sessions", reason=WHY)


def watched(model, folder=None):
    runtime = sessions.Watched(1, folder)
    engine = Engine(read_model(model), runtime, "compiled")
    return Model(engine, preset("unit"), "given", ()), runtime


@pytest.mark.parametrize("parts", [[sessions.BOTH], [sessions.FORWARD, sessions.BACKWARD]])
def test_what_runs_in_a_call_and_for_which_layer(tmp_path, parts):
    model, runtime = watched(small_cnn(), tmp_path)
    if len(parts) == 2:
        model.engine.JOINT = -1
    for _ in range(3):
        model.explain(normal(1, 3, 12, 12), "gradient", 1)
    assert [part for part, _ in runtime.runs[-2 * len(parts) :]] == parts * 2
    assert all(seconds > 0 for _, seconds in runtime.runs)
    found = runtime.operators(3)
    assert "MaxPool" in {operator.op_type for operator in found[sessions.FORWARD]}
    assert {operator.layer for operator in found[sessions.FORWARD]} == {""}
    back = found[sessions.BACKWARD]
    assert {"conv1", "pool1", "relu2", "conv2"} <= {operator.layer for operator in back}
    groups = profile.summed(back, model.graph)
    products = [operator for operator in back if operator.op_type in sessions.PRODUCTS]
    assert groups["convolutions and products"]["operators"] == len(products) >= 2
    assert groups["max pooling"]["operators"] and groups["activations"]["operators"]
    assert sum(groups[name]["operators"] for name in profile.GROUPS) == len(back)


PRODUCTS = {
    "convolution": ("Conv", (2, 16, 9, 8), (32, 16, 3, 3), {"strides": [2, 1]}),
    "in groups": ("Conv", (1, 32, 7, 7), (32, 16, 3, 1), {"group": 2}),
    "over one axis": ("Conv", (1, 16, 11), (16, 16, 3), {}),
    "transposed": ("ConvTranspose", (2, 6, 5, 4), (6, 4, 3, 2), {"strides": [2, 2]}),
    "transposed in groups": ("ConvTranspose", (1, 6, 5, 4), (6, 2, 3, 3), {"group": 2}),
    "dense": ("Gemm", (3, 10), (7, 10), {"transB": 1}),
    "product": ("MatMul", (2, 3, 10), (10, 5), {}),
}


@pytest.mark.parametrize(("op_type", "x", "w", "attributes"), PRODUCTS.values(), ids=PRODUCTS)
def test_multiply_adds_are_what_ones_sum_to(op_type, x, w, attributes, tmp_path):
    """Where all factors are 1, each multiply-add adds 1 to the output."""
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    model = build([node], {"x": x}, ["y"], {"w": np.ones(w, np.float32)})
    runtime = sessions.Watched(1, tmp_path)
    session = runtime.session(model.SerializeToString())
    (y,) = runtime.run(session, ["y"], {"x": runtime.value(np.ones(x, np.float32))})
    found = runtime.operators(1)[sessions.FORWARD]
    counts = [operator.multiply_adds(w) for operator in found if operator.op_type in sessions.PRODUCTS]
    assert counts == [y.numpy().sum()]
    assert [o.multiply_adds() for o in found if o.op_type not in sessions.PRODUCTS].count(None) == len(
        found
    ) - 1


def row(**more):
    groups = {name: {"ms": 0.0, "operators": 0} for name in profile.GROUPS}

    def operators(products, pooling):
        changed = {"convolutions and products": products, "max pooling": pooling}
        found = {name: {"ms": changed.get(name, 0.0), "operators": 1} for name in groups}
        return {**found, "multiply-adds": 2.0, "a second": 100.0}

    return {
        "net": "squeezenet1_1",
        "task": "gradient",
        "passes": 2,
        "ms": {"whole": 10.0, "plain": 3.0, "forward": 3.5, "backward": 6.0},
        "operators": {
            "plain": operators(2.0, 0.5),
            "forward": operators(2.2, 0.5),
            "backward": operators(2.5, 3),
        },
        "slowest": [{"op_type": "Conv", "layer": "conv1", "ms": 1.25}],
        **more,
    }


def test_what_is_over_the_floor_sums_to_the_distance_from_it():
    over = profile.excess(row())
    assert sum(over.values()) == pytest.approx(10.0 - 2 * 3.0)
    assert over["max pooling"] == pytest.approx(0.5 + 3 - 2 * 0.5)
    assert over["outside of sessions"] == pytest.approx(10.0 - 3.5 - 6.0)


def test_one_session_is_split_by_its_operators():
    found = [sessions.Operator("Conv", "", ms, (), ()) for ms in (1.0, 2.0)]
    call = {"whole": 10.0, "forward": 0.0, "backward": 0.0, "both": 9.0}
    apart = profile._apart(dict(call), {"forward": found, "backward": found[:1]})
    assert apart == {"whole": 10.0, "forward": 3.0, "backward": 6.0}
    assert profile._apart(call | {"both": 0.0}, {}) == {"whole": 10.0, "forward": 0.0, "backward": 0.0}


def test_the_report_says_what_a_missed_goal_is_missed_by():
    told = profile.body(
        [row(), row(task="lrp epsilon_plus"), {"net": "vgg16", "failed": {"all": "it ended"}}]
    )
    assert "| squeezenet1_1 | gradient | 10.0 | 6.0 | 1.67 | ≤ 1.6, **missed** | max pooling 2.5" in told
    assert "| squeezenet1_1 | lrp epsilon_plus | 10.0 | 6.0 | 1.67 | – |" in told
    assert "Longest on the way back: Conv at conv1 1.25." in told
    assert "vgg16: it ended" in told
