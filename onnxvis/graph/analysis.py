"""What can be read off a graph: signs, layout, and which layer holds the scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from onnxvis.errors import TargetError

from .ir import Graph, Node

__all__ = ["channel_axes", "last_spatial", "logits", "nonnegative", "spatial_axes"]

Found = TypeVar("Found")


def _once(function: Callable[[Graph], Found]) -> Callable[[Graph], Found]:
    """A function of a graph whose result is kept as long as the graph."""
    kept: WeakKeyDictionary[Graph, Found] = WeakKeyDictionary()

    @wraps(function)
    def remembered(graph: Graph) -> Found:
        if graph not in kept:
            kept[graph] = function(graph)
        return kept[graph]

    return remembered


# ---- signs ---------------------------------------------------------------------------------------

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Sqrt", "Softplus"})
_KEEPS_SIGN = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax",
     "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Transpose", "Concat",
     "Split", "Slice", "Expand", "Add", "Sum", "Mul", "LRN"}
)  # fmt: skip


def nonnegative(graph: Graph) -> set[str]:
    """Tensors of which no element is negative, whatever the input."""
    found: set[str] = set()

    def known(name: str) -> bool:
        if name in found:
            return True
        content = graph.constant(name)
        return content is not None and content.dtype.kind in "biuf" and bool((content >= 0).all())

    for node in graph.nodes:
        if node.domain:
            continue
        keeps = node.op_type in _KEEPS_SIGN and all(map(known, _numbers(node)))
        if node.op_type in _NEVER_NEGATIVE or keeps or (node.op_type == "Clip" and _clips_below(node, graph)):
            found.update(filter(None, node.outputs))
    return found


def _numbers(node: Node) -> tuple[str, ...]:
    """The inputs whose numbers end up in the output (not shapes or axes)."""
    every = node.op_type in ("Concat", "Add", "Sum", "Mul")
    return tuple(filter(None, node.inputs)) if every else node.inputs[:1]


def _clips_below(node: Node, graph: Graph) -> bool:
    low = node.attributes.get("min")
    if low is None and len(node.inputs) > 1 and node.inputs[1]:
        low = graph.constant(node.inputs[1])
    return low is not None and float(np.ravel(low)[0]) >= 0


# ---- layout --------------------------------------------------------------------------------------

_CHANNEL_FIRST = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool",
     "GlobalAveragePool", "GlobalMaxPool", "LRN", "ConvInteger", "QLinearConv"}
)  # fmt: skip


@_once
def channel_axes(graph: Graph) -> Mapping[str, int]:
    """For every tensor of known rank the axis that holds its channels (units).

    Convolutions have theirs at axis 1; Transposes move it (so NHWC graphs come out right); matrix
    products have it last.  Where nothing tells: the last of two axes, else axis 1.
    """
    known = known_channel_axes(graph)
    ranks = ((name, len(value.shape)) for name, value in graph.values.items() if value.shape)
    return {name: known.get(name, min(1, rank - 1)) for name, rank in ranks}


@_once
def known_channel_axes(graph: Graph) -> Mapping[str, int]:
    """The channel axis of every tensor of which the operators before it tell."""
    axes: dict[str, int] = {}
    for name in graph.inputs:
        shape = graph.value(name).shape
        if shape:
            axes[name] = _input_axis(name, len(shape), graph)
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            shape = graph.value(name).shape
            axis = _channel_axis(node, len(shape), graph, axes) if shape else None
            if axis is not None:
                axes[name] = axis
    return axes


def _channel_axis(node: Node, rank: int, graph: Graph, axes: Mapping[str, int]) -> int | None:
    if node.op_type in _CHANNEL_FIRST:
        return min(1, rank - 1)
    if node.op_type in ("Gemm", "MatMul"):
        return rank - 1
    sources = [name for name in node.inputs if name in axes and len(graph.value(name).shape or ()) == rank]
    if not sources or node.op_type == "Reshape":
        return None
    source = axes[sources[0]]
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm") or [*range(rank)][::-1]
        return int(perm.index(source))
    return source


def _input_axis(name: str, rank: int, graph: Graph) -> int:
    """Axis 1, unless the first thing that happens to the input is a Transpose that brings another there."""
    default = min(1, rank - 1)
    seen = name
    while len(readers := graph.consumers.get(seen, ())) == 1:
        node = readers[0]
        if node.op_type == "Transpose":
            return int((node.attributes.get("perm") or [*range(rank)][::-1])[default])
        if node.op_type not in ("Add", "Sub", "Mul", "Div", "Pad", "Cast", "Identity"):
            break
        seen = node.outputs[0]
    shape = graph.value(name).shape or ()
    if rank == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        return 3  # what a Reshape follows, say: only pictures have 1, 3 or 4 of something at the end
    return default


def spatial_axes(rank: int, channels: int) -> tuple[int, ...]:
    """The axes that are neither samples (0) nor channels."""
    return tuple(axis for axis in range(1, rank) if axis != channels)


# ---- targets -------------------------------------------------------------------------------------

_LINKS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
_CARRIERS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout"})


def logits(graph: Graph, output: str | None = None) -> str:
    """The tensor that holds the scores: the output, or what comes before its softmax or sigmoid.

    ``output`` None: the first floating output; where there is none (labels and maps only), what a
    softmax reads.  Raises TargetError where there is nothing like scores.
    """
    if output is None:
        output = next((name for name in graph.outputs if _floating(graph, name)), None)
    if output is None:
        last = next((node for node in reversed(graph.nodes) if node.op_type in _LINKS), None)
        if last is None:
            raise TargetError("no output of this model holds floating point scores; name a layer as target")
        return last.inputs[0]
    name = output
    while (node := graph.producers.get(name)) is not None:
        if node.op_type in _LINKS and not node.domain:
            return node.inputs[0]
        if node.op_type not in _CARRIERS or node.domain:
            break
        name = node.inputs[0]
    return output


def _floating(graph: Graph, name: str) -> bool:
    """A tensor of floating numbers (an output of a sequence or map type has no dtype)."""
    value = graph.value(name)
    return value.dtype is not None and value.dtype.kind == "f"


def last_spatial(graph: Graph, target: str) -> str:
    """The last tensor before ``target`` that still has more than one position: what CAMs look at."""
    upstream = graph.ancestors([target])
    axes = known_channel_axes(graph)
    for node in reversed(graph.nodes):
        name = node.outputs[0]
        shape = graph.value(name).shape
        if name == target or name not in upstream or name not in axes or shape is None or len(shape) < 3:
            continue
        positions = math.prod(int(shape[axis] or 1) for axis in spatial_axes(len(shape), axes[name]))
        if positions > 1 and _floating(graph, name):
            return name
    raise TargetError(
        f"no layer before {target!r} has more than one position; CAM methods need one: name it with layer="
    )
