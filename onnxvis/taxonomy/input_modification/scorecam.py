"""Score-CAM: a layer's maps, weighted by what the target makes of the input under each of them."""

from __future__ import annotations

import numpy as np

from onnxvis.taxonomy.input_modification.scores import scores
from onnxvis.taxonomy.maps import channels_first, find_layer, over_input
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

    def under(channel: int) -> Array:
        mask = over_input(case, maps[:, channel], align_corners=True)
        axes = tuple(range(1, mask.ndim))
        low, high = (f(axis=axes, keepdims=True) for f in (mask.min, mask.max))
        return np.asarray(case.x * ((mask - low) / (high - low + 1e-8))).astype(case.x.dtype)

    seeds = case.aim.ones(record)
    found = scores(case, seeds, range(maps.shape[1]), under, batch, "scorecam")
    weights = _softmax(np.stack([score for _, score in found], axis=1).astype(np.float64))
    values = np.einsum("nc,nc...->n...", weights, maps)[:, None]
    return case.outcome(values.astype(np.float32), record, name)


def _softmax(numbers: Array) -> Array:
    """Over the last axis."""
    powers = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
