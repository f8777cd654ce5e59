"""Backward passes over a model with branches, on the device and on the host."""

import numpy as np
from engine.branching import SEEDS, WRT, branching, engine, feeds

from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.plan import Pass

from .stand_in import stand_in_ops


def executors(method, seeds, shift=0.0):
    """A device executor for the branching model, with its record and the host's answer."""
    made, given = engine(branching(), "host"), {name: x + np.float32(shift) for name, x in feeds().items()}
    host = made.backward(given, Pass(method), seeds, WRT)
    record = made.run(given, host.needs)
    return DeviceExecutor(host.plan, stand_in_ops()), record, host.backward(record, seeds)


def random_seeds(names=tuple(SEEDS), seed=2):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=SEEDS[name]).astype(np.float32) for name in names}
