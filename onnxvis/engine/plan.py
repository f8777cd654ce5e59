"""The plan: which rules run, in which order, on which tensors.

Everything is resolved before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from onnxvis.errors import MissingRuleError, TargetError, UnknownNameError
from onnxvis.graph.ir import Graph, Node, Subgraph
from onnxvis.ops.primitives import Array, Ops
from onnxvis.rules import Composite, Rule, registry
from onnxvis.rules.composites import COMPOSITES, Choice, composite, frozen
from onnxvis.rules.step import needed

__all__ = ["Finish", "Pass", "Plan", "Way", "make_plan"]


class Pass(NamedTuple):
    """A backward pass to plan: a method of the registry or a composite, with settings for its rules."""

    method: str | Composite = "gradient"
    settings: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def named(cls, method: str | Composite, settings: Mapping[str, Any]) -> Pass:
        """Of a rule's method, or of a composite: its name, a .toml file or a Composite.

        Raises UnknownNameError for what is neither, and for a setting that none of its rules has.
        """
        registry.load_plugins()
        if not isinstance(method, str) or method not in registry.methods:
            if isinstance(method, str) and method not in COMPOSITES and not method.endswith(".toml"):
                known = {**registry.methods, **COMPOSITES}
                raise UnknownNameError("rule, method or composite", method, known)
            method = composite(method)
        rules = [method] if isinstance(method, str) else method.methods
        known_settings = dict.fromkeys(name for rule in rules for name in registry.defaults(rule))
        found = cls(method, settings)
        for name in settings:
            if name not in known_settings:
                raise UnknownNameError(f"setting of {found.label}", name, known_settings or ["(none)"])
        return found

    @property
    def label(self) -> str:
        """How errors call it."""
        return self.method if isinstance(self.method, str) else f"composite {self.method.name}"

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for passes that do the same."""
        method = self.method if isinstance(self.method, str) else self.method.key
        return (method, frozen(self.settings) if self.settings else ())

    def on(self, graph: Graph, seeds: Collection[str] = ()) -> Callable[[Node], Choice]:
        """What each node of a graph gets, in a pass that starts at the tensors ``seeds``."""
        if isinstance(self.method, Composite):
            return self.method.on(graph, seeds)
        choice = Choice(self.method, {})
        return lambda node: choice


class Finish(NamedTuple):
    """What is made of what arrives at a tensor: ``function(ops, tensor, arrived)``, in primitives.

    ``key``: equal for those that do the same.
    """

    key: Hashable
    function: Callable[[Ops, Array, Array], Array]


class Way(NamedTuple):
    """A way back: a pass, the tensors that it leads to, and what is made of what arrives there."""

    backward: Pass
    wrt: tuple[str, ...]
    finish: Finish | None = None


@dataclass(frozen=True)
class PlannedStep:
    """One node on the way back: its rule, the rule's settings, the input positions it propagates to."""

    node: Node
    rule: Rule
    settings: Mapping[str, Any]
    wanted: frozenset[int]


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they run (last node first).

    ``seeds``: tensors at which the pass starts; ``wrt``: tensors at which its results are collected;
    ``needs``: tensors of the forward pass that the rules may read.
    """

    graph: Graph
    steps: tuple[PlannedStep, ...]
    seeds: tuple[str, ...]
    wrt: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Tensors of the forward pass that the rules declare to need, constants excepted.

        For one of real numbers that is computed from whole ones: these.
        """
        quantized = self.graph.quantized
        declared = (name for step in self.steps for name in needed(step.rule.needs, step.node))
        names = (part for n in declared for part in (quantized[n].reads if n in quantized else (n,)))
        return tuple(dict.fromkeys(name for name in names if not self.graph.is_constant(name)))

    @property
    def weights(self) -> list[np.ndarray[Any, Any]]:
        """The model's large weights that steps read, for executors that read them in every pass."""
        names = dict.fromkeys(name for step in self.steps for name in step.node.inputs)
        found = (self.graph.value(name).weight for name in names)
        return [weight.numbers for weight in found if weight is not None]

    @property
    def traceable(self) -> bool:
        """False where a rule only works on real arrays."""
        return all(step.rule.traceable for step in self.steps)


