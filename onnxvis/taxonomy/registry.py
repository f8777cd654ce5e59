"""The methods that a user can name, with their settings; which class of the taxonomy each belongs to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from onnxvis.engine.engine import Engine, Seeds
from onnxvis.engine.forward import Record
from onnxvis.engine.plan import Finish, Pass, Way
from onnxvis.errors import UnknownNameError, UsageError
from onnxvis.graph.analysis import channel_axes
from onnxvis.graph.ir import Graph
from onnxvis.target import Aim, Start

__all__ = ["METHODS", "Case", "MethodInfo", "Outcome", "explainer", "find", "methods", "reconstructor"]

Array = np.ndarray[Any, Any]
INPUT_MODIFICATION = "input modification"
DECONVOLUTIONAL = "deconvolutional"
INPUT_RECONSTRUCTION = "input reconstruction"
_KINDS: dict[str, type] = {"int": int, "float": float}  # annotations, which are text here
_NUMBERS: dict[type, tuple[type, ...]] = {
    int: (int, np.integer),
    float: (int, float, np.integer, np.floating),
}


class Outcome(NamedTuple):
    """What a method computed: unscaled ``values`` and the target's ``score`` for each sample.

    ``aim``: the target with its units chosen; ``layer``: the layer that a CAM looked at.
    """

    values: Array
    score: Array
    aim: Aim
    layer: str | None = None


@dataclass(eq=False)
class Case:
    """One batch to explain: the engine, complete inputs, the explained input's name, the target.

    ``bounds``: finds the lowest and highest numbers that the input can hold, black and white of a picture, in
    shapes that broadcast to it; None where nothing says.
    ``told``: may be called with the outcome while a GPU computes it: its values' numbers are still to come.
    """

    engine: Engine
    feeds: Seeds
    input: str
    aim: Aim
    bounds: Callable[[], tuple[Array, Array] | None]
    told: Callable[[Outcome], object] | None = None
    _settled: tuple[Record, Aim, Array] | None = None

    @property
    def x(self) -> Array:
        """The explained input."""
        return self.feeds[self.input]

    @property
    def channel_axis(self) -> int:
        """That of the input."""
        return channel_axes(self.engine.file_graph).get(self.input, 1)

    @cached_property
    def graph(self) -> Graph:
        """The layer graph for these shapes."""
        return self.engine.specialized(self.feeds, self.aim.tensors)

    def propagate(
        self, backward: Pass, wrt: str | None = None, seed: str = "one", finish: Finish | None = None
    ) -> tuple[Array, Record]:
        """Walk the target's seed back to ``wrt`` (default: the input): what arrived, and the record.

        ``finish``: what is made of it there; the record need not have the tensor then.
        """
        (arrived,), record = self.propagate_each([Way(backward, (wrt or self.input,), finish)], seed)
        return arrived, record

    def propagate_each(self, ways: Sequence[Way], seed: str = "one") -> tuple[list[Array], Record]:
        """Walk the target's seed back in several ways, each to one tensor, after one forward pass: what
        arrived in each, and the record.
        """
        record, found = self._walk(ways, seed, lambda record, arrived: self._settle(record))
        return [arrived[name] for way, arrived in zip(ways, found, strict=True) for name in way.wrt], record

    def walked(self, backward: Pass, seed: str = "one") -> Outcome:
        """The outcome whose values are what arrives at the input, as it is."""
        early: list[Outcome] = []

        def meanwhile(record: Record, arrived: dict[str, Array]) -> None:
            early.append(self.outcome(arrived[self.input], record))
            if self.told is not None:
                self.told(early[0])

        record, (arrived,) = self._walk([Way(backward, (self.input,))], seed, meanwhile)
        return early[0] if early else self.outcome(arrived[self.input], record)

    def _walk(
        self, ways: Sequence[Way], seed: str, meanwhile: Callable[[Record, dict[str, Array]], object]
    ) -> tuple[Record, list[dict[str, Array]]]:
        also = [*self.aim.reads, *[name for way in ways if way.finish is None for name in way.wrt]]
        start = Start(self.aim, seed)
        return self.engine.vjps(self.feeds, start, self.aim.tensors, ways, also, meanwhile)

    def outcome(self, values: Array, record: Record, layer: str | None = None) -> Outcome:
        """What was computed, with the target's score from the record."""
        _, chosen, score = self._settle(record)
        return Outcome(values, score, chosen, layer)

    def _settle(self, record: Record) -> tuple[Record, Aim, Array]:
        """Choose, and compute the score, for a record: once for the last of them."""
        if self._settled is None or self._settled[0] is not record:
            chosen = self.aim.chosen(record)
            self._settled = (record, chosen, chosen.score(record))
        return self._settled


@dataclass(frozen=True)
class MethodInfo:
    """A method: its name, class in the taxonomy, one line on it, its settings with their defaults.

    ``shows``: what ``heatmap()`` makes of its values: "sum" over the channels (signed), the largest
    "magnitude" among them, their "mean", or a "cam".  ``numbers``: the settings that take nothing but an
    int or a float.
    """

    name: str
    category: str
    summary: str
    settings: Mapping[str, Any]
    run: Callable[..., Any]
    shows: str = "sum"
    numbers: Mapping[str, type] = field(default_factory=dict)

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given settings; UnknownNameError for one that the method does not have, UsageError for
        something else where a number belongs.
        """
        for name, value in given.items():
            if name not in self.settings:
                raise UnknownNameError(f"setting of {self.name}", name, self.settings or ["(none)"])
            kind = self.numbers.get(name)
            if kind and (isinstance(value, bool) or not isinstance(value, _NUMBERS[kind])):
                wanted = "a whole number" if kind is int else "a number"
                raise UsageError(f"{name} of {self.name} is {wanted}, not {value!r}")
        return dict(given)


METHODS: dict[str, MethodInfo] = {}


def _register(name: str, category: str, shows: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        own = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        settings = {p.name: p.default for p in own}
        numbers = {p.name: _KINDS[p.annotation] for p in own if p.annotation in _KINDS}
        summary = (inspect.getdoc(function) or "").split("\n")[0].rstrip(".")
        METHODS[name] = MethodInfo(name, category, summary, settings, function, shows, numbers)
        return function

    return register


def explainer(
    name: str, category: str, shows: str = "sum"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``function(case, *, settings…) -> Outcome``; keyword-only parameters are its settings."""
    return _register(name, category, shows)


def reconstructor(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a method that finds an input; keyword-only parameters are its settings."""
    return _register(name, INPUT_RECONSTRUCTION, "picture")


def methods() -> dict[str, MethodInfo]:
    """Every method by name: its class in the taxonomy, one line on it, its settings with their defaults."""
    return dict(METHODS)


def find(name: str, reconstruct: bool = False) -> MethodInfo:
    """The method of this name, among those that explain or those that reconstruct."""
    method = METHODS.get(name)
    if method is not None and (method.category == INPUT_RECONSTRUCTION) is reconstruct:
        return method
    known = [m.name for m in METHODS.values() if (m.category == INPUT_RECONSTRUCTION) is reconstruct]
    if method is not None:
        call = "model.explain" if reconstruct else "model.reconstruct"
        raise UnknownNameError(
            "reconstruction" if reconstruct else "method", name, known, f"Call {call} for it."
        )
    raise UnknownNameError("reconstruction" if reconstruct else "method", name, known)
