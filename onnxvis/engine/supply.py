"""How a session comes by a model's large weights, so that each is in memory as seldom as can be.

* onnxruntime reorders the weights of convolutions, and computes what follows from constants alone once: it
  makes copies of its own.  Such weights it reads from the file itself, one after the other.
* A product with one row reads its matrix once, so that reordering gains nothing: there the matrix is an
  input of the session, the same array for all sessions.
* Others, and all of a model that is not in a file, are handed over as arrays.

A file that onnxruntime went on reading from would take the process down once someone cuts it off: what the
system says of the process's mappings decides whether a session is kept, and where it says nothing, files
are left to NumPy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
from onnx import helper

from onnxvis.graph.stored import Place, Source, Weights
from onnxvis.graph.weights import locate

from .memory import given_back
from .nodes import reads
from .runtime import Runtime

__all__ = ["bytes_copied", "supplied"]

FED = 1 << 20  # bytes from which on a matrix is an input
SMALL = 8 << 20  # bytes up to which a model's weights are not worth the milliseconds that this takes
PRODUCTS = frozenset({"Gemm", "MatMul"})
COPIED = PRODUCTS | {"Conv"}  # their second operand is reordered
MAPPINGS = Path("/proc/self/maps")


def supplied(
    runtime: Runtime,
    model: onnx.ModelProto,
    weights: Weights,
    folder: Path | None = None,
    single: bool = False,
) -> Any:
    """A session of a model that lacks the numbers of these weights; the model is changed.

    ``folder`` holds the files of further weights; ``single``: it is run on one sample at a time.
    """
    if runtime.device != "cpu" or sum(weight.nbytes for weight in weights.values()) < SMALL:
        return _handed(runtime, model, weights, folder)
    use = _Use(model.graph)
    fed = _feed(model.graph, use, weights) if single else set()
    handed = {name: weight for name, weight in weights.items() if name not in fed}
    folder = folder or _folder(handed)
    copied = _copied(use, handed, folder)
    with given_back():
        session = _reading_itself(runtime, model, handed, folder, copied) if copied else None
        if session is None:
            session = _handed(runtime, model, handed, folder)
    session.fed = {name: runtime.value(weights[name].numbers) for name in fed}
    return session


def bytes_copied(weights: Weights, single: bool) -> int:
    """How much of a file's weights a session has copies of; ``single`` as for ``supplied``."""
    return sum(
        weight.nbytes
        for weight in weights.values()
        if not (single and len(weight.shape) == 2 and weight.nbytes >= FED)
    )


def _handed(
    runtime: Runtime,
    model: onnx.ModelProto,
    weights: Weights,
    folder: Path | None,
    copied: Mapping[str, Place] = MappingProxyType({}),
) -> Any:
    """A session that reads the weights ``copied`` from their files, and is handed the others."""
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            locate(tensor, weights[tensor.name], copied.get(tensor.name))
    arrays = {name: weight.numbers for name, weight in weights.items() if name not in copied}
    return runtime.session(model.SerializeToString(), folder, arrays)


def _reading_itself(
    runtime: Runtime,
    model: onnx.ModelProto,
    weights: Weights,
    folder: Path | None,
    copied: Mapping[str, Place],
) -> Any:
    """The same, or None where it would go on reading from the files, or they have changed meanwhile."""
    sources = {place.source for place in copied.values()}
    session = _handed(runtime, model, weights, folder, copied)
    return session if all(source.unmoved for source in sources) and not _mapped(sources) else None


def _folder(weights: Weights) -> Path | None:
    """Where the first of them that is in a file lies."""
    return next((weight.place.source.path.parent for weight in weights.values() if weight.place), None)


def _mapped(sources: Collection[Source]) -> bool:
    """True where one of these files is mapped into the process's memory."""
    mappings = MAPPINGS.read_text(errors="surrogateescape")
    return any(f" {source.path}\n" in mappings for source in sources)


def _copied(use: _Use, weights: Weights, folder: Path | None) -> Mapping[str, Place]:
    """The weights that onnxruntime copies, in files that it finds and that are as they were."""
    if folder is None or not MAPPINGS.exists():
        return {}
    places = {name: weight.place for name, weight in weights.items() if weight.place}
    sources = {place.source for place in places.values()}
    found = {source for source in sources if source.path.parent == folder and source.unmoved}
    return {name: place for name, place in places.items() if place.source in found and use.only_copied(name)}


def _feed(graph: onnx.GraphProto, use: _Use, weights: Weights) -> set[str]:
    """Make inputs of the large matrices that are only multiplied with."""
    fed = {
        name
        for name, weight in weights.items()
        if weight.nbytes >= FED and len(weight.shape) == 2 and use.only_multiplied(name)
    }
    kept = [tensor for tensor in graph.initializer if tensor.name not in fed]
    declared = {entry.name for entry in graph.input}
    for tensor in graph.initializer:
        if tensor.name in fed - declared:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return fed


class _Use:
    """Who reads each of a graph's tensors, and what becomes of it there."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        self.given = {entry.name for entry in graph.output}
        self._constants = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            if not _has_subgraph(node) and self._constants.issuperset(filter(None, node.input)):
                self._constants.update(node.output)
            for position, name in enumerate(reads(node)):
                self.readers.setdefault(name, []).append((node, position))

    def only_multiplied(self, name: str) -> bool:
        """True for a matrix that products alone read, as their second factor: as it is, transposed, some of
        its rows, or in parts.
        """
        found = self.readers.get(name, ())
        return bool(found) and name not in self.given and all(self._multiplies(*each) for each in found)

    def _multiplies(self, node: onnx.NodeProto, position: int) -> bool:
        # What the runtime makes part of the product, or does without a copy.
        if node.op_type in ("Transpose", "Reshape") and not node.domain and position == 0:
            return self.only_multiplied(node.output[0])
        rows = node.op_type == "Gather" and not node.domain and position == 0
        return rows or _is_second(node, position, PRODUCTS)

    def only_copied(self, name: str) -> bool:
        """True for a weight of which everyone who reads it makes a copy, once."""
        found = self.readers.get(name, ())
        return name not in self.given and all(self._copies(*each) for each in found)

    def _copies(self, node: onnx.NodeProto, position: int) -> bool:
        return node.output[0] in self._constants or _is_second(node, position, COPIED)


def _is_second(node: onnx.NodeProto, position: int, kinds: Collection[str]) -> bool:
    return position == 1 and node.op_type in kinds and not node.domain


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