def make_plan(graph: Graph, backward: Pass, seeds: Iterable[str], wrt: Iterable[str]) -> Plan:
    """Find a rule for every node between ``wrt`` and ``seeds``.

    Raises MissingRuleError that names all nodes without one, and TargetError where the seeds do not
    depend on a tensor in ``wrt``, or only through operators that nothing can be propagated through.
    """
    seeds, wrt = tuple(dict.fromkeys(seeds)), tuple(dict.fromkeys(wrt))
    assigned = backward.on(graph, seeds)
    upstream = graph.ancestors(seeds)
    reached: set[str] = set(wrt)
    stopped: list[tuple[Node, str]] = []
    found: list[tuple[Node, Rule | None, frozenset[int]]] = []
    for node in graph.nodes:
        if not upstream.intersection(node.outputs) or not reached.intersection(node.reads):
            continue
        why = registry.stops.get((node.domain, node.op_type))
        if why is not None:
            stopped.append((node, why))
            continue
        rule = registry.find(node.op_type, assigned(node).rule, node.domain, node.opset)
        allowed = range(len(node.inputs)) if rule is None or rule.inputs is None else rule.inputs(node, graph)
        wanted = frozenset(i for i in allowed if i < len(node.inputs) and node.inputs[i] in reached)
        if wanted or rule is None:
            ends = _stopped_outputs(node)
            stopped += [(node, why) for name, why in ends.items() if name in upstream]
            reached.update(name for name in node.outputs if name and name not in ends)
            found.append((node, rule, wanted))
    _check_reached(graph, seeds, wrt, reached, stopped)
    steps = _needed_steps(found, seeds, graph)
    _check_rules(steps, assigned, graph)
    planned = (
        PlannedStep(node, rule, _settings(rule, assigned(node), backward), wanted)
        for node, rule, wanted in steps
        if rule is not None
    )
    return Plan(graph, tuple(planned), seeds, wrt)


def _stopped_outputs(node: Node) -> dict[str, str]:
    """Outputs that nothing can be propagated back from (indices, masks), and why."""
    reasons = registry.stopped_outputs
    found = ((name, reasons.get((node.domain, node.op_type, i))) for i, name in enumerate(node.outputs))
    return {name: why for name, why in found if name and why}


def _settings(rule: Rule, choice: Choice, backward: Pass) -> dict[str, Any]:
    """Defaults, then what the composite's row says, then what the user says."""
    return registry.settings(rule.method, {**choice.settings, **backward.settings})


def _needed_steps(
    found: Sequence[tuple[Node, Rule | None, frozenset[int]]], seeds: Iterable[str], graph: Graph
) -> list[tuple[Node, Rule | None, frozenset[int]]]:
    """Those that something arrives at, last first: a rule may not propagate to every input."""
    alive = set(seeds)
    steps = []
    for node, rule, wanted in reversed(found):
        if alive.intersection(node.outputs):
            alive.update(node.inputs[i] for i in wanted)
            steps.append((node, rule, wanted))
    return steps


def _check_reached(
    graph: Graph,
    seeds: Iterable[str],
    wrt: Iterable[str],
    reached: set[str],
    stopped: Sequence[tuple[Node, str]],
) -> None:
    missed = [name for name in seeds if name not in reached]
    if not missed:
        return
    reasons = "; ".join(f"{node.kind} ({node.name}): {why}" for node, why in stopped[:5])
    raise TargetError(
        f"the target {missed[0]!r} does not depend on {', '.join(map(repr, wrt))} "
        "in a way that can be followed"
        + (f": {reasons}. Choose a target before that operator" if reasons else "; choose another layer")
    )


def _check_rules(
    steps: Sequence[tuple[Node, Rule | None, frozenset[int]]],
    assigned: Callable[[Node], Choice],
    graph: Graph,
) -> None:
    """One error that names all nodes that cannot be stepped through."""
    problems: dict[str, list[str]] = {}
    for node, rule, _ in reversed(steps):
        reason = _missing(node, assigned(node).rule) if rule is None else None
        if rule is not None and rule.refuses is not None:
            refused = rule.refuses(node, graph)
            reason = refused and f"{rule.method!r} does not apply to {node.kind}: {refused}"
        if reason:
            problems.setdefault(reason, []).append(node.name)
    if problems:
        listed = (
            f"{reason} (node{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:3]))}"
            f"{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
            for reason, names in problems.items()
        )
        raise MissingRuleError("; ".join(listed))


def _missing(node: Node, method: str) -> str:
    if any(isinstance(value, Subgraph) for value in node.attributes.values()):
        return f"{node.kind} runs a subgraph of its own, which onnxvis does not look into"
    known = registry.methods_of(node.op_type, node.domain)
    why = registry.refusals.get((node.domain, node.op_type))
    if why is not None and not known:
        return f"no {method!r} rule for {node.kind}: {why}"
    *_, root = registry.lineage(method)
    domain = f", domain={node.domain!r}" if node.domain else ""
    return (
        f"no {method!r} rule for {node.kind} of opset {node.opset}; "
        f"registered for it: {', '.join(known) or 'none'}; "
        f"add one with @onnxvis.rule({node.op_type!r}{domain}, method={root!r})"
    )
