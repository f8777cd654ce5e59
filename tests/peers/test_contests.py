"""The speed benchmark compares like with like: on each task, onnxvis and its rival answer the same."""

from __future__ import annotations

import pytest

from .libraries import peer

peer("torch")
contests = pytest.importorskip("benchmarks.contests", reason="needs benchmarks/ beside tests/")
goals = pytest.importorskip("benchmarks.goals", reason="needs benchmarks/ beside tests/")
speed = pytest.importorskip("benchmarks.speed", reason="needs benchmarks/ beside tests/")


@pytest.fixture(scope="module")
def rows():
    settings = {"tasks": speed.TASKS, "seconds": 0, "least": 1}
    return [row for batch in (1, 2) for row in contests.measure("squeezenet1_1", 1, batch, **settings)]


def test_every_task_is_a_contest(rows):
    assert {*contests.TASKS} == {*speed.TASKS, speed.COMPILED}
    tasks = {1: speed.TASKS, 2: contests.BATCHED}
    assert [(row["batch"], row["task"]) for row in rows] == [(b, task) for b in tasks for task in tasks[b]]


def test_nobody_fails_and_all_answer_the_same(rows):
    for row in rows:
        assert not row["failed"]
        differences = [value for label, value in row["measures"].items() if label.startswith("difference")]
        assert row["alike"] and len(differences) == 1 and differences[0] <= 2e-5, row


def test_what_the_goals_ask_for_is_measured(rows):
    found = {(verdict["task"], verdict["measure"]): verdict["value"] for verdict in goals.verdicts(rows)}
    asked = [goal for goal in goals.GOALS if goal.task != "footprint" and goal.limit("squeezenet1_1")]
    assert found.keys() == {(goal.task, goal.measure) for goal in asked}
    assert None not in found.values()


def test_zennit_is_given_a_mobilenet_as_it_needs_it():
    (row,) = contests.measure("mobilenet_v2", 1, 1, ["lrp epsilon_plus"], seconds=0, least=1)
    assert row["alike"] and row["measures"]["difference from zennit"] <= 1e-4


def test_what_captum_cannot_rectify_is_no_contest():
    assert contests.measure("efficientnet_b0", 1, 1, ["guided_backprop"], seconds=0, least=1) == []


def test_who_fails_is_left_out_with_the_reason():
    def fail():
        raise ValueError("no such\nthing")

    contest = contests.Contest(lambda: [1.0], {"rival": fail})
    row = contest.hold(lambda: [1.0], seconds=0, least=1)
    assert row["failed"] == {"rival": "ValueError: no such thing"}
    assert row["times"].keys() == {"onnxvis", "plain forward"}
    assert row["measures"].keys() == {"time / floor"}
