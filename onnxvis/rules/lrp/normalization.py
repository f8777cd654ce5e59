"""Relevance at normalizations by a tensor's own mean and deviation (Ali et al. 2022).

The deviation counts as a constant, so that what is left, centring and scaling, is affine in the data;
R is shared in proportion.  Without a bias all of it arrives: what divides y also divides every part.
"""

from __future__ import annotations

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.gradient.normalization import MICROSOFT, factors, layout, standardize, summed
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


def _statistics_used(node: Node, graph: Graph) -> str | None:
    """The outputs with mean and 1/deviation say nothing about relevance."""
    given = filter(None, node.outputs[1:3])
    used = [name for name in given if graph.consumers.get(name) or name in graph.outputs]
    return f"its mean or deviation ({used[0]!r}) is used by itself" if used else None


@rule(
    "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", method="lrp", needs="xs y",
    inputs=(0,),
)  # fmt: skip
@rule(
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", method="lrp", needs="xs y",
    inputs=(0,), refuses=_statistics_used,
)  # fmt: skip
def normalized(step: Step, r: Array, *_: Array | None) -> Array:
    """xᵢ · Σⱼ (δᵢⱼ − 1/n) · sⱼ, s = scale/deviation · R/stab(y); by a root mean square without the 1/n."""
    return step.x * _to_data(step, step.x, r, 1)


def _to_data(step: Step, x: Array, r: Array, scale: int) -> Array:
    """What a number of the data is multiplied with; ``scale``: that input's position."""
    how = layout(step)
    found = standardize(step, x, how)
    s = step.reshape(step.quotient(r, step.y, step.settings["epsilon"]), how.shape)
    s = s * factors(step, scale, how) if len(step.node.inputs) > scale else s
    s = s if found.deviation is None else s / found.deviation
    s = s - step.mean(s, how.axes, keepdims=True) if how.centred else s
    return step.reshape(s, step.shape())


@rule(
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", method="lrp", needs="xs y",
    domain=MICROSOFT, inputs=(0, 1), refuses=_statistics_used,
)  # fmt: skip
def skipped(
    step: Step, r: Array, mean: Array | None = None, inverse: Array | None = None, total: Array | None = None
) -> tuple[Array | None, ...]:
    """Each summand gets its part; what arrives at the sum itself is shared in proportion, too."""
    x = summed(step)
    factor = _to_data(step, x, r, 2)
    if total is not None:
        factor = factor + step.quotient(total, x, step.settings["epsilon"])
    return tuple(
        step.input(i) * step.unbroadcast(factor, step.shape(i)) if step.wants(i) else None for i in (0, 1)
    )
