"""Traces with fixed shapes made into one graph for any number of samples.

The same explanation is traced for two numbers of samples.  The nodes are the same; where a constant
differs, it depends on the number of samples, and the two say how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import onnx
from onnx import helper

from onnxvis.errors import UnsupportedError
from onnxvis.ops.trace import Emitted

if TYPE_CHECKING:
    from onnxvis.ops.trace.writer import Writer

__all__ = [
    "FILE",
    "GIVEN",
    "LARGE",
    "SAMPLES",
    "Nodes",
    "Trace",
    "for_any_batch",
    "for_one_batch",
    "fresh_prefix",
]

# How names of tensors begin that the trace does not compute: the file's, and inputs that are added to it.
FILE, GIVEN = "file ", "given "
LARGE = 256  # elements from which on it matters how a constant is stored
# Two numbers of samples that no other length in a net is likely to be: what they alone explain is a batch.
SAMPLES = (19, 23)
Array = np.ndarray[Any, Any]


def fresh_prefix(taken: Collection[str]) -> str:
    """What new names may begin with, as none that is taken does."""
    prefix = "onnxvis/"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"{prefix[:-1]}_/"
    return prefix


class Trace(Protocol):
    """What was traced for a number of samples: the nodes that count, in order; ``ops`` has the constants."""

    @property
    def samples(self) -> int: ...

    @property
    def nodes(self) -> Sequence[Emitted]: ...

    @property
    def ops(self) -> Writer: ...


@dataclass
class Nodes:
    """Nodes to add to a file, and their constants; ``prefix`` begins all names that are new."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)
    _contents: dict[tuple[bytes, tuple[int, ...], str], str] = field(default_factory=dict)

    def name(self, traced: str) -> str:
        """What a traced value is called in the file: tensors of the file by their own names."""
        for mark in (FILE, GIVEN):
            if traced.startswith(mark):
                return traced.removeprefix(mark)
        return self.prefix + traced if traced else ""

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node; returns its output."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def hold(self, name: str, array: Array) -> str:
        """Store a constant, in few bytes where that is easy; returns its name."""
        if array.size >= LARGE and any(array.strides):
            digest = hashlib.sha256(array.tobytes()).digest()
            known = self._contents.setdefault((digest, array.shape, array.dtype.str), name)
            if known != name:
                return known
        if name in self._held:
            return name
        self._held.add(name)
        stored = f"{name} stored"
        if array.size >= LARGE and not any(array.strides):
            self.constants[stored] = array.reshape(-1)[:1].copy()
            shape = self.hold(f"{name} shape", np.array(array.shape, np.int64))
            return self.add("Expand", [stored, shape], name)
        if array.size >= LARGE and array.dtype.kind == "f" and ((array == 0) | (array == 1)).all():
            self.constants[stored] = array.astype(np.uint8)
            return self.add("Cast", [stored], name, to=helper.np_dtype_to_tensor_dtype(array.dtype))
        self.constants[name] = np.asarray(array, order="C")
        return name

    def write(self, node: Emitted, inputs: list[str]) -> None:
        """Append a traced node that reads these tensors."""
        attributes = dict(node.attributes)
        position = attributes.pop("output", 0)
        own = attributes.pop("result_name", None)
        output = own or self.name(node.output)
        if "to" in attributes:
            attributes["to"] = helper.np_dtype_to_tensor_dtype(np.dtype(attributes["to"]))
        # An unnamed output in front is one that nobody reads, except that MaxPool insists on its first.
        unread = [f"{self.prefix}{node.output} unread {i}" for i in range(position)]
        self.nodes.append(
            helper.make_node(node.op_type, inputs, [*unread, output], name=self.name(node.name), **attributes)
        )


def for_one_batch(draft: Trace, prefix: str) -> Nodes:
    """The nodes of a trace as they are."""
    found, constants = Nodes(prefix), draft.ops.constants
    for node in draft.nodes:
        inputs = [
            found.hold(found.name(name), constants[name]) if name in constants else found.name(name)
            for name in node.inputs
        ]
        found.write(node, inputs)
    return found


def for_any_batch(small: Trace, large: Trace, prefix: str, source: str) -> Nodes:
    """The nodes of two traces that differ in their number of samples, for any number of them.

    ``source``: a tensor whose first axis runs over the samples.  Raises UnsupportedError where the
    traces differ in more than constants, or constants in a way that does not follow from the number.
    """
    joint = _Joint(Nodes(prefix), small, large, source)
    joint.join()
    return joint.found


class _Varying(NamedTuple):
    """A length of factor · samples."""

    factor: int


