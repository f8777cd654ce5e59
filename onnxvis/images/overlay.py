"""Heat maps laid over the photos that they explain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnxvis.errors import UsageError
from onnxvis.images.colour import is_signed, paint, scale
from onnxvis.images.geometry import Box
from onnxvis.images.reading import Picture, read_image
from onnxvis.images.resize import interpolation_matrix, resample

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["overlay", "place"]

# How much of the photo gives way to white where the net did not see it.
_VEIL = 0.6
# Pixels that are blended at a time: as floats they take many times a photo's memory.
_BAND = 1 << 16


def overlay(
    photo: Picture,
    heat: NDArray[Any],
    alpha: float = 0.75,
    colormap: str | None = None,
    signed: bool | None = None,
    *,
    box: Box | None = None,
    percentile: float = 99.5,
    fade: float = 0.0,
) -> Image.Image:
    """The photo with the heat map over it, in colour; PIL image of the photo's size, mode RGB.

    ``heat`` [h, w]: in the coordinates of the net's input, of any resolution.  ``box``: the part of the
    photo that the net saw (:attr:`Prepared.box`; default: all of it); what lies outside is paled.
    ``alpha``: opacity at the strongest heat (0..1); it falls in proportion to the heat's magnitude, so
    that the photo shows through.  ``fade`` (0..1): how far the photo gives way, turned grey, to the colour
    of no heat; maps of single pixels, which a photo would drown, need it.  ``colormap``, ``signed``,
    ``percentile``: as in :func:`~onnxvis.images.colourize`.

    Raises what :func:`~onnxvis.images.colourize` and :func:`~onnxvis.images.read_image` do.
    """
    for name, share in (("alpha", alpha), ("fade", fade)):
        if not 0 <= share <= 1:
            raise UsageError(f"{name} is {share}; allowed: 0 (the photo as it is) to 1 (no photo)")
    from PIL import Image

    picture = read_image(photo)
    box = box or (0.0, 0.0, float(picture.width), float(picture.height))
    signed = is_signed(heat) if signed is None else signed
    # float32: photos can be large, and colours need no more.
    placed = place(scale(heat, signed, percentile).astype(np.float32), box, picture.size)
    seen = place(np.ones((1, 1), np.float32), box, picture.size)
    nothing = paint(np.zeros((1, 1)), signed, colormap)
    pixels = np.asarray(picture)
    blended = np.empty_like(pixels)
    for rows in _bands(*placed.shape):
        ground = _paled(pixels[rows], seen[rows])
        if fade:
            ground = _faded(ground, nothing, fade)
        opacity = alpha * np.abs(placed[rows])[..., None]
        colours = paint(placed[rows], signed, colormap)
        blended[rows] = np.rint(ground * (1 - opacity) + colours * opacity)
    return Image.fromarray(blended)


def _bands(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture, few at a time."""
    step = max(1, _BAND // width)
    return (slice(start, start + step) for start in range(0, height, step))


def place(heat: NDArray[Any], box: Box, photo_size: tuple[int, int], outside: float = 0.0) -> NDArray[Any]:
    """``heat`` [h, w] in the net's input coordinates, as a map [H, W] over the photo's pixels.

    ``box``: (left, top, right, bottom), the part of the photo that the net saw, in photo pixels
    (:attr:`Prepared.box`).  ``photo_size``: (W, H), as PIL's ``image.size``.  ``outside``: the value of the
    pixels whose centres lie outside the box.  Bilinear; where the photo is the coarser of the two, the
    heat is averaged.  float32, or float64 if ``heat`` is.
    """
    width, height = photo_size
    rows, inside_rows = _placing(heat.shape[0], box[1], box[3], height)
    columns, inside_columns = _placing(heat.shape[1], box[0], box[2], width)
    placed = resample(heat, rows, columns)
    placed[~inside_rows, :] = outside
    placed[:, ~inside_columns] = outside
    return placed


def _placing(
    samples: int, start: float, end: float, pixels: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Along one axis: interpolation weights [pixels, samples], and which pixels the box covers."""
    centres = np.arange(pixels, dtype=np.float64) + 0.5
    density = samples / (end - start)  # samples a photo pixel
    weights = interpolation_matrix((centres - start) * density - 0.5, samples, reach=max(1.0, density))
    return weights, (centres >= start) & (centres <= end)


def _paled(pixels: NDArray[np.uint8], seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """The photo's pixels as floats 0..255, [H, W, 3], nearer to white where ``seen`` is 0, not 1."""
    shown = pixels.astype(np.float32)
    return np.asarray(shown + (255 - shown) * (_VEIL * (1 - seen[..., None])), dtype=np.float32)


def _faded(pixels: NDArray[np.float32], nothing: NDArray[np.uint8], fade: float) -> NDArray[np.float32]:
    """The photo in grey, nearer to the colour of no heat."""
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601 luma
    return np.asarray(grey[..., None] * (1 - fade) + nothing * np.float32(fade), dtype=np.float32)
