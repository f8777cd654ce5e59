"""Which of a model's inputs are pictures, and what they can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph.analysis import channel_axes, spatial_axes
from .graph.ir import Graph
from .images import Preprocess
from .inputs import Batch, blank
from .taxonomy.input_reconstruction.descent import Canvas

__all__ = ["Bounds", "Pictures"]

Array = np.ndarray[Any, Any]
Bounds = tuple[Array, Array]


@dataclass(frozen=True)
class Pictures:
    """The inputs of a file's ``graph`` as pictures that were prepared so."""

    graph: Graph
    preprocess: Preprocess

    def channel_axis(self, name: str) -> int:
        """The axis of an input's channels."""
        return channel_axes(self.graph).get(name, 1)

    def settings(self, name: str) -> Preprocess | None:
        """How pictures are prepared for an input; None where it takes none."""
        spec = self.graph.value(name).spec
        if spec.shape is None or len(spec.shape) != 4:
            return None
        channels = spec.shape[channel_axes(self.graph)[name]]
        return self.preprocess if channels in (self.preprocess.channels, None) else None

    def bounds(self, array: Array, name: str) -> Bounds | None:
        """Black and white as the net takes them, in shapes that broadcast; None where it takes no picture."""
        axis = self.channel_axis(name)
        low, high = (np.asarray(bound, np.float64) for bound in self.preprocess.bounds())
        if self.settings(name) is None or array.shape[axis] % low.size:
            return None
        shape = [1] * array.ndim
        shape[axis] = low.size
        return low.reshape(shape), high.reshape(shape)

    def canvas(self, array: Array, name: str) -> Canvas:
        """What a picture that is looked for may be, like this array."""
        low, high = self.bounds(array, name) or (np.full([1] * array.ndim, bound) for bound in (-1.0, 1.0))
        return Canvas(array.shape, array.dtype, low, high, spatial_axes(array.ndim, self.channel_axis(name)))

    def blank(self, size: tuple[int, int] | None) -> Batch:
        """Inputs of zeros; ``size``: (height, width) where the model leaves it open."""
        return blank(self.graph.input_specs, channel_axes(self.graph), size or self.preprocess.size)
