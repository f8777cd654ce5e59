"""Arithmetic on two or more tensors, with broadcasting."""

from __future__ import annotations

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


def refuse_axis(node: Node, graph: Graph) -> str | None:
    """Broadcasting along an ``axis`` (opset < 7) by an operand that is not a constant."""
    if node.attributes.get("broadcast") and "axis" in node.attributes:
        return "it broadcasts along an axis as opset 6 did, by an operand that is not a constant"
    return None


@rule("Add", "Sum", refuses=refuse_axis)
def add(step: Step, g: Array) -> tuple[Array | None, ...]:
    return tuple(
        step.unbroadcast(g, step.shape(i)) if step.wants(i) else None for i in range(len(step.node.inputs))
    )


@rule("Sub", refuses=refuse_axis)
def subtract(step: Step, g: Array) -> tuple[Array | None, Array | None]:
    a = step.unbroadcast(g, step.shape(0)) if step.wants(0) else None
    b = step.unbroadcast(-g, step.shape(1)) if step.wants(1) else None
    return a, b


@rule("Mul", needs="xs", refuses=refuse_axis)
def multiply(step: Step, g: Array) -> tuple[Array | None, Array | None]:
    a = step.unbroadcast(g * step.input(1), step.shape(0)) if step.wants(0) else None
    b = step.unbroadcast(g * step.input(0), step.shape(1)) if step.wants(1) else None
    return a, b


@rule("Div", needs="xs", refuses=refuse_axis)
def divide(step: Step, g: Array) -> tuple[Array | None, Array | None]:
    divisor: Array = step.input(1)
    a = step.unbroadcast(g / divisor, step.shape(0)) if step.wants(0) else None
    if not step.wants(1):
        return a, None
    return a, step.unbroadcast(-(g * step.x) / (divisor * divisor), step.shape(1))


def _exponent(step: Step) -> Array:
    """The exponent as working numbers: opset 12 allows whole ones."""
    content = step.graph.constant(step.node.inputs[1])
    return step.w if content is None else step.constant(content.astype(float))


@rule("Pow", needs="xs y")
def power(step: Step, g: Array) -> tuple[Array | None, Array | None]:
    exponent = _exponent(step)
    a = None
    if step.wants(0):
        a = step.unbroadcast(g * exponent * step.power(step.x, exponent - 1.0), step.shape(0))
    if not step.wants(1):
        return a, None
    logarithm = step.where(step.x > 0, step.log(step.maximum(step.x, 1e-30)), 0.0 * step.x)
    return a, step.unbroadcast(g * step.y * logarithm, step.shape(1))


@rule("Mod", needs="xs y")
def remainder(step: Step, g: Array) -> tuple[Array | None, Array | None]:
    """x − q·w with a whole number q, which does not change with small changes."""
    a = step.unbroadcast(g, step.shape(0)) if step.wants(0) else None
    if not step.wants(1):
        return a, None
    return a, step.unbroadcast(g * (step.y - step.x) / step.w, step.shape(1))


@rule("Mean")
def mean(step: Step, g: Array) -> tuple[Array | None, ...]:
    shares: tuple[Array | None, ...] = add(step, g * (1.0 / len(step.node.inputs)))
    return shares


@rule("Max", "Min", needs="xs y")
def extremum(step: Step, g: Array) -> tuple[Array | None, ...]:
    """To the first operand that is the largest (smallest)."""
    parts: list[Array | None] = []
    taken = None
    for i, x in enumerate(step.xs):
        wins = x == step.y
        first = wins if taken is None else wins & ~taken
        parts.append(step.unbroadcast(step.where(first, g), step.shape(i)) if step.wants(i) else None)
        taken = wins if taken is None else wins | taken
    return tuple(parts)
