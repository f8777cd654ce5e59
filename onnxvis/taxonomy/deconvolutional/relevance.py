"""Layer-wise relevance propagation."""

from __future__ import annotations

from onnxvis.engine.plan import Pass
from onnxvis.errors import UsageError
from onnxvis.rules import Composite
from onnxvis.rules.composites import composite as find_composite
from onnxvis.taxonomy.registry import DECONVOLUTIONAL, Case, Outcome, explainer


@explainer("lrp", DECONVOLUTIONAL)
def lrp(
    case: Case, *, composite: str | Composite = "epsilon_plus", epsilon: float = 1e-6, seed: str = "logit"
) -> Outcome:
    """Layer-wise relevance propagation: the target's value shared out, layer by layer (Bach et al. 2015).

    ``composite``: which rule goes where, a name or a Composite.  ``epsilon``: keeps denominators from
    0.  ``seed``: "logit", so that relevance sums to the target's value, or "one".
    """
    if seed not in ("logit", "one"):
        raise UsageError(f"seed is 'logit' or 'one', not {seed!r}")
    if not isinstance(epsilon, int | float) or not epsilon > 0:
        raise UsageError(f"epsilon must be a number above 0, not {epsilon!r}")
    backward = Pass(find_composite(composite), {"epsilon": float(epsilon)})
    return case.outcome(*case.propagate(backward, seed=seed))
