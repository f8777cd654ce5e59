"""What a model is: nodes that compute tensors from tensors.

Protocol buffers stay outside: ``load`` turns a file into these classes, everything later reads them.
Tensors are known by their names in the file, which are unique; a node's name may be empty or
repeated in the file and is made unique here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxvis.errors import UnknownNameError

from .stored import Weight

__all__ = ["Graph", "Node", "Quantized", "Subgraph", "TensorSpec", "Value"]

Dimension = int | str | None


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (an int, a symbol or None for each axis; None: rank unknown) and dtype of a tensor."""

    name: str
    shape: tuple[Dimension, ...] | None
    dtype: np.dtype[Any] | None

    def __str__(self) -> str:
        shape = "?" if self.shape is None else "×".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name}: {self.dtype or '?'}[{shape}]"


@dataclass(frozen=True)
class Subgraph:
    """The body of an If, Loop or Scan: recognised, not explained; ``captured``: outer tensors it reads."""

    captured: tuple[str, ...]


class Value:
    """A tensor: dtype, shape, and its content where that is a constant of the model.

    ``content`` may be a function, called once when the numbers are first needed: weights that no
    method looks at are never unpacked.  Large ones are a Weight, which reads them whenever it is asked.
    """

    def __init__(
        self,
        name: str,
        dtype: np.dtype[Any] | None = None,
        shape: tuple[Dimension, ...] | None = None,
        content: np.ndarray[Any, Any] | Callable[[], np.ndarray[Any, Any]] | Weight | None = None,
    ) -> None:
        self.name, self.dtype, self.shape, self._content = name, dtype, shape, content

    @classmethod
    def of(cls, name: str, array: np.ndarray[Any, Any]) -> Value:
        """A constant."""
        return cls(name, array.dtype, array.shape, array)

    @property
    def is_constant(self) -> bool:
        """True where the content is part of the model."""
        return self._content is not None

    @property
    def constant(self) -> np.ndarray[Any, Any] | None:
        """The content of a constant, else None."""
        if isinstance(self._content, Weight):
            return self._content.numbers
        if callable(self._content):
            self._content = self._content()
        return self._content

    @property
    def weight(self) -> Weight | None:
        """The content where that is a Weight."""
        return self._content if isinstance(self._content, Weight) else None

    @property
    def spec(self) -> TensorSpec:
        """Name, shape and dtype."""
        return TensorSpec(self.name, self.shape, self.dtype)

    def at(self, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> Value:
        """The same tensor with everything about its type known."""
        return Value(self.name, dtype or self.dtype, shape, self._content)

    def __repr__(self) -> str:
        return f"Value({self.spec}{', constant' if self.is_constant else ''})"


@dataclass(frozen=True)
class Node:
    """One operator.

    ``inputs`` and ``outputs`` are tensor names, "" where an optional one is absent.  ``opset`` is the
    version of its domain that the file imports; ``origin`` names the file's nodes it stands for.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    opset: int = 1
    origin: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``domain::op_type``, the domain only where it is not ONNX's own."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def reads(self) -> tuple[str, ...]:
        """Every tensor that it depends on: its inputs, and what its subgraphs read from outside."""
        subgraphs = [value for value in self.attributes.values() if isinstance(value, Subgraph)]
        captured = (name for subgraph in subgraphs for name in subgraph.captured)
        return tuple(filter(None, dict.fromkeys((*self.inputs, *captured))))

    def __str__(self) -> str:
        inputs = ", ".join(name or "–" for name in self.inputs)
        return f"{self.name}: {', '.join(filter(None, self.outputs))} = {self.kind}({inputs})"


@dataclass(frozen=True)
class Quantized:
    """How a tensor of real numbers follows from one of whole numbers: (source − zero point) · scale.

    All are names of tensors of the file or of constants, ``zero_point`` "" where it is 0.  Scale and zero
    point hold one number, one for each index of ``axis``, or one for each ``block_size`` indices of it.
    """

    source: str
    scale: str
    zero_point: str
    axis: int = 1
    block_size: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that it is computed from."""
        return tuple(filter(None, (self.source, self.scale, self.zero_point)))


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order, the tensors between them, the names of inputs and outputs.

    Graphs are equal where they are the same object.
    ``quantized``: tensors that are computed from whole numbers, not asked of the runtime (see
    ``graph.quantized``).
    """

    name: str
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int] = field(default_factory=dict)
    quantized: Mapping[str, Quantized] = field(default_factory=dict)

    @cached_property
    def answers(self) -> dict[Callable[..., Any], OrderedDict[Hashable, Any]]:
        """What functions were asked about it before (see ``graph.answers``)."""
        return {}

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Which node computes a tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Which nodes read a tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.reads:
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by their (unique) names."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """Name, shape and dtype of every input."""
        return tuple(self.value(name).spec for name in self.inputs)

    @cached_property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Name, shape and dtype of every output."""
        return tuple(self.value(name).spec for name in self.outputs)

    def value(self, name: str) -> Value:
        """The tensor of this name; one of which nothing is known but that where the file says nothing."""
        return self.values.get(name) or Value(name)

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The content of a constant tensor, else None."""
        value = self.values.get(name)
        return None if value is None else value.constant

    def is_constant(self, name: str) -> bool:
        """True for tensors that are part of the model."""
        value = self.values.get(name)
        return value is not None and value.is_constant

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor whose dimensions are all known (see ``shapes.specialize``)."""
        shape = self.value(name).shape
        if shape is None or not all(isinstance(n, int) for n in shape):
            raise KeyError(f"shape of {name!r} is not known: {shape}")
        return tuple(int(n) for n in shape if n is not None)

    def tensor(self, name: str) -> str:
        """The tensor that a user means by a tensor's or a layer's name (a layer: its first output)."""
        if name in self.producers or name in self.inputs:
            return name
        if name in self.by_name:
            return self.by_name[name].outputs[0]
        raise UnknownNameError(
            "layer or tensor",
            name,
            dict.fromkeys([*self.by_name, *self.producers, *self.inputs]),
            "`onnxvis info MODEL` lists them.",
        )

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """Every tensor that these depend on, themselves included."""
        found = set(names)
        for node in reversed(self.nodes):
            if found.intersection(node.outputs):
                found.update(node.reads)
        return found

    def with_nodes(self, nodes: Iterable[Node], new_values: Iterable[Value] = ()) -> Graph:
        """The same graph of other nodes; tensors that nothing mentions any more are dropped."""
        nodes = tuple(nodes)
        values = {**self.values, **{value.name: value for value in new_values}}
        used = {*self.inputs, *self.outputs}
        used.update(name for node in nodes for name in (*node.reads, *node.outputs))
        kept = {name: value for name, value in values.items() if name in used}
        return replace(self, nodes=nodes, values=kept)

    def __str__(self) -> str:
        """A table: one row a node."""
        rows = [("layer", "operator", "output", "shape")]
        for node in self.nodes:
            value = self.value(node.outputs[0])
            shape = (
                "?" if value.shape is None else "×".join("?" if n is None else str(n) for n in value.shape)
            )
            rows.append((" + ".join(node.origin) or node.name, node.kind, node.outputs[0], shape))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        ]
        head = [f"graph {self.name or '(no name)'}"]
        head += [f"  input   {self.value(name).spec}" for name in self.inputs]
        head += [f"  output  {self.value(name).spec}" for name in self.outputs]
        return "\n".join([*head, "", *(line.rstrip() for line in lines)])
