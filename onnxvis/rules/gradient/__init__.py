"""Gradients (vector-Jacobian products), one file a family of operators."""

from . import activations, arithmetic, layers, movement, normalization, pooling, reductions, stops

__all__ = [
    "activations",
    "arithmetic",
    "layers",
    "movement",
    "normalization",
    "pooling",
    "reductions",
    "stops",
]
