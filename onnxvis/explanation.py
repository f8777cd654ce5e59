"""What comes back: an explanation as numbers, as a heat map, as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import images
from .errors import UsageError
from .graph.analysis import spatial_axes
from .target import Wanted, describe, selected

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Explanation", "Reconstruction"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Explanation:
    """Why the net answered as it did.

    ``values``: float32, the shape of the explained input (CAM: N×1×h×w of the layer), unscaled.
    ``score``: the target's value ⟨seed, tensor⟩, one a sample.  ``target``: with the units that were
    chosen; given to ``explain`` again, it makes the same explanation.
    ``method``, ``settings``: how it was made.  ``labels``: names of the target's units, where known.
    """

    values: Array
    target: Wanted
    score: Array
    method: str
    settings: Mapping[str, Any]
    shows: str
    input_shape: tuple[int, ...]
    channel_axis: int
    layer: str | None = None
    pictures: Sequence[images.Prepared] = ()
    inputs: Array | None = field(default=None, repr=False)
    preprocess: images.Preprocess | None = field(default=None, repr=False)
    labels: Sequence[str] = field(default=(), repr=False)

    def sample(self, index: int) -> Explanation:
        """The explanation of one sample of several (0 is the first), as of a batch of one."""
        index = range(len(self.values))[index]
        part = slice(index, index + 1)
        return replace(
            self,
            values=self.values[part].copy(),  # a view would keep the whole batch in memory
            target=selected(self.target, [index]),
            score=self.score[part].copy(),
            input_shape=(1, *self.input_shape[1:]),
            pictures=self.pictures[part],
            inputs=None if self.inputs is None else self.inputs[part].copy(),
        )

    def heatmap(self) -> Array:
        """N×H×W at the input's size, for showing.

        CAM: relu, then (c − min)/(max + 1e-7), then bilinear (half-pixel centres) to the input's size.
        Gradients: the largest magnitude among the channels; relevance: the sum over them, signed;
        occlusion: the loss.
        """
        if self.shows == "cam":
            return self._cam_heatmap()
        if self.shows == "magnitude":
            return np.asarray(np.abs(self.values).max(axis=self.channel_axis))
        if self.shows == "mean":
            return np.asarray(self.values.mean(axis=self.channel_axis))
        return np.asarray(self.values.sum(axis=self.channel_axis))

    def _cam_heatmap(self) -> Array:
        maps = np.maximum(self.values[:, 0], 0)
        flat = maps.reshape(len(maps), -1)
        low, high = (f(axis=1).reshape(-1, *(1,) * (maps.ndim - 1)) for f in (flat.min, flat.max))
        maps = (maps - low) / (high - low + 1e-7)
        spatial = [self.input_shape[axis] for axis in spatial_axes(len(self.input_shape), self.channel_axis)]
        if len(spatial) == 1:
            return images.resize_map(maps[:, None], (1, spatial[0]))[:, 0]
        if len(spatial) != 2:
            raise UsageError(f"a map over {len(spatial)} axes cannot be drawn; use .values")
        return images.resize_map(maps, (spatial[0], spatial[1]))

    @property
    def signed(self) -> bool:
        """Whether negative values mean something of their own."""
        return self.shows in ("sum", "mean") and bool((self.values < 0).any())

    def picture(
        self,
        index: int = 0,
        alpha: float | None = None,
        colormap: str | None = None,
        fade: float | None = None,
    ) -> Image.Image:
        """One sample as a picture: the heat map over the photo as the user gave it, or over the input.

        ``alpha``, ``fade``: as in ``onnxvis.images.overlay``; by default coarse maps tint the photo, and
        maps of single pixels stand out against a faded one.
        """
        from PIL import Image

        heat = self.heatmap()[index]
        if heat.ndim == 1:
            heat = np.repeat(heat[None], max(1, len(heat) // 8), axis=0)
        if heat.ndim != 2:
            raise UsageError(f"a map over {heat.ndim} axes cannot be drawn; use .values")
        coarse = self.shows in ("cam", "mean")
        alpha = (0.75 if coarse else 1.0) if alpha is None else alpha
        fade = (0.0 if coarse else 0.7) if fade is None else fade
        if self.pictures:
            prepared = self.pictures[index]
            return images.overlay(
                prepared.photo, heat, alpha, colormap, self.signed, box=prepared.box, fade=fade
            )
        background = self._background(index)
        if background is None:
            return Image.fromarray(images.colourize(heat, colormap, self.signed))
        return images.overlay(background, heat, alpha, colormap, self.signed, fade=fade)

    def _background(self, index: int) -> Array | None:
        """The input as a picture, where it looks like one."""
        if self.inputs is None or self.inputs.ndim != 4 or self.inputs.shape[self.channel_axis] not in (1, 3):
            return None
        sample = np.moveaxis(self.inputs[index], self.channel_axis - 1, -1).astype(np.float64)
        low, high = sample.min(), sample.max()
        pixels = ((sample - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels

    def unit_name(self, index: int = 0) -> str:
        """The target's unit, by name where the names are known ("unit 3" where not)."""
        return describe(self.target, index, self.labels)

    def caption(self, index: int = 0) -> str:
        """The unit and its score."""
        return f"{self.unit_name(index)} ({self.score[index]:.4g})"

    def photo(self, index: int = 0) -> Image.Image | None:
        """The picture that was explained, as the user gave it or as the net got it; None if it was none."""
        from PIL import Image

        if self.pictures:
            return self.pictures[index].photo
        background = self._background(index)
        return None if background is None else Image.fromarray(background)

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write a picture (several samples: a grid); OutputError where that is not possible."""
        if len(self.values) == 1:
            return images.save_image(self.picture(0, **options), path)
        cells = [[self.picture(i, **options)] for i in range(len(self.values))]
        captions = [[self.caption(i)] for i in range(len(self.values))]
        return images.save_image(images.labelled_grid(cells, [self.method], [], captions=captions), path)

    def plot(self, index: int = 0, axes: Any = None) -> Any:
        """Draw one sample with matplotlib (extra ``plot``); returns the axes."""
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError:
            raise UsageError(
                "plot() draws with matplotlib; run: pip install 'onnxvis[plot]', or use save()"
            ) from None
        axes = plt.gca() if axes is None else axes
        axes.imshow(self.picture(index))
        axes.set_title(f"{self.method}: {self.caption(index)}")
        axes.set_axis_off()
        return axes


@dataclass(frozen=True)
class Reconstruction:
    """An input that was found: ``values`` as the net takes them, ``loss`` step by step."""

    values: Array
    loss: Sequence[float]
    method: str
    target: Wanted
    settings: Mapping[str, Any]
    preprocess: images.Preprocess | None = field(default=None, repr=False)

    def image(self, index: int = 0) -> Image.Image:
        """The input as a picture."""
        from PIL import Image

        if self.preprocess is None:
            raise UsageError("this input is not a picture; use .values")
        return Image.fromarray(self.preprocess.invert(self.values[index : index + 1]))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the first picture; OutputError where that is not possible."""
        return images.save_image(self.image(), path)
