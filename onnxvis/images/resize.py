"""Bilinear resizing of maps: heat maps to the size of a picture, activations to the size of an input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxvis.errors import InputError

__all__ = ["interpolation_matrix", "resample", "resize_map"]


def resize_map(maps: NDArray[Any], size: tuple[int, int], align_corners: bool = False) -> NDArray[Any]:
    """``maps`` [..., h, w] resized bilinearly to [..., H, W], ``size`` being (H, W).

    Pixel centres lie at half-integers, edges are clamped, nothing is antialiased: the definition of
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` and of ONNX Resize
    (``linear``, ``half_pixel``).  With ``align_corners`` the corner pixels' centres coincide instead.

    float32 and float64 stay what they are; other types are computed and returned in float32.
    Raises :class:`~onnxvis.errors.InputError` for an empty map or size.
    """
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise InputError(f"maps to resize must have shape [..., h, w] with h, w ≥ 1, not {list(maps.shape)}")
    if min(size) < 1:
        raise InputError(f"maps cannot be resized to {list(size)}: both sides must be at least 1")
    rows, columns = (
        interpolation_matrix(_centres(new, old, align_corners), old)
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return resample(maps, rows, columns)


def resample(maps: NDArray[Any], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[Any]:
    """``rows`` [H, h] · ``maps`` [..., h, w] · ``columns``ᵀ [w, W], in the dtype of :func:`resize_map`."""
    dtype = np.float64 if maps.dtype == np.float64 else np.float32
    maps = maps.astype(dtype, copy=False)
    return np.asarray(rows.astype(dtype) @ (maps @ columns.astype(dtype).T))


def interpolation_matrix(
    centres: NDArray[np.float64], length: int, reach: float = 1.0
) -> NDArray[np.float64]:
    """The weights [n, length] with which ``length`` samples give the values at ``centres`` [n].

    Sample k lies at coordinate k.  The weights are a triangle of half-width ``reach`` samples, which sum
    to 1 in each row: reach 1 interpolates linearly, more also averages.  Beyond the first and the last
    sample their values go on.
    """
    centres = centres.clip(0, length - 1)
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(length)) / reach)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _centres(new: int, old: int, align_corners: bool) -> NDArray[np.float64]:
    """Where the ``new`` samples lie among the ``old`` ones, in units of those."""
    index = np.arange(new, dtype=np.float64)
    if align_corners:
        return index * ((old - 1) / max(new - 1, 1))
    return (index + 0.5) * (old / new) - 0.5
