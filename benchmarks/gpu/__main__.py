"""The GPU engine on the GPU that is at hand: is it right, and how fast is it?

Eight parts, each a process of its own, so that what breaks one leaves the others; ``--only`` picks some.
Those that measure no time run side by side, the others one after the other behind them:

- ``kernels``: every primitive of the closed set on the device and on the host, in float32, float64 and
  float16, and arrays that 64-bit indices count;
- ``ways``: every way of convolving by tensor cores;
- ``rules``: every (operator, method) case, on the device and on the host;
- ``bandwidth``: the kernels that only move memory, against a plain copy of as many bytes;
- ``outside``: the share of a warm call's time in which no kernel runs, for both nets at batch 1;
- ``compiled``: gradients of both nets at batch 1 against torch.compile;
- ``nets``: both, gradient and LRP, against the host executor, PyTorch and zennit on the same GPU: times by
  device events, medians, both sides from host array to host array;
- ``sanitizer``: some of the primitives once more under compute-sanitizer, where that is installed.

Needs CuPy and a GPU; ``outside``, ``compiled`` and ``nets`` also torch built for CUDA, torchvision and
zennit, and onnxruntime-gpu for more than the way back.  Writes ``results/NAME_OF_THE_GPU.json`` and a table
after each part; parts that were run before under the same circumstances stay.  Run from the repository's
root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import RESULTS, circumstances, keep, kept, table
from onnxvis.errors import OnnxvisError
from onnxvis.ops.device import find_gpu

from .correctness import Row

UNTIMED = ("kernels", "ways", "rules", "sanitizer")
TIMED = ("bandwidth", "outside", "compiled", "nets")
PARTS = (*UNTIMED, *TIMED)
MEGABYTES = 512


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--seconds", type=float, default=300, help="for one part; what it found by then stays"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, default=Path(os.devnull), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        return child(chosen.child, chosen.into, chosen.seconds)
    try:
        name, where = _where()
    except OnnxvisError as error:
        parser.exit(2, f"{error}\n")
    file = name.lower().replace(" ", "_")
    results: dict[str, list[Row]] = kept(file, where, chosen.results) or {}
    said = ""
    for part, rows in found(chosen.only, chosen.seconds):
        results[part] = rows
        said = keep(file, f"The GPU engine on {name}", where, body(results), results, chosen.results)
    print(said)
    return 1 if any(not row["passed"] for part in chosen.only for row in results[part]) else 0


def _where() -> tuple[str, dict[str, str]]:
    """The GPU's name, and versions."""
    gpu = find_gpu()
    name = gpu.xp.cuda.runtime.getDeviceProperties(gpu.index)["name"].decode()
    packages = (
        "onnxvis",
        "onnxruntime-gpu",
        "onnxruntime",
        "nvidia-cudnn-frontend",
        "torch",
        "zennit",
        "numpy",
    )
    return name, {"gpu": name, **circumstances(*packages), "cupy": gpu.xp.__version__}


def found(parts: Collection[str], seconds: float) -> Iterator[tuple[str, list[Row]]]:
    """The parts' rows, as they come."""

    def timed(part: str) -> tuple[str, list[Row]]:
        start = time.perf_counter()
        rows = in_a_process(part, seconds)
        print(f"{part}: {counted(rows)}, {time.perf_counter() - start:.0f} s", flush=True)
        return part, rows

    with ThreadPoolExecutor() as pool:
        yield from pool.map(timed, [part for part in UNTIMED if part in parts])
    yield from map(timed, [part for part in TIMED if part in parts])


# ---- a process for each part ---------------------------------------------------------------------


def in_a_process(part: str, seconds: float) -> list[Row]:
    """The rows of a part; how its process ended, where that was not by itself, is one more."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "rows"
        command = [sys.executable, "-m", "benchmarks.gpu", "--child", part, "--into", str(into)]
        try:
            ended = subprocess.run(
                [*command, "--seconds", str(seconds)],
                capture_output=True, text=True, check=False, timeout=seconds,
            )  # fmt: skip
            why = "" if ended.returncode == 0 else (ended.stdout + ended.stderr)[-1500:]
        except subprocess.TimeoutExpired:
            why = f"took more than {seconds:g} s"
        rows = [json.loads(line) for line in into.read_text().splitlines()] if into.exists() else []
    return [*rows, {"what": "the process", "passed": False, "why": why}] if why else rows


def child(part: str, into: Path, seconds: float) -> int:
    """Run a part and write each row as soon as it is there; 1 where "few", run for its exit code, fails."""
    failed = False
    with into.open("w") as lines:
        for row in rows_of(part, seconds):
            failed |= not row["passed"]
            lines.write(json.dumps(row) + "\n")
            lines.flush()
    return int(failed and part == "few")


def rows_of(part: str, seconds: float) -> Iterator[Row]:
    from onnxvis.ops.device import DeviceOps, device_ops

    from .bandwidth import bandwidth
    from .correctness import primitives, rules, sanitizer
    from .large import large
    from .nets import Nets
    from .timing import Clock
    from .ways import ways

    if part == "sanitizer":  # which has processes of its own, and needs the GPU itself for nothing
        yield from sanitizer(0.9 * seconds)
        return
    single, *others = (device_ops(np.dtype(dtype), "float32") for dtype in ("float32", "float64", "float16"))
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "kernels": lambda: chain(*map(primitives, (single, *others)), large(single)),
        "ways": lambda: ways(single),
        # Of what was never written, cuDNN reads some: without it the convolutions are our own kernels.
        "few": lambda: primitives(DeviceOps(single.gpu), windows=5),
        "rules": lambda: rules(single),
        "bandwidth": lambda: bandwidth(single, MEGABYTES * 10**6, Clock(single.gpu)),
        "outside": lambda: Nets(single.gpu, Clock(single.gpu)).outside_kernels(),
        "compiled": lambda: Nets(single.gpu, Clock(single.gpu)).compiled(),
        "nets": lambda: Nets(single.gpu, Clock(single.gpu, seconds=2.5)).rows(),
    }
    yield from parts[part]()


# ---- what it says --------------------------------------------------------------------------------


def body(results: dict[str, list[Row]]) -> str:
    """Counts for what is right or wrong, tables for what was measured."""
    parts = []
    for name, rows in results.items():
        parts.append(f"## {name}\n\n{counted(rows)}.")
        shown = rows if name in TIMED else [row for row in rows if not row["passed"]]
        if shown:
            head = [*dict.fromkeys(key for row in shown for key in row)]
            parts.append(table(head, [[_cell(row.get(key, "–")) for key in head] for row in shown]))
    return "\n\n".join(parts)


def counted(rows: Sequence[Row]) -> str:
    return f"{sum(row['passed'] for row in rows)} of {len(rows)} passed"


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("\n", " ").replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
