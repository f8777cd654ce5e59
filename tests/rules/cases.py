"""One table of one-node models: every operator that has a rule, in the forms that files hold it.

What a case draws (``normal``, ``apart``, …) is differentiable; an array that is written out is a constant
of the model.  Drawn numbers keep clear of kinks and ties, so that finite differences mean something.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
SUMS = ("Add", "Sub", "Sum", "Concat")
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
    """A node: operator, opset, inputs (drawn, constant, or None where absent), attributes."""

    operator: str
    opset: int
    given: Sequence[Draw | Array | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    form: str = ""
    outputs: int = 1

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
        proto = helper.make_node(self.operator, names, self.results, name="node", **self.attributes)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        graph = helper.make_graph(
            [proto],
            self.id,
            [helper.make_tensor_value_info(f"x{i}", element, self.array(i).shape) for i in varying],
            [onnx.ValueInfoProto(name=name) for name in self.results],
            [
                numpy_helper.from_array(self.array(i, dtype), name)
                for i, name in enumerate(names)
                if name and i not in varying
            ],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    # ---- running it ------------------------------------------------------------------------------

    def run(self, arrays: Sequence[Array | None] | None = None) -> list[Array]:
        """The outputs in float64, by onnx.reference or where that cannot by a formula."""
        arrays = self.arrays if arrays is None else arrays
        formula = formulas.instead(self)
        if formula is not None:
            return [formula(self, *arrays)]
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
        return registry.find(self.operator, method, opset=self.opset)

    def seed(self, dtype: Any = np.float64) -> Array:
        """What arrives at the output: numbers of both signs."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()) + 1)
        return rng.normal(size=self.computed[0].shape).astype(dtype)


# ---- the table -----------------------------------------------------------------------------------


def _each(operators: Sequence[str], opset: int, given: Sequence[Any], form: str = "") -> Iterator[Case]:
    for operator in operators:
        yield Case(operator, opset, given, form=form)


def _activations() -> Iterator[Case]:
    kinked = ("Relu", "Abs", "Neg", "Elu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Erf", "Exp")
    yield from _each(kinked, 13, [apart(2, 3, 4)])
    yield from _each(("Log", "Sqrt", "Reciprocal"), 13, [positive(2, 5)])
    yield Case("Relu", 6, [apart(2, 3, 4, 4)])
    yield Case("Relu", 14, [apart(5)], form="vector")
    yield Case("LeakyRelu", 6, [apart(2, 3)], {"alpha": 0.25}, "alpha")
    yield Case("LeakyRelu", 16, [apart(2, 3)], {"alpha": -0.5}, "negative alpha")
    yield Case("Elu", 6, [apart(2, 3)], {"alpha": 0.75}, "alpha")
    yield Case("PRelu", 6, [apart(2, 3, 4, 4), apart(3)], form="a slope a channel")
    yield Case("PRelu", 6, [apart(2, 3, 4), apart(1)], form="one slope")
    yield Case("PRelu", 9, [apart(2, 3, 4, 4), apart(3, 1, 1)], form="a slope a channel")
    yield Case("PRelu", 16, [apart(2, 3, 4), apart(4)], form="along the last axis")
    yield Case("PRelu", 16, [apart(2, 3), apart(2, 3)], form="a slope a number")
    yield Case("PRelu", 16, [apart(2, 3), np.array([0.25])], form="constant slope")
    yield Case("Clip", 6, [apart(2, 3, 4)], {"min": 0.0, "max": 1.0}, "both")
    yield Case("Clip", 6, [apart(2, 3, 4)], {"min": -0.1}, "from below")
    yield Case("Clip", 6, [apart(2, 3, 4)], {"max": 0.1}, "from above")
    yield Case("Clip", 6, [apart(2, 3, 4)], form="neither")
    yield Case("Clip", 11, [apart(2, 3, 4), np.array(-0.2), np.array(0.25)], form="both")
    yield Case("Clip", 11, [apart(2, 3, 4), None, np.array(0.25)], form="from above")
    yield Case("Clip", 13, [apart(2, 3, 4), np.array(0.0)], form="from below")
    yield Case("Clip", 13, [apart(2, 3, 4)], form="neither")
    yield Case("Clip", 13, [lambda rng: 4 * apart(2, 20)(rng), np.array(0.0), np.array(6.0)], form="relu6")
    yield Case("HardSigmoid", 6, [lambda rng: 3 * apart(3, 7)(rng)])
    yield Case("HardSigmoid", 22, [apart(3, 7)], {"alpha": 0.5, "beta": 0.4}, "alpha and beta")
    yield Case("HardSwish", 14, [lambda rng: 2.6 * apart(3, 9)(rng)])
    for operator in ("Softmax", "LogSoftmax"):
        yield Case(operator, 11, [normal(2, 3, 4)], form="all but the first axis")
        yield Case(operator, 11, [normal(2, 3, 4)], {"axis": 2}, "last axis")
        yield Case(operator, 7, [normal(2, 3, 2, 2)], {"axis": 0}, "everything")
        yield Case(operator, 11, [normal(2, 3, 4)], {"axis": -2}, "negative axis")
        yield Case(operator, 13, [normal(2, 3, 4)])
        yield Case(operator, 13, [normal(2, 3, 4)], {"axis": 1}, "axis 1")
        yield Case(operator, 13, [normal(4)], form="vector")


