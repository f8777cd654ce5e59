"""Backward passes over a model with branches, on the device and on the host."""

import numpy as np
from engine.branching import branching, engine, feeds

from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.plan import Pass

from .stand_in import stand_in_ops

SEEDS = {"scores": (2, 5), "mean": (2,), "r1": (2, 4, 6, 6)}
WRT = ("x", "gate", "r1", "residual", "pooled")


def close(ours, theirs, tolerance=1e-5):
    """max|a − b| / max|b|."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert abs(ours - theirs).max(initial=0) <= tolerance * abs(theirs).max(initial=1e-30)


def executors(method, seeds, shift=0.0):
    """A device executor for the branching model, with its record and the host's answer."""
    made, given = engine(branching(), "host"), {name: x + np.float32(shift) for name, x in feeds().items()}
    host = made.backward(given, Pass(method), seeds, WRT)
    record = made.run(given, host.needs)
    return DeviceExecutor(host.plan, stand_in_ops()), record, host.backward(record, seeds)


def random_seeds(names=tuple(SEEDS), seed=2):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=SEEDS[name]).astype(np.float32) for name in names}
