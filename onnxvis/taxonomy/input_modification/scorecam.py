"""Score-CAM: a layer's maps, weighted by what the target makes of the input under each of them."""

from __future__ import annotations

import numpy as np

from onnxvis.errors import UsageError
from onnxvis.graph.analysis import spatial_axes
from onnxvis.images import resize_map
from onnxvis.taxonomy.input_modification.scores import scores
from onnxvis.taxonomy.maps import channels_first, find_layer
from onnxvis.taxonomy.registry import INPUT_MODIFICATION, Array, Case, Outcome, explainer


@explainer("scorecam", INPUT_MODIFICATION, shows="cam")
def scorecam(case: Case, *, layer: str | None = None, batch: int = 16) -> Outcome:
    """Score-CAM: a layer's maps, weighted by the target's score of the input under each (Wang et al. 2020).

    Each map is resized to the input's size (bilinear, corners aligned), scaled to 0..1 and multiplied with
    the input; a softmax over the scores of the inputs so made gives the weights.  ``layer``: a layer's or
    tensor's name, by default the last one that is still spatial.  ``batch``: inputs run at a time; there
    are as many as the layer has channels.
    """
    name, axis = find_layer(case, layer)
    record = case.engine.run(case.feeds, [name, *case.aim.reads])
    maps = channels_first(record[name], axis).astype(np.float32)
    extent = tuple(case.x.shape[i] for i in spatial_axes(case.x.ndim, case.channel_axis))
    if len(extent) not in (1, 2) or maps.ndim != len(extent) + 2:
        raise UsageError(
            f"scorecam lays maps of one or two spatial axes over the input, but {name!r} has shape "
            f"{record[name].shape} and {case.input!r} {case.x.shape}"
        )

    def under(channel: int) -> Array:
        mask = np.expand_dims(_mask(maps[:, channel], extent), case.channel_axis)
        return np.asarray(case.x * mask).astype(case.x.dtype)

    seeds = case.aim.ones(record)
    found = scores(case, seeds, range(maps.shape[1]), under, batch, "scorecam")
    weights = _softmax(np.stack([score for _, score in found], axis=1).astype(np.float64))
    values = np.einsum("nc,nc...->n...", weights, maps)[:, None]
    return case.outcome(values.astype(np.float32), record, name)


def _mask(maps: Array, extent: tuple[int, ...]) -> Array:
    """N×… maps resized to the input's extent, each in 0..1."""
    size = extent if len(extent) == 2 else (1, *extent)
    resized = resize_map(maps.reshape(len(maps), -1, maps.shape[-1]), (size[0], size[1]), align_corners=True)
    low, high = (f(axis=(1, 2), keepdims=True) for f in (resized.min, resized.max))
    return np.asarray((resized - low) / (high - low + 1e-8)).reshape(len(maps), *extent)


def _softmax(numbers: Array) -> Array:
    """Over the last axis."""
    powers = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
