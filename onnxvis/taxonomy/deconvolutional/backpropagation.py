"""Backpropagation and what differs from it at rectifiers."""

from __future__ import annotations

from onnxvis.engine.plan import Pass
from onnxvis.taxonomy.registry import DECONVOLUTIONAL, Case, Outcome, explainer


@explainer("gradient", DECONVOLUTIONAL, shows="magnitude")
def gradient(case: Case) -> Outcome:
    """Derivative of the target with respect to the input (Simonyan et al. 2013)."""
    return case.walked(Pass("gradient"))


@explainer("input_x_gradient", DECONVOLUTIONAL)
def input_x_gradient(case: Case) -> Outcome:
    """Input times gradient: a first-order estimate of each number's contribution (Shrikumar et al. 2016)."""
    values, record = case.propagate(Pass("gradient"))
    return case.outcome(case.x * values, record)


@explainer("deconvnet", DECONVOLUTIONAL, shows="magnitude")
def deconvnet(case: Case) -> Outcome:
    """DeconvNet: rectifiers pass on what is positive on the way back (Zeiler & Fergus 2013)."""
    return case.walked(Pass("deconvnet"))


@explainer("guided_backprop", DECONVOLUTIONAL, shows="magnitude")
def guided_backprop(case: Case) -> Outcome:
    """Guided backpropagation: what is positive both ways (Springenberg et al. 2014)."""
    return case.walked(Pass("guided_backprop"))
