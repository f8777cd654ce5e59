"""Class activation maps: the maps of a late layer, weighted by what they mean to the target."""

from __future__ import annotations

import numpy as np

from onnxvis.engine.forward import Record
from onnxvis.engine.plan import Pass
from onnxvis.errors import TargetError, UnsupportedError
from onnxvis.graph.analysis import channel_axes, last_spatial, spatial_axes
from onnxvis.graph.canonical import is_layer
from onnxvis.graph.ir import Graph, Node
from onnxvis.target import Aim
from onnxvis.taxonomy.registry import DECONVOLUTIONAL, Array, Case, Outcome, explainer


@explainer("cam", DECONVOLUTIONAL, shows="cam")
def cam(case: Case) -> Outcome:
    """Class activation map: the last maps, weighted as the dense layer weights them (Zhou et al. 2015).

    Needs global average pooling and one dense layer before the target (or nothing after the pooling,
    where the maps are the classes' own).
    """
    head = Head.of(case.graph, _of_classes(case.aim))
    record = case.engine.run(case.feeds, [head.maps, *case.aim.reads, *head.gates])
    head.check(record)
    maps = _channels_first(record[head.maps], head.channel_axis)
    (seed,) = case.aim.ones(record).values()
    weights = head.weights(seed.reshape(len(maps), -1), maps.shape[1])
    values = np.einsum("nc,nc...->n...", weights, maps)[:, None]
    return case.outcome(values.astype(np.float32), record, head.maps)


@explainer("gradcam", DECONVOLUTIONAL, shows="cam")
def gradcam(case: Case, *, layer: str | None = None) -> Outcome:
    """Grad-CAM: a layer's maps, each weighted by its mean gradient (Selvaraju et al. 2017).

    ``layer``: a layer's or tensor's name; default: the last one that is still spatial.
    """
    name, activations, gradients, outcome = _maps_and_gradients(case, layer)
    weights = gradients.mean(axis=tuple(range(2, gradients.ndim)), keepdims=True)
    values = (weights * activations).sum(axis=1, keepdims=True)
    return Outcome(values.astype(np.float32), outcome.score, outcome.aim, name)


def _of_classes(aim: Aim) -> str:
    """The tensor of a target that is made of classes; UnsupportedError for another."""
    if len(aim.tensors) > 1:
        raise UnsupportedError(
            f"'cam' explains the classes of one dense layer, not a target in {', '.join(aim.tensors)}; "
            "use 'gradcam', which works with any"
        )
    return aim.tensor


def _maps_and_gradients(case: Case, layer: str | None) -> tuple[str, Array, Array, Outcome]:
    """A layer's output and the target's gradient there, both N×C×…, and the score."""
    graph = case.graph
    if layer is None:
        name = last_spatial(graph, *case.aim.tensors)
    else:
        name = case.engine.tensor(layer)
        graph = case.engine.specialized(case.feeds, [*case.aim.tensors, name])
    axis, rank = channel_axes(graph)[name], len(graph.shape(name))
    if rank < 3:
        raise TargetError(
            f"the layer {name!r} has no spatial axes (shape {graph.shape(name)}); choose an earlier one"
        )
    gradients, record = case.propagate(Pass("gradient"), wrt=name)
    activations = _channels_first(record[name].astype(gradients.dtype), axis)
    return name, activations, _channels_first(gradients, axis), case.outcome(gradients, record)


def _channels_first(maps: Array, axis: int) -> Array:
    return np.moveaxis(maps, axis, 1)


# ---- the head that CAM needs ---------------------------------------------------------------------

_CARRIERS = frozenset(
    {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast",
     "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
)  # fmt: skip


class Head:
    """Maps, global average pooling, and what weights them.

    ``gates``: tensors that a rectifier between pooling and dense layer reads and writes, in pairs.
    """

    def __init__(self, maps: str, channel_axis: int, weight: Array | None, gates: list[str]) -> None:
        self.maps, self.channel_axis, self.weight, self.gates = maps, channel_axis, weight, gates

    def weights(self, seed: Array, channels: int) -> Array:
        """One weight a channel (samples × channels) for what each unit counts (samples × units)."""
        return seed @ (np.eye(channels) if self.weight is None else self.weight.T)

    def check(self, record: Record) -> None:
        """A rectifier after the pooling is no obstacle as long as it changes nothing."""
        for before, after in zip(self.gates[::2], self.gates[1::2], strict=True):
            if not np.allclose(record[before], record[after], rtol=1e-5, atol=1e-6):
                raise UnsupportedError(
                    f"'cam' needs the pooled maps {before!r} as they are, but {after!r} cuts them off for "
                    "this input; use 'gradcam', which works with any net"
                )

    @classmethod
    def of(cls, graph: Graph, target: str) -> Head:
        """Walk back from the target; UnsupportedError where there is no such head."""
        name, weight, gates = target, None, list[str]()
        while (node := graph.producers.get(name)) is not None:
            biased = node.op_type == "Add" and graph.is_constant(node.inputs[1])
            if node.op_type in _CARRIERS or biased:
                name = node.inputs[0]
            elif node.op_type in ("Relu", "Clip"):
                gates += [node.inputs[0], name]
                name = node.inputs[0]
            elif weight is None and is_layer(node, graph) and _dense(node, graph) is not None:
                weight, name = _dense(node, graph), node.inputs[0]
            elif _averages_everything(node, graph):
                axis = channel_axes(graph)[node.inputs[0]]
                return cls(node.inputs[0], axis, weight, gates)
            else:
                break
        found = f"found {node.kind} ({node.name})" if node is not None else "found the input"
        raise UnsupportedError(
            "'cam' needs global average pooling followed by at most one dense layer before the target "
            f"{target!r}, but walking back from it {found}; use 'gradcam', which works with any net"
        )


def _dense(node: Node, graph: Graph) -> Array | None:
    """The weight (channels × units) of a dense layer or of a 1×1 convolution, else None."""
    weight = graph.constant(node.inputs[1])
    assert weight is not None
    if node.op_type in ("Gemm", "MatMul") and weight.ndim == 2:
        return weight.T if node.attributes.get("transB", 0) else weight
    pointwise = node.op_type == "Conv" and all(n == 1 for n in weight.shape[2:])
    return weight.reshape(weight.shape[:2]).T if pointwise and node.attributes.get("group", 1) == 1 else None


def _averages_everything(node: Node, graph: Graph) -> bool:
    """Global average pooling, however written."""
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type not in ("AveragePool", "ReduceMean"):
        return False
    shape = graph.shape(node.inputs[0])
    spatial = set(spatial_axes(len(shape), channel_axes(graph)[node.inputs[0]]))
    if node.op_type == "AveragePool":
        return tuple(node.attributes["kernel_shape"]) == shape[2:] and not any(
            node.attributes.get("pads", ())
        )
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1:
        axes = graph.constant(node.inputs[1])
    return axes is not None and {int(axis) % len(shape) for axis in np.ravel(axes)} == spatial
