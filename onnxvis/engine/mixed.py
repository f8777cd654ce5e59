"""The mixed executor: plain Python rules on the host, what lies between them compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from onnxvis.ops.trace import NotTraceableError

from .compiled import CompiledExecutor, trace
from .forward import Record
from .host import HostExecutor
from .plan import Plan, PlannedStep
from .runtime import Runtime

__all__ = ["MixedExecutor"]

Arrays = Mapping[str, np.ndarray[Any, Any]]
PLAIN_PYTHON = RLock()  # held by the thread that runs rules whose author may not have thought of several


class _Stretch(NamedTuple):
    """Steps that one executor runs; what arrives at ``entering`` before it, it takes along."""

    executor: CompiledExecutor | HostExecutor
    entering: tuple[str, ...]
    leaving: tuple[str, ...]

    def run(self, record: Record, given: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        with nullcontext() if isinstance(self.executor, CompiledExecutor) else PLAIN_PYTHON:
            return self.executor.backward(record, given)


class MixedExecutor:
    """Runs a plan in stretches: as many compiled ones as there are, the host for rules that need arrays."""

    name = "mixed"

    def __init__(self, plan: Plan, runtime: Runtime, dtype: Any = np.float32) -> None:
        self.plan, self.dtype = plan, np.dtype(dtype)
        self.stretches = [*self._cut(runtime)]
        self.needs = tuple(dict.fromkeys(n for s in self.stretches for n in s.executor.needs))

    def _cut(self, runtime: Runtime) -> Iterator[_Stretch]:
        parts = [
            (traceable, tuple(steps))
            for traceable, steps in groupby(self.plan.steps, lambda step: _traceable(self.plan, step))
        ]
        arrived = set(self.plan.seeds)
        for position, (traceable, steps) in enumerate(parts):
            later = [step for _, rest in parts[position + 1 :] for step in rest]
            entering = tuple(name for name in _outputs(steps) if name in arrived)
            reached = set(_reached(steps))
            awaited = {*self.plan.wrt, *_outputs(later)}
            leaving = tuple(sorted((reached | set(entering)) & awaited))
            plan = replace(self.plan, steps=steps, seeds=entering, wrt=leaving)
            executor = CompiledExecutor(plan, runtime, self.dtype) if traceable else None
            yield _Stretch(executor or HostExecutor(plan, self.dtype), entering, leaving)
            arrived |= reached

    def backward(self, record: Record, seeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """What arrives at ``plan.wrt`` (see ``HostExecutor.backward``)."""
        totals = {name: np.asarray(seed, self.dtype) for name, seed in seeds.items()}
        for stretch in self.stretches:
            given = {name: totals[name] for name in stretch.entering}
            for name, found in stretch.run(record, given).items():
                more = name in totals and name not in stretch.entering
                totals[name] = totals[name] + found if more else found
        shape = self.plan.graph.shape
        return {n: totals[n] if n in totals else np.zeros(shape(n), self.dtype) for n in self.plan.wrt}


def _traceable(plan: Plan, step: PlannedStep) -> bool:
    """True where the step's rule works on traced values."""
    if not step.rule.traceable:
        return False
    outputs = tuple(filter(None, step.node.outputs))
    try:
        trace(replace(plan, steps=(step,), seeds=outputs, wrt=tuple(dict.fromkeys(_reached([step])))))
    except NotTraceableError:
        return False
    return True


def _outputs(steps: Iterable[PlannedStep]) -> list[str]:
    return list(dict.fromkeys(name for step in steps for name in step.node.outputs if name))


def _reached(steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Tensors that the steps propagate to."""
    return (step.node.inputs[index] for step in steps for index in sorted(step.wanted))
