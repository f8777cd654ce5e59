"""The GPU engine on the GPU that is at hand: is it right, and how fast is it?

Five parts, in this order; ``--only`` picks some:

- ``kernels``: every primitive of the closed set on the device and on the host, in float32 and float64;
- ``sanitizer``: the same once more under compute-sanitizer, where that is installed;
- ``rules``: every (operator, method) case, on the device and on the host;
- ``bandwidth``: the kernels that only move memory, against a plain copy of as many bytes;
- ``nets``: ResNet-50 and VGG-16, gradient and LRP, against the host executor, PyTorch (eager and compiled)
  and zennit on the same GPU: times by device events, medians, both sides from host array to host array.

Needs CuPy and a GPU; ``nets`` also torch built for CUDA, torchvision and zennit.  Writes
``results/GPU.json`` and a table.  Run from the repository's root: ``python -m benchmarks.gpu``.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import onnxvis
from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Plan
from onnxvis.engine.runtime import Runtime
from onnxvis.ops.device import DeviceOps, Gpu, device_ops
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window

from .reporting import circumstances, table, write

TOLERANCE = 1e-5
PARTS = ("kernels", "sanitizer", "rules", "bandwidth", "nets")
Row = dict[str, Any]
Clock = Callable[[Callable[[], object]], float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quiet", action="store_true", help="write no results (for the sanitizer)")
    parser.add_argument("--megabytes", type=int, default=512, help="size of arrays for the bandwidth")
    chosen = parser.parse_args(arguments)
    ops = {dtype: device_ops(np.dtype(dtype), "float32") for dtype in ("float32", "float64")}
    gpu = ops["float32"].gpu
    parts: dict[str, Callable[[], list[Row]]] = {
        "kernels": lambda: [row for used in ops.values() for row in primitives(used)],
        "sanitizer": sanitizer,
        "rules": lambda: rules(ops["float32"]),
        "bandwidth": lambda: bandwidth(ops["float32"], chosen.megabytes * 10**6, events(gpu)),
        "nets": lambda: nets(events(gpu)),
    }
    results = {name: parts[name]() for name in PARTS if name in chosen.only}
    failed = [row for rows in results.values() for row in rows if not row["passed"]]
    if not chosen.quiet:
        name = gpu.xp.cuda.runtime.getDeviceProperties(gpu.index)["name"].decode()
        where = {"gpu": name, **circumstances("onnxvis", "onnxruntime-gpu", "torch", "zennit", "numpy")}
        where["cupy"] = gpu.xp.__version__
        write(name.lower().replace(" ", "_"), f"The GPU engine on {name}", where, body(results), results)
    return 1 if failed else 0


def body(results: dict[str, list[Row]]) -> str:
    """Counts for what is right or wrong, tables for what was measured."""
    parts = []
    for name, rows in results.items():
        wrong = [row for row in rows if not row["passed"]]
        parts.append(f"## {name}\n\n{len(rows) - len(wrong)} of {len(rows)} passed.")
        shown = rows if name in ("bandwidth", "nets") else wrong
        if shown:
            head = [*dict.fromkeys(key for row in shown for key in row)]
            parts.append(table(head, [[_cell(row.get(key, "–")) for key in head] for row in shown]))
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# ---- is it right? --------------------------------------------------------------------------------


def _row(what: str, compute: Callable[[], tuple[Any, Any]], tolerance: float = TOLERANCE) -> Row:
    """One comparison: the largest difference over the largest number; an error is a failure."""
    try:
        ours, theirs = compute()
    except Exception as error:
        return {"what": what, "passed": False, "why": f"{type(error).__name__}: {error}"[:300]}
    alike = ours.shape == theirs.shape and ours.dtype == theirs.dtype
    difference = math.inf
    if alike:
        largest = abs(theirs * 1.0).max(initial=1e-30)
        difference = float(abs(ours * 1.0 - theirs * 1.0).max(initial=0) / largest)
    return {"what": what, "difference": difference, "passed": difference <= tolerance}


def primitives(ops: DeviceOps) -> list[Row]:
    """Every use of a primitive that the tests know, and every kind of window."""
    from tests.ops.expressions import EXPRESSIONS
    from tests.ops.windows import random_windows

    host = HostOps(ops.dtype)

    def both(use: Callable[..., Any], *arrays: Any) -> Callable[[], tuple[Any, Any]]:
        def compute() -> tuple[Any, Any]:
            theirs = np.asarray(use(host, *map(host.constant, arrays)))
            with ops.gpu.running():
                return ops.gpu.download(use(ops, *map(ops.constant, arrays))), theirs

        return compute

    name = ops.dtype.name
    rows = [_row(f"{e.id.strip()} {name}", both(e.use, *e.arrays)) for e in EXPRESSIONS]
    rng = np.random.default_rng(0)
    for window in random_windows(100, pooling=True, seed=1):
        x, g = (rng.normal(size=(2, 4, *size)) for size in (window.size_in, window.size_out))
        w, above = rng.normal(size=(6, 2, *window.kernel)), rng.normal(size=(2, 6, *window.size_out))
        uses: dict[str, tuple[Any, ...]] = {
            "window_sum": (x,), "window_spread": (g,), "max_route": (g, np.round(x)), "conv": (x, w),
            "conv_transpose": (above, w),
        }  # fmt: skip
        for kind, arrays in uses.items():
            rest = (window, 2) if kind.startswith("conv") else (window,)
            use = lambda on, *a, k=kind, r=rest: getattr(on, k)(*a, *r)  # noqa: E731
            rows.append(_row(f"{kind} {name} {window}", both(use, *arrays)))
    return rows


def rules(ops: DeviceOps) -> list[Row]:
    """Every (operator, method) case of tests/rules on the device and on the host."""
    from tests.rules.cases import pairs

    runtime = Runtime("cpu", threads=1)
    planned = ((f"{case.id} {method}", case, case.plan(method, np.float32)) for case, method in pairs())
    return [_rule(what, case, plan, ops, runtime) for what, case, plan in planned if plan.traceable]


def _rule(what: str, case: Any, plan: Plan, ops: DeviceOps, runtime: Runtime) -> Row:
    """One case, often enough for the pass to become a CUDA graph, whose answer is the one compared."""
    device = DeviceExecutor(plan, ops)

    def compute() -> tuple[Any, Any]:
        arrays, seeds = case.record(np.float32), {"y": case.seed(np.float32)}
        record = Record({name: runtime.value(array) for name, array in arrays.items()})
        for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
            ours = device.backward(Record(record.raw), seeds)
        return _joined(ours), _joined(HostExecutor(plan).backward(arrays, seeds))

    return {**_row(what, compute), "graph": device.uncaptured or "captured"}


def _joined(arrays: Mapping[str, Any]) -> Any:
    """Several results as one vector."""
    return np.concatenate([np.ravel(array) for array in arrays.values()])


def sanitizer() -> list[Row]:
    """The kernels under compute-sanitizer: memory, then races, then what was never written."""
    if shutil.which("compute-sanitizer") is None:
        return [{"what": "compute-sanitizer is not installed", "passed": True}]
    rows = []
    for tool in ("memcheck", "racecheck", "initcheck"):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m"]
        command += ["benchmarks.gpu", "--quiet", "--only", "kernels"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        rows.append(
            {"what": tool, "passed": ended.returncode == 0, "why": (ended.stdout + ended.stderr)[-300:]}
        )
    return rows


# ---- how fast is it? -----------------------------------------------------------------------------


def events(gpu: Gpu, rounds: int = 30, warm: int = 5) -> Clock:
    """Milliseconds of a call by events on the engine's stream: the median over ``rounds``."""

    def clock(call: Callable[[], object]) -> float:
        for _ in range(warm):
            call()
        times = []
        for _ in range(rounds):
            start, end = gpu.xp.cuda.Event(), gpu.xp.cuda.Event()
            start.record(gpu.stream)
            call()
            end.record(gpu.stream)
            end.synchronize()
            times.append(gpu.xp.cuda.get_elapsed_time(start, end))
        return statistics.median(times)

    return clock


