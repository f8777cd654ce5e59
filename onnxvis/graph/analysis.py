"""What can be read off a graph: signs, layout, and which layer holds the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from onnxvis.errors import TargetError

from .answers import remembered
from .ir import Graph, Node

__all__ = [
    "channel_axes",
    "last_spatial",
    "limits",
    "logits",
    "nonnegative",
    "spatial_axes",
    "starts_at_zero",
    "unit_axis",
]

# ---- signs ---------------------------------------------------------------------------------------

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Sqrt", "Softplus"})
_KEEPS_SIGN = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax",
     "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Transpose", "Concat",
     "Split", "Slice", "Expand", "Add", "Sum", "Mul", "LRN"}
)  # fmt: skip


@remembered
def nonnegative(graph: Graph) -> AbstractSet[str]:
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
        clipped = node.op_type == "Clip" and _clips_below(node, graph)
        clipped |= node.op_type == "DequantizeLinear" and starts_at_zero(node, graph)
        if node.op_type in _NEVER_NEGATIVE or keeps or clipped:
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


def starts_at_zero(node: Node, graph: Graph) -> bool:
    """True for a QuantizeLinear (DequantizeLinear) whose lowest whole number means 0."""
    bounds, zero = limits(node, graph), node.inputs[2] if len(node.inputs) > 2 else ""
    if bounds is None or (zero and not graph.is_constant(zero)):
        return False
    return bool((np.asarray(graph.constant(zero) if zero else 0) == bounds[0]).all())


def limits(node: Node, graph: Graph) -> tuple[int, int] | None:
    """Lowest and highest whole number on the quantised side of a QuantizeLinear or DequantizeLinear.

    None for those of fewer than 8 bits and for float8: a runtime hands out such tensors in no form that
    NumPy can read.
    """
    whole = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    dtype = (graph.value(zero).dtype if zero else None) or graph.value(whole).dtype
    if dtype is None and not node.attributes.get("output_dtype", 0):
        dtype = np.dtype(np.uint8)  # what QuantizeLinear gives where nothing says otherwise
    if dtype is None or dtype.kind not in "iu":
        return None
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


# ---- layout --------------------------------------------------------------------------------------

_CHANNEL_FIRST = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool",
     "GlobalAveragePool", "GlobalMaxPool", "LRN", "ConvInteger", "QLinearConv"}
)  # fmt: skip


@remembered
def channel_axes(graph: Graph) -> Mapping[str, int]:
    """For every tensor of known rank the axis that holds its channels (units).

    Convolutions have theirs at axis 1; Transposes move it (so NHWC graphs come out right); matrix
    products have it last.  Where nothing tells: the last of two axes, else axis 1.
    """
    known = known_channel_axes(graph)
    ranks = ((name, len(value.shape)) for name, value in graph.values.items() if value.shape)
    return {name: known.get(name, min(1, rank - 1)) for name, rank in ranks}


@remembered
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


_REARRANGES = frozenset({"Transpose", "Reshape", "Concat", "Sigmoid", "Identity", "Cast"})


@remembered
def unit_axis(graph: Graph, name: str) -> int:
    """The axis of a tensor's units: that of its channels, where operators tell of them.

    A softmax tells as well, and so does what Reshape, Concat or Transpose made of a tensor whose units are
    known (detectors join the maps of their heads to boxes × numbers).
    """
    found = _traced_units(graph, name)
    return channel_axes(graph)[name] if found is None else found


def _traced_units(graph: Graph, name: str) -> int | None:
    known = known_channel_axes(graph)
    if name in known:
        return known[name]
    beside = [node for node in (graph.producers.get(name), *graph.consumers.get(name, ())) if node]
    told = (_softmax_axis(node, len(graph.value(name).shape or ())) for node in beside)
    axis = next((axis for axis in told if axis is not None), None)
    node = graph.producers.get(name)
    if axis is not None or node is None or node.op_type not in _REARRANGES:
        return axis
    source = _traced_units(graph, node.inputs[0])
    return None if source is None else _moved_axis(node, source, graph)


def _moved_axis(node: Node, axis: int, graph: Graph) -> int | None:
    """Where an axis of the first input is in the output; None where it is no axis by itself any more."""
    before, after = (graph.value(name).shape or () for name in (node.inputs[0], node.outputs[0]))
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm") or [*range(len(before))][::-1]
        return int(perm.index(axis))
    if node.op_type != "Reshape":
        return axis if len(before) == len(after) else None
    if before[: axis + 1] == after[: axis + 1]:
        return axis
    behind = len(before) - axis
    return len(after) - behind if len(after) > behind and before[axis:] == after[-behind:] else None


def _softmax_axis(node: Node, rank: int) -> int | None:
    """Over which axis a softmax competes; None for another operator, and where it flattens several axes."""
    if node.op_type not in ("Softmax", "LogSoftmax") or node.domain or not rank:
        return None
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)) % rank
    return axis if node.opset >= 13 or axis == rank - 1 else None


def spatial_axes(rank: int, channels: int) -> tuple[int, ...]:
    """The axes that are neither samples (0) nor channels."""
    return tuple(axis for axis in range(1, rank) if axis != channels)


# ---- targets -------------------------------------------------------------------------------------

_LINKS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
_CARRIERS = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout", "QuantizeLinear",
     "DequantizeLinear"}
)  # fmt: skip


@remembered
def logits(graph: Graph, output: str | None = None) -> str:
    """The tensor that holds the scores: the output, or what comes before its softmax or sigmoid.

    ``output`` None: the only floating (or else quantised) output that no other one is computed from, or
    the only such one with a softmax or sigmoid; where there is none (labels and maps only), what a softmax
    reads.  Raises TargetError where there is nothing like scores, or no telling which of several is meant.
    """
    if output is None:
        for kind in (_floating, _quantized):
            suited = [name for name in graph.outputs if kind(graph, name)]
            if suited:
                return _only_logits(graph, suited)
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


def _only_logits(graph: Graph, outputs: Sequence[str]) -> str:
    """The scores among these outputs."""
    if len(outputs) == 1:
        return logits(graph, outputs[0])
    inner = set().union(*(graph.ancestors([name]) - {name} for name in outputs))
    last = {name: logits(graph, name) for name in outputs if name not in inner}
    linked = {scores for name, scores in last.items() if scores != name}
    for found in (set(last.values()), linked):
        if len(found) == 1:
            return found.pop()
    raise TargetError(
        "this model has several outputs, and none is plainly its answer: "
        f"{', '.join(str(graph.value(name).spec) for name in outputs)}. Say what to explain: "
        f"target={{{outputs[0]!r}: unit}} or Target({outputs[0]!r}, index=...); on the command line --target "
        f"'{outputs[0]}:UNIT' or '{outputs[0]}[INDEX]'"
    )


def _quantized(graph: Graph, name: str) -> bool:
    """A tensor of whole numbers that stand for real ones."""
    node = graph.producers.get(name)
    return node is not None and node.op_type == "QuantizeLinear"


def _floating(graph: Graph, name: str) -> bool:
    """A tensor of floating numbers (an output of a sequence or map type has no dtype)."""
    value = graph.value(name)
    return value.dtype is not None and value.dtype.kind == "f"


@remembered
def last_spatial(graph: Graph, *targets: str) -> str:
    """The last tensor that still has more than one position, of those that all ways to ``targets`` lead
    through: what CAMs look at.

    Heads that start from different layers have it before they part.  Where there is none, the last one
    before the targets that has positions.
    """
    upstream = set.intersection(*(graph.ancestors([target]) for target in targets)) - set(targets)
    axes = known_channel_axes(graph)
    found = []
    for node in reversed(graph.nodes):
        name = node.outputs[0]
        shape = graph.value(name).shape
        if name not in upstream or name not in axes or shape is None or len(shape) < 3:
            continue
        positions = math.prod(int(shape[axis] or 1) for axis in spatial_axes(len(shape), axes[name]))
        if positions > 1 and _floating(graph, name):
            found.append(name)
    if not found:
        raise TargetError(
            f"no layer before {', '.join(map(repr, targets))} has more than one position; "
            "CAM methods need one: name it with layer="
        )
    return next((name for name in found if _carries_all(graph, name, targets)), found[0])


def _carries_all(graph: Graph, name: str, targets: Sequence[str]) -> bool:
    """Whether no way leads from the model's inputs to a target but through this tensor."""
    reached = set(graph.inputs)
    for node in graph.nodes:
        if reached.intersection(node.reads):
            reached.update(output for output in node.outputs if output != name)
    return not reached.intersection(targets)
