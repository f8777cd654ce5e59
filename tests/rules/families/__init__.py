"""The cases, one file a family of operators, as the gradient rules are."""

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
)

FAMILIES = (
    activations, arithmetic, layers, normalization, pooling, reductions, movement, indexing, resampling,
)  # fmt: skip
