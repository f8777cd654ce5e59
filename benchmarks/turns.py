"""Contestants that take turns at a clock, so that what slows the machine down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Times", "ratios", "summary", "take_turns"]

Times = dict[str, list[float]]
"""Seconds of each call, by contestant."""


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    least: int = 3,
    most: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Rounds in which each contestant makes one call; who begins, and who follows whom, changes.

    As many rounds as fit into ``seconds``, but no less than ``least`` and no more than ``most``.
    """
    names = list(calls)
    times: Times = {name: [] for name in names}
    start = clock()
    for turn in range(most):
        if turn >= least and (clock() - start) * (turn + 1) / turn > seconds:
            break
        shift = turn % len(names)
        order = names[shift:] + names[:shift]
        for name in order[:: -1 if turn % 2 else 1]:
            began = clock()
            calls[name]()
            times[name].append(clock() - began)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Milliseconds: the smallest, which noise disturbs least, and the median; and of how many calls."""
    middle = statistics.median(times)
    return {"minimum_ms": 1000 * min(times), "median_ms": 1000 * middle, "calls": len(times)}


def ratios(times: Times, ours: str, forward: str, passes: int) -> dict[str, float]:
    """The smallest time of ``ours`` over every other's: {"time / NAME": ratio}.

    Of ``forward``, which is one plain forward pass, ``passes`` count: "time / floor".
    """
    smallest = {name: min(found) for name, found in times.items()}
    mine, floor = smallest.pop(ours), passes * smallest.pop(forward)
    return {f"time / {name}": mine / value for name, value in ({"floor": floor} | smallest).items()}
