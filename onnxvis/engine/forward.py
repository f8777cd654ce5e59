"""The forward pass: the model as it is deployed, with the tensors that someone wants to see as outputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from threading import RLock
from typing import Any

import numpy as np
import onnx

from onnxvis.cache import kept
from onnxvis.graph.load import ModelFile
from onnxvis.ops.device import DTYPES

from .nodes import reads
from .runtime import Runtime
from .supply import supplied

__all__ = ["Forward", "Record"]

Array = np.ndarray[Any, Any]
_Which = tuple[frozenset[str], bool]
SINGLE = {(), (1,)}  # the first axis of a single sample's inputs, if they have any
DEAD = 0.05  # share of the nodes from which on those that nothing depends on are left out


class Record(Mapping[str, np.ndarray[Any, Any]]):
    """Tensors of one forward pass by name: arrays, kept as onnxruntime gave them (``raw``).

    ``computed``: tensors that were computed from these.
    """

    def __init__(
        self, raw: Mapping[str, Any], computed: Mapping[str, np.ndarray[Any, Any]] | None = None
    ) -> None:
        self.raw, self.computed = dict(raw), dict(computed or {})

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        if name in self.computed:
            return self.computed[name]
        array: np.ndarray[Any, Any] = self.raw[name].numpy()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter((*self.raw, *self.computed))

    def __len__(self) -> int:
        return len(self.raw) + len(self.computed)

    def outlines(self, names: Iterable[str]) -> dict[str, Array]:
        """Zeros in these tensors' shapes and dtypes, which are known before the numbers are."""
        found = {}
        for name in names:
            dtype = DTYPES.get(self.raw[name].data_type()) if name in self.raw else None
            found[name] = (
                self[name] if dtype is None
                else np.broadcast_to(np.zeros((), dtype), tuple(self.raw[name].shape()))
            )  # fmt: skip
        return found

    def only(self, names: Collection[str]) -> Record:
        """The record of these tensors alone."""
        return Record(*({n: held[n] for n in names if n in held} for held in (self.raw, self.computed)))


class Forward:
    """Runs a model file and keeps what it is asked for; a session for each set of kept tensors."""

    LIMIT = 4  # sessions kept: each holds the weights once more
    KNOWN = 64

    def __init__(self, file: ModelFile, runtime: Runtime) -> None:
        self.file, self.runtime = file, runtime
        self._building = RLock()
        self._outputs = frozenset(file.graph.outputs)
        # By the tensors that they give, and whether they are fed matrices, which is for single samples.
        self._sessions: OrderedDict[_Which, Any] = OrderedDict()
        # What of what was asked for is computed, and by which session; whether for single samples counts.
        self._known: OrderedDict[Hashable, tuple[_Which | None, tuple[str, ...]]] = OrderedDict()

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]], names: Iterable[str]) -> Record:
        """Run on complete inputs; the record holds ``names`` (inputs among them as they were fed)."""
        raw = {name: self.runtime.fed(array) for name, array in feeds.items()}
        session, computed = self._for(tuple(names), feeds)
        if computed:
            values, placed = self.runtime.ran(session, computed, raw)
            raw = {**raw, **placed, **dict(zip(computed, values, strict=True))}
        return Record(raw)

    def outputs(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """The model's own outputs; sequences and maps as Python objects."""
        session = self._session(self.file.graph.outputs, feeds)
        names = [entry.name for entry in session.get_outputs()]
        fed = {name: value.numpy() for name, value in session.fed.items()}
        return dict(zip(names, session.run(names, {**feeds, **fed}), strict=True))

    def types(
        self, feeds: Mapping[str, np.ndarray[Any, Any]], names: Iterable[str]
    ) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtype and shape of tensors, by running the model once."""
        names = tuple(names)
        others = self._no_tensors(feeds) if self._outputs.intersection(names) else ()
        wanted = [name for name in names if name not in others]
        record = self.run(feeds, wanted)
        found = {}
        for name in wanted:
            value = record.raw[name]
            if value.is_tensor():
                found[name] = (value.numpy().dtype, tuple(value.shape()))
        return found

    def _no_tensors(self, feeds: Mapping[str, Array]) -> set[str]:
        """Outputs that are sequences or maps."""
        outputs = self._session(self.file.graph.outputs, feeds).get_outputs()
        return {entry.name for entry in outputs if not entry.type.startswith("tensor")}

    def _session(self, taps: Sequence[str], feeds: Mapping[str, Array]) -> Any:
        return self._for(tuple(taps), feeds)[0]

    def _for(self, names: tuple[str, ...], feeds: Mapping[str, Array]) -> tuple[Any, tuple[str, ...]]:
        """What of these is to be computed, and the session that does it (None for nothing)."""
        single = {array.shape[:1] for array in feeds.values()} <= SINGLE

        def find() -> tuple[_Which | None, tuple[str, ...]]:
            computed = tuple(dict.fromkeys(name for name in names if name not in feeds))
            return (self._found_or_built(frozenset(computed), single) if computed else None), computed

        with self._building:
            which, computed = kept(self._known, (names, single), self.KNOWN, find)
            if which is None:
                return None, computed
            self._sessions.move_to_end(which)
            return self._sessions[which], computed

    def _found_or_built(self, wanted: frozenset[str], single: bool) -> _Which:
        """Which of the sessions gives these tensors."""
        for held, fed in self._sessions:
            few = len(held - self._outputs) <= 2 * len(wanted - self._outputs)
            if wanted <= held and few and (single or not fed):
                return held, fed
        model, held = self.tapped(wanted)
        given = {tensor.name for tensor in model.graph.initializer}
        weights = {name: weight for name, weight in self.file.weights.items() if name in given}
        session = supplied(self.runtime, model, weights, self.file.folder, single)
        self._sessions[held, bool(session.fed)] = session
        while len(self._sessions) > self.LIMIT:
            self._sessions.popitem(last=False)
        self._known.clear()
        return held, bool(session.fed)

    def tapped(self, wanted: frozenset[str]) -> tuple[onnx.ModelProto, frozenset[str]]:
        """A model that gives these tensors, and all that it gives.

        The file as it is, unless much of it is of no use for them (other heads, say), or weights are read
        by nobody: onnxruntime takes those for missing.
        """
        model, extra = onnx.load_model_from_string(self.file.stub), wanted - self._outputs
        nodes, (alive, read) = model.graph.node, _needed(model.graph, wanted)
        held = extra | self._outputs
        if wanted and len(nodes) - len(alive) > DEAD * len(nodes):
            held = wanted
        else:
            alive, read = [*nodes], {name for node in nodes for name in reads(node)} | held
        if held >= self._outputs and all(name in read for name in self.file.weights):
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(extra))
        else:
            _keep(model.graph, alive, read.union(self.file.graph.inputs), held)
        return model, held


def _needed(graph: onnx.GraphProto, wanted: Collection[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that tensors depend on, and all that is read for them."""
    alive, read = [], set(wanted)
    for node in reversed(graph.node):
        if read.intersection(node.output):
            alive.append(node)
            read.update(reads(node))
    return alive[::-1], read


def _keep(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], read: Collection[str], outputs: Iterable[str]
) -> None:
    """Of a graph these nodes and outputs, and what is read."""
    given = {entry.name: entry for entry in graph.output}
    for field, entries in (
        (graph.node, nodes),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read]),
        (graph.input, [entry for entry in graph.input if entry.name in read]),  # weights, in old files
        (graph.output, [given.get(name, onnx.ValueInfoProto(name=name)) for name in sorted(outputs)]),
    ):
        copies = [*entries]
        del field[:]
        field.extend(copies)
