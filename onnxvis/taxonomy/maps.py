"""The layer that a class activation map is of, and the map laid over the input."""

from __future__ import annotations

import numpy as np

from onnxvis.errors import TargetError, UsageError
from onnxvis.graph.analysis import channel_axes, last_spatial, spatial_axes
from onnxvis.images import resize_map
from onnxvis.taxonomy.registry import Array, Case

__all__ = ["channels_first", "extent_under", "find_layer", "over_input"]


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


def extent_under(case: Case, positions: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial extent of the input that maps of so many ``positions`` are to be laid over.

    Raises UsageError unless both have the same one or two spatial axes.
    """
    extent = tuple(case.x.shape[axis] for axis in spatial_axes(case.x.ndim, case.channel_axis))
    if len(extent) not in (1, 2) or len(positions) != len(extent):
        raise UsageError(
            f"maps of shape {positions} cannot be laid over {case.input!r} of shape {case.x.shape}: both "
            "need the same one or two spatial axes; choose another layer"
        )
    return extent


def over_input(case: Case, maps: Array, align_corners: bool = False) -> Array:
    """N×… maps resized bilinearly to the input's extent, in a shape that broadcasts to the input."""
    extent = extent_under(case, maps.shape[1:])
    size = extent if len(extent) == 2 else (1, *extent)
    rows = maps.reshape(len(maps), -1, maps.shape[-1])
    resized = resize_map(rows, (size[0], size[1]), align_corners).reshape(len(maps), *extent)
    return np.expand_dims(resized, case.channel_axis)
