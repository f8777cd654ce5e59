"""Numbers as colours: heat maps through colour maps, input gradients as pictures."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxvis.errors import InputError, UnknownNameError, UsageError

__all__ = ["DIVERGING", "SEQUENTIAL", "colourize", "is_signed", "paint", "saliency_picture", "scale"]

SEQUENTIAL = "inferno"
"""The colour map of unsigned maps: perceptually uniform, from black to pale yellow."""

DIVERGING = "colorcet:CET_D1"
"""The colour map of signed maps: perceptually uniform, blue for minus, pale grey at 0, red for plus."""

# An odd number of colours, so that one of them is the middle, where a signed map has its 0.
_COLOURS = 257
# A map whose negative values are this small beside its largest is unsigned but for rounding.
_ROUNDING = 1e-6


def colourize(
    heat: NDArray[Any], colormap: str | None = None, signed: bool | None = None, percentile: float = 99.5
) -> NDArray[np.uint8]:
    """``heat`` [H, W] as colours, uint8 [H, W, 3].

    ``colormap``: any name that the library *cmap* knows, e.g. ``"viridis"``, ``"crameri:vik"``, with
    ``_r`` for reversed; default :data:`SEQUENTIAL`, or :data:`DIVERGING` for a signed map.
    ``signed``: whether 0 lies in the middle of the colour map; default: whether values are negative.
    ``percentile``: see :func:`scale`.

    Raises :class:`~onnxvis.errors.UsageError` for NaN or infinity,
    :class:`~onnxvis.errors.UnknownNameError` for a colour map that does not exist.
    """
    signed = is_signed(heat) if signed is None else signed
    return paint(scale(heat, signed, percentile), signed, colormap)


def paint(scaled: NDArray[np.floating[Any]], signed: bool, colormap: str | None = None) -> NDArray[np.uint8]:
    """The colours, uint8 [H, W, 3], of values that :func:`scale` has scaled."""
    position = (scaled + 1) / 2 if signed else scaled
    table = _colour_table(colormap or (DIVERGING if signed else SEQUENTIAL))
    return np.asarray(table[np.rint(position * (_COLOURS - 1)).astype(np.intp)])


def scale(heat: NDArray[Any], signed: bool, percentile: float = 99.5) -> NDArray[np.float64]:
    """``heat`` [H, W] scaled for showing: to −1..1 about 0 if ``signed``, else to 0..1.

    So that single extreme values do not darken the rest, the top of the scale is the ``percentile`` of
    the values (of their magnitudes if signed), and what lies beyond is clipped; if that leaves no
    contrast, it is the maximum.  The bottom of an unsigned scale is the minimum.  A constant unsigned
    map becomes 0.  Raises :class:`~onnxvis.errors.UsageError` for NaN or infinity, or no values at all.
    """
    heat = _finite_map(heat)
    if not 0 < percentile <= 100:
        raise UsageError(f"percentile is {percentile}; allowed: above 0, at most 100")
    if signed:
        return _divide(heat, _top(np.abs(heat), 0.0, percentile))
    low = float(heat.min())
    return _divide(heat - low, _top(heat, low, percentile) - low)


def is_signed(heat: NDArray[Any]) -> bool:
    """Whether a map has negative values, other than rounding (10⁻⁶ of its largest magnitude)."""
    if heat.size == 0:
        return False
    low, high = float(heat.min()), float(heat.max())
    return low < -_ROUNDING * max(high, -low)


def saliency_picture(values: NDArray[Any], color: str = "RGB", percentile: float = 99.5) -> NDArray[np.uint8]:
    """An explanation with the channels of the input, [C, H, W], as a picture, uint8 [H, W, 3].

    0 is mid-grey (128), and the ``percentile`` of the magnitudes over all channels is full brightness or
    darkness, one scale for the picture: the usual way to show guided backpropagation.
    ``color``: the order of the channels as the net is fed (``"RGB"`` or ``"BGR"``; one channel is grey).

    Raises :class:`~onnxvis.errors.InputError` unless C is 1 or 3, and as :func:`scale`.
    """
    if values.ndim != 3 or values.shape[0] not in (1, 3):
        raise InputError(f"a saliency picture takes an array [1 or 3, H, W], not {list(values.shape)}")
    channels, height, width = values.shape
    shades = scale(values.reshape(channels * height, width), True, percentile).reshape(values.shape)
    shades = shades[::-1] if color == "BGR" else shades
    picture = np.rint(127.5 + 127.5 * shades).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(picture, (height, width, 3)))


def _finite_map(heat: NDArray[Any]) -> NDArray[np.float64]:
    if heat.ndim != 2 or heat.size == 0:
        raise InputError(f"a heat map has shape [H, W] with H, W ≥ 1, not {list(heat.shape)}")
    if bad := int(np.count_nonzero(~np.isfinite(heat))):
        raise UsageError(
            f"cannot show a heat map with {bad} NaN or infinite among its {heat.size} values; "
            "look for an overflow in the model or the method"
        )
    return heat.astype(np.float64)


def _top(values: NDArray[np.float64], bottom: float, percentile: float) -> float:
    top = float(np.percentile(values, percentile))
    return top if top > bottom else float(values.max())


def _divide(values: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """``values`` / ``limit``, clipped to −1..1; 0 where the limit is."""
    if limit == 0:
        return np.zeros_like(values)
    return np.asarray(values.clip(-limit, limit) / limit)


@lru_cache(maxsize=16)
def _colour_table(name: str) -> NDArray[np.uint8]:
    """The colours of a map in equal steps, uint8 [257, 3]."""
    import cmap

    try:
        colours = cmap.Colormap(name).lut(_COLOURS)
    except (ValueError, TypeError):
        known = sorted(cmap.Catalog().short_keys())
        raise UnknownNameError(
            "colormap", name, known, "All are shown at cmap-docs.readthedocs.io."
        ) from None
    table: NDArray[np.uint8] = np.rint(np.asarray(colours)[:, :3] * 255).astype(np.uint8)
    table.setflags(write=False)  # it is cached
    return table
