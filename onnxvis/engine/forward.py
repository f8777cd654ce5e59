"""The forward pass: the model as it is deployed, with the tensors that someone wants to see as outputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnxvis.graph.load import ModelFile

from .runtime import Runtime

__all__ = ["Forward", "Record"]

Array = np.ndarray[Any, Any]
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

    def only(self, names: Collection[str]) -> Record:
        """The record of these tensors alone."""
        return Record(*({n: held[n] for n in names if n in held} for held in (self.raw, self.computed)))


class Forward:
    """Runs a model file and keeps what it is asked for; a session for each set of kept tensors."""

    LIMIT = 4  # sessions kept: each holds the weights once more

    def __init__(self, file: ModelFile, runtime: Runtime) -> None:
        self.file, self.runtime = file, runtime
        self._outputs = frozenset(file.graph.outputs)
        self._sessions: OrderedDict[frozenset[str], Any] = OrderedDict()  # by the tensors that they give

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]], names: Iterable[str]) -> Record:
        """Run on complete inputs; the record holds ``names`` (inputs among them as they were fed)."""
        raw = {name: self.runtime.value(array) for name, array in feeds.items()}
        computed = list(dict.fromkeys(name for name in names if name not in feeds))
        if computed:
            session = self._session(computed)
            raw.update(zip(computed, self.runtime.run(session, computed, raw), strict=True))
        return Record(raw)

    def outputs(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """The model's own outputs; sequences and maps as Python objects."""
        session = self._session(self.file.graph.outputs)
        names = [entry.name for entry in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    def types(
        self, feeds: Mapping[str, np.ndarray[Any, Any]], names: Iterable[str]
    ) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtype and shape of tensors, by running the model once."""
        wanted = [name for name in names if name not in self.file.graph.outputs or self._is_tensor(name)]
        record = self.run(feeds, wanted)
        found = {}
        for name in wanted:
            value = record.raw[name]
            if value.is_tensor():
                found[name] = (value.numpy().dtype, tuple(value.shape()))
        return found

    def _is_tensor(self, name: str) -> bool:
        session = self._session(self.file.graph.outputs)
        return any(o.name == name and o.type.startswith("tensor") for o in session.get_outputs())

    def _session(self, taps: Sequence[str]) -> Any:
        wanted = frozenset(taps)
        for held in self._sessions:
            if wanted <= held and len(held - self._outputs) <= 2 * len(wanted - self._outputs):
                self._sessions.move_to_end(held)
                return self._sessions[held]
        data, held, weights = self._tapped(wanted)
        self._sessions[held] = self.runtime.session(data, self.file.folder, weights)
        while len(self._sessions) > self.LIMIT:
            self._sessions.popitem(last=False)
        return self._sessions[held]

    def _tapped(self, wanted: frozenset[str]) -> tuple[bytes, frozenset[str], dict[str, Array]]:
        """A model that gives these tensors, all that it gives, and its weights.

        The file as it is, unless much of it is of no use for them (other heads, say), or weights are read
        by nobody: onnxruntime takes those for missing.
        """
        model, extra = onnx.load_model_from_string(self.file.stub), wanted - self._outputs
        nodes, (alive, read) = model.graph.node, _needed(model.graph, wanted)
        held = extra | self._outputs
        if wanted and len(nodes) - len(alive) > DEAD * len(nodes):
            held = wanted
        else:
            alive, read = [*nodes], {name for node in nodes for name in _reads(node)} | held
        weights = {name: array for name, array in self.file.weights.items() if name in read}
        if held >= self._outputs and len(weights) == len(self.file.weights):
            return self.file.stub + _tap_suffix(sorted(extra)), held, weights
        _keep(model.graph, alive, read.union(self.file.graph.inputs), held)
        return model.SerializeToString(), held, weights


def _needed(graph: onnx.GraphProto, wanted: Collection[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that tensors depend on, and all that is read for them."""
    alive, read = [], set(wanted)
    for node in reversed(graph.node):
        if read.intersection(node.output):
            alive.append(node)
            read.update(_reads(node))
    return alive[::-1], read


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads; of its subgraphs everything that they name."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (entry.name for entry in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


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


def _tap_suffix(names: Sequence[str]) -> bytes:
    """What appended to a serialized model declares further outputs.

    Protocol buffers read one after the other merge: repeated fields are joined.  So the file's own
    bytes stay as they are.
    """
    if not names:
        return b""
    graph = onnx.GraphProto(output=[onnx.ValueInfoProto(name=name) for name in names])
    suffix: bytes = onnx.ModelProto(graph=graph).SerializeToString()
    return suffix
