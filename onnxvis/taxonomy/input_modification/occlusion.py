"""Occlusion: cover a part of the input and see what the target loses (Zeiler & Fergus 2013)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxvis.engine.engine import Seeds
from onnxvis.errors import UsageError
from onnxvis.graph.analysis import channel_axes, spatial_axes
from onnxvis.taxonomy.input_modification.scores import scores
from onnxvis.taxonomy.registry import INPUT_MODIFICATION, Array, Case, Outcome, explainer

Extent = int | tuple[int, ...]


@explainer("occlusion", INPUT_MODIFICATION, shows="mean")
def occlusion(
    case: Case,
    *,
    size: Extent | list[Extent] | None = None,
    stride: Extent | list[Extent] | None = None,
    fill: float | Sequence[float] | str = 0.0,
    batch: int = 16,
    random_state: int | None = 0,
) -> Outcome:
    """Occlusion: what the target loses when a box covers the input there (Zeiler & Fergus 2013).

    ``size``, ``stride``: of the box along every spatial axis, an int or one int an axis (default: a
    seventh of the input, half of that); a list of them gives several maps, each scaled to a largest
    magnitude of 1, and their mean.  ``fill``: a number or one a channel, as the net takes them;
    "mean": each channel's mean in this input; "random": seeded noise within each channel's range, new
    for every position (Zhou et al. 2014).  ``batch``: covered inputs run at a time.  Values: Σ loss ·
    box / Σ box, in the input's shape.
    """
    record = case.engine.run(case.feeds, case.aim.reads)
    seeds, score = case.aim.ones(record), case.aim.score(record)
    layout = _Layout.of(case)
    boxes = _boxes(size, stride, layout)
    fills = _Fill(fill, layout, random_state)
    maps = [_map(case, seeds, score, box, layout, fills, batch) for box in boxes]
    if len(maps) > 1:
        largest = [np.abs(m).reshape(len(m), -1).max(axis=1) for m in maps]
        maps = [
            m / np.maximum(top, 1e-12).reshape(-1, *(1,) * (m.ndim - 1))
            for m, top in zip(maps, largest, strict=True)
        ]
    return Outcome(np.mean(maps, axis=0).astype(np.float32), score, case.aim.chosen(record))


@dataclass(frozen=True)
class _Box:
    """Extent and step of the box along the spatial axes."""

    size: tuple[int, ...]
    stride: tuple[int, ...]

    def positions(self, extent: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """From 0 in steps until the far edge is covered; the last box is cut off there."""
        counts = [
            max(0, math.ceil((n - k) / s)) + 1 for n, k, s in zip(extent, self.size, self.stride, strict=True)
        ]
        for index in np.ndindex(*counts):
            yield tuple(
                slice(i * s, i * s + k) for i, s, k in zip(index, self.stride, self.size, strict=True)
            )


@dataclass(frozen=True)
class _Layout:
    """Shape of the input, its channel axis and its spatial axes."""

    shape: tuple[int, ...]
    channels: int
    spatial: tuple[int, ...]

    @classmethod
    def of(cls, case: Case) -> _Layout:
        shape = case.x.shape
        channels = channel_axes(case.graph)[case.input]
        spatial = spatial_axes(len(shape), channels)
        if not spatial:
            raise UsageError(f"occlusion needs an input with spatial axes; {case.input!r} has shape {shape}")
        return cls(shape, channels, spatial)

    @property
    def extent(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.spatial)

    def key(self, box: Sequence[slice]) -> tuple[slice, ...]:
        """A box as an index into the whole input."""
        key = [slice(None)] * len(self.shape)
        for axis, part in zip(self.spatial, box, strict=True):
            key[axis] = part
        return tuple(key)

    def per_channel(self, numbers: Array) -> Array:
        """One number a channel (or one, or N×C), shaped to broadcast against the input."""
        shape = [1] * len(self.shape)
        shape[self.channels] = numbers.shape[-1]
        shape[0] = numbers.shape[0] if numbers.ndim > 1 else 1
        return numbers.reshape(shape)


class _Fill:
    """What the box is filled with."""

    def __init__(self, fill: Any, layout: _Layout, random_state: int | None) -> None:
        self.fill, self.layout = fill, layout
        self.random = np.random.default_rng(random_state)
        if isinstance(fill, str):
            if fill not in ("mean", "random"):
                raise UsageError(f"fill is a number, one number a channel, 'mean' or 'random', not {fill!r}")
            return
        try:
            self.colour = np.atleast_1d(np.asarray(fill, np.float64))
        except (TypeError, ValueError):
            raise UsageError(
                f"fill is a number, one number a channel, 'mean' or 'random', not {fill!r}"
            ) from None
        channels = layout.shape[layout.channels]
        if self.colour.shape not in ((1,), (channels,)):
            raise UsageError(
                f"fill has {self.colour.size} numbers, but the input has {channels} channels; "
                f"give 1 or {channels}"
            )

    def __call__(self, x: Array, part: Array) -> Array:
        """What replaces ``part``, a view of the input x under the box."""
        if self.fill == "mean":
            return self.layout.per_channel(x.mean(axis=self.layout.spatial))
        if self.fill == "random":
            low, high = (self.layout.per_channel(f(axis=self.layout.spatial)) for f in (x.min, x.max))
            return self.random.uniform(low, high, part.shape)
        return self.layout.per_channel(self.colour)


def _boxes(size: Any, stride: Any, layout: _Layout) -> list[_Box]:
    """One box for every (size, stride) pair; a single one goes with all of the others."""
    default = tuple(max(1, round(n / 7)) for n in layout.extent)
    sizes = size if isinstance(size, list) else [size]
    strides = stride if isinstance(stride, list) else [stride]
    if len(sizes) != len(strides) and 1 not in (len(sizes), len(strides)):
        raise UsageError(
            f"{len(sizes)} sizes and {len(strides)} strides do not pair up; give equally many, or one"
        )
    count = max(len(sizes), len(strides))
    boxes = []
    for one, step in zip(sizes * (count // len(sizes)), strides * (count // len(strides)), strict=True):
        extent = _per_axis(one, default, "size", layout)
        boxes.append(_Box(extent, _per_axis(step, tuple(max(1, k // 2) for k in extent), "stride", layout)))
        for n, k, s in zip(layout.extent, boxes[-1].size, boxes[-1].stride, strict=True):
            if k > n or s > k:
                raise UsageError(
                    f"a box of {boxes[-1].size} in steps of {boxes[-1].stride} does not cover an input of "
                    f"{layout.extent}; size must not exceed the input, nor stride the size"
                )
    return boxes


def _per_axis(given: Any, default: tuple[int, ...], name: str, layout: _Layout) -> tuple[int, ...]:
    if given is None:
        return default
    numbers = (given,) * len(default) if isinstance(given, int | np.integer) else tuple(given)
    if len(numbers) != len(default) or not all(isinstance(n, int | np.integer) and n > 0 for n in numbers):
        raise UsageError(f"{name} is a positive whole number or {len(default)} of them, not {given!r}")
    return tuple(map(int, numbers))


def _map(
    case: Case, seeds: Seeds, whole: Array, box: _Box, layout: _Layout, fills: _Fill, batch: int
) -> Array:
    """Mean loss of the target over the boxes that cover each place, in the input's shape."""
    losses = np.zeros(layout.shape)
    covered = np.zeros(layout.shape)

    def cover(part: tuple[slice, ...]) -> Array:
        return _covered(case.x, layout.key(part), fills)

    positions = list(box.positions(layout.extent))
    for part, score in scores(case, seeds, positions, cover, batch, "occlusion"):
        key = layout.key(part)
        losses[key] += (whole - score).reshape(-1, *(1,) * (losses.ndim - 1))
        covered[key] += 1
    return losses / np.maximum(covered, 1)


def _covered(x: Array, key: tuple[slice, ...], fills: _Fill) -> Array:
    changed = x.copy()
    changed[key] = fills(x, x[key])
    return changed
