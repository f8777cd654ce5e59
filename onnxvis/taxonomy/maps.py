"""The layer that a class activation map is of."""

from __future__ import annotations

import numpy as np

from onnxvis.errors import TargetError
from onnxvis.graph.analysis import channel_axes, last_spatial
from onnxvis.taxonomy.registry import Array, Case

__all__ = ["channels_first", "find_layer"]


def find_layer(case: Case, layer: str | None) -> tuple[str, int]:
    """The tensor of this name, or by default the last that is still spatial, and its channel axis.

    Raises TargetError for one without positions.
    """
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
    return name, axis


def channels_first(maps: Array, axis: int) -> Array:
    """Maps as N×C×…, whose channels are along ``axis``."""
    return np.moveaxis(maps, axis, 1)
