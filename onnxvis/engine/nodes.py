"""Nodes as they stand in a file."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["reads"]


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads; of its subgraphs everything that they name."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (entry.name for entry in graph.output)
            for inner in graph.node:
                yield from reads(inner)
