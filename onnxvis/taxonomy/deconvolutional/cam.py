"""Class activation maps: the maps of a late layer, weighted by what they mean to the target."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from onnxvis.engine.forward import Record
from onnxvis.engine.plan import Finish, Pass, Way
from onnxvis.errors import UnsupportedError
from onnxvis.graph.analysis import channel_axes, spatial_axes
from onnxvis.graph.canonical import is_layer
from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.host import HostOps
from onnxvis.ops.primitives import Ops
from onnxvis.target import Aim
from onnxvis.taxonomy.maps import channels_first, find_layer, over_input
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
    maps = channels_first(record[head.maps], head.channel_axis)
    (seed,) = case.aim.ones(record).values()
    weights = head.weights(seed.reshape(len(maps), -1), maps.shape[1])
    values = weighted(HostOps(maps.dtype), weights.astype(maps.dtype), maps)
    return case.outcome(values.astype(np.float32), record, head.maps)


# ---- maps weighted by their gradients ------------------------------------------------------------

# Channels are added up in so many parts (where their number divides).  One sum of thousands that cancel each
# other rounds in the sixth digit, and differently in each runtime.
PARTS = 16
Formula = Callable[[Ops, Any, Any], Any]
FORMULAS: dict[str, Formula] = {}
"""``formula(ops, maps, gradients)``: an N×1×… map of a layer's output and the target's gradient there, both
N×C×….  In the primitives of an executor, so that explanations and exported models share it."""


def _formula(name: str) -> Callable[[Formula], Formula]:
    """Register a formula, and as a method with the setting ``layer``: a layer's or tensor's name; by
    default the last one that is still spatial.
    """

    def register(formula: Formula) -> Formula:
        def explain(case: Case, *, layer: str | None = None) -> Outcome:
            found, axis = find_layer(case, layer)
            finish = Finish((name, axis), partial(_channels_second, formula, axis))
            values, record = case.propagate(Pass("gradient"), found, finish=finish)
            return case.outcome(values.astype(np.float32), record, found)

        explain.__doc__ = formula.__doc__
        explainer(name, DECONVOLUTIONAL, shows="cam")(explain)
        FORMULAS[name] = formula
        return formula

    return register


def _channels_second(formula: Formula, axis: int, ops: Ops, maps: Any, gradients: Any) -> Any:
    """The formula of arrays whose channels are along an axis."""
    order = [0, axis, *(i for i in range(1, len(maps.shape)) if i != axis)]
    return formula(ops, ops.transpose(maps, order), ops.transpose(gradients, order))


@_formula("gradcam")
def gradcam(ops: Ops, maps: Any, gradients: Any) -> Any:
    """Grad-CAM: a layer's maps, each weighted by its mean gradient (Selvaraju et al. 2017)."""
    return weighted(ops, ops.mean(gradients, _spatial(maps)), maps)


@_formula("gradcam++")
def gradcam_plus_plus(ops: Ops, maps: Any, gradients: Any) -> Any:
    """Grad-CAM++: as Grad-CAM, each place counted by second derivatives (Chattopadhyay et al. 2018).

    Equation 19 for the exponential of the target, whose derivatives are powers of the gradient g:
    Σ α·g⁺ with α = g²/(2g² + g³·ΣA).  Only g⁺ enters, as α is 0 wherever g⁺ is.
    """
    g, whole = ops.positive(gradients), ops.sum(maps, _spatial(maps), keepdims=True)
    squared = g * g
    alpha = squared / (squared * 2.0 + squared * g * whole + 1e-6)
    return weighted(ops, ops.sum(alpha * g, _spatial(maps)), maps)


@_formula("xgradcam")
def xgradcam(ops: Ops, maps: Any, gradients: Any) -> Any:
    """XGrad-CAM: a layer's maps, each weighted by its gradient where it is active (Fu et al. 2020)."""
    axes = _spatial(maps)
    whole = ops.sum(maps, axes, keepdims=True) + 1e-7
    return weighted(ops, ops.sum(gradients * maps / whole, axes), maps)


@_formula("hirescam")
def hirescam(ops: Ops, maps: Any, gradients: Any) -> Any:
    """HiResCAM: a layer's maps times their gradients, place by place (Draelos & Carin 2020)."""
    return _over_channels(ops, gradients * maps)


