"""The cases, one file a family of operators, as the gradient rules are."""

from . import activations, arithmetic, layers, movement, normalization, pooling, reductions, resampling

FAMILIES = (activations, arithmetic, layers, normalization, pooling, reductions, movement, resampling)
