"""What each method computes, on traced values: the counterparts of the explainers in ``taxonomy``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from onnxvis.engine.plan import Pass
from onnxvis.errors import TargetError, UnsupportedError
from onnxvis.graph.analysis import channel_axes, last_spatial
from onnxvis.ops.trace import Traced
from onnxvis.rules import Composite
from onnxvis.rules.composites import composite as find_composite
from onnxvis.taxonomy.deconvolutional.cam import FORMULAS, Formula, Head, weighted
from onnxvis.taxonomy.deconvolutional.relevance import relevance_pass
from onnxvis.taxonomy.maps import extent_under

from .draft import Draft
from .heatmaps import resized

__all__ = ["exportable", "recipe"]

Recipe = Callable[..., Traced]
_RECIPES: dict[str, Recipe] = {}
_REFUSED = {"eigencam": "it decomposes a matrix, for which ONNX has no operator"}


def _recipe(*names: str) -> Callable[[Callable[..., Traced]], Callable[..., Traced]]:
    def register(function: Recipe) -> Recipe:
        _RECIPES.update(dict.fromkeys(names, function))
        return function

    return register


def exportable() -> list[str]:
    """The methods that can be part of a model."""
    return [*_RECIPES]


def recipe(method: str) -> Recipe:
    """``function(draft, **settings)`` that traces a method's values; UnsupportedError where there is none."""
    if method not in _RECIPES:
        why = _REFUSED.get(method, "it runs the model many times over, or searches, which is no single graph")
        raise UnsupportedError(f"{method!r} cannot be exported: {why}; what can: {', '.join(_RECIPES)}")
    return _RECIPES[method]


# ---- backpropagation -----------------------------------------------------------------------------


@_recipe("gradient")
def gradient(draft: Draft) -> Traced:
    return draft.propagate(Pass("gradient"))


@_recipe("input_x_gradient")
def input_x_gradient(draft: Draft) -> Traced:
    return draft.read(draft.case.input) * draft.propagate(Pass("gradient"))


@_recipe("deconvnet")
def deconvnet(draft: Draft) -> Traced:
    return draft.propagate(Pass("deconvnet"))


@_recipe("guided_backprop")
def guided_backprop(draft: Draft) -> Traced:
    return draft.propagate(Pass("guided_backprop"))


# ---- relevance -----------------------------------------------------------------------------------


@_recipe("lrp")
def lrp(
    draft: Draft, *, composite: str | Composite = "epsilon_plus", seed: str = "logit", **settings: Any
) -> Traced:
    backward = relevance_pass(draft.case, find_composite(composite), **settings)
    return draft.propagate(backward, seed=seed)


@_recipe("excitation_backprop")
def excitation_backprop(draft: Draft, *, seed: str = "one") -> Traced:
    backward = relevance_pass(draft.case, find_composite("excitation_backprop"))
    return draft.propagate(backward, seed=seed)


# ---- class activation maps -----------------------------------------------------------------------


@_recipe("cam")
def cam(draft: Draft) -> Traced:
    """The dense layer's weights are what the gradient sums to over each map."""
    head = Head.of(draft.graph(), draft.case.aim.tensor)
    if head.gates:
        raise UnsupportedError(
            f"'cam' cannot be exported for this model: whether {head.gates[-1]!r} cuts pooled maps off "
            "depends on the input; use 'gradcam'"
        )
    maps, gradients = _maps_and_gradients(draft, head.maps)
    weights = draft.ops.sum(gradients, range(2, len(maps.shape)))
    return cast(Traced, weighted(draft.ops, weights, maps))


def _from_gradients(formula: Formula) -> Recipe:
    def trace(draft: Draft, *, layer: str | None = None) -> Traced:
        return cast(Traced, formula(draft.ops, *_maps_and_gradients(draft, layer)))

    return trace


_RECIPES.update({name: _from_gradients(formula) for name, formula in FORMULAS.items()})


@_recipe("guided_gradcam")
def guided_gradcam(draft: Draft, *, layer: str | None = None) -> Traced:
    case, ops = draft.case, draft.ops
    coarse = FORMULAS["gradcam"](ops, *_maps_and_gradients(draft, layer))
    sides = extent_under(case, coarse.shape[2:])
    flat = ops.reshape(ops.positive(coarse), (draft.samples, *coarse.shape[2:]))
    over = tuple(1 if axis == case.channel_axis else n for axis, n in enumerate(draft.shape))
    return draft.propagate(Pass("guided_backprop")) * ops.reshape(resized(ops, flat, sides), over)


def _maps_and_gradients(draft: Draft, layer: str | None) -> tuple[Traced, Traced]:
    """A layer's output and the target's gradient there, both N×C×…."""
    name = draft.case.engine.tensor(layer) if layer else last_spatial(draft.graph(), *draft.case.aim.tensors)
    graph = draft.graph(name)
    axis, rank = channel_axes(graph)[name], len(graph.shape(name))
    if rank < 3:
        raise TargetError(f"the layer {name!r} has no spatial axes (shape {graph.shape(name)})")
    order = [0, axis, *(i for i in range(1, rank) if i != axis)]
    found = draft.read(name), draft.propagate(Pass("gradient"), wrt=name)
    maps, gradients = (draft.ops.transpose(array, order) for array in found)
    return maps, gradients
