"""What a graph was asked once, it knows.

An explanation asks the same of a graph for every picture, and on a small net a search through it takes
longer than the way back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from onnxvis.cache import kept

from .ir import Graph

__all__ = ["remembered"]

Questions = ParamSpec("Questions")
Answer = TypeVar("Answer")
LIMIT = 64  # answers of one function that are kept with a graph


def remembered(
    function: Callable[Concatenate[Graph, Questions], Answer],
) -> Callable[Concatenate[Graph, Questions], Answer]:
    """A function of a graph, and of hashable arguments, whose results are kept as long as the graph.

    All callers share a result: nobody is to change it.
    """

    @wraps(function)
    def asked(graph: Graph, /, *args: Questions.args, **kwargs: Questions.kwargs) -> Answer:
        answers: OrderedDict[Hashable, Answer] = graph.answers.setdefault(function, OrderedDict())
        question = (args, *kwargs.items())
        return kept(answers, question, LIMIT, lambda: function(graph, *args, **kwargs))

    return asked
