"""Layer-wise relevance propagation."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxvis.engine.plan import Pass
from onnxvis.errors import UsageError
from onnxvis.rules import Composite, registry
from onnxvis.rules.composites import composite as find_composite
from onnxvis.taxonomy.registry import DECONVOLUTIONAL, Case, Outcome, explainer

from .bounds import layer_bounds
from .conservation import Conservation, conservation

__all__ = ["excitation_backprop", "lrp", "relevance_pass", "report"]


@explainer("lrp", DECONVOLUTIONAL)
def lrp(
    case: Case,
    *,
    composite: str | Composite = "epsilon_plus",
    epsilon: float | None = None,
    gamma: float | None = None,
    low: Any = None,
    high: Any = None,
    seed: str = "logit",
) -> Outcome:
    """Layer-wise relevance propagation: the target's value shared out, layer by layer (Bach et al. 2015).

    ``composite``: which rule goes where, a name, a .toml file or a Composite.  ``epsilon`` keeps
    denominators from 0 (None: as the composite's rows say, else 1e-6); ``gamma``: of the rule gamma (None:
    as the rows say, else 0.25).  ``low``, ``high``: of the rule zbox, the lowest and highest numbers that
    the input can hold, each a number, one a channel, or an array of the input's shape (None: black and
    white, where the preprocess tells).  ``seed``: "logit", so that relevance sums to the target's value,
    or "one".
    """
    table = find_composite(composite)
    backward = relevance_pass(case, table, epsilon=epsilon, gamma=gamma, low=low, high=high)
    return case.walked(backward, seed=_checked(seed))


@explainer("excitation_backprop", DECONVOLUTIONAL)
def excitation_backprop(case: Case, *, seed: str = "one") -> Outcome:
    """Excitation backprop: how probably each input made the target win (Zhang et al. 2016).

    As LRP with zplus at every layer; ``seed``: "one", a probability to share out, or "logit".
    """
    backward = relevance_pass(case, find_composite("excitation_backprop"))
    return case.walked(backward, seed=_checked(seed))


def report(
    case: Case, composite: str | Composite = "epsilon_plus", seed: str = "logit", **settings: Any
) -> Conservation:
    """Whether ``lrp`` with these settings conserves relevance, layer by layer."""
    backward = relevance_pass(case, find_composite(composite), **settings)
    return conservation(case, backward, _checked(seed))


def _checked(seed: str) -> str:
    if seed not in ("logit", "one"):
        raise UsageError(f"seed is 'logit' or 'one', not {seed!r}")
    return seed


# ---- settings ------------------------------------------------------------------------------------


def relevance_pass(
    case: Case,
    composite: Composite,
    *,
    epsilon: float | None = None,
    gamma: float | None = None,
    low: Any = None,
    high: Any = None,
) -> Pass:
    """The backward pass of a composite, with settings that override those of its rows.

    Raises UsageError for a setting that no rule of the composite takes.
    """
    if epsilon is not None and not (_is_number(epsilon) and epsilon > 0):
        raise UsageError(f"epsilon must be a number above 0, not {epsilon!r}")
    numbers = {"epsilon": epsilon, "gamma": gamma}
    settings: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    given = [*settings, *(name for name, bound in (("low", low), ("high", high)) if bound is not None)]
    known = dict.fromkeys(name for rule in composite.methods for name in registry.defaults(rule))
    for name in given:
        if name not in known:
            rules = ", ".join(composite.methods)
            raise UsageError(
                f"no rule of the composite {composite.name!r} takes {name!r}: its rules are {rules}"
            )
    return Pass(composite, {**settings, **layer_bounds(case, composite, low, high)})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
