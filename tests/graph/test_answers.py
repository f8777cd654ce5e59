"""Answers that are kept with a graph."""

import gc
import weakref

from models import small_cnn

from onnxvis.graph import answers
from onnxvis.graph.answers import remembered
from onnxvis.graph.load import read_model


def counting():
    """A remembered function, and the list of what it was really asked."""
    asked = []

    @remembered
    def question(graph, *names):
        asked.append(names)
        return [len(graph.nodes), *names]

    return question, asked


def test_a_question_is_answered_once_a_graph():
    question, asked = counting()
    one, other = (read_model(small_cnn()).graph for _ in range(2))
    assert question(one, "a") is question(one, "a")
    assert asked == [("a",)]
    assert question(one, "b")[1:] == ["b"]
    assert question(other, "a") is not question(one, "a")
    assert asked == [("a",), ("b",), ("a",)]


def test_answers_go_with_their_graph():
    question, _ = counting()
    graph = read_model(small_cnn()).graph
    question(graph)
    alive = weakref.ref(graph)
    del graph
    gc.collect()
    assert alive() is None


def test_the_answers_longest_unasked_for_are_forgotten(monkeypatch):
    monkeypatch.setattr(answers, "LIMIT", 2)
    question, asked = counting()
    graph = read_model(small_cnn()).graph
    for name in "abac":
        question(graph, name)
    assert asked == [("a",), ("b",), ("c",)]
    question(graph, "a")
    assert len(asked) == 3
    question(graph, "b")
    assert asked[3:] == [("b",)]
