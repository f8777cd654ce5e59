"""Measurements in processes of their own: what one leaves behind is none of the next one's business."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

__all__ = ["in_process", "progress"]

Row = dict[str, Any]


def in_process(
    where: Mapping[str, Any], threads: int, function: Callable[..., list[Row]], *arguments: Any
) -> list[Row]:
    """A function's rows, from a process of its own; where that does not survive, a row that says so."""
    start = time.perf_counter()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            rows = pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            failed = {"all": f"the process ended early, as it does without memory: {error}"}
            rows = [{"batch": 0, **where, "task": "all", "measures": {}, "times": {}, "failed": failed}]
    progress(where, start)
    return rows


def progress(where: Mapping[str, Any], start: float) -> None:
    """A line on stderr: what is done, and how long it took."""
    said = ", ".join(f"{key} {value}" for key, value in where.items())
    print(f"{said}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
