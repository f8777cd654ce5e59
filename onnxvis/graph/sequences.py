"""Sequences of tensors, taken apart: with constant positions they say no more than Concat, Slice and Gather.

A backward pass carries one array for each tensor; what it would carry for a sequence is never needed
where every element that is read is known beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .ir import Graph, Node, Value

__all__ = ["without_sequences"]

READERS = frozenset({"SequenceAt", "ConcatFromSequence"})


class Part(NamedTuple):
    """An element of a sequence: a tensor, or the range [start, stop) of its ``axis``.

    ``keep``: whether the axis stays; where it does not, the range is one index.
    """

    tensor: str
    axis: int = 0
    start: int | None = None
    stop: int = 0
    keep: bool = True


def without_sequences(graph: Graph) -> Graph:
    """The graph in which tensors that come out of sequences are made from those that went in.

    Shapes must be known (see ``shapes.specialize``).  Sequences whose length or positions
    depend on the data stay as they are.
    """
    if not any(node.op_type in READERS and not node.domain for node in graph.nodes):
        return graph
    sequences: dict[str, list[Part]] = {}
    new: dict[str, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        parts = None if node.domain else _sequence(node, graph, sequences)
        if parts is not None:
            sequences[node.outputs[0]] = parts
        replaced = _read(node, graph, sequences, new) if node.op_type in READERS and not node.domain else None
        nodes += [node] if replaced is None else replaced
    return graph.with_nodes(_in_use(nodes, sequences, graph), new.values())


def _in_use(nodes: list[Node], sequences: Mapping[str, list[Part]], graph: Graph) -> list[Node]:
    """Without the sequences that nobody reads any more."""
    read, kept = {*graph.outputs}, []
    for node in reversed(nodes):
        if node.outputs[0] not in sequences or node.outputs[0] in read:
            read.update(node.reads)
            kept.append(node)
    return kept[::-1]


def _sequence(node: Node, graph: Graph, sequences: Mapping[str, list[Part]]) -> list[Part] | None:
    """The elements of the sequence that a node makes, None where they are not known."""
    match node.op_type:
        case "SequenceConstruct":
            return [Part(name) for name in node.inputs]
        case "SequenceEmpty":
            return []
        case "SplitToSequence":
            return _split(node, graph)
        case "SequenceInsert" | "SequenceErase" if node.inputs[0] in sequences:
            return _edited(node, graph, sequences[node.inputs[0]])
        case "Identity":
            return sequences.get(node.inputs[0])
    return None


def _edited(node: Node, graph: Graph, parts: list[Part]) -> list[Part] | None:
    inserts = node.op_type == "SequenceInsert"
    position, given = _position(node, 2 if inserts else 1, graph)
    if given and position is None:
        return None
    if inserts:
        place = len(parts) if position is None else position
        return [*parts[:place], Part(node.inputs[1]), *parts[place:]]
    place = -1 if position is None else position
    return [part for i, part in enumerate(parts) if i != place % len(parts)]


def _split(node: Node, graph: Graph) -> list[Part] | None:
    shape = graph.value(node.inputs[0]).shape
    axis = int(node.attributes.get("axis", 0))
    length = None if shape is None else shape[axis]
    if shape is None or not isinstance(length, int):
        return None
    axis %= len(shape)
    if len(node.inputs) < 2 or not node.inputs[1]:
        keep = bool(node.attributes.get("keepdims", 1))
        return [Part(node.inputs[0], axis, i, i + 1, keep) for i in range(length)]
    split = graph.constant(node.inputs[1])
    if split is None:
        return None
    if split.ndim:
        ends = [0, *np.cumsum(split).tolist()]
    else:
        ends = [*range(0, length, int(split)), length]
    return [Part(node.inputs[0], axis, start, stop) for start, stop in pairwise(ends)]


def _position(node: Node, index: int, graph: Graph) -> tuple[int | None, bool]:
    """A position that a node is given, where that is a constant; whether it is given one at all."""
    if len(node.inputs) <= index or not node.inputs[index]:
        return None, False
    content = graph.constant(node.inputs[index])
    return (None if content is None else int(content.ravel()[0])), True


# ---- what reads a sequence -----------------------------------------------------------------------


def _read(
    node: Node, graph: Graph, sequences: Mapping[str, list[Part]], new: dict[str, Value]
) -> list[Node] | None:
    """Nodes that compute the same without the sequence."""
    parts = sequences.get(node.inputs[0])
    if parts is None:
        return None
    if node.op_type == "SequenceAt":
        position, _ = _position(node, 1, graph)
        if position is None or not -len(parts) <= position < len(parts):
            return None
        return [_taken(parts[position], node, node.outputs[0], new)]
    return _joined(node, parts, graph, new)


def _joined(node: Node, parts: list[Part], graph: Graph, new: dict[str, Value]) -> list[Node] | None:
    """Concat of the elements, with an axis of its own for each where ``new_axis`` asks for one."""
    stacked = bool(node.attributes.get("new_axis", 0))
    if any(graph.value(part.tensor).shape is None for part in parts):
        return None
    nodes, names = [], []
    for i, part in enumerate(parts):
        name = part.tensor
        if part.start is not None:
            name = f"{node.outputs[0]} part {i}"
            nodes.append(_taken(part, node, name, new))
            new[name] = _value(name, part, graph)
        if stacked:
            shape = new[name].shape if name in new else graph.value(name).shape
            assert shape is not None
            axis = int(node.attributes["axis"]) % (len(shape) + 1)
            source, name = name, f"{node.outputs[0]} layer {i}"
            new[name] = Value(name, graph.value(part.tensor).dtype, (*shape[:axis], 1, *shape[axis:]))
            nodes.append(_unsqueezed(node, source, axis, name, new))
        names.append(name)
    joined = replace(
        node, op_type="Concat", inputs=tuple(names), attributes={"axis": node.attributes["axis"]}
    )
    return [*nodes, joined]


def _taken(part: Part, node: Node, output: str, new: dict[str, Value]) -> Node:
    """One element by itself."""
    name = node.name if output == node.outputs[0] else output
    if part.start is None:
        return _node(node, name, "Identity", (part.tensor,), output)
    if not part.keep:
        index = _number(f"{output} index", part.start, new)
        return _node(node, name, "Gather", (part.tensor, index), output, {"axis": part.axis})
    numbers = (("start", part.start), ("stop", part.stop), ("axis", part.axis))
    ends = tuple(_number(f"{output} {role}", [number], new) for role, number in numbers)
    return _node(node, name, "Slice", (part.tensor, *ends), output)


def _unsqueezed(node: Node, source: str, axis: int, output: str, new: dict[str, Value]) -> Node:
    if node.opset < 13:  # where axes became an input
        return _node(node, output, "Unsqueeze", (source,), output, {"axes": [axis]})
    return _node(node, output, "Unsqueeze", (source, _number(f"{output} axes", [axis], new)), output)


def _value(name: str, part: Part, graph: Graph) -> Value:
    """A part of a tensor, as a tensor."""
    whole = graph.value(part.tensor)
    assert whole.shape is not None and part.start is not None
    cut = (part.stop - part.start,) if part.keep else ()
    return Value(name, whole.dtype, (*whole.shape[: part.axis], *cut, *whole.shape[part.axis + 1 :]))


def _number(name: str, content: Any, new: dict[str, Value]) -> str:
    new[name] = Value.of(name, np.array(content, np.int64))
    return name


def _node(
    origin: Node,
    name: str,
    op_type: str,
    inputs: tuple[str, ...],
    output: str,
    attributes: Mapping[str, Any] | None = None,
) -> Node:
    """A node in place of another, at its version of the standard."""
    return Node(name, op_type, inputs, (output,), attributes or {}, "", origin.opset, origin.origin)
