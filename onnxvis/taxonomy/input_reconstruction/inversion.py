"""Inversion: what a layer's code still says about the input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxvis.engine.plan import Pass
from onnxvis.errors import UsageError
from onnxvis.taxonomy.registry import Array, Case, reconstructor

from .descent import Canvas, Found, Prior, descend


@reconstructor("inversion")
def inversion(
    case: Case,
    canvas: Canvas,
    progress: bool | None,
    *,
    layer: str | None = None,
    steps: int = 200,
    learning_rate: float = 0.2,
    momentum: float = 0.9,
    smoothness: float = 1.0,
    p: float = 6.0,
    lp_weight: float = 0.003,
    tv_weight: float = 0.00003,
    noise: float = 0.05,
    random_state: int | None = 0,
) -> Found:
    """Inversion: an input that a layer sees as it sees a given one (Mahendran & Vedaldi 2014).

    Minimizes ‖Φ(x) − Φ₀‖² / ‖Φ₀‖² + the priors (``descent.Prior``), from grey with Gaussian ``noise``;
    Φ is the output of ``layer`` (default: the target's).  FeatureVis gives the priors a weight of 1 and
    takes 100 steps: smoother, greyer pictures.
    """
    tensor = case.engine.tensor(layer) if layer else case.aim.tensor
    code = case.engine.run(case.feeds, [tensor])[tensor].astype(np.float64)
    energy = float((code**2).sum())
    if energy == 0:
        raise UsageError(
            f"{tensor!r} is zero everywhere for this input: there is nothing to invert; choose another layer"
        )

    def distance(x: Array) -> tuple[float, Array]:
        feeds = {**case.feeds, case.input: x.astype(canvas.dtype)}
        loss = 0.0

        def start(record: Mapping[str, Array]) -> dict[str, Array]:
            nonlocal loss
            difference = record[tensor].astype(np.float64) - code
            loss = float((difference**2).sum()) / energy
            return {tensor: 2 * difference / energy}

        _, arrived = case.engine.vjp(feeds, start, [tensor], [case.input], Pass("gradient"))
        return loss, arrived[case.input].astype(np.float64)

    prior = Prior(canvas, p, lp_weight, tv_weight)
    random = np.random.default_rng(random_state)
    return descend(
        canvas.noise(random, noise), [distance, prior], canvas, steps=steps, learning_rate=learning_rate,
        momentum=momentum, smoothness=smoothness, label=f"inversion of {tensor}", progress=progress,
    )  # fmt: skip
