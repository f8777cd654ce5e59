"""What onnxruntime does while onnxvis explains: how long sessions run, and each of their operators."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from onnxvis.engine.runtime import Runtime
from onnxvis.engine.tracing import RESULT

__all__ = ["BACKWARD", "BOTH", "FORWARD", "PRODUCTS", "Operator", "Watched"]

FORWARD, BACKWARD, BOTH = "forward", "backward", "both"
# How values of the way back are called: in a session of its own, or behind the file's nodes in one.
VALUE = rf"(?:onnxvis_*/)?v\d+|{RESULT}.*?(?=_nchwc_|_kernel_time)"
PRODUCTS = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
Shape = tuple[int, ...]


class Operator(NamedTuple):
    """A node that onnxruntime ran: how long at best, in ms.

    ``layer``: of whose rule it is part, on the way back (elsewhere "").  ``reads``: shapes of its inputs,
    without weights that onnxruntime has packed; ``gives``: shape of its first output.
    """

    op_type: str
    layer: str
    ms: float
    reads: Sequence[Shape]
    gives: Shape

    def multiply_adds(self, weight: Shape | None = None) -> int | None:
        """Of a convolution or product; None for any other, or where nobody knows the weight's shape.

        ``weight``: that of the layer, for where the node's own is packed.  Channels count as onnxruntime
        pads them, to multiples of its blocks.
        """
        if self.op_type in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul"):
            return math.prod(self.gives) * self.reads[0][-1]
        kernel = self.reads[1] if len(self.reads) > 1 and len(self.reads[1]) == len(self.gives) else weight
        if self.op_type not in PRODUCTS or kernel is None:
            return None
        # A convolution gathers, at each output, what a transposed one strews from each input.
        points = self.reads[0] if self.op_type == "ConvTranspose" else self.gives
        return math.prod(points) * math.prod(kernel[1:])


@dataclass
class _Session:
    session: Any
    part: str
    layers: Mapping[str, str]
    seconds: list[float] = field(default_factory=list)


class Watched(Runtime):
    """A runtime that notes how long its sessions run, in turn (``runs``: of which part or both, seconds).

    ``profiles``: a folder; with it, onnxruntime times every operator, which slows it down.
    """

    def __init__(self, threads: int, profiles: Path | None = None) -> None:
        super().__init__("cpu", threads)
        self.profiles = profiles
        self.runs: list[tuple[str, float]] = []
        self._sessions: list[_Session] = []

    def session(self, data: bytes, *arguments: Any, **options: Any) -> Any:
        session = super().session(data, *arguments, **options)
        model = onnx.load_model_from_string(data)
        part = _part(model)
        self._sessions.append(_Session(session, part, {} if part == FORWARD else _layers(model)))
        return session

    def ran(self, session: Any, *arguments: Any) -> Any:
        held = next(held for held in self._sessions if held.session is session)
        start = time.perf_counter()
        results = super().ran(session, *arguments)
        held.seconds.append(time.perf_counter() - start)
        self.runs.append((held.part, held.seconds[-1]))
        return results

    def _options(self) -> Any:
        options = super()._options()
        if self.profiles is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self.profiles / "session")
        return options

    def operators(self, calls: int) -> dict[str, list[Operator]]:
        """What each part runs, of the sessions that ran in each of so many calls; ends the profiling."""
        found: dict[str, list[Operator]] = {FORWARD: [], BACKWARD: []}
        for held in self._sessions:
            events = json.loads(Path(held.session.end_profiling()).read_bytes())
            for name, operator in _operators(events, held.layers) if len(held.seconds) >= calls else ():
                back = held.part == BACKWARD or (held.part == BOTH and _goes_back(name))
                found[BACKWARD if back else FORWARD].append(operator)
        return found


def _part(model: onnx.ModelProto) -> str:
    """Which passes a model runs."""
    if not any(entry.name.startswith(RESULT) for entry in model.graph.output):
        return FORWARD
    behind = any(not re.match(VALUE, node.name) for node in model.graph.node)
    return BOTH if behind else BACKWARD


def _goes_back(name: str) -> bool:
    """Whether an operator in a session of both passes is there for the way back: so is nearly every change
    of the layout, whose names do not tell.
    """
    return name.startswith("Reorder") or re.match(VALUE, name) is not None


def _layers(model: onnx.ModelProto) -> dict[str, str]:
    """{value: the layer whose rule computes it} of a way back; its nodes are called "VALUE at LAYER"."""
    names = (node.name.partition(" at ") for node in model.graph.node)
    found = {value: layer for value, _, layer in names}
    results = (node for node in model.graph.node if node.output[0].startswith(RESULT))
    return found | {node.output[0]: found.get(node.input[0], "") for node in results}


def _operators(
    events: Sequence[Mapping[str, Any]], layers: Mapping[str, str]
) -> Iterator[tuple[str, Operator]]:
    """One an operator, of the shortest of its runs, and its name."""
    shortest: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["args"]["node_index"]
            if node not in shortest or event["dur"] < shortest[node]["dur"]:
                shortest[node] = event
    for event in shortest.values():
        about = event["args"]
        # Nodes that onnxruntime puts in place of others bear the name of one of them, or of its output.
        value = re.match(VALUE, event["name"])
        operator = Operator(
            about["op_name"],
            layers.get(value[0], "") if value else "",
            event["dur"] / 1000,
            _shapes(about["input_type_shape"]),
            next(iter(_shapes(about["output_type_shape"])), ()),
        )
        yield event["name"], operator


def _shapes(given: Sequence[Mapping[str, Sequence[int]]]) -> list[Shape]:
    return [tuple(shape) for entry in given for shape in entry.values()]