def bandwidth(ops: DeviceOps, size: int, clock: Clock, goal: float = 0.8) -> list[Row]:
    """Gigabytes a second of memory-bound kernels, each input read once and each output written once."""
    gpu, count = ops.gpu, size // 4
    side = math.isqrt(count // 64)
    pool = Window((3, 3), (2, 2), (1, 1), (1, 1), (side, side), ((side + 1) // 2,) * 2)
    with gpu.running():
        x, g = ops.zeros((count,)), ops.zeros((count,)) + 1.0
        image, small = ops.zeros((1, 64, side, side)), ops.zeros((1, 64, *pool.size_out))
        read, pooled = image.nbytes, small.nbytes
        calls: dict[str, tuple[Callable[[], object], int]] = {
            "copy": (lambda: x.copy(), 2 * size),
            "rectify": (lambda: ops.gate(g, x, True), 3 * size),
            "split": (lambda: ops.split(x), 3 * size),
            "quotient": (lambda: ops.quotient(g, x), 3 * size),
            "multiply_back": (lambda: ops.sum_of_products((x, g), (g, x)), 5 * size),
            "window_sum": (lambda: ops.window_sum(image, pool), read + pooled),
            "window_spread": (lambda: ops.window_spread(small, pool), read + pooled),
            # int32 winners are written by one kernel and read by the other
            "max_route": (lambda: ops.max_route(small, image, pool), 2 * read + 3 * pooled),
        }
        rates = {name: moved / clock(call) / 1e6 for name, (call, moved) in calls.items()}
    return [
        {"kernel": name, "GB/s": rate, "of copy": rate / rates["copy"], "goal": goal,
         "passed": rate >= goal * rates["copy"]}
        for name, rate in rates.items()
    ]  # fmt: skip


def nets(clock: Clock) -> list[Row]:
    """Whole explanations, forward and backward pass, of nets with random weights."""
    from tests.peers.nets import build, export, torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows = []
    for name in ("resnet50", "vgg16"):
        net = build(name)
        model = onnxvis.load(export(net, torch.zeros(1, 3, 224, 224)), device="cuda")
        rivals = {"torch eager": net.cuda(), "torch.compile": torch.compile(net.cuda())}
        for batch in (1, 32):
            rows += _net(name, model, rivals, _pictures(batch), clock)
    return rows


def _pictures(count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3, 224, 224)).astype(np.float32)


def _net(name: str, model: onnxvis.Model, rivals: Mapping[str, Any], x: Any, clock: Clock) -> list[Row]:
    """One net at one batch size: the gradient at each, relevance in batches, what is right at one sample."""

    def gradient() -> object:
        return model.explain(x, "gradient", target=1)

    def relevance() -> object:
        return model.explain(x, "lrp", target=1, composite="epsilon_plus", seed="one")

    rows = [
        _contest(f"{name} gradient batch {len(x)}", gradient, rival, _gradient(module, x), 1.0, clock)
        for rival, module in rivals.items()
        if len(x) == 1 or rival == "torch eager"
    ]
    if len(x) == 1:
        rows[0]["outside kernels"] = _outside_kernels(gradient, clock)
        return rows + [_against_host(name, method, model, x) for method in ("gradient", "lrp")]
    what = f"{name} epsilon_plus batch {len(x)}"
    return [*rows, _contest(what, relevance, "zennit", _zennit(name, x), 0.3, clock)]


def _contest(
    what: str, ours: Callable[[], object], rival: str, theirs: Callable[[], object], goal: float, clock: Clock
) -> Row:
    mine, other = clock(ours), clock(theirs)
    row = {"what": what, "onnxvis ms": mine, "rival": rival, "rival ms": other, "ratio": mine / other}
    return {**row, "goal": goal, "passed": mine <= goal * other}


def _against_host(name: str, method: str, ours: Any, x: Any) -> Row:
    """The backward pass over the same forward pass: two of these may decide differently at a kink."""
    engine = ours.engine

    def compute() -> tuple[Any, Any]:
        ours.explain(x, method, target=1)  # builds the executor, and its graph once it was called again
        executor = next(reversed(engine._executors.values()))
        record = engine.run({engine.file_graph.inputs[0]: x}, (*executor.needs, *executor.plan.seeds))
        seeds = {n: np.ones_like(record[n]) for n in executor.plan.seeds}
        theirs = HostExecutor(executor.plan).backward(dict(record), seeds)
        return _joined(executor.backward(record, seeds)), _joined(theirs)

    return _row(f"{name} {method} against the host", compute)


def _gradient(module: Any, x: Any) -> Callable[[], object]:
    from tests.peers.nets import torch

    def run() -> object:
        there = torch.from_numpy(x).cuda().requires_grad_()
        (g,) = torch.autograd.grad(module(there)[:, 1].sum(), there)
        return g.cpu().numpy()

    return run


def _zennit(name: str, x: Any) -> Callable[[], object]:
    from tests.peers.libraries import peer
    from tests.peers.nets import build, torch

    kind = "ResNetCanonizer" if name.startswith("resnet") else "VGGCanonizer"
    canonizer = getattr(peer("zennit.torchvision"), kind)()
    composite = peer("zennit.composites").EpsilonPlus(canonizers=[canonizer])
    attributor = peer("zennit.attribution").Gradient(build(name).cuda(), composite)
    attributor.__enter__()  # the hooks stay in place for all calls
    seed = torch.nn.functional.one_hot(torch.full((len(x),), 1), 1000).float().cuda()
    return lambda: attributor(torch.from_numpy(x).cuda().requires_grad_(), seed)[1].cpu().numpy()


def _outside_kernels(call: Callable[[], object], clock: Clock) -> float:
    """Share of a warm call's time in which no kernel runs, all libraries' kernels counted."""
    from tests.peers.nets import torch

    whole = clock(call)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
    kernels = sum(entry.self_device_time_total for entry in profile.key_averages()) / 1000
    return 1 - kernels / whole


if __name__ == "__main__":
    sys.exit(main())
