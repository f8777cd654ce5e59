"""Layer-wise relevance propagation (Bach et al. 2015; rules as in Montavon et al. 2019 and zennit).

R is what arrives, x⁺ = max(x, 0), x⁻ = min(x, 0), and stab(z) = z ± ε keeps a denominator from 0.

``linear`` holds the rules that a composite chooses from, ``operators`` what relevance does at every
other operator, ``normalization`` what it does where a tensor is divided by its own deviation,
``products`` who gets it where two activations are multiplied.
"""

from . import linear, normalization, operators, products

__all__ = ["linear", "normalization", "operators", "products"]
