"""What the measurements should come to, and whether they do: labels and limits, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["GOALS", "NETS", "Goal", "verdicts"]

NETS = (
    "alexnet", "vgg16", "googlenet", "squeezenet1_1", "resnet50", "resnet101", "mobilenet_v2", "densenet121",
    "efficientnet_b0",
)  # fmt: skip
"""The nets that speed is measured on, by torchvision's names."""


@dataclass(frozen=True)
class Goal:
    """What a measure of a task may come to at most.

    ``limits``: {net: limit}; ``every``: the limit of the nets that are not named (None: no goal there).
    """

    task: str
    measure: str
    every: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def limit(self, net: str) -> float | None:
        """What the measure may come to on a net; None where nothing is asked."""
        return self.limits.get(net, self.every)


EXPORTED = {"time / the library": 1.05, "difference from the library": 1e-6, "size / the file": 1.05}
GOALS = (
    Goal("gradient", "time / torch autograd", limits={
        "resnet50": 0.65, "resnet101": 0.65, "squeezenet1_1": 0.55, "mobilenet_v2": 0.6, "googlenet": 0.6,
        "densenet121": 0.6, "efficientnet_b0": 0.6, "vgg16": 0.85,
    }),
    Goal("gradient", "time / floor", limits={"resnet50": 1.2, "vgg16": 1.2, "squeezenet1_1": 1.6}),
    Goal("lrp epsilon_plus", "time / zennit", 0.3, {"vgg16": 0.45}),
    Goal("lrp epsilon_gamma_box", "time / zennit", 0.3),
    Goal("gradcam", "time / pytorch-grad-cam", 0.3),
    Goal("gradcam", "time / floor", 1.15),
    Goal("gradcam heat map", "time / pytorch-grad-cam", 0.3),
    *(
        Goal(f"exported {method}", measure, limit)
        for method in ("gradient", "lrp", "gradcam")
        for measure, limit in EXPORTED.items()
    ),
    Goal("footprint", "memory / torch", 0.7),
    Goal("footprint", "first heat map, seconds", limits={"squeezenet1_1": 1.0}),
    Goal("footprint", "first heat map / captum", limits={"squeezenet1_1": 0.3}),
)  # fmt: skip
"""At batch 1 on one thread.  The floor is as many plain onnxruntime forward passes as the task has passes."""


def verdicts(rows: Iterable[Mapping[str, Any]], goals: Iterable[Goal] = GOALS) -> list[dict[str, Any]]:
    """How each goal went, on each net that it was measured on.

    ``rows``: {"net", "task", "batch", "threads", "measures": {label: number}}; those of one sample on one
    thread count.  A row without a measure that a goal asks for (someone failed) is none that met it.
    """
    counted = [row for row in rows if row["batch"] == row["threads"] == 1]
    found = []
    for goal in goals:
        for row in counted:
            limit = goal.limit(row["net"])
            if row["task"] != goal.task or limit is None:
                continue
            value = row["measures"].get(goal.measure)
            found.append(
                {
                    "net": row["net"],
                    "task": goal.task,
                    "measure": goal.measure,
                    "limit": limit,
                    "value": value,
                    "met": value is not None and value <= limit,
                }
            )
    return found
