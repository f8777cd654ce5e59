"""An exported model run and compared with what the library computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxvis.engine.runtime import Runtime
from onnxvis.errors import UnsupportedError

__all__ = ["PREDICTION", "Trial", "difference", "normalized", "samples", "try_out"]

Array = np.ndarray[Any, Any]


# What a file's own outputs may differ by: where the explanation reads inner tensors, a runtime can join
# fewer operators into one, and rounds elsewhere.
PREDICTION = 1e-4


@dataclass(frozen=True)
class Trial:
    """Inputs for an exported model, and what its outputs are to be: the file's own, and the explanation's."""

    feeds: Mapping[str, Array]
    prediction: Mapping[str, Any]
    explanation: Mapping[str, Array]


def try_out(path: Path, runtime: Runtime, trials: list[Trial], tolerance: float) -> dict[str, float]:
    """Run the model at ``path``; for each output the largest difference, relative to the largest number.

    Raises UnsupportedError where one of the explanation is above ``tolerance``, or a prediction above that
    and ``PREDICTION``; ModelError where the model does not run.
    """
    session = runtime.session(path.read_bytes(), path.parent)
    found: dict[str, float] = {}
    for trial in trials:
        tensors = {name: y for name, y in trial.prediction.items() if isinstance(y, np.ndarray)}
        expected = {**tensors, **trial.explanation}
        feeds = {name: runtime.value(array) for name, array in trial.feeds.items()}
        results = runtime.run(session, [*expected], feeds)
        for (name, wanted), value in zip(expected.items(), results, strict=True):
            found[name] = max(found.get(name, 0.0), difference(value.numpy(), wanted))
    for name, apart in found.items():
        allowed = tolerance if name in trials[0].explanation else max(tolerance, PREDICTION)
        if not apart <= allowed:
            raise UnsupportedError(
                f"the exported model answers differently than the library: {name!r} by {apart:.2g} of its "
                f"largest number, where {allowed:.2g} is allowed; nothing was written. In one graph a "
                "runtime joins other operators than in two, which shows in half precision and where "
                "decisions are close: give a tolerance if that much does not matter"
            )
    return found


def difference(found: Array, wanted: Array) -> float:
    """max|found − wanted| / max|wanted|; infinite where shapes differ or only one is not a number."""
    if found.shape != wanted.shape:
        return float("inf")
    if wanted.dtype.kind not in "fc":
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    if not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return float("inf")
    finite = np.isfinite(wanted)
    if not finite.any():
        return 0.0
    apart = np.abs(found[finite] - wanted[finite]).max()
    return float(apart / max(np.abs(wanted[finite]).max(), 1e-30)) if apart else 0.0


def normalized(heat: Array, signed: bool) -> Array:
    """What ``heatmaps.normalized`` makes of a heat map, on arrays."""
    flat = heat.reshape(len(heat), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    if signed:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    return np.asarray((flat - low) / np.maximum(high - low, 1e-30)).reshape(heat.shape)


def samples(
    shape: tuple[int, ...], dtype: np.dtype[Any], bounds: tuple[Array, Array] | None, seed: int
) -> Array:
    """Seeded noise: between ``bounds``, else standard normal; whole numbers of bytes for an integer input."""
    random = np.random.default_rng([seed, *shape])
    if dtype.kind in "iu":
        return random.integers(0, 128 if dtype == np.int8 else 256, shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if bounds is None:
        return random.standard_normal(shape).astype(dtype)
    low, high = bounds
    return np.asarray(low + random.random(shape) * (high - low), dtype)
