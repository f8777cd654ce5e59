"""What it costs to start: from a file to the first heat map, in a process of its own, and its memory.

Every contestant is a fresh Python process: it imports what it needs, opens the net, computes the
gradient of one unit on one thread, and writes it; then it goes on, warm, and says at the end how much
memory it ever held.  torch opens a pickled module, which is its quickest way to a whole net.  Files are
in the page cache.  Contestants take turns.

Run from the repository's root: ``python -m benchmarks.footprint [--nets NET…]`` (``benchmarks.speed``
includes it); with ``--as CONTESTANT``, it is one of those processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["NETS", "measure", "run"]

NETS = ("squeezenet1_1", "resnet50", "vgg16")
WARM_CALLS = 5
ROOT = Path(__file__).parents[1]
Explain = Callable[[], Any]


def measure(net: str, rounds: int) -> dict[str, Any]:
    """A row: for each contestant seconds to the first heat map, ms warm and MB, the smallest of each.

    Each starts ``rounds`` times.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / net
        unit = _save(net, files.parent)
        for turn in range(rounds):
            for name in list(CONTESTANTS)[:: -1 if turn % 2 else 1]:
                found[name].append(run(name, files, unit))
        maps = {name: np.fromfile(_written(files, name), np.float32) for name in CONTESTANTS}
    best = {name: {key: min(each[key] for each in runs) for key in runs[0]} for name, runs in found.items()}
    where = {"net": net, "task": "footprint", "batch": 1, "threads": 1}
    return {**where, "contestants": best, "measures": _measures(best, maps)}


def _measures(best: Mapping[str, Mapping[str, float]], maps: Mapping[str, Any]) -> dict[str, float]:
    """onnxvis over the others, and how far apart their heat maps are."""
    ours, values = best["onnxvis"], maps["onnxvis"]
    measures = {"first heat map, seconds": ours["first_s"]}
    for name, theirs in maps.items():
        if name != "onnxvis":
            measures[f"first heat map / {name}"] = ours["first_s"] / best[name]["first_s"]
            measures[f"memory / {name}"] = ours["peak_mb"] / best[name]["peak_mb"]
            difference = np.abs(values - theirs).max() / np.abs(theirs).max()
            measures[f"difference from {name}"] = float(difference)
    return measures


def _written(files: Path, name: str) -> Path:
    """Where a contestant writes its heat map."""
    return files.with_name(f"{files.name}.{name}.raw")


def _save(net: str, folder: Path) -> int:
    """The files of the net, by a process that takes its memory with it; the unit to explain."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_saved, net, folder).result()


def _saved(net: str, folder: Path) -> int:
    from .contests import save_files

    return save_files(net, folder)


def run(name: str, files: Path, unit: int) -> dict[str, float]:
    """One contestant's run: its clock starts before Python does."""
    command = [sys.executable, "-m", "benchmarks.footprint", "--as", name, str(files), str(unit)]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # A package that pip has installed need not be compiled: neither is this one, after the first process.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # "written"
        first = time.perf_counter() - start
        rest = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{name} ended with code {process.returncode}: {' '.join(command)}")
    return {"first_s": first, **json.loads(rest)}


# ---- in the process ------------------------------------------------------------------------------


def _onnxvis(files: Path, unit: int) -> Explain:
    import onnxvis

    x, model = np.load(f"{files}.npy"), onnxvis.load(f"{files}.onnx", threads=1)
    return lambda: model.explain(x, "gradient", target=unit).values


def _torch(files: Path, unit: int) -> Explain:
    net, x = _torch_files(files)

    def explain() -> Any:
        there = x.clone().requires_grad_()
        net(there)[:, unit].sum().backward()
        return there.grad.numpy()

    return explain


def _captum(files: Path, unit: int) -> Explain:
    net, x = _torch_files(files)
    from captum.attr import Saliency

    method = Saliency(net)
    return lambda: method.attribute(x.clone().requires_grad_(), target=unit, abs=False).detach().numpy()


def _torch_files(files: Path) -> tuple[Any, Any]:
    from tests.peers.torchvision_shim import import_torchvision

    import_torchvision()  # unpickling a net of its imports it
    import torch

    torch.set_num_threads(1)
    net = torch.load(f"{files}.pt", weights_only=False, mmap=True)
    return net, torch.from_numpy(np.load(f"{files}.npy"))


CONTESTANTS: dict[str, Callable[[Path, int], Explain]] = {
    "onnxvis": _onnxvis,
    "torch": _torch,
    "captum": _captum,
}


def _contestant(name: str, files: Path, unit: int) -> None:
    """Say when the first heat map is written, then how long a warm one takes and how much memory it took."""
    explain = CONTESTANTS[name](files, unit)
    values = explain()
    _written(files, name).write_bytes(values.tobytes())
    print("written", flush=True)
    times = []
    for _ in range(WARM_CALLS):
        start = time.perf_counter()
        explain()
        times.append(time.perf_counter() - start)
    print(json.dumps({"warm_ms": 1000 * min(times), "peak_mb": _peak()}))


def _peak() -> float:
    """The most memory that this process ever held, in 10⁶ bytes.

    On Linux ``ru_maxrss`` starts from what the parent held when it made this process; VmHWM does not.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contestant")
    parser.add_argument("--as", dest="contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.contestant:
        files, unit = chosen.rest
        _contestant(chosen.contestant, Path(files), int(unit))
        return
    for net in chosen.nets:
        print(json.dumps(measure(net, chosen.rounds), indent=2))


if __name__ == "__main__":
    main()
