"""Activation maximization: which input excites a unit most."""

from __future__ import annotations

import numpy as np

from onnxvis.engine.plan import Pass
from onnxvis.errors import UsageError
from onnxvis.target import Start
from onnxvis.taxonomy.registry import Array, Case, reconstructor

from .descent import Canvas, Found, Prior, descend


@reconstructor("activation_maximization")
def activation_maximization(
    case: Case,
    canvas: Canvas,
    progress: bool | None,
    *,
    steps: int = 200,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    smoothness: float = 2.0,
    jitter: int = 4,
    p: float = 6.0,
    lp_weight: float = 20.0,
    tv_weight: float = 0.002,
    noise: float = 0.05,
    random_state: int | None = 0,
) -> Found:
    """Activation maximization: the input that excites a unit most (Erhan et al. 2009, Simonyan et al. 2013).

    Minimizes −target + the priors (``descent.Prior``), from grey with Gaussian ``noise``.  At each step
    the picture is shifted by up to ``jitter`` pixels, cyclically, so that only what survives small shifts
    is built (Mordvintsev et al. 2015).
    """
    if not isinstance(jitter, int) or jitter < 0:
        raise UsageError(f"jitter must be a whole number of pixels, not {jitter!r}")
    random = np.random.default_rng(random_state)
    start = canvas.noise(random, noise)
    first = case.engine.run({**case.feeds, case.input: start.astype(canvas.dtype)}, case.aim.reads)
    aim = case.aim.chosen(first)

    def excitation(x: Array) -> tuple[float, Array]:
        shift = random.integers(-jitter, jitter + 1, len(canvas.spatial))
        feeds = {**case.feeds, case.input: np.roll(x, shift, canvas.spatial).astype(canvas.dtype)}
        record, arrived = case.engine.vjp(
            feeds, Start(aim), aim.tensors, [case.input], Pass("gradient"), also=aim.reads
        )
        gradient = np.roll(arrived[case.input].astype(np.float64), -shift, canvas.spatial)
        return -float(aim.score(record).sum()), -gradient

    prior = Prior(canvas, p, lp_weight, tv_weight)
    return descend(
        start, [excitation, prior], canvas, steps=steps, learning_rate=learning_rate, momentum=momentum,
        smoothness=smoothness, label="activation maximization", progress=progress,
    )  # fmt: skip
