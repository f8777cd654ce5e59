"""What the input of a layer can hold at least and at most: the rule zbox shares relevance by it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxvis.errors import UsageError
from onnxvis.graph.answers import remembered
from onnxvis.graph.ir import Graph
from onnxvis.rules import Composite, registry
from onnxvis.taxonomy.registry import Array, Case

__all__ = ["layer_bounds"]

NAMES = ("low", "high")


def layer_bounds(case: Case, composite: Composite, low: Any, high: Any) -> Mapping[str, Mapping[str, Array]]:
    """The settings low and high of the rule zbox: {tensor: bound} for the input of every layer that has it.

    Where a layer does not read the model's input itself, the bounds are what the model makes of them on
    the way there.
    """
    given_bounds = low is not None or high is not None
    tensors = _boxed(case.graph, composite, case.aim.tensors, given_bounds, registry.version)
    fallback = case.bounds() or (None, None)
    given = [
        default if bound is None else bound for bound, default in zip((low, high), fallback, strict=True)
    ]
    if not tensors or any(bound is None for bound in given):
        return {}  # the rule says what is missing
    lowest, highest = (_shaped(case, name, bound) for name, bound in zip(NAMES, given, strict=True))
    if not (lowest <= highest).all():
        raise UsageError("low is above high: they are the lowest and highest numbers that the input can hold")
    slack = 1e-4 * float(np.max(highest - lowest))
    if not ((case.x >= lowest - slack) & (case.x <= highest + slack)).all():
        warnings.warn(
            f"the input goes from {case.x.min():.4g} to {case.x.max():.4g}, beyond low and high: "
            "the rule zbox expects it between them",
            stacklevel=2,
        )
    return _at(case, tensors, lowest, highest)


@remembered
def _boxed(
    graph: Graph, composite: Composite, seeds: tuple[str, ...], given: bool, version: int
) -> tuple[str, ...]:
    """What the layers with the rule zbox read; rows with bounds of their own count where others are given.

    ``version``: of the rules, which say what a layer is.
    """
    if "zbox" not in composite.methods:
        return ()
    assigned = composite.on(graph, seeds)
    layers = [node for node in graph.nodes if (node.domain, node.op_type) in registry.linears]
    boxed = [(node.inputs[0], assigned(node)) for node in layers]
    names = (
        name
        for name, choice in boxed
        if choice.rule == "zbox" and (given or not set(NAMES) <= set(choice.settings))
    )
    return tuple(dict.fromkeys(names))


def _shaped(case: Case, name: str, given: Any) -> Array:
    """A bound with as many axes as the input."""
    try:
        bound = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is a number, one a channel or an array, not {given!r}") from None
    rank = case.x.ndim
    if bound.ndim == 1:
        shape = [1] * rank
        shape[case.channel_axis] = bound.size
        bound = bound.reshape(shape)
    bound = bound.reshape((1,) * (rank - bound.ndim) + bound.shape)
    try:
        fits = np.broadcast_shapes(bound.shape, case.x.shape) == case.x.shape
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            f"{name} has shape {np.shape(given)}, which does not fit the input's {case.x.shape}: "
            "give a number, one a channel, or an array of that shape"
        )
    return bound


def _at(case: Case, tensors: Sequence[str], lowest: Array, highest: Array) -> dict[str, dict[str, Array]]:
    """Bounds at tensors of the model, from those at its input."""
    found = {case.input: (lowest, highest)}
    inner = [name for name in tensors if name != case.input]
    if inner:
        runs = [_run(case, bound, inner) for bound in (lowest, highest)]
        for name in inner:
            ends = [run[name] for run in runs]
            found[name] = (np.minimum(*ends), np.maximum(*ends))
    return {key: {name: _once(found[name][i]) for name in tensors} for i, key in enumerate(NAMES)}


def _run(case: Case, bound: Array, names: list[str]) -> Mapping[str, Array]:
    """Tensors of the model for an input that is the bound everywhere."""
    x = np.broadcast_to(bound, case.x.shape).astype(case.x.dtype)
    return case.engine.run({**case.feeds, case.input: x}, names)


def _once(bound: Array) -> Array:
    """One sample where all are the same: it is compiled in once."""
    return bound[:1] if bound.ndim and (bound == bound[:1]).all() else bound
