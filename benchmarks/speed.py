"""How fast onnxvis is on a CPU, side by side with others, and what it costs to start.

Nine nets of torchvision at 224×224, at batch 1 and (the main tasks) 8, on one thread and on two.  A call
is everything that an answer takes once all is built: forward pass, and backward pass to the input or to
the layer.  The contestants of a task take turns in one process, and a plain onnxruntime forward pass with
them: the floor is as many of these as the task has passes.  Every net, number of threads and batch size
has a process of its own, and so has every contestant of the footprint (file to first heat map, peak memory).

Writes a table with the goals, the numbers and a plot: ``results/speed.md``, ``.json``, ``.png``, ``.svg``
(``speed_quick`` where ``--quick`` is given).  Run from the repository's root: ``python -m benchmarks.speed``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from . import footprint
from .chart import draw
from .goals import NETS, verdicts
from .processes import in_process, progress
from .reporting import RESULTS, circumstances, keep, kept, table

TASKS = (
    "forward", "gradient", "guided_backprop", "lrp epsilon_plus", "lrp epsilon_gamma_box", "gradcam",
    "gradcam heat map", "exported gradient", "exported lrp", "exported gradcam",
)  # fmt: skip
COMPILED = "compiled gradient"
PACKAGES = (
    "onnxvis", "onnxruntime", "torch", "torchvision", "zennit", "captum", "grad-cam", "numpy",
)  # fmt: skip
NOTES = (
    "Times are the smallest of all calls in ms, medians in brackets; ratios are of the smallest. The floor "
    "is one plain onnxruntime forward pass for forward and CAMs, two for the rest. Difference: the largest, "
    "relative to the rival's largest number; *: at some ReLU or MaxPool the two sides round to different "
    "sides of a tie, and differentiate two different functions; –: the rival computes something else there."
)
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    name, where = "speed_quick" if chosen.quick else "speed", circumstances(*PACKAGES)
    before = kept(name, where) if chosen.resume else None
    rows: list[Row] = [row for row in before["rows"] if row["task"] != "all"] if before else []
    text = ""
    for portion in _portions(chosen, {_origin(row) for row in rows}):
        rows += portion
        text = _keep(name, where, rows)  # a session may be cut short
    print(text)


def _keep(name: str, where: Mapping[str, str], rows: Sequence[Row]) -> str:
    order = {net: position for position, net in enumerate(NETS)}
    rows = sorted(rows, key=lambda row: order[row["net"]])
    found = verdicts(rows)
    draw(found, RESULTS / name)
    title = "Speed and footprint on a CPU, 224×224"
    return keep(name, title, where, body(rows, found), {"goals": found, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS, metavar="NET", help=", ".join(NETS))
    parser.add_argument(
        "--tasks", nargs="*", choices=TASKS, default=TASKS, metavar="TASK", help=", ".join(TASKS)
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="time for the rounds of one contest")
    parser.add_argument("--least", type=int, default=2, help="rounds of a contest, however long they take")
    parser.add_argument("--processes", type=int, default=3, help="of each contestant, for the footprint")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: a minute more a net")
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run measured here")
    parser.add_argument("--no-footprint", dest="footprint", action="store_false")
    parser.add_argument("--quick", action=_Quick, help="batch 1, one thread, fewer rounds")
    return parser


class _Quick(argparse.Action):
    """A flag that stands for several settings; what is given after it counts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "nargs": 0, "default": False})

    def __call__(self, parser: Any, namespace: argparse.Namespace, *_: Any) -> None:
        settings = {"quick": True, "batches": [1], "threads": [1], "seconds": 1.0, "processes": 2}
        vars(namespace).update(settings)


# ---- measuring -----------------------------------------------------------------------------------


Origin = tuple[str, bool, int, int]


def _origin(row: Row) -> Origin:
    """What is measured together: the net, whether its footprint, on how many threads, samples in a batch."""
    return row["net"], row["task"] == "footprint", row["threads"], row["batch"]


