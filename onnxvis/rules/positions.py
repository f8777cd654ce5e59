"""Where a node stands in the data flow: first or last layer, before or after another node.

A *layer* is a linear operator with constant weights.  The first ones are those that no other layer
precedes on any path from the inputs, the last ones those that none follows on any path to the tensors
where the backward pass starts: in a net that branches at once, several.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from onnxvis.errors import UnknownNameError
from onnxvis.graph.ir import Graph, Node

from .registry import computed, registry

__all__ = ["POSITIONS", "Positions"]

POSITIONS = ("first", "last")


class Positions:
    """Positions in one graph, for a backward pass that starts at the tensors ``seeds`` (all outputs)."""

    def __init__(self, graph: Graph, seeds: Collection[str] = ()) -> None:
        self.graph, self.seeds = graph, tuple(seeds) or graph.outputs
        self._upstream: dict[str, frozenset[str]] = {}
        self._downstream: dict[str, frozenset[str]] = {}

    def holds(self, node: Node, position: str) -> bool:
        """True for the "first" or "last" layers."""
        return node.name in (self.first if position == "first" else self.last)

    @cached_property
    def first(self) -> frozenset[str]:
        """Names of the layers that no other precedes."""
        found: set[str] = set()
        passed: set[str] = set()  # tensors that a layer precedes
        for node in self.graph.nodes:
            layer = self._is_layer(node)
            if passed.isdisjoint(node.reads):
                if not layer:
                    continue
                found.add(node.name)
            passed.update(node.outputs)
        return frozenset(found)

    @cached_property
    def last(self) -> frozenset[str]:
        """Names of the layers before the seeds that no other follows."""
        alive = self.graph.ancestors(self.seeds)
        found: set[str] = set()
        passed: set[str] = set()  # tensors that a layer follows
        for node in reversed(self.graph.nodes):
            if alive.isdisjoint(node.outputs):
                continue
            layer = self._is_layer(node)
            if layer and passed.isdisjoint(node.outputs):
                found.add(node.name)
            if layer or not passed.isdisjoint(node.outputs):
                passed.update(node.reads)
        return frozenset(found)

    def before(self, node: Node, name: str) -> bool:
        """True where what the node computes is used by the node called ``name``, at whatever remove."""
        if name not in self._upstream:
            other = self.node(name)
            self._upstream[name] = frozenset(self.graph.ancestors(other.reads))
        return not self._upstream[name].isdisjoint(node.outputs)

    def after(self, node: Node, name: str) -> bool:
        """True where the node uses what the node called ``name`` computes, at whatever remove."""
        if name not in self._downstream:
            reached = set(filter(None, self.node(name).outputs))
            for later in self.graph.nodes:
                if not reached.isdisjoint(later.reads):
                    reached.update(later.outputs)
            self._downstream[name] = frozenset(reached)
        return not self._downstream[name].isdisjoint(node.reads)

    def node(self, name: str) -> Node:
        """The node of this name, the one that the file's node of this name is part of, or a tensor's."""
        if name in self.graph.producers:
            return self.graph.producers[name]
        for node in self.graph.nodes:
            if name in (node.name, *node.origin):
                return node
        known = [origin for node in self.graph.nodes for origin in (node.origin or (node.name,))]
        raise UnknownNameError("layer", name, known, "`onnxvis info MODEL` lists them.")

    def _is_layer(self, node: Node) -> bool:
        return (node.domain, node.op_type) in registry.linears and computed(node, self.graph) == (0,)