class _Joint:
    def __init__(self, found: Nodes, small: Trace, large: Trace, source: str) -> None:
        self.found, self.small, self.large, self.source = found, small, large, source
        self._same: dict[str, str] = {}  # the large trace's values by the small one's names
        self._made: dict[Any, str] = {}
        self._count = 0

    def join(self) -> None:
        for one, other in self._pairs():
            inputs = [
                self._input(one, position, a, b)
                for position, (a, b) in enumerate(zip(one.inputs, other.inputs, strict=True))
            ]
            self._same[other.output] = one.output
            self.found.write(one, inputs)

    def _pairs(self) -> Iterator[tuple[Emitted, Emitted]]:
        ones, others = self.small.nodes, self.large.nodes
        for one, other in zip(ones, others, strict=len(ones) == len(others)):
            alike = one.op_type == other.op_type and len(one.inputs) == len(other.inputs)
            if not alike or one.attributes != other.attributes:
                raise self._refused(f"{one.op_type} in one place and {other.op_type} in another")
            yield one, other
        if len(ones) != len(others):
            raise self._refused(f"{len(ones)} and {len(others)} nodes")

    def _refused(self, why: str) -> UnsupportedError:
        counts = " and ".join(map(str, (self.small.samples, self.large.samples)))
        return UnsupportedError(
            f"the explanation cannot be written for any number of samples: for {counts} it differs by more "
            f"than lengths ({why}); export it for a fixed number: batch=1"
        )

    def _input(self, node: Emitted, position: int, a: str, b: str) -> str:
        constant = self.small.ops.constants.get(a)
        other = self.large.ops.constants.get(b)
        if constant is None or other is None:
            if constant is not other or a != self._same.get(b, b):
                raise self._refused(f"inputs of {node.op_type}")
            return self.found.name(a)
        key = (a, b, node.op_type == "Reshape" and position == 1)
        if key not in self._made:
            self._made[key] = self._constant(node, key[2], a, constant, other)
        return self._made[key]

    def _constant(self, node: Emitted, is_shape: bool, name: str, a: Array, b: Array) -> str:
        if a is b or (a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")):
            return self.found.hold(self.found.name(name), a)
        if a.shape == b.shape and a.dtype == np.int64 and a.ndim == 1:
            numbers = [self._number(int(m), int(n), node) for m, n in zip(a, b, strict=True)]
            return self._shape(numbers, name) if is_shape else self._vector(numbers, name)
        return self._repeated(node, name, a, b)

    def _number(self, m: int, n: int, node: Emitted) -> int | _Varying:
        """A number that is m in the one trace and n in the other."""
        if m == n:
            return m
        factor, rest = divmod(m, self.small.samples)
        if rest or n != factor * self.large.samples:
            raise self._refused(f"{m} and {n} in a constant of {node.op_type}")
        return _Varying(factor)

    def _shape(self, numbers: list[int | _Varying], name: str) -> str:
        """What Reshape is told: the only length that varies follows from the others."""
        varying = [n for n in numbers if isinstance(n, _Varying)]
        if len(varying) > 1 or 0 in numbers:
            return self._vector(numbers, name)
        known = [-1 if isinstance(n, _Varying) else n for n in numbers]
        return self.found.hold(self._fresh(name), np.array(known, np.int64))

    def _vector(self, numbers: list[int | _Varying], name: str) -> str:
        """A vector computed from the number of samples."""
        key = tuple(numbers)
        if key not in self._made:
            output = self._fresh(name)
            parts = [self._scalar(n) for n in numbers]
            self._made[key] = self.found.add("Concat", parts, output, axis=0)
        return self._made[key]

    def _scalar(self, number: int | _Varying) -> str:
        """One number as a vector of length 1."""
        if not isinstance(number, _Varying):
            return self.found.hold(f"{self.found.prefix}{number}", np.array([number], np.int64))
        if "samples" not in self._made:
            name = f"{self.found.prefix}samples"
            self._made["samples"] = self.found.add("Shape", [self.source], name, start=0, end=1)
        samples = self._made["samples"]
        if number.factor == 1:
            return samples
        if number not in self._made:
            inputs = [samples, self._scalar(number.factor)]
            self._made[number] = self.found.add("Mul", inputs, f"{samples} × {number.factor}")
        return self._made[number]

    def _repeated(self, node: Emitted, name: str, a: Array, b: Array) -> str:
        """A constant that holds the same numbers for every sample."""
        p, q = self.small.samples, self.large.samples
        unit, repeats = a, list[int | _Varying]()
        if a.ndim != b.ndim or a.dtype != b.dtype:
            raise self._refused(f"constants of shapes {a.shape} and {b.shape} of {node.op_type}")
        for axis, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)):
            if m == n:
                repeats.append(1)
                continue
            if m % p or n != m // p * q:
                raise self._refused(f"lengths {m} and {n} of a constant of {node.op_type}")
            unit = unit.take(range(m // p), axis)
            repeats.append(_Varying(1))
        for whole, samples in ((a, p), (b, q)):
            times = [samples if isinstance(n, _Varying) else 1 for n in repeats]
            if not np.array_equal(np.tile(unit, times), whole):
                raise self._refused(f"a constant of {node.op_type} differs between samples")
        stored = self.found.hold(self._fresh(name), unit)
        return self.found.add("Tile", [stored, self._vector(repeats, name)], self._fresh(name))

    def _fresh(self, name: str) -> str:
        """A name that nothing has yet, for what is made of a constant of the small trace."""
        self._count += 1
        return f"{self.found.name(name)}.{self._count}"
