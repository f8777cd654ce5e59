"""One explanation, traced on top of the tensors of the model file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxvis.engine.batches import FILE, GIVEN
from onnxvis.engine.plan import Pass, make_plan
from onnxvis.engine.tracing import alive, reader
from onnxvis.engine.walk import walk
from onnxvis.errors import UnsupportedError
from onnxvis.graph.ir import Graph
from onnxvis.ops.trace import Emitted, NotTraceableError, Traced, TraceOps
from onnxvis.target import TracedAim
from onnxvis.taxonomy import Case

from .weights import Held, held

__all__ = ["Draft", "DraftOps", "batch_shapes"]


class DraftOps(TraceOps):
    """The tracing executor; large weights are read where the file has them, or else stored once.

    ``held``: the weights by the identity of their arrays.  What is made of them (flipped, clipped, squared)
    is written down as nodes, which a runtime computes once, when it loads the model.
    """

    def __init__(self, dtype: Any, held: Mapping[int, Held]) -> None:
        super().__init__(dtype)
        self.held = held
        self._stored: dict[int, str] = {}

    def constant(self, array: Any) -> Traced:
        """A constant as a traced value; a weight as one of which only the name and signs are known."""
        plain, place = super().constant(array), self.held.get(id(array))
        if place is None:
            return plain
        name = (
            FILE + place.name if place.name else self._stored.setdefault(id(array), f"w{len(self._stored)}")
        )
        if not place.name:
            self.constants[name] = array
        # As it is in the file: of another type, maybe, where it is scaled.
        weight = Traced(self, name, array.shape, array.dtype, plain.signs)
        if place.scale is not None:
            weight = self._scaled(weight, place.offset, place.scale)
        return self.working(weight)

    def _scaled(self, weight: Traced, offset: int, scale: np.ndarray[Any, Any]) -> Traced:
        """(weight − offset) · scale, in double precision as the layer graph does it."""
        double, shape = np.dtype(np.float64), weight.shape
        numbers = self.emit("Cast", [weight], shape, dtype=double, to=double)
        for op_type, operand in (("Sub", np.array(float(offset))), ("Mul", scale)):
            if op_type == "Mul" or offset:
                factor = Traced(self, "", operand.shape, double, value=operand)
                numbers = self.emit(op_type, [numbers, factor], shape, dtype=double)
        return self.emit("Cast", [numbers], shape, dtype=weight.dtype, signs=weight.signs, to=weight.dtype)


class Draft:
    """The trace of an explanation for the batch in ``case``.

    ``target``: the name of an input, int64, that says which unit to explain of each sample.
    """

    def __init__(self, case: Case, target: str | None = None) -> None:
        self.case = case
        self.samples = case.x.shape[0] if case.x.ndim else 1
        double = any(case.graph.value(name).dtype == np.float64 for name in case.aim.tensors)
        self.ops = DraftOps(np.float64 if double else np.float32, held(case.graph, case.engine.file.graph))
        given = Traced(self.ops, GIVEN + target, (self.samples,), np.int64) if target else None
        self.seeds = TracedAim(self.ops, case.aim, self.read, given)
        self.outputs: dict[str, Traced] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the explained input."""
        return tuple(self.case.x.shape)

    def graph(self, *tensors: str) -> Graph:
        """The layer graph with the target and these tensors in it."""
        return self.case.engine.specialized(self.case.feeds, [*self.case.aim.tensors, *tensors])

    def read(self, name: str) -> Traced:
        """A tensor of the forward pass, in the working precision."""
        return self._reader(self.graph(name))(name)

    def _reader(self, graph: Graph) -> Callable[[str], Traced]:
        return reader(self.ops, graph, self.case.engine.file_graph.values)

    def propagate(self, backward: Pass, wrt: str | None = None, seed: str = "one") -> Traced:
        """Walk the target's seed back to ``wrt`` (default: the input): what arrives there.

        Raises UnsupportedError where a rule is plain Python, which no graph can hold.
        """
        wrt = wrt or self.case.input
        graph = self.graph(wrt)
        plan = make_plan(graph, backward, self.case.aim.tensors, [wrt])
        untraceable = {step.rule.origin for step in plan.steps if not step.rule.traceable}
        if untraceable:
            raise UnsupportedError(
                f"{backward.label} cannot be exported: {', '.join(sorted(untraceable))} is plain Python, "
                "which works on arrays only; write the rule with the primitives of its step"
            )
        try:
            arrived = walk(plan, self.ops, self._reader(graph), self.seeds(seed), entering=self.ops.enter)
        except NotTraceableError as error:
            raise UnsupportedError(
                f"{backward.label} cannot be exported: a rule needs real arrays ({error})"
            ) from None
        result: Traced = arrived[wrt]
        return result

    # ---- what was written ------------------------------------------------------------------------

    def give(self, name: str, value: Traced) -> None:
        """Make a value an output of this name."""
        dtype = value.dtype
        self.outputs[name] = self.ops.emit("Identity", [value], value.shape, dtype=dtype, result_name=name)

    @property
    def nodes(self) -> list[Emitted]:
        """The nodes that the outputs depend on."""
        return alive(self.ops.nodes, [output.name for output in self.outputs.values()])


def batch_shapes(small: Draft, large: Draft) -> Mapping[str, tuple[int | None, ...]]:
    """The outputs' shapes, None where a length varies."""
    return {
        name: tuple(m if m == n else None for m, n in zip(one.shape, large.outputs[name].shape, strict=True))
        for name, one in small.outputs.items()
    }