def _arithmetic() -> Iterator[Case]:
    for operator in ("Add", "Sub", "Mul", "Div"):
        yield Case(operator, 7, [normal(2, 3, 4), apart(2, 3, 4)])
        yield Case(operator, 13, [normal(2, 3, 4), apart(3, 1)], form="second stretched")
        yield Case(operator, 14, [normal(3, 1), apart(2, 3, 4)], form="first stretched")
        yield Case(operator, 14, [normal(2, 1, 4), apart(1, 3, 1)], form="both stretched")
        yield Case(operator, 14, [normal(2, 3), apart()], form="scalar second")
        yield Case(operator, 14, [normal(), apart(2, 3)], form="scalar first")
        yield Case(operator, 14, [normal(1, 1), apart(3)], form="ones in front")
        yield Case(operator, 14, [normal(2, 3, 4), np.array([[-0.5], [2.0], [1.5]])], form="constant second")
        yield Case(operator, 14, [np.array([0.5, -2.0, 1.5, 3.0]), apart(2, 3, 4)], form="constant first")
        yield Case(operator, 14, [normal(2, 3), np.array(1.7)], form="constant number")
        yield Case(operator, 14, [normal(3), np.full((2, 3), 1.7)], form="stretched by a constant")
    yield Case("Sum", 8, [normal(2, 3), normal(2, 3), normal(2, 3)], form="three")
    yield Case("Sum", 13, [normal(2, 3, 4), normal(3, 1), normal(4)], form="three stretched")
    yield Case("Sum", 13, [normal(2, 3)], form="one")
    yield Case("Sum", 13, [normal(2, 3), np.array([[1.0], [2.0]])], form="constant")
    yield Case("Pow", 7, [positive(2, 3), normal(2, 3)])
    yield Case("Pow", 13, [positive(2, 3, 4), normal(3, 1)], form="exponent stretched")
    yield Case("Pow", 13, [positive(3, 1), normal(2, 3, 4)], form="base stretched")
    yield Case("Pow", 13, [apart(2, 3), np.array(2.0)], form="squared")
    yield Case("Pow", 13, [apart(2, 3), np.array([[3.0], [-2.0]])], form="constant exponents")
    yield Case("Pow", 13, [np.array(2.5), normal(2, 3)], form="constant base")
    yield Case("Pow", 13, [apart(2, 3), np.array(3, np.int64)], form="whole exponent")
    yield Case("Pow", 15, [apart(2, 3), np.array([2, 1, 0], np.int32)], form="whole exponents")


