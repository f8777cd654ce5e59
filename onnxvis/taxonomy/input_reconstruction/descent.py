"""Gradient descent in pixel space, and the priors that keep pictures from becoming noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxvis.errors import UsageError

__all__ = ["Canvas", "Found", "Prior", "descend"]

Array = np.ndarray[Any, Any]
Objective = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class Canvas:
    """The pictures that a net takes: shape N×C×… (or channels last), and their limits.

    ``low`` and ``high`` broadcast against the shape: black and white as the net takes them.
    ``spatial``: the axes along which pixels are neighbours.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: Array
    high: Array
    spatial: tuple[int, ...]

    @property
    def middle(self) -> Array:
        """Mid-grey."""
        return (self.low + self.high) / 2

    @property
    def reach(self) -> Array:
        """Half the range: what 128 is to pictures of 0..255."""
        return (self.high - self.low) / 2

    @property
    def pixels(self) -> int:
        """Positions of one picture."""
        return int(np.prod([self.shape[axis] for axis in self.spatial]))

    def noise(self, random: np.random.Generator, strength: float) -> Array:
        """Mid-grey with Gaussian noise of ``strength`` times the reach."""
        return self.middle + random.standard_normal(self.shape) * strength * self.reach

    def smoothed(self, gradient: Array, power: float) -> Array:
        """The gradient with its spectrum divided by frequency to a power: still a way downhill, but one
        on which what is large moves first (the lowest frequency of all moves as one wave a picture does).
        """
        if power == 0:
            return gradient
        lengths = [self.shape[axis] for axis in self.spatial]
        squares = np.zeros((1,) * gradient.ndim)
        for axis, n in zip(self.spatial, lengths, strict=True):
            frequencies = np.fft.rfftfreq(n) if axis == self.spatial[-1] else np.fft.fftfreq(n)
            squares = squares + np.expand_dims(frequencies**2, [i for i in range(gradient.ndim) if i != axis])
        frequency = np.maximum(np.sqrt(squares), 1 / max(lengths))
        spectrum = np.fft.rfftn(gradient, axes=self.spatial) / frequency**power
        return np.fft.irfftn(spectrum, s=lengths, axes=self.spatial)


@dataclass(frozen=True)
class Found:
    """An input that was found, and the loss at every step (the last entry: at the end)."""

    values: Array
    loss: list[float]


@dataclass(frozen=True)
class Prior:
    """λ_p·Σ|v|^p / pixels + λ_TV·Σ(∇v)² / (pixels·0.01²), where v = (x − grey)/reach is −1..1.

    FeatureVis' regularizers with their default factors 1/(H·W·128^p) and 1/(H·W·128²·0.01²), for
    whatever range the net takes (Mahendran & Vedaldi 2014, Simonyan et al. 2013).
    """

    canvas: Canvas
    p: float
    lp_weight: float
    tv_weight: float

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Loss and its gradient."""
        canvas = self.canvas
        v = (x - canvas.middle) / canvas.reach
        size = np.abs(v)
        loss = self.lp_weight * float((size**self.p).sum()) / canvas.pixels
        gradient = self.lp_weight * self.p * size ** (self.p - 1) * np.sign(v) / canvas.pixels
        factor = self.tv_weight / (canvas.pixels * 0.01**2)
        for axis in canvas.spatial:
            step = np.diff(v, axis=axis)
            loss += factor * float((step * step).sum())
            widths = [(0, 0)] * v.ndim
            widths[axis] = (1, 1)
            gradient -= factor * 2 * np.diff(np.pad(step, widths), axis=axis)
        return loss, gradient / canvas.reach


def descend(
    start: Array,
    objectives: Sequence[Objective],
    canvas: Canvas,
    *,
    steps: int,
    learning_rate: float,
    momentum: float,
    smoothness: float,
    label: str,
    progress: bool | None,
) -> Found:
    """Minimize the sum of objectives by gradient steps with momentum, kept within the canvas' limits.

    A step has a root mean square of ``learning_rate`` times the reach, whatever the gradient's, and
    fades out over the run.  ``smoothness``: the power of ``Canvas.smoothed``, which is what descending
    in a picture's scaled spectrum comes to (Olah et al. 2017).  ``progress``: a bar on stderr; None:
    only on a terminal.
    """
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps must be a whole number above 0, not {steps!r}")
    if not learning_rate > 0 or not 0 <= momentum < 1:
        raise UsageError("learning_rate must be above 0, and momentum at least 0 and below 1")
    from tqdm import tqdm

    x, velocity, losses = start.copy(), np.zeros_like(start), []
    bar = tqdm(
        range(steps), desc=label, unit="step", disable=None if progress is None else not progress, leave=False
    )
    for step in bar:
        loss, gradient = _total(objectives, x)
        losses.append(loss)
        bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        # Steepest where all channels have one range.
        gradient = canvas.smoothed(gradient * canvas.reach**2, smoothness)
        scale = np.sqrt(np.mean((gradient / canvas.reach) ** 2))
        rate = learning_rate * (1 + np.cos(np.pi * step / steps)) / 2
        velocity = momentum * velocity - (1 - momentum) * rate * gradient / max(scale, 1e-30)
        x = np.clip(x + velocity, canvas.low, canvas.high)
    losses.append(_total(objectives, x)[0])
    return Found(x.astype(canvas.dtype), losses)


def _total(objectives: Sequence[Objective], x: Array) -> tuple[float, Array]:
    parts = [objective(x) for objective in objectives]
    return sum(loss for loss, _ in parts), np.sum([gradient for _, gradient in parts], axis=0)
