"""The cases, one file a family of operators, as the gradient rules are."""

from . import (
    activations,
    arithmetic,
    einsum,
    indexing,
    layers,
    legacy,
    movement,
    normalization,
    patches,
    pooling,
    quantization,
    reductions,
    resampling,
    sampling,
    scattering,
    spectral,
)

FAMILIES = (
    activations, arithmetic, layers, normalization, pooling, reductions, movement, indexing, resampling,
    einsum, scattering, spectral, quantization,
    legacy, patches, sampling,
)  # fmt: skip
