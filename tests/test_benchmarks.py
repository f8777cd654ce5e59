"""What the speed benchmark does with its times: turns, ratios, goals, tables. No time is asserted on."""

from __future__ import annotations

import numpy as np
import pytest
from models import small_cnn

WHY = "needs benchmarks/ beside tests/"
goals = pytest.importorskip("benchmarks.goals", reason=WHY)
turns = pytest.importorskip("benchmarks.turns", reason=WHY)
speed = pytest.importorskip("benchmarks.speed", reason=WHY)
footprint = pytest.importorskip("benchmarks.footprint", reason=WHY)
reporting = pytest.importorskip("benchmarks.reporting", reason=WHY)
chart = pytest.importorskip("benchmarks.chart", reason=WHY)


class Clock:
    """A clock that only the contestants move, and what they did."""

    def __init__(self, **seconds):
        self.now, self.calls = 0.0, []
        self.contestants = {name: self._contestant(name, taken) for name, taken in seconds.items()}

    def __call__(self):
        return self.now

    def _contestant(self, name, taken):
        def call():
            self.calls.append(name)
            self.now += taken

        return call


# ---- turns ---------------------------------------------------------------------------------------


def test_every_contestant_is_timed_by_its_own_calls():
    clock = Clock(a=1.0, b=2.0, c=4.0)
    times = turns.take_turns(clock.contestants, seconds=28, clock=clock)
    assert times == {"a": [1.0] * 4, "b": [2.0] * 4, "c": [4.0] * 4}


def test_who_begins_and_who_follows_whom_changes():
    clock = Clock(a=1.0, b=1.0, c=1.0)
    turns.take_turns(clock.contestants, seconds=18, clock=clock)
    rounds = ["".join(clock.calls[i : i + 3]) for i in range(0, 18, 3)]
    assert rounds == ["abc", "acb", "cab", "cba", "bca", "bac"]


@pytest.mark.parametrize(
    ("seconds", "rounds"), [(0, 2), (7, 3), (8.9, 4), (9.1, 4), (11.9, 5), (1e9, 6)], ids=str
)
def test_rounds_as_many_as_fit_within_bounds(seconds, rounds):
    clock = Clock(a=1.0, b=1.0)
    times = turns.take_turns(clock.contestants, seconds, least=2, most=6, clock=clock)
    assert [len(found) for found in times.values()] == [rounds, rounds]


def test_smallest_and_median_in_milliseconds():
    assert turns.summary([0.5, 0.25, 1.0]) == {"minimum_ms": 250.0, "median_ms": 500.0, "calls": 3}


def test_ratios_are_of_the_smallest_times_and_the_floor_of_so_many_forward_passes():
    times = {"onnxvis": [3.0, 9.0], "torch": [6.0, 4.0], "plain forward": [1.5, 1.0]}
    found = turns.ratios(times, "onnxvis", "plain forward", passes=2)
    assert found == {"time / floor": 1.5, "time / torch": 0.75}


# ---- goals ---------------------------------------------------------------------------------------


def row(net="resnet50", task="gradient", batch=1, threads=1, **more):
    measures = {"time / torch autograd": 0.5, "time / floor": 1.3}
    return {"net": net, "task": task, "batch": batch, "threads": threads, "measures": measures, **more}


def met(*rows):
    return {(v["net"], v["measure"]): v["met"] for v in goals.verdicts(rows)}


def test_a_goal_is_met_up_to_its_limit_on_that_net():
    limits = goals.Goal("t", "m", every=2.0, limits={"a": 1.0})
    rows = [row(net, "t", measures={"m": value}) for net, value in (("a", 1.0), ("a", 1.5), ("b", 1.5))]
    assert [verdict["met"] for verdict in goals.verdicts(rows, [limits])] == [True, False, True]


def test_goals_of_the_gradient():
    assert met(row()) == {
        ("resnet50", "time / torch autograd"): True,
        ("resnet50", "time / floor"): False,
    }
    assert met(row("alexnet")) == {}


def test_goals_are_for_one_sample_on_one_thread():
    assert met(row(batch=8), row(threads=2)) == {}


def test_a_goal_without_a_measurement_is_not_met():
    (first, second) = goals.verdicts([row(measures={"time / floor": 1.0})])
    assert (first["value"], first["met"]) == (None, False)
    assert second["met"]


def test_goals_are_of_tasks_and_nets_that_are_measured():
    assert {goal.task for goal in goals.GOALS} <= {*speed.TASKS, "footprint"}
    assert {net for goal in goals.GOALS for net in goal.limits} <= {*goals.NETS}
    assert {*footprint.NETS} <= {*goals.NETS}


# ---- telling -------------------------------------------------------------------------------------


