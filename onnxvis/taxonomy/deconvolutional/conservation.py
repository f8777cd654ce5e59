"""Whether relevance is conserved: what arrives at each layer, what it passes on, what it absorbs.

A backward pass on NumPy in double precision, in which every step is watched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass, PlannedStep, make_plan
from onnxvis.errors import UsageError
from onnxvis.taxonomy.registry import Case

__all__ = ["Conservation", "LayerRelevance", "conservation", "joined"]


@dataclass(frozen=True)
class LayerRelevance:
    """One node: Σ relevance that arrived at its outputs, and that it sent to its inputs, over the batch."""

    name: str
    operator: str
    rule: str
    arrived: float
    sent: float

    @property
    def absorbed(self) -> float:
        """What biases, stabilisers and constant operands kept."""
        return self.arrived - self.sent


@dataclass(frozen=True)
class Conservation:
    """Σ relevance from the seed to the input: ``layers`` in data-flow order, the input's side first."""

    layers: tuple[LayerRelevance, ...]
    seed: float
    relevance: float

    @property
    def absorbed(self) -> float:
        """What all layers together kept."""
        return sum(layer.absorbed for layer in self.layers)

    @property
    def error(self) -> float:
        """|Σ R(input) + absorbed − seed|: 0 up to rounding where no relevance went astray."""
        return abs(self.relevance + self.absorbed - self.seed)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("layer", "operator", "rule", "arrived", "sent", "absorbed")]
        for layer in self.layers:
            numbers = (f"{value:.6g}" for value in (layer.arrived, layer.sent, layer.absorbed))
            rows.append((layer.name, layer.operator, layer.rule, *numbers))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        total = f"seed {self.seed:.6g} = input {self.relevance:.6g} + absorbed {self.absorbed:.6g}"
        return "\n".join([*lines, f"{total} (off by {self.error:.2g})"])

    def plot(self, axes: Any = None) -> Any:
        """Draw what arrives at each layer, and what it absorbs, with matplotlib (extra ``plot``)."""
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError:
            raise UsageError(
                "plot() draws with matplotlib; run: pip install 'onnxvis[plot]', or print the report"
            ) from None
        axes = plt.gca() if axes is None else axes
        positions = range(len(self.layers))
        axes.bar(positions, [layer.absorbed for layer in self.layers], color="tab:orange", label="absorbed")
        axes.plot(positions, [layer.arrived for layer in self.layers], marker=".", label="arrived")
        axes.axhline(self.seed, color="grey", linestyle=":", label="seed")
        axes.set_xticks([*positions], [layer.name for layer in self.layers], rotation=90, fontsize="small")
        axes.set_ylabel("Σ relevance")
        axes.legend()
        return axes


def joined(parts: Sequence[Conservation]) -> Conservation:
    """The sums over several batches of the same model."""
    layers = (
        replace(same[0], arrived=sum(x.arrived for x in same), sent=sum(x.sent for x in same))
        for same in zip(*(part.layers for part in parts), strict=True)
    )
    return Conservation(
        tuple(layers), sum(part.seed for part in parts), sum(part.relevance for part in parts)
    )


def conservation(case: Case, backward: Pass, seed: str = "logit") -> Conservation:
    """Walk the target's seed back to the input, and add up what every node gets and passes on."""
    plan = make_plan(case.graph, backward, case.aim.tensors, [case.input])
    found: list[LayerRelevance] = []
    watched = replace(plan, steps=tuple(_watched(step, found) for step in plan.steps))
    executor = HostExecutor(watched, np.float64)
    record = case.engine.run(case.feeds, [*executor.needs, *case.aim.reads])
    seeds = {name: start.astype(np.float64) for name, start in case.aim.seeds(record, seed).items()}
    arrived = executor.backward(record, seeds)
    given = sum(float(start.sum()) for start in seeds.values())
    return Conservation(tuple(found[::-1]), given, float(arrived[case.input].sum()))


def _watched(planned: PlannedStep, found: list[LayerRelevance]) -> PlannedStep:
    """The same step, which writes down what passes through it, and returns that alone."""
    body: Callable[..., Any] = planned.rule.body
    names = planned.node.origin or (planned.node.name,)

    def watched(step: Any, *arrived: Any) -> Any:
        passed = body(step, *arrived)
        parts = passed if isinstance(passed, tuple) else (passed,)
        sent = sum(
            float(np.sum(part)) for i, part in enumerate(parts) if part is not None and i in planned.wanted
        )
        got = sum(float(np.sum(part)) for part in arrived if part is not None)
        rule = planned.rule.method
        found.append(LayerRelevance(" + ".join(names), planned.node.kind, rule, got, sent))
        return passed

    return replace(planned, rule=replace(planned.rule, body=watched, adds=False, gate=None))
