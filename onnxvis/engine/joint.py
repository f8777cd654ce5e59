"""Both passes as one session: the file's own nodes, and behind them what the rules wrote.

What the rules read of the forward pass stays inside, in the layout that onnxruntime gave it, and nothing is
handed over in between: on small nets a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxvis.graph.load import ModelFile
from onnxvis.graph.stored import Weight, Weights
from onnxvis.graph.weights import detached
from onnxvis.ops.trace import Traced, TraceOps

from .batches import FILE, GIVEN, for_one_batch, fresh_prefix
from .forward import Forward, Record
from .nodes import reads
from .plan import Finish, Plan
from .supply import supplied
from .tracing import EMBEDDED, RESULT, PlanOps, Written, reader, write

__all__ = ["OLDEST", "JointExecutor", "TracedStart"]

OLDEST, IR_VERSION = 13, 8  # the first opset in which axes are inputs, as what a trace writes has them
Array = np.ndarray[Any, Any]


class TracedStart(Protocol):
    """Where a way back starts: seeds as part of a graph that is given ``inputs``.

    ``key``: equal for those that one graph serves; None where no graph can make the seeds.
    """

    @property
    def key(self) -> Hashable | None: ...

    @property
    def inputs(self) -> Mapping[str, Array]: ...

    def traced(self, ops: TraceOps, read: Any, given: Mapping[str, Traced]) -> Mapping[str, Traced]: ...


class JointExecutor:
    """Runs a plan behind the forward pass that it belongs to.

    ``keep``: tensors of the forward pass to hand out; ``finish``: see ``Way``.  Raises NotTraceableError
    where a rule needs real arrays, ModelError where onnxruntime refuses the model: a file of an older opset
    may lack an operator.
    """

    name = "joint"

    def __init__(
        self,
        plan: Plan,
        start: TracedStart,
        keep: Iterable[str],
        forward: Forward,
        dtype: Any = np.float32,
        finish: Finish | None = None,
    ) -> None:
        self.plan, self.runtime, file = plan, forward.runtime, forward.file
        self.keep = [name for name in dict.fromkeys(keep) if name not in file.graph.inputs]
        self._prefix = fresh_prefix({*file.graph.values, *file.graph.producers})
        written = _write(plan, start, file, self._prefix, dtype, finish)
        taps = {*self.keep, *(name.removeprefix(FILE) for name in written.used)}
        model, _ = forward.tapped(frozenset(taps.intersection(file.graph.producers)))
        weights = _append(model, written, self._prefix, start.inputs, self.keep)
        _complete(model.graph, weights, file.weights)
        single = all(plan.graph.shape(name)[:1] == (1,) for name in plan.seeds)
        self.session = supplied(self.runtime, model, weights, file.folder, single)
        self._inputs = {entry.name for entry in self.session.get_inputs()}

    def run(self, feeds: Mapping[str, Array], start: TracedStart) -> tuple[Record, dict[str, Array]]:
        """Both passes: what is kept of the first, and what arrives at ``plan.wrt`` (or is made of it)."""
        raw = {name: self.runtime.value(array) for name, array in feeds.items()}
        given = {self._prefix + name: self.runtime.value(array) for name, array in start.inputs.items()}
        fed = {name: value for name, value in {**raw, **given}.items() if name in self._inputs}
        names = [*self.keep, *(RESULT + name for name in self.plan.wrt)]
        values = dict(zip(names, self.runtime.run(self.session, names, fed), strict=True))
        record = Record(raw | {name: values[name] for name in self.keep})
        return record, {name: values[RESULT + name].numpy() for name in self.plan.wrt}


def _write(
    plan: Plan, start: TracedStart, file: ModelFile, prefix: str, dtype: Any, finish: Finish | None
) -> Written:
    ops = PlanOps(dtype, file.weights)
    read = reader(ops, plan.graph, file.graph.values)
    given = {
        name: Traced(ops, GIVEN + prefix + name, array.shape, array.dtype)
        for name, array in start.inputs.items()
    }
    return write(plan, ops, read, start.traced(ops, read, given), finish=finish)


def _append(
    model: onnx.ModelProto,
    written: Written,
    prefix: str,
    given: Mapping[str, Array],
    keep: Iterable[str],
) -> Weights:
    """Add what was written to a model, in place; the weights that it reads besides the file's."""
    graph, found = model.graph, for_one_batch(written, prefix)
    model.ir_version = max(model.ir_version, IR_VERSION)
    graph.node.extend(found.nodes)
    weights = {name: Weight(a) for name, a in found.constants.items() if a.nbytes > EMBEDDED}
    small = {name: array for name, array in found.constants.items() if name not in weights}
    weights |= {prefix + name: written.ops.weights[name] for name in written.used & {*written.ops.weights}}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in small.items())
    graph.initializer.extend(detached(name, weight) for name, weight in weights.items())
    # As IR 3 lists them, weights are inputs: of what a caller may replace nothing is computed beforehand.
    constants = {tensor.name for tensor in graph.initializer}
    _replace(
        graph.input,
        *(entry for entry in graph.input if entry.name not in constants),
        *(_info(prefix + name, array.dtype, array.shape) for name, array in given.items()),
    )
    own = {entry.name: entry for entry in graph.output}
    _replace(
        graph.output,
        *(own.get(name, onnx.ValueInfoProto(name=name)) for name in keep),
        *(_info(name, result.dtype, result.shape) for name, result in written.results.items()),
    )
    return weights


def _complete(graph: onnx.GraphProto, weights: Weights, file: Weights) -> None:
    """Add the file's weights that a graph reads to ``weights``, and to the graph where it lacks them."""
    given = {tensor.name for tensor in graph.initializer}
    for name in {name for node in graph.node for name in reads(node)}.intersection(file):
        weights[name] = file[name]
        if name not in given:
            graph.initializer.append(detached(name, file[name]))


def _replace(field: Any, *entries: onnx.ValueInfoProto) -> None:
    copies = [*entries]
    del field[:]
    field.extend(copies)


def _info(name: str, dtype: Any, shape: Iterable[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [*shape])
