"""Gradients (vector-Jacobian products), one file a family of operators."""

from . import (
    activations,
    arithmetic,
    layers,
    movement,
    normalization,
    pooling,
    reductions,
    resampling,
    stops,
)  # fmt: skip

__all__ = [
    "activations",
    "arithmetic",
    "layers",
    "movement",
    "normalization",
    "pooling",
    "reductions",
    "resampling",
    "stops",
]
