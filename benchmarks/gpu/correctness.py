"""The device executor against the host's: primitives, rules, and the kernels under compute-sanitizer."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Plan
from onnxvis.engine.runtime import Runtime
from onnxvis.ops.device import DeviceOps
from onnxvis.ops.host import HostOps

__all__ = ["TOLERANCE", "Row", "compared", "joined", "primitives", "rules", "said", "sanitizer"]

TOLERANCE, HALF = 1e-5, 3e-3  # of the largest number; in float16
Row = dict[str, Any]


def compared(what: str, compute: Callable[[], tuple[Any, Any]], tolerance: float = TOLERANCE) -> Row:
    """One comparison: the largest difference over the largest number.  An error is a failure."""
    try:
        ours, theirs = compute()
    except Exception as error:
        return {"what": what, "passed": False, "why": said(error)}
    difference = math.inf
    if ours.shape == theirs.shape and ours.dtype == theirs.dtype:
        ours, theirs = (np.asarray(array, np.float64) for array in (ours, theirs))
        difference = float(abs(ours - theirs).max(initial=0) / abs(theirs).max(initial=1e-30))
    return {"what": what, "difference": difference, "passed": difference <= tolerance}


def said(error: BaseException) -> str:
    """What a row says of an error; where it arose goes to stderr."""
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"[:300]


def joined(arrays: Mapping[str, Any]) -> Any:
    """Several results as one vector."""
    return np.concatenate([np.ravel(array) for array in arrays.values()])


def primitives(ops: DeviceOps, windows: int = 100) -> Iterator[Row]:
    """Every use of a primitive that the tests know, and every kind of window."""
    from ops.expressions import EXPRESSIONS
    from ops.windows import frequent_windows, random_windows

    host, allowed = HostOps(ops.dtype), HALF if ops.dtype == np.float16 else TOLERANCE

    def both(use: Callable[..., Any], *arrays: Any) -> Callable[[], tuple[Any, Any]]:
        def compute() -> tuple[Any, Any]:
            theirs = np.asarray(use(host, *map(host.constant, arrays)))
            with ops.gpu.running():
                return ops.gpu.download(use(ops, *map(ops.constant, arrays))), theirs

        return compute

    name = ops.dtype.name
    for expression in EXPRESSIONS:
        yield compared(f"{expression.id.strip()} {name}", both(expression.use, *expression.arrays), allowed)
    rng = np.random.default_rng(0)
    for window in [*frequent_windows(), *random_windows(windows, pooling=True, seed=1)]:
        x, g = (rng.normal(size=(2, 4, *size)) for size in (window.size_in, window.size_out))
        w, above = rng.normal(size=(6, 2, *window.kernel)), rng.normal(size=(2, 6, *window.size_out))
        uses: dict[str, tuple[Any, ...]] = {
            "window_sum": (x,), "window_spread": (g,), "max_route": (g, np.where(x > 1, np.nan, np.round(x))),
            "conv": (x, w), "conv_transpose": (above, w), "conv_transpose_onto": (x, above, w),
        }  # fmt: skip
        for kind, arrays in uses.items():
            rest = (window, 2) if kind.startswith("conv") else (window,)
            use = lambda on, *a, k=kind, r=rest: getattr(on, k)(*a, *r)  # noqa: E731
            yield compared(f"{kind} {name} {window}", both(use, *arrays), allowed)
        # One group, in which two pairs are stacked, and no sums around 0, where rounding tells the sign.
        pairs = [abs(array) for array in (x, rng.normal(size=(6, 4, *window.kernel))) * 2]
        for kind, more in (("conv_quotient", [window, 1, 0.5]), ("conv_transpose_product", [window])):

            def of_two(on: Any, g: Any, *given: Any, kind: str = kind, more: Sequence[Any] = more) -> Any:
                return getattr(on, kind)(g, [given[:2], given[2:]], *more)

            yield compared(f"{kind} {name} {window}", both(of_two, above, *pairs), allowed)

        def onto(on: Any, g: Any, x: Any, w: Any, window: Any = window) -> Any:
            x = on.conv_transpose_product_onto(x, g, [(x, w)], window)
            return on.conv_transpose_onto(x, g, w, window)

        yield compared(
            f"conv_transpose_onto of one group {name} {window}", both(onto, above, *pairs[:2]), allowed
        )
        for gate in ("gradient", "guided", "deconvnet"):

            def gated(on: Any, g: Any, x: Any, w: Any, window: Any = window, gate: Any = gate) -> Any:
                y = None if gate == "deconvnet" else x
                onto = on.conv_transpose_gated(gate, y, None, g, w, window)
                return on.conv_transpose_gated(gate, y, onto, g, w, window)

            what = f"conv_transpose_gated {gate} of one group {name} {window}"
            yield compared(what, both(gated, above, x, pairs[1]), allowed)


def rules(ops: DeviceOps) -> Iterator[Row]:
    """Every (operator, method) case of tests/rules on the device and on the host."""
    from rules.cases import pairs

    runtime = Runtime("cpu", threads=1)
    for case, method in pairs():
        plan = case.plan(method, np.float32)
        if plan.traceable:
            yield _rule(f"{case.id} {method}", case, plan, ops, runtime)


def _rule(what: str, case: Any, plan: Plan, ops: DeviceOps, runtime: Runtime) -> Row:
    """One case, often enough for the pass to become a CUDA graph, whose answer is the one compared."""
    device = DeviceExecutor(plan, ops)

    def compute() -> tuple[Any, Any]:
        arrays, seeds = case.record(np.float32), {"y": case.seed(np.float32)}
        record = Record({name: runtime.value(array) for name, array in arrays.items()})
        for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
            ours = device.backward(Record(record.raw), seeds)
        return joined(ours), joined(HostExecutor(plan).backward(arrays, seeds))

    return {**compared(what, compute), "graph": device.uncaptured or "captured"}


def sanitizer(seconds: float) -> Iterator[Row]:
    """The kernels under compute-sanitizer: memory, then races, then what was never written."""
    if shutil.which("compute-sanitizer") is None:
        yield {"what": "compute-sanitizer is not installed", "passed": True}
        return
    with ThreadPoolExecutor() as pool:
        yield from pool.map(partial(_sanitized, seconds=seconds), ("memcheck", "racecheck", "initcheck"))


def _sanitized(tool: str, seconds: float) -> Row:
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
    if tool == "memcheck":  # libraries look around for what a driver has, and are told that it has not
        command += ["--report-api-errors", "no"]
    command += [sys.executable, "-m", "benchmarks.gpu", "--child", "few"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"what": tool, "passed": False, "why": f"took more than {seconds:g} s"}
    said = (ended.stdout + ended.stderr)[-300:]
    return {"what": tool, "passed": ended.returncode == 0, "why": "" if ended.returncode == 0 else said}
