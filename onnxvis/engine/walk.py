"""The backward pass itself: the same few lines for every executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

from onnxvis.errors import OnnxvisError
from onnxvis.ops.primitives import Array, Ops
from onnxvis.rules import Step

from .plan import Plan, PlannedStep

__all__ = ["walk"]


def walk(
    plan: Plan,
    ops: Ops,
    read: Callable[[str], Array],
    seeds: Mapping[str, Array],
    done: Callable[[PlannedStep], None] = lambda planned: None,
    entering: Callable[[str], None] = lambda layer: None,
) -> dict[str, Array]:
    """What arrives at each tensor of ``plan.wrt`` when the seeds are walked back.

    ``read`` gives a tensor of the forward pass as an array of the executor.  What arrives at a tensor
    from several sides is summed, in this order (by a rule that adds to what it finds: ``Step.taken``); it is
    let go of as soon as it has been passed on (unchanged, where the rule before did the step's work with its
    own: ``Step.gating``).  ``done`` hears of every step once it is over, so that an executor can let go of
    what no later one reads; ``entering`` hears before it which layer's it is, and "" after the last.
    """
    arrived: dict[str, list[Array]] = {name: [seed] for name, seed in seeds.items()}
    results: dict[str, Array] = {}

    def take(name: str) -> Array:
        parts = arrived.pop(name, None)
        total = ops.total(parts) if parts else ops.zeros(plan.graph.shape(name))
        if name in plan.wrt:
            results[name] = total
        return total

    # A step is no executor: it hands every primitive on to one.
    steps = [
        Step(ops, plan.graph, each.node, each.rule, read, each.settings, each.wanted, arrived)  # type: ignore[abstract]
        for each in plan.steps
    ]
    for step, following in pairwise(steps):
        if following.rule.gate and not set(plan.wrt).intersection(following.node.outputs):
            step.rectifier = following
    for planned, step in zip(plan.steps, steps, strict=True):
        node = planned.node
        entering(node.name)
        outgoing = [take(name) if name else None for name in node.outputs]
        passed = tuple(outgoing) if step.gated else planned.rule.body(step, *outgoing)
        for index, g in enumerate(passed if isinstance(passed, tuple) else (passed,)):
            if g is not None and index in planned.wanted:
                g = ops.constant(g) if isinstance(g, np.ndarray | np.generic) else g
                _check_shape(planned, index, g, step)
                arrived.setdefault(node.inputs[index], []).append(g)
        done(planned)
    entering("")
    for name in plan.wrt:
        if name not in results:
            take(name)
    return results


def _check_shape(planned: PlannedStep, index: int, g: Array, step: Step) -> None:
    expected = step.shape(index)
    if tuple(g.shape) != expected:
        raise OnnxvisError(
            f"the rule {planned.rule.origin} returned shape {tuple(g.shape)} for input {index} of "
            f"{planned.node.kind} node {planned.node.name!r}, which has shape {expected}"
        )
