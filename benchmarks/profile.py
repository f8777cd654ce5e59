"""Where the time of an explanation goes, and how far that is from the floor.

The nets, samples and settings of ``benchmarks.speed``, at batch 1 on one thread: a warm call as a whole,
and what it consists of, side by side with a plain onnxruntime forward pass of the file.  Whole calls and
sessions are timed as they are, operators in sessions of their own that onnxruntime profiles.

Writes ``results/profile.md`` and ``.json``.  Run from the repository's root: ``python -m benchmarks.profile``
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxvis.graph.ir import Graph, Node
from onnxvis.rules import registry

from .goals import GOALS, NETS
from .processes import in_process
from .reporting import circumstances, table, write
from .sessions import BACKWARD, BOTH, FORWARD, PRODUCTS, Operator, Watched
from .turns import take_turns

if TYPE_CHECKING:
    from .contests import Subject

TASKS = ("gradient", "lrp epsilon_plus", "lrp epsilon_gamma_box", "gradcam")
PLAIN, OURS = "plain", "onnxvis"
COLUMNS = (PLAIN, FORWARD, BACKWARD)
THREADS, CALLS = 1, 10
GROUPS = (
    "convolutions and products",
    "max pooling",
    "activations",
    "rules of linear layers",
    "sums and joins",
    "layout",
    "the rest",
)
BETWEEN, OUTSIDE = "between operators", "outside of sessions"
LAYOUT = frozenset({"ReorderInput", "ReorderOutput", "Transpose"})
NOTES = (
    "In ms, the smallest of all calls. The floor is as many plain forward passes as the task has passes; "
    "what a call takes more stands in the last column, part by part. An operator on the way back counts "
    "where the layer does whose rule it is part of, unless it is a convolution or product itself, or changes "
    "the layout. Operators are timed one by one by onnxruntime's profiler, sessions without it: what is left "
    "between operators can be less than nothing. Where one session runs both passes, layout, and what "
    "is between operators, count as the way back's there. Multiply-adds: of convolutions and products."
)
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    rows = []
    for net in chosen.nets:
        rows += in_process({"net": net}, THREADS, profiled, net, chosen.tasks, chosen.seconds)
    write("profile", "Where the time goes", circumstances("onnxvis", "onnxruntime"), body(rows), rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS, metavar="NET", help=", ".join(NETS))
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK", help=", ".join(TASKS)
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="time for the calls of one task")
    return parser


# ---- measuring -----------------------------------------------------------------------------------


def profiled(net: str, tasks: Sequence[str], seconds: float) -> list[Row]:
    """A row for each task on one net."""
    from .contests import Subject  # imports torch, which only this process is to pay for

    subject = Subject(net, THREADS, tries=0)
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(THREADS, Path(folder))
        session, feeds = watched.session(subject.pair.data), {"input": watched.value(subject.array)}
        for _ in range(CALLS):
            watched.run(session, ["output"], feeds)
        plain = summed(watched.operators(CALLS)[FORWARD], subject.model.graph)
    return [_task(subject, task, plain, seconds) for task in tasks]


def _task(subject: Subject, task: str, plain: Row, seconds: float) -> Row:
    runtime = Watched(THREADS)
    call, passes = _contest(subject, task, runtime)
    calls: list[Row] = []

    def timed() -> None:
        runtime.runs.clear()
        start = time.perf_counter()
        call()
        whole = 1000 * (time.perf_counter() - start)
        parts = (FORWARD, BACKWARD, BOTH)
        spent = {part: 1000 * sum(s for of, s in runtime.runs if of == part) for part in parts}
        calls.append({"whole": whole, **spent})

    call()
    subject.plain()
    times = take_turns({OURS: timed, PLAIN: subject.plain}, seconds, least=CALLS)
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(THREADS, Path(folder))
        call, _ = _contest(subject, task, watched)
        for _ in range(CALLS):
            call()
        operators = watched.operators(CALLS)
    graph = subject.model.graph
    return {
        "net": subject.name,
        "task": task,
        "passes": passes,
        "ms": _apart(min(calls, key=lambda entry: entry["whole"]), operators)
        | {PLAIN: 1000 * min(times[PLAIN])},
        "operators": {PLAIN: plain} | {part: summed(found, graph) for part, found in operators.items()},
        "slowest": _slowest(operators[BACKWARD]),
    }


def _apart(call: Row, operators: dict[str, list[Operator]]) -> Row:
    """Where one session runs both passes, the first takes as long as its operators do."""
    both = call.pop(BOTH)
    if both:
        call[FORWARD] = sum(operator.ms for operator in operators[FORWARD])
        call[BACKWARD] = both - call[FORWARD]
    return call


def _contest(subject: Subject, task: str, runtime: Watched) -> tuple[Callable[[], Any], int]:
    """What onnxvis does in a contest, on a model that is opened with this runtime; the floor's passes."""
    from onnxvis.engine.engine import Engine
    from onnxvis.graph.load import read_model
    from onnxvis.model import Model

    from .contests import TASKS as CONTESTS

    subject.reopen()
    engine = Engine(read_model(subject.pair.data), runtime, "compiled")
    subject.model = Model(engine, subject.model.preprocess, subject.model.preprocess_source, ())
    contest = CONTESTS[task](subject)
    assert contest is not None
    return contest.ours, contest.passes