def _convolutions() -> Iterator[Case]:
    def conv(
        form: str, size: Sequence[int], weight: Sequence[int], bias: bool = True, **attributes: Any
    ) -> Case:
        biases = [normal(weight[0])] if bias else []
        return Case("Conv", 11, [normal(*size), normal(*weight), *biases], attributes, form)

    yield conv("1-D", (2, 3, 9), (4, 3, 3))
    yield conv("1-D strided padded", (2, 2, 8), (2, 2, 3), strides=[2], pads=[1, 2])
    yield conv("2-D", (2, 3, 6, 5), (4, 3, 3, 2))
    yield conv("3-D", (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), strides=[1, 2, 1], pads=[0, 1, 1, 1, 1, 0])
    yield conv("no bias", (2, 3, 6, 5), (4, 3, 3, 3), bias=False, pads=[1, 1, 1, 1])
    yield conv("grouped", (2, 4, 5, 5), (6, 2, 3, 3), group=2)
    yield conv("grouped strided", (2, 4, 6, 6), (2, 2, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    yield conv("depthwise", (2, 3, 5, 5), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1])
    yield conv("depthwise twice", (2, 3, 5, 5), (6, 1, 3, 3), group=3, strides=[2, 2])
    yield conv("dilated", (1, 2, 8, 7), (3, 2, 3, 2), dilations=[2, 3])
    yield conv(
        "dilated strided", (1, 2, 9, 9), (3, 2, 3, 3), dilations=[2, 2], strides=[3, 2], pads=[2, 1, 2, 1]
    )
    yield conv("asymmetric pads", (2, 2, 5, 6), (3, 2, 3, 3), pads=[0, 2, 1, 0])
    yield conv("asymmetric pads strided", (2, 2, 5, 6), (3, 2, 3, 3), pads=[2, 0, 0, 1], strides=[2, 2])
    yield conv("pads wider than the kernel", (1, 2, 4, 4), (3, 2, 1, 2), pads=[1, 2, 2, 3])
    yield conv(
        "pads wider than the kernel strided", (1, 2, 4, 4), (3, 2, 2, 2), pads=[3, 0, 2, 4], strides=[2, 3]
    )
    yield conv("last inputs unseen", (2, 2, 8, 9), (3, 2, 3, 2), strides=[3, 3])
    yield conv("stride wider than the kernel", (1, 2, 8, 11), (3, 2, 1, 2), strides=[3, 4])
    yield conv("stride one input unseen", (1, 2, 6, 6), (3, 2, 2, 2), strides=[2, 5])
    yield conv("same upper", (1, 2, 6, 7), (3, 2, 3, 4), auto_pad="SAME_UPPER", strides=[2, 1])
    yield conv("same lower", (1, 2, 6, 7), (3, 2, 3, 4), auto_pad="SAME_LOWER", strides=[2, 1])
    yield conv("same upper odd total", (1, 2, 5, 5), (3, 2, 2, 2), auto_pad="SAME_UPPER")
    yield conv("same lower odd total", (1, 2, 5, 5), (3, 2, 2, 2), auto_pad="SAME_LOWER")
    yield conv("same needs no padding", (1, 2, 6, 6), (3, 2, 1, 2), auto_pad="SAME_UPPER", strides=[3, 3])
    yield conv("valid", (1, 2, 6, 6), (3, 2, 3, 3), auto_pad="VALID", strides=[2, 2])
    yield conv("kernel attribute", (1, 2, 6, 6), (3, 2, 3, 3), kernel_shape=[3, 3])
    yield conv("pointwise", (2, 3, 4, 4), (5, 3, 1, 1))
    yield conv("whole picture", (2, 3, 4, 4), (5, 3, 4, 4))
    yield conv("same shape", (2, 3, 4, 4), (3, 3, 3, 3), pads=[1, 1, 1, 1])
    yield Case("Conv", 1, [normal(1, 2, 5, 5), normal(3, 2, 3, 3)], {"pads": [1, 1, 1, 1]}, "opset 1")
    yield Case("Conv", 22, [normal(1, 2, 5, 5), normal(3, 2, 3, 3), normal(3)], {"pads": [1, 0, 0, 1]})
    yield from _transposed()


def _transposed() -> Iterator[Case]:
    def conv(
        form: str,
        size: Sequence[int],
        weight: Sequence[int],
        bias: bool = True,
        opset: int = 11,
        **attributes: Any,
    ) -> Case:
        biases = [normal(weight[1] * attributes.get("group", 1))] if bias else []
        return Case("ConvTranspose", opset, [normal(*size), normal(*weight), *biases], attributes, form)

    yield conv("1-D", (2, 3, 5), (3, 2, 3), strides=[2])
    yield conv("2-D", (2, 3, 4, 5), (3, 4, 3, 2))
    yield conv("3-D", (1, 2, 3, 2, 3), (2, 3, 2, 3, 2), strides=[1, 2, 1], pads=[0, 1, 1, 1, 0, 0])
    yield conv("no bias", (2, 3, 4, 5), (3, 4, 3, 3), bias=False, strides=[2, 2])
    yield conv("padded", (2, 3, 4, 5), (3, 4, 3, 3), pads=[1, 0, 2, 1])
    yield conv("same shape", (2, 3, 4, 5), (3, 3, 3, 3), pads=[1, 1, 1, 1])
    yield conv("strided padded", (2, 3, 4, 5), (3, 4, 3, 3), strides=[2, 3], pads=[1, 0, 0, 1])
    yield conv("crops more than the kernel", (1, 2, 6, 6), (2, 3, 1, 2), pads=[1, 2, 2, 1])
    yield conv("stride wider than the kernel", (1, 2, 3, 3), (2, 3, 1, 2), strides=[3, 3])
    yield conv(
        "output padding", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 3], output_padding=[1, 2], pads=[1, 1, 1, 1]
    )
    yield conv("output shape", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], output_shape=[8, 7])
    yield conv("larger output shape", (1, 2, 3, 3), (2, 3, 3, 3), strides=[3, 3], output_shape=[10, 11])
    yield conv(
        "output shape same upper",
        (1, 2, 4, 4),
        (2, 3, 3, 3),
        strides=[2, 2],
        output_shape=[8, 8],
        auto_pad="SAME_UPPER",
    )
    yield conv("same upper", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
    yield conv("same lower", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER")
    yield conv(
        "same upper output padding",
        (1, 2, 4, 4), (2, 3, 3, 4), strides=[2, 2], auto_pad="SAME_UPPER", output_padding=[1, 1],
    )  # fmt: skip
    yield conv("valid", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], auto_pad="VALID")
    yield conv("grouped", (2, 4, 4, 4), (4, 3, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    yield conv("grouped stride 1", (2, 4, 4, 4), (4, 3, 3, 3), group=2)
    yield conv("depthwise", (2, 3, 4, 4), (3, 1, 2, 2), group=3, strides=[2, 2])
    yield conv("dilated", (1, 2, 4, 5), (2, 3, 3, 2), dilations=[2, 3])
    yield conv(
        "dilated strided", (1, 2, 4, 3), (2, 3, 3, 2), dilations=[2, 3], strides=[2, 3], pads=[1, 1, 2, 0]
    )
    yield conv("opset 1", (1, 2, 4, 4), (2, 3, 3, 3), opset=1, strides=[2, 2])


def _dense() -> Iterator[Case]:
    for a in (0, 1):
        for b in (0, 1):
            given = [normal(*((4, 3) if a else (3, 4))), normal(*((5, 4) if b else (4, 5))), normal(5)]
            yield Case("Gemm", 11, given, {"transA": a, "transB": b}, f"transA {a} transB {b}")
            attributes = {"transA": a, "transB": b, "alpha": -0.5, "beta": 1.75}
            yield Case("Gemm", 13, given, attributes, f"transA {a} transB {b} alpha beta")
    for bias in ((), (1,), (3, 1), (1, 5), (3, 5)):
        form = f"bias {'x'.join(map(str, bias)) or 'scalar'}"
        yield Case("Gemm", 9, [normal(3, 4), normal(4, 5), normal(*bias)], {"beta": 0.5}, form)
    yield Case("Gemm", 13, [normal(3, 4), normal(4, 5)], {"alpha": 2.0}, "no bias")
    yield Case("Gemm", 13, [normal(3, 4), normal(4, 4), normal(4)], form="same shape")
    for form, a, b in (
        ("2-D", (3, 4), (4, 5)),
        ("N-D by 2-D", (2, 3, 4), (4, 5)),
        ("2-D by N-D", (3, 4), (2, 4, 5)),
        ("N-D by N-D", (2, 3, 4), (2, 4, 5)),
        ("stretched", (2, 1, 3, 4), (6, 4, 5)),
        ("both stretched", (2, 1, 3, 4), (1, 3, 4, 2)),
        ("vector by vector", (4,), (4,)),
        ("vector by 2-D", (4,), (4, 5)),
        ("2-D by vector", (3, 4), (4,)),
        ("vector by N-D", (4,), (2, 4, 5)),
        ("N-D by vector", (2, 3, 4), (4,)),
        ("same shape", (2, 3, 4), (4, 4)),
    ):
        yield Case("MatMul", 9, [normal(*a), normal(*b)], form=form)


def _normalizations() -> Iterator[Case]:
    for opset in (7, 9, 14, 15):
        given = [normal(2, 3, 4, 2), normal(3), normal(3), normal(3), positive(3)]
        yield Case("BatchNormalization", opset, given, {"epsilon": 2**-7})
    yield Case(
        "BatchNormalization", 15, [normal(2, 3), normal(3), normal(3), normal(3), positive(3)], form="2-D"
    )
    yield Case(
        "BatchNormalization", 15, [normal(2, 3, 4), normal(3), normal(3), normal(3), positive(3)], form="1-D"
    )
    for size in (1, 2, 3, 4, 5):
        attributes = {"size": size, "alpha": 0.25, "beta": 0.625, "bias": 1.5}
        yield Case("LRN", 13, [normal(2, 6, 2, 3)], attributes, f"size {size}")
    yield Case("LRN", 1, [normal(1, 2, 3, 2)], {"size": 5, "alpha": 0.25}, "size above the channels")
    yield Case("ImageScaler", 8, [normal(2, 3, 4, 4)], {"scale": 0.25, "bias": [1.0, -2.0, 3.0]})


def _pools() -> Iterator[Case]:
    def pool(form: str, size: Sequence[int], opset: int = 12, **attributes: Any) -> Iterator[Case]:
        yield Case("MaxPool", opset, [distinct(*size)], attributes, form)
        yield Case("AveragePool", opset, [normal(*size)], attributes, form)

    yield from pool("tiles", (2, 3, 6, 4), kernel_shape=[2, 2], strides=[2, 2])
    yield from pool("tiles with a rest", (2, 3, 7, 5), kernel_shape=[2, 2], strides=[2, 2])
    yield from pool("overlap", (2, 3, 7, 7), kernel_shape=[3, 3], strides=[2, 2])
    yield from pool("stride 1", (1, 2, 4, 5), kernel_shape=[2, 3])
    yield from pool("gaps", (1, 2, 7, 8), kernel_shape=[1, 2], strides=[3, 4])
    yield from pool("ceil", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    yield from pool("ceil tiles", (1, 2, 7, 5), kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1)
    yield from pool("padded", (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    yield from pool("asymmetric pads", (1, 2, 5, 6), kernel_shape=[3, 2], strides=[2, 1], pads=[0, 1, 2, 0])
    yield from pool(
        "ceil padded", (1, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1
    )
    yield from pool("1-D", (2, 2, 9), kernel_shape=[3], strides=[2])
    yield from pool("1-D ceil padded", (2, 2, 8), kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1)
    yield from pool(
        "3-D", (1, 2, 4, 5, 4), kernel_shape=[2, 2, 3], strides=[2, 1, 1], pads=[0, 1, 0, 0, 0, 1]
    )
    yield from pool("same upper", (1, 2, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    yield from pool("same lower", (1, 2, 5, 6), kernel_shape=[2, 3], strides=[1, 2], auto_pad="SAME_LOWER")
    yield from pool("valid", (1, 2, 5, 6), kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID")
    yield from pool("whole picture", (2, 3, 4, 3), kernel_shape=[4, 3])
    yield from pool("same shape", (1, 2, 4, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    yield from pool("opset 7", (1, 2, 5, 6), opset=7, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    yield from pool("dilated", (1, 2, 8, 7), opset=19, kernel_shape=[3, 2], dilations=[2, 3])
    yield from pool(
        "dilated padded",
        (1, 2, 6, 7),
        opset=19,
        kernel_shape=[2, 3],
        dilations=[3, 2],
        strides=[2, 1],
        pads=[1, 1, 1, 0],
    )
    yield from pool(
        "dilated over the end",
        (1, 2, 3, 4),
        opset=19,
        kernel_shape=[3, 4],
        dilations=[2, 1],
        pads=[0, 0, 2, 0],
    )
    yield Case("MaxPool", 12, [distinct(1, 2, 6, 6)], {"kernel_shape": [2, 2]}, "with indices", outputs=2)
    yield Case(
        "MaxPool", 8, [distinct(1, 2, 6, 6)], {"kernel_shape": [3, 2], "storage_order": 1}, "column major", 2
    )
    for form, attributes in (
        ("padded", {"pads": [1, 1, 1, 1]}),
        ("ceil", {"ceil_mode": 1}),
        ("ceil padded", {"ceil_mode": 1, "pads": [1, 0, 1, 1]}),
        ("same upper", {"auto_pad": "SAME_UPPER"}),
        ("same lower", {"auto_pad": "SAME_LOWER"}),
        ("ceil valid", {"auto_pad": "VALID", "ceil_mode": 1}),
        ("same upper with idle pads", {"auto_pad": "SAME_UPPER", "pads": [0, 0, 0, 0]}),
    ):
        every = {"kernel_shape": [3, 3], "strides": [2, 2], "count_include_pad": 1, **attributes}
        yield Case("AveragePool", 19, [normal(1, 2, 6, 6)], every, f"{form} counting pads")
    every = {"kernel_shape": [2, 3], "strides": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 2]}
    for opset in (19, 22):
        yield Case(
            "AveragePool",
            opset,
            [normal(1, 2, 6, 7)],
            {**every, "count_include_pad": 1},
            "dilated counting pads",
        )
    for operator in ("GlobalMaxPool", "GlobalAveragePool"):
        yield Case(operator, 1, [distinct(2, 3, 4, 5)])
        yield Case(operator, 22, [distinct(2, 3, 5)], form="1-D")
        yield Case(operator, 1, [distinct(1, 2, 2, 3, 2)], form="3-D")
        yield Case(operator, 1, [distinct(2, 3, 1, 1)], form="one position")


def _reductions() -> Iterator[Case]:
    for operator, axes_are_inputs in (("ReduceMean", 18), ("ReduceSum", 13)):
        for keep in (0, 1):
            attributes = {"axes": [1, -1], "keepdims": keep}
            yield Case(operator, 11, [normal(2, 3, 4)], attributes, f"axes keepdims {keep}")
            yield Case(operator, 11, [normal(2, 3, 4)], {"keepdims": keep}, f"all keepdims {keep}")
            given = [normal(2, 3, 4), ints(-3, 2)]
            yield Case(operator, axes_are_inputs, given, {"keepdims": keep}, f"axes as input keepdims {keep}")
            yield Case(
                operator, axes_are_inputs, [normal(2, 3, 4)], {"keepdims": keep}, f"all keepdims {keep}"
            )
        yield Case(operator, axes_are_inputs, [normal(2, 3)], {"noop_with_empty_axes": 1}, "nothing")
        yield Case(
            operator, axes_are_inputs, [normal(2, 3), ints()], {"noop_with_empty_axes": 0}, "empty axes"
        )


def _movement() -> Iterator[Case]:
    yield Case("Identity", 13, [normal(2, 3)])
    yield Case("Cast", 13, [normal(2, 3)], {"to": onnx.TensorProto.FLOAT}, "float32")
    yield Case("Cast", 9, [normal(2, 3)], {"to": onnx.TensorProto.DOUBLE}, "float64")
    for opset, attributes in ((6, {"is_test": 1}), (7, {}), (7, {"ratio": 0.3}), (12, {}), (13, {})):
        form = "ratio" if "ratio" in attributes else ""
        yield Case("Dropout", opset, [normal(2, 3)], attributes, form)
    yield Case("Dropout", 10, [normal(2, 3)], {"ratio": 0.4}, "with mask", 2)
    yield Case("Dropout", 13, [normal(2, 3), np.array(0.4), np.array(False)], form="with mask", outputs=2)
    yield Case("Reshape", 5, [normal(2, 3, 4), ints(4, 6)])
    yield Case("Reshape", 13, [normal(2, 3, 4), ints(0, -1)], form="0 and -1")
    yield Case("Reshape", 14, [normal(2, 3, 4), ints(-1, 1, 0)], {"allowzero": 0}, "-1 and 0")
    for axis in (0, 1, 2, -1, 3):
        yield Case("Flatten", 11, [normal(2, 3, 4)], {"axis": axis}, f"axis {axis}")
    yield Case("Flatten", 9, [normal(2, 3, 4)])
    yield Case("Squeeze", 11, [normal(2, 1, 3, 1)], {"axes": [1, -1]}, "attribute")
    yield Case("Squeeze", 13, [normal(2, 1, 3, 1), ints(-1)], form="input")
    yield Case("Squeeze", 13, [normal(2, 1, 3, 1)], form="all")
    yield Case("Unsqueeze", 11, [normal(2, 3)], {"axes": [0, 2]}, "attribute")
    yield Case("Unsqueeze", 13, [normal(2, 3), ints(1, -1)], form="input")
    yield Case("Transpose", 13, [normal(2, 3, 4)])
    yield Case("Transpose", 1, [normal(2, 3, 4, 2)], {"perm": [0, 3, 1, 2]}, "perm")
    yield Case("Transpose", 13, [normal(2, 3, 4)], {"perm": [0, 1, 2]}, "nothing")
    yield Case("Expand", 8, [normal(3, 1), ints(2, 3, 4)])
    yield Case("Expand", 13, [normal(2, 3, 4), ints(1, 3, 1)], form="smaller shape")
    yield Case("Expand", 13, [normal(), ints(2, 2)], form="scalar")
    yield Case("Concat", 4, [normal(2, 3), normal(2, 1), normal(2, 2)], {"axis": 1})
    yield Case("Concat", 11, [normal(2, 3), normal(1, 3)], {"axis": -2}, "negative axis")
    yield Case("Concat", 13, [normal(2, 3), np.ones((2, 2)), normal(2, 1)], {"axis": 1}, "with a constant")
    yield Case("Concat", 13, [normal(2, 3)], {"axis": 1}, "one")
    yield from _splits()
    yield from _slices()
    yield from _pads()


def _splits() -> Iterator[Case]:
    yield Case("Split", 2, [normal(4, 3)], outputs=2)
    yield Case("Split", 2, [normal(2, 7)], {"axis": 1, "split": [1, 4, 2]}, "uneven", 3)
    yield Case("Split", 11, [normal(2, 7)], {"axis": -1, "split": [5, 2]}, "negative axis", 2)
    yield Case("Split", 13, [normal(2, 7), ints(3, 4)], {"axis": 1}, "input", 2)
    yield Case("Split", 13, [normal(6, 2)], {"axis": 0}, "even", 3)
    yield Case("Split", 18, [normal(2, 7)], {"axis": 1, "num_outputs": 3}, "num_outputs", 3)
    yield Case("Split", 18, [normal(2, 7), ints(7)], {"axis": 1}, "one", 1)


def _slices() -> Iterator[Case]:
    most, least = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    yield Case("Slice", 1, [normal(4, 5, 3)], {"starts": [1, 0], "ends": [3, -2]}, "attributes")
    yield Case(
        "Slice", 1, [normal(4, 5, 3)], {"starts": [-3], "ends": [1000], "axes": [1]}, "attributes axes"
    )
    for form, numbers in (
        ("starts and ends", [(1, 0), (3, 4)]),
        ("axes", [(1,), (3,), (2,)]),
        ("negative axis", [(1,), (3,), (-2,)]),
        ("steps", [(1, 0), (5, 4), (0, 1), (2, 3)]),
        ("step over the end", [(0,), (6,), (0,), (4,)]),
        ("out of range", [(-100, 2), (100, most), (0, 1)]),
        ("negative step", [(5,), (1,), (0,), (-1,)]),
        ("negative step to the first", [(most,), (least,), (0,), (-2,)]),
        ("negative step past the first", [(-1,), (-1000,), (1,), (-3,)]),
        ("negative step negative end", [(-1,), (-6,), (0,), (-1,)]),
        ("negative step by the length", [(3, 3), (-7, -5), (0, 1), (-1, -2)]),
        ("one number backwards", [(2,), (1,), (1,), (-1,)]),
        ("everything", [(0,), (most,), (1,), (1,)]),
    ):
        given = [ints(*entries) for entries in numbers]
        yield Case("Slice", 13, [normal(6, 4, 3), *given], form=form)
    yield Case("Slice", 10, [normal(6, 4), ints(1), ints(5), None, ints(2)], form="steps without axes")


def _pads() -> Iterator[Case]:
    yield Case("Pad", 2, [normal(2, 3, 4)], {"pads": [0, 1, 2, 1, 0, 0]}, "attribute")
    yield Case(
        "Pad", 2, [normal(2, 3, 4)], {"pads": [0, -1, 2, 0, 1, -2], "mode": "constant"}, "negative attribute"
    )
    yield Case(
        "Pad", 2, [normal(2, 4, 5)], {"pads": [0, 2, 1, 0, 1, 3], "mode": "reflect"}, "reflect attribute"
    )
    for mode in ("constant", "reflect", "edge", "wrap"):
        opset = 19 if mode == "wrap" else 11
        for form, pads in (
            ("", (0, 1, 2, 0, 2, 1)),
            ("one side", (0, 0, 3, 0, 0, 0)),
            ("cut", (0, -1, 0, 0, 0, -2)),
            ("cut and padded", (0, -1, 2, 0, 1, -1)),
        ):
            name = f"{mode} {form}".strip()
            yield Case("Pad", opset, [normal(2, 4, 5), ints(*pads)], {"mode": mode}, name)
    yield Case("Pad", 11, [normal(2, 3), ints(1, 0, 0, 2), np.array(7.0)], form="value")
    yield Case("Pad", 18, [normal(2, 3, 4), ints(1, 2, 0, 1), None, ints(-1, 1)], form="axes")
    yield Case(
        "Pad", 18, [normal(2, 3, 4), ints(1, 2), np.array(1.0), ints(2)], {"mode": "reflect"}, "reflect axes"
    )
    yield Case("Pad", 11, [normal(3, 4), ints(2, 0, 2, 3)], {"mode": "reflect"}, "reflect all there is")


CASES: tuple[Case, ...] = tuple(
    case
    for family in (
        _activations, _arithmetic, _convolutions, _dense, _normalizations, _pools, _reductions, _movement,
    )
    for case in family()
)  # fmt: skip


def pairs(methods: Sequence[str] | None = None) -> list[tuple[Case, str]]:
    """Every case with every method that has a rule of its own for it (not a parent's)."""
    found = []
    for case in CASES:
        for method in methods or registry.methods:
            rule = case.rule(method)
            if rule is None or rule.method != method:
                continue
            graph = case.graph(case.varying(method))
            if rule.refuses is None or not rule.refuses(graph.nodes[0], graph):
                found.append((case, method))
    return found


def named(cases: Sequence[Case]) -> dict[str, Any]:
    """Arguments of ``pytest.mark.parametrize`` for these cases."""
    return {"argnames": "case", "argvalues": cases, "ids": [case.id for case in cases]}


def named_pairs(found: Sequence[tuple[Case, str]]) -> dict[str, Any]:
    """Arguments of ``pytest.mark.parametrize`` for cases with methods."""
    ids = [f"{case.id}-{method}" for case, method in found]
    return {"argnames": ("case", "method"), "argvalues": found, "ids": ids}
