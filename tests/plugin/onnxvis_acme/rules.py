"""Imported by onnxvis when it first looks for a rule (entry point group ``onnxvis.rules``)."""

import onnxvis


@onnxvis.rule("Swirl", domain="com.acme", needs="x")
def swirl(step, g):
    """y = x + sin(x)."""
    return g * (1.0 + step.cos(step.x))


@onnxvis.rule("Swirl", domain="com.acme", method="lrp")
def swirl_relevance(step, r):
    """An activation: relevance passes."""
    return r