def summed(operators: Sequence[Operator], graph: Graph) -> Row:
    """Operators and their ms by group; 10⁹ multiply-adds, as far as they can be counted, all and a second."""
    found: Row = {group: {"ms": 0.0, "operators": 0} for group in GROUPS}
    known, spent = 0, 0.0
    for operator in operators:
        layer = graph.by_name.get(operator.layer)
        entry = found[_group(operator, layer.op_type if layer else operator.op_type)]
        entry["ms"] += operator.ms
        entry["operators"] += 1
        count = operator.multiply_adds(_weight(layer, graph))
        if count is not None:
            known, spent = known + count, spent + operator.ms
    return {**found, "multiply-adds": known / 1e9, "a second": known / spent / 1e6 if spent else None}


def _weight(layer: Node | None, graph: Graph) -> tuple[int, ...] | None:
    """The shape of a layer's weight, where it has one."""
    weight = graph.constant(layer.inputs[1]) if layer is not None and layer.op_type in PRODUCTS else None
    return None if weight is None else weight.shape


def _group(operator: Operator, kind: str) -> str:
    """Which of the ``GROUPS`` an operator is in, whose layer is of this ``kind``."""
    if operator.op_type in PRODUCTS:
        return "convolutions and products"
    if operator.op_type in LAYOUT:
        return "layout"
    if kind in ("MaxPool", "GlobalMaxPool"):
        return "max pooling"
    if kind in PRODUCTS or kind == "BatchNormalization":
        return "rules of linear layers"
    if kind in ("Add", "Sub", "Sum", "Concat"):
        return "sums and joins"
    rectified = registry.find(kind, "deconvnet")  # what has a rule of its own there is an activation
    gate = kind == "Mul"
    return "activations" if gate or (rectified and rectified.method == "deconvnet") else "the rest"


def _slowest(operators: Sequence[Operator], count: int = 5) -> list[Row]:
    """What takes longest on the way back."""
    return [operator._asdict() for operator in sorted(operators, key=lambda o: -o.ms)[:count]]


# ---- telling -------------------------------------------------------------------------------------


def body(rows: Sequence[Row]) -> str:
    """How far from the floor each task is, and why; then every one in parts."""
    measured = [row for row in rows if "failed" not in row]
    lost = [f"{row['net']}: {row['failed']['all']}" for row in rows if "failed" in row]
    return "\n\n".join([_summary(measured), *lost, *map(_parts, measured), NOTES])


def _summary(rows: Sequence[Row]) -> str:
    head = ["net", "task", "onnxvis ms", "floor ms", "/ floor", "goal", "most of what is over the floor"]
    lines = []
    for row in rows:
        whole, floor = row["ms"]["whole"], row["passes"] * row["ms"][PLAIN]
        limit = _limit(row)
        goal = "–" if limit is None else f"≤ {limit:g}" + ("" if whole <= limit * floor else ", **missed**")
        over = sorted(excess(row).items(), key=lambda entry: -entry[1])[:3]
        most = ", ".join(f"{part} {ms:.1f}" for part, ms in over if ms > 0.01 * floor)
        times = [f"{whole:.1f}", f"{floor:.1f}", f"{whole / floor:.2f}"]
        lines.append([row["net"], row["task"], *times, goal, most or "–"])
    return table(head, lines)


def _limit(row: Row) -> float | None:
    """What the goals say of a task's distance from the floor."""
    goals = (goal for goal in GOALS if goal.task == row["task"] and goal.measure == "time / floor")
    return next((goal.limit(row["net"]) for goal in goals), None)


def split(row: Row) -> dict[str, list[float]]:
    """{part of a call: ms in a plain pass, in the forward session, in the backward session}."""
    found = {group: [row["operators"][column][group]["ms"] for column in COLUMNS] for group in GROUPS}
    found[BETWEEN] = [
        row["ms"][column] - sum(parts[i] for parts in found.values()) for i, column in enumerate(COLUMNS)
    ]
    return found


def excess(row: Row) -> dict[str, float]:
    """{part of a call: ms over the floor}: they sum to the distance from it."""
    found = {
        part: forward + backward - row["passes"] * plain
        for part, (plain, forward, backward) in split(row).items()
    }
    return found | {OUTSIDE: row["ms"]["whole"] - row["ms"][FORWARD] - row["ms"][BACKWARD]}


def _parts(row: Row) -> str:
    passes, times, over = row["passes"], row["ms"], excess(row)
    whole, floor = times["whole"], passes * times[PLAIN]
    lines = [
        [part, *(f"{ms:.2f}" for ms in columns), f"{over[part]:+.2f}"]
        for part, columns in split(row).items()
        if any(columns)
    ]
    lines.append([OUTSIDE, "", "", "", f"{over[OUTSIDE]:+.2f}"])
    lines.append(
        ["**together**", *(f"{times[column]:.2f}" for column in COLUMNS), f"**{whole - floor:+.2f}**"]
    )
    for label, key in (("10⁹ multiply-adds", "multiply-adds"), ("10⁹ a second", "a second")):
        numbers = [row["operators"][column][key] for column in COLUMNS]
        lines.append([label, *("–" if not number else f"{number:.3g}" for number in numbers), ""])
    names = ["part", "plain pass", "forward pass", "way back", f"over {passes} plain"]
    longest = (f"{o['op_type']} at {o['layer'] or 'the end'} {o['ms']:.2f}" for o in row["slowest"])
    return "\n\n".join(
        [
            f"## {row['net']}, {row['task']}",
            f"{whole:.2f} ms, {whole / floor:.2f} of the floor of {floor:.2f} ms",
            table(names, lines),
            f"Longest on the way back: {', '.join(longest)}.",
        ]
    )


if __name__ == "__main__":
    main()
