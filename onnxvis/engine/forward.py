"""The forward pass: the untouched file, run with the tensors that someone wants to see as extra outputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnxvis.graph.load import ModelFile

from .runtime import Runtime

__all__ = ["Forward", "Record"]

DEAD = 0.05  # share of the nodes from which on those that nothing depends on are left out


class Record(Mapping[str, np.ndarray[Any, Any]]):
    """Tensors of one forward pass by name: arrays, kept as onnxruntime gave them (``raw``)."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = dict(raw)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = self.raw[name].numpy()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


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
        data, held = self._tapped(wanted)
        self._sessions[held] = self.runtime.session(data, self.file.folder)
        while len(self._sessions) > self.LIMIT:
            self._sessions.popitem(last=False)
        return self._sessions[held]

    def _tapped(self, wanted: frozenset[str]) -> tuple[bytes, frozenset[str]]:
        """A model that gives these tensors, and all that it gives.

        The file as it is, unless much of it is of no use for them: other heads, say.
        """
        nodes, needed = self.file.graph.nodes, self.file.graph.ancestors(wanted)
        dead = sum(not needed.intersection(node.outputs) for node in nodes)
        if wanted and dead > DEAD * len(nodes):
            return _part(self.file.data, wanted, needed), wanted
        extra = wanted - self._outputs
        return self.file.data + _tap_suffix(sorted(extra)), extra | self._outputs


def _part(data: bytes, outputs: Iterable[str], needed: Collection[str]) -> bytes:
    """The model with these outputs, without the nodes that none of them depends on."""
    model = onnx.load_from_string(data)
    kept = [node for node in model.graph.node if any(name in needed for name in node.output)]
    for field, entries in (
        (model.graph.node, kept),
        (model.graph.output, [onnx.ValueInfoProto(name=name) for name in sorted(outputs)]),
    ):
        del field[:]
        field.extend(entries)
    part: bytes = model.SerializeToString()
    return part


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