def _portions(chosen: argparse.Namespace, there: Collection[Origin]) -> Iterator[list[Row]]:
    """The rows of every net, number of threads and batch size, one process each, then footprints.

    What is ``there`` is left out.
    """
    tasks = [*chosen.tasks, *([COMPILED] if chosen.compile else [])]
    for threads, batch in product(chosen.threads, chosen.batches) if tasks else ():
        for net in chosen.nets:
            if (net, False, threads, batch) not in there:
                where = {"net": net, "threads": threads, "batch": batch}
                settings = (threads, batch, tasks, chosen.seconds, chosen.least)
                yield in_process(where, threads, _measured, net, *settings)
    for net in chosen.nets if chosen.footprint else ():
        if net in footprint.NETS and (net, True, 1, 1) not in there:
            start = time.perf_counter()
            yield [footprint.measure(net, chosen.processes)]
            progress({"net": net, "task": "footprint"}, start)


def _measured(*arguments: Any) -> list[Row]:
    from .contests import measure  # imports torch, which only this process is to pay for

    return measure(*arguments)


# ---- telling -------------------------------------------------------------------------------------


def body(rows: Sequence[Row], found: Sequence[Row]) -> str:
    """The goals, then every number, by threads and batch size; then the footprint."""
    parts = [f"## Goals (batch 1, one thread)\n\n{_goals(found)}"]
    timed = [row for row in rows if row["task"] != "footprint"]
    for threads, batch in dict.fromkeys((row["threads"], row["batch"]) for row in timed):
        here = [row for row in timed if (row["threads"], row["batch"]) == (threads, batch)]
        head = f"## Threads: {threads}, batch: {batch}"
        parts.append(f"{head}\n\n{_times(here)}")
    costs = [row for row in rows if row["task"] == "footprint"]
    if costs:
        parts.append(f"## Footprint (gradient, batch 1, one thread, fresh processes)\n\n{_costs(costs)}")
    return "\n\n".join([*parts, NOTES])


def _goals(found: Sequence[Row]) -> str:
    head = ["task", "measure", "net", "measured", "goal", "met"]
    lines = []
    for verdict in found:
        which = [verdict["task"], verdict["measure"], verdict["net"]]
        met = "yes" if verdict["met"] else "**no**"
        lines.append([*which, _number(verdict["value"]), f"≤ {verdict['limit']:g}", met])
    return table(head, lines)


def _times(rows: Sequence[Row]) -> str:
    """A line for each rival; one without numbers for whoever failed."""
    head = ["net", "task", "onnxvis ms", "/ floor", "rival", "rival ms", "/ rival", "difference"]
    lines = []
    for row in rows:
        times, measures = row["times"], row["measures"]
        rivals = [name for name in times if name not in ("onnxvis", "plain forward")]
        for name in rivals if "onnxvis" in times else ():
            difference = measures.get(f"difference from {name}")
            told = "–" if difference is None else f"{difference:.0e}{'' if row['alike'] else '*'}"
            lines.append(
                [row["net"], row["task"], _ms(times["onnxvis"]), _number(measures.get("time / floor")), name,
                 _ms(times[name]), _number(measures.get(f"time / {name}")), told]
            )  # fmt: skip
        for name, why in row["failed"].items():
            lines.append([row["net"], row["task"], "–", "–", name, f"failed: {why}", "–", "–"])
    return table(head, lines)


def _costs(rows: Sequence[Row]) -> str:
    head = [
        "net",
        "contestant",
        "first heat map, s",
        "warm, ms",
        "peak memory, MB",
        "ours / its",
        "difference",
    ]
    lines = []
    for row in rows:
        for name, run in row["contestants"].items():
            cells = [f"{run['first_s']:.2f}", f"{run['warm_ms']:.1f}", f"{run['peak_mb']:.0f}"]
            compared = [row["measures"].get(f"{what} {name}") for what in ("memory /", "difference from")]
            lines.append([row["net"], name, *cells, *map(_number, compared)])
    return table(head, lines)


def _ms(times: Row) -> str:
    return f"{times['minimum_ms']:.1f} ({times['median_ms']:.1f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value >= 0.01 else f"{value:.0e}"


if __name__ == "__main__":
    main()