@_formula("layercam")
def layercam(ops: Ops, maps: Any, gradients: Any) -> Any:
    """LayerCAM: a layer's maps times their positive gradients, place by place (Jiang et al. 2021)."""
    return _over_channels(ops, ops.positive(gradients) * maps)


def _spatial(maps: Any) -> tuple[int, ...]:
    return tuple(range(2, len(maps.shape)))


def weighted(ops: Ops, weights: Any, maps: Any) -> Any:
    """The maps added up, each times its weight (N×C): a product of matrices, without maps in between."""
    samples, channels = maps.shape[:2]
    parts = math.gcd(channels, PARTS)
    rows = ops.reshape(maps, (samples * parts, channels // parts, math.prod(maps.shape[2:])))
    sums = ops.matmul(ops.reshape(weights, (samples * parts, 1, channels // parts)), rows)
    return ops.sum(ops.reshape(sums, (samples, parts, *maps.shape[2:])), (1,), keepdims=True)


def _over_channels(ops: Ops, maps: Any) -> Any:
    """The maps added up."""
    samples, channels = maps.shape[:2]
    parts = math.gcd(channels, PARTS)
    sums = ops.sum(ops.reshape(maps, (samples, parts, channels // parts, *maps.shape[2:])), (2,))
    return ops.sum(sums, (1,), keepdims=True)


@explainer("guided_gradcam", DECONVOLUTIONAL, shows="magnitude")
def guided_gradcam(case: Case, *, layer: str | None = None) -> Outcome:
    """Guided Grad-CAM: guided backpropagation, as far as Grad-CAM points there (Selvaraju et al. 2017).

    The product of the two; of Grad-CAM's map what is positive, resized to the input (bilinear, half-pixel
    centres).
    """
    name, axis = find_layer(case, layer)
    finish = Finish(("gradcam", axis), partial(_channels_second, gradcam, axis))
    ways = [Way(Pass("gradient"), (name,), finish), Way(Pass("guided_backprop"), (case.input,))]
    (coarse, fine), record = case.propagate_each(ways)
    under = over_input(case, np.maximum(coarse[:, 0], 0))
    return case.outcome((fine * under).astype(np.float32), record, name)


# ---- maps alone ----------------------------------------------------------------------------------


@explainer("eigencam", DECONVOLUTIONAL, shows="cam")
def eigencam(case: Case, *, layer: str | None = None) -> Outcome:
    """Eigen-CAM: the pattern that a layer's maps share most, whatever the target (Muhammad & Yeasin 2020).

    The maps, each less its mean, projected on their first principal direction; the sign, which the
    decomposition leaves open, is that of the correlation with the mean map.  Where the two do not
    correlate, the largest magnitude is positive.
    """
    name, axis = find_layer(case, layer)
    record = case.engine.run(case.feeds, [name, *case.aim.reads])
    maps = channels_first(record[name], axis).astype(np.float64)
    if not np.isfinite(maps).all():
        raise UnsupportedError(
            f"'eigencam' needs finite numbers, but {name!r} holds infinity or NaN for this input; "
            "choose an earlier layer"
        )
    values = np.stack([_first_component(sample) for sample in maps])[:, None]
    return case.outcome(values.astype(np.float32), record, name)


def _first_component(maps: Array) -> Array:
    """The centred maps (C×…) projected on their first right singular vector: one map."""
    positions = maps.reshape(len(maps), -1).T
    centred = positions - positions.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    component = left[:, 0] * scale[0]
    agreement = component @ centred.mean(axis=1)
    if abs(agreement) <= 1e-7 * scale[0] ** 2:  # no more than float32's rounding
        agreement = component[np.abs(component).argmax()]
    return np.asarray(component * (-1.0 if agreement < 0 else 1.0)).reshape(maps.shape[1:])


# ---- what they look at ---------------------------------------------------------------------------


def _of_classes(aim: Aim) -> str:
    """The tensor of a target that is made of classes; UnsupportedError for another."""
    if len(aim.tensors) > 1:
        raise UnsupportedError(
            f"'cam' explains the classes of one dense layer, not a target in {', '.join(aim.tensors)}; "
            "use 'gradcam', which works with any"
        )
    return aim.tensor


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
