"""Gradients (vector-Jacobian products), one file a family of operators."""

from . import (
    activations,
    arithmetic,
    indexing,
    layers,
    movement,
    normalization,
    pooling,
    reductions,
    resampling,
    stops,
    trigonometry,
)  # fmt: skip

__all__ = [
    "activations",
    "arithmetic",
    "indexing",
    "layers",
    "movement",
    "normalization",
    "pooling",
    "reductions",
    "resampling",
    "stops",
    "trigonometry",
]
