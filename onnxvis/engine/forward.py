"""The forward pass: the untouched file, run with the tensors that someone wants to see as extra outputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnxvis.graph.load import ModelFile

from .runtime import Runtime

__all__ = ["Forward", "Record"]


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
        self._sessions: OrderedDict[frozenset[str], Any] = OrderedDict()

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
        session = self._session(())
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
        session = self._session(())
        return any(o.name == name and o.type.startswith("tensor") for o in session.get_outputs())

    def _session(self, taps: Sequence[str]) -> Any:
        extra = frozenset(taps) - set(self.file.graph.outputs)
        for kept in self._sessions:
            if extra <= kept and len(kept) <= 2 * len(extra):
                self._sessions.move_to_end(kept)
                return self._sessions[kept]
        session = self.runtime.session(self.file.data + _tap_suffix(sorted(extra)), self.file.folder)
        self._sessions[extra] = session
        while len(self._sessions) > self.LIMIT:
            self._sessions.popitem(last=False)
        return session


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
