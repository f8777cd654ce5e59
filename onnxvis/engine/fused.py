"""A convolution, what is added to it, and a rectifier as one operator of onnxruntime's.

On a CPU onnxruntime does so by itself, on a GPU it no longer does; cuDNN has other ways to compute them
as one, Winograd's among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnx
from onnx import helper, shape_inference

from .nodes import reads

__all__ = ["fuse"]

DOMAIN = "com.microsoft"


class _Pattern(NamedTuple):
    """Where nodes stand: a convolution, the addition behind it (None without one), with what is added."""

    convolution: int
    addition: int | None = None
    added: str = ""


def fuse(model: onnx.ModelProto) -> bool:
    """Make a FusedConv of Conv, Relu and of Conv, Add, Relu where nobody else reads what is between.

    Returns whether there was any.  What is added must be known to have the convolution's shape: onnxruntime
    reads so many numbers.
    """
    nodes = [*model.graph.node]
    found = _found(nodes, Counter(entry.name for entry in model.graph.output), _shapes(model))
    gone = {place for pattern in found.values() for place in pattern[:2]}
    kept = [
        _written(nodes[found[place].convolution], found[place].added, node.output[0])
        if place in found
        else node
        for place, node in enumerate(nodes)
        if place not in gone
    ]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    if found and not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return bool(found)


def _found(
    nodes: Sequence[onnx.NodeProto], readers: Counter[str], shapes: Mapping[str, tuple[Any, ...]]
) -> Mapping[int, _Pattern]:
    """By the rectifier's place; ``readers``: how often each tensor is an output of the graph."""
    makers = {name: place for place, node in enumerate(nodes) for name in node.output}
    readers.update(name for node in nodes for name in reads(node))

    def made_for_one(name: str, kind: str) -> int | None:
        """The node of this kind that makes a tensor, if that has one reader."""
        place = makers.get(name) if readers[name] == 1 else None
        return place if place is not None and _is(nodes[place], kind) else None

    found = {}
    for place, node in enumerate(nodes):
        if not _is(node, "Relu"):
            continue
        addition = made_for_one(node.input[0], "Add")
        if addition is None:
            summands = [(node.input[0], "")]
        else:
            one, other = nodes[addition].input
            same = one in shapes and shapes[one] == shapes.get(other)
            summands = [(one, other), (other, one)] if same else []
        patterns = [
            _Pattern(convolution, addition, added)
            for name, added in summands
            if (convolution := made_for_one(name, "Conv")) is not None and len(nodes[convolution].input) > 2
        ]
        if patterns:  # of two convolutions the later, which stands behind the other
            found[place] = max(patterns, key=lambda pattern: pattern.convolution)
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[Any, ...]]:
    """Lengths of tensors, by number or name, where all of a tensor's are known."""
    graph = shape_inference.infer_shapes(model).graph
    found = {}
    for entry in (*graph.value_info, *graph.input, *graph.output):
        lengths = [n.dim_value or n.dim_param for n in entry.type.tensor_type.shape.dim]
        if lengths and all(lengths):
            found[entry.name] = tuple(lengths)
    return found


def _is(node: onnx.NodeProto, kind: str) -> bool:
    return bool(node.op_type == kind and not node.domain)


def _written(convolution: onnx.NodeProto, added: str, output: str) -> onnx.NodeProto:
    inputs = [*convolution.input, added] if added else [*convolution.input]
    node = helper.make_node("FusedConv", inputs, [output], domain=DOMAIN, activation="Relu")
    node.attribute.extend(convolution.attribute)
    return node
