"""A case: a model of one node, with its inputs, what it computes and the passes through it.

What a case draws (``normal``, ``apart``, …) is differentiable; an array that is written out is a constant
of the model.  Drawn numbers keep clear of kinks and ties, so that finite differences mean something.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxvis.engine.plan import Pass, Plan, make_plan
from onnxvis.graph.canonical import canonicalize
from onnxvis.graph.ir import Graph
from onnxvis.graph.load import read_model
from onnxvis.graph.shapes import infer, specialize, with_types
from onnxvis.rules import Rule, registry

from . import formulas

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator], Array]

# Operators of which LRP shares the relevance among all operands (elsewhere the first one carries it).
SUMS = (
    "Add", "Sub", "Sum", "Mean", "Concat", "Max", "Min", "Where", "Scatter", "ScatterElements", "ScatterND",
)  # fmt: skip
# Settings that a rule cannot do without.
SETTINGS: dict[str, dict[str, Any]] = {"zbox": {"low": -2.5, "high": 3.0}}


# ---- numbers -------------------------------------------------------------------------------------


def normal(*shape: int) -> Draw:
    return lambda rng: rng.normal(size=shape)


def apart(*shape: int) -> Draw:
    """At least 0.3 from 0, both signs."""

    def draw(rng: np.random.Generator) -> Array:
        size = rng.uniform(0.3, 2.0, shape)
        return size * np.where(np.arange(size.size).reshape(shape) % 2, 1.0, -1.0)

    return draw


def positive(*shape: int) -> Draw:
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def distinct(*shape: int) -> Draw:
    """Negative and positive, any two at least 0.05 apart."""

    def draw(rng: np.random.Generator) -> Array:
        count = int(np.prod(shape))
        return (0.05 * (rng.permutation(count) - count // 2)).reshape(shape)

    return draw


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


# ---- one case ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A node: operator, opset (of its domain), inputs (drawn, constant, or None where absent), attributes."""

    operator: str
    opset: int
    given: Sequence[Draw | Array | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    form: str = ""
    outputs: int = 1
    domain: str = ""

    @property
    def id(self) -> str:
        return "-".join(filter(None, (self.operator, str(self.opset), self.form.replace(" ", "_"))))

    @cached_property
    def arrays(self) -> list[Array | None]:
        """The inputs in float64."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        return [np.asarray(entry(rng)) if callable(entry) else entry for entry in self.given]

    @property
    def drawn(self) -> tuple[int, ...]:
        """Positions of the differentiable inputs."""
        return tuple(i for i, entry in enumerate(self.given) if callable(entry))

    @property
    def relevant(self) -> tuple[int, ...]:
        """Positions of what the model computes where LRP looks at it."""
        if self.operator.startswith("Skip"):  # a normalization of a sum
            return self.drawn[:2]
        return self.drawn if self.operator in SUMS else self.drawn[:1]

    @property
    def results(self) -> list[str]:
        return ["y", "second", "third", "fourth"][: self.outputs]

    def varying(self, method: str) -> tuple[int, ...]:
        """Positions that are inputs of the model where this method is tested."""
        return self.drawn if "gradient" in registry.lineage(method) else self.relevant

    def feeds(self, varying: Sequence[int], dtype: Any = np.float64) -> dict[str, Array]:
        return {f"x{i}": self.array(i, dtype) for i in varying}

    def array(self, position: int, dtype: Any = np.float64) -> Array:
        """An input, in ``dtype`` where it is one of floating numbers."""
        array = self.arrays[position]
        assert array is not None
        return np.asarray(array, dtype) if array.dtype.kind == "f" else array

    def model(self, varying: Sequence[int], dtype: Any = np.float64) -> onnx.ModelProto:
        """The one-node model; inputs that do not vary are initializers."""
        names = ["" if entry is None else f"x{i}" for i, entry in enumerate(self.given)]
        proto = helper.make_node(
            self.operator, names, self.results, name="node", domain=self.domain, **self.attributes
        )
        given = {f"x{i}": self.array(i, dtype) for i in varying}
        graph = helper.make_graph(
            [proto],
            self.id,
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in given.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in self.results],
            [
                numpy_helper.from_array(self.array(i, dtype), name)
                for i, name in enumerate(names)
                if name and i not in varying
            ],
        )
        opsets = {"": 17, self.domain: self.opset}
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    # ---- running it ------------------------------------------------------------------------------

    def run(self, arrays: Sequence[Array | None] | None = None) -> list[Array]:
        """The outputs in float64, by onnx.reference or where that cannot by a formula."""
        arrays = self.arrays if arrays is None else arrays
        formula = formulas.instead(self)
        if formula is not None:
            result = formula(self, *arrays)
            return result if isinstance(result, list) else [result]
        feeds = {f"x{i}": arrays[i] for i in self.drawn}
        return [np.asarray(result) for result in self._reference.run(None, feeds)]

    @cached_property
    def _reference(self) -> ReferenceEvaluator:
        return ReferenceEvaluator(self.model(self.drawn))

    @cached_property
    def computed(self) -> list[Array]:
        """The outputs for the case's own inputs."""
        return self.run()

    def record(self, dtype: Any = np.float64) -> dict[str, Array]:
        """Every tensor that a rule may ask for."""
        record = {f"x{i}": self.array(i, dtype) for i, entry in enumerate(self.given) if entry is not None}
        for name, array in zip(self.results, self.computed, strict=False):
            record[name] = array.astype(dtype) if array.dtype.kind == "f" else array
        return record

    def graph(self, varying: Sequence[int], dtype: Any = np.float64) -> Graph:
        """The canonical graph with all shapes known."""
        file = read_model(self.model(varying, dtype))
        graph = canonicalize(with_types(file.graph, infer(file)))
        shapes = {f"x{i}": self.array(i).shape for i in varying}
        record = self.record(dtype)
        return specialize(
            graph, file, shapes, lambda names: {n: (record[n].dtype, record[n].shape) for n in names}
        )

    def plan(self, method: str, dtype: Any = np.float64, **settings: Any) -> Plan:
        """The backward pass through the node, to every input that the method reaches."""
        varying = self.varying(method)
        graph = self.graph(varying, dtype)
        rule = self.rule(method)
        assert rule is not None
        reached = rule.inputs(graph.nodes[0], graph) if rule.inputs else varying
        wrt = [f"x{i}" for i in varying if i in reached]
        return make_plan(graph, Pass(method, {**SETTINGS.get(method, {}), **settings}), ["y"], wrt)

    def rule(self, method: str) -> Rule | None:
        return registry.find(self.operator, method, self.domain, self.opset)

    def seed(self, dtype: Any = np.float64) -> Array:
        """What arrives at the output: numbers of both signs."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()) + 1)
        return rng.normal(size=self.computed[0].shape).astype(dtype)