def timed(**more):
    times = {"onnxvis": turns.summary([0.001]), "torch autograd": turns.summary([0.002])}
    return row(**{"times": times, "failed": {}, "alike": True} | more)


def test_the_table_shows_who_failed_and_why():
    failed = timed(failed={"torch.compile": "NoCompiler: none found"})
    told = speed.body([failed], goals.verdicts([failed]))
    assert "| torch autograd | 2.0 (2.0) | 0.50 | – |" in told
    assert "| torch.compile | failed: NoCompiler: none found |" in told
    assert "| time / floor | resnet50 | 1.30 | ≤ 1.2 | **no** |" in told


def test_a_process_that_did_not_survive_is_told_of():
    lost = {"net": "vgg16", "task": "all", "threads": 1, "batch": 0}
    lost |= {"measures": {}, "times": {}, "failed": {"all": "it ended"}}
    assert "failed: it ended" in speed.body([timed(), lost], [])


@pytest.mark.parametrize(("alike", "mark"), [(True, "2e-01 |"), (False, "2e-01* |")])
def test_a_difference_by_other_decisions_is_marked(alike, mark):
    told = timed(measures={"difference from torch autograd": 0.2}, alike=alike)
    assert mark in speed.body([told], [])


def test_the_plot_is_written_twice(tmp_path):
    pytest.importorskip("matplotlib")
    chart.draw(goals.verdicts([row(), row("squeezenet1_1")]), tmp_path / "speed")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "speed.svg").read_text()


def test_quick_is_one_sample_on_one_thread_unless_said_otherwise():
    chosen = speed._parser().parse_args(["--quick", "--batches", "2"])
    assert (chosen.batches, chosen.threads, chosen.quick) == ([2], [1], True)
    assert not speed._parser().parse_args([]).quick


def test_what_was_measured_here_is_kept_and_the_rest_measured(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    monkeypatch.setattr(reporting, "RESULTS", tmp_path)
    measured, lost = [], {"googlenet"}

    def in_process(where, threads, function, net, *settings):
        measured.append((net, where["threads"], where["batch"]))
        failed = {"all": "it ended"} if net in lost else {}
        return [timed(**where, failed=failed, task="all" if failed else "gradient")]

    monkeypatch.setattr(speed, "in_process", in_process)
    command = ["--nets", "googlenet", "alexnet", "--threads"]
    speed.main([*command, "1", "--batches", "1", "--no-footprint"])
    assert measured == [("googlenet", 1, 1), ("alexnet", 1, 1)]
    lost.clear()
    speed.main([*command, "1", "2", "--batches", "1", "8", "--no-footprint", "--resume"])
    missing = [("googlenet", 1, 1), ("googlenet", 1, 8), ("alexnet", 1, 8)]
    assert measured[2:] == [*missing, *((net, 2, n) for n in (1, 8) for net in ("googlenet", "alexnet"))]
    assert (tmp_path / "speed.md").read_text().count("| alexnet | gradient | 1.0 (1.0) |") == 4
    where = speed.circumstances(*speed.PACKAGES)
    assert len(reporting.kept("speed", where)["rows"]) == 8
    assert reporting.kept("speed", {**where, "torch": "another"}) is None


# ---- footprint -----------------------------------------------------------------------------------


def test_a_contestant_in_its_own_process(tmp_path):
    files = tmp_path / "net"
    model = small_cnn()
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    shape = [entry.dim_value or 1 for entry in model.graph.input[0].type.tensor_type.shape.dim]
    np.save(tmp_path / "net.npy", np.ones(shape, np.float32))
    found = footprint.run("onnxvis", files, 1)
    assert found.keys() == {"first_s", "warm_ms", "peak_mb"}
    assert 20 < found["peak_mb"] < 2000
    assert np.fromfile(tmp_path / "net.onnxvis.raw", np.float32).size == np.prod(shape)


def test_a_contestant_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="onnxvis ended with code"):
        footprint.run("onnxvis", tmp_path / "missing", 1)


def test_a_process_is_not_blamed_for_the_memory_of_its_parent(tmp_path):
    import subprocess
    import sys

    held = np.ones(50_000_000)  # 400 MB
    command = "from benchmarks.footprint import _peak; print(_peak())"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=footprint.ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < held.nbytes / 1e6


def test_footprints_are_measured_against_each_other():
    best = {
        "onnxvis": {"first_s": 1.0, "peak_mb": 300.0},
        "torch": {"first_s": 4.0, "peak_mb": 400.0},
    }
    maps = {"onnxvis": np.array([1.0, 2.0]), "torch": np.array([1.0, 4.0])}
    assert footprint._measures(best, maps) == {
        "first heat map, seconds": 1.0,
        "first heat map / torch": 0.25,
        "memory / torch": 0.75,
        "difference from torch": 0.5,
    }
