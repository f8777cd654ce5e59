"""Activations that an exporter wrote in pieces, as the one operator that they are.

x·sigmoid(x), x·relu6(x + 3)/6 or 0.5·x·(1 + erf(x/√2)) come in many spellings.  They are told by what
they compute: a chain of operators on single numbers that begins at one tensor is a function of one
number, and is compared with the activations that ONNX names at points on the line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .ir import Graph, Node

__all__ = ["whole_activations"]

Samples = np.ndarray[Any, np.dtype[np.float64]]

POINTS: Samples = np.concatenate([np.linspace(-9.0, 9.0, 145) + 0.013, [-40.0, -20.0, 20.0, 40.0]])
TOLERANCE = 2e-6  # constants are rounded to float32
LONGEST = 12  # operators in a chain


class Chain(NamedTuple):
    """A function of one tensor: its values at ``POINTS`` and the nodes that compute it."""

    values: Samples
    nodes: tuple[Node, ...]


def whole_activations(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Replace chains that compute a known activation; those that hold a tensor in ``keep`` stay."""
    protected = {*keep, *graph.outputs}
    chains: dict[str, dict[str, Chain]] = {}
    replaced: dict[str, Node] = {}
    inner: set[str] = set()
    for node in graph.nodes:
        found = _chains(node, graph, chains)
        chains[node.outputs[0]] = found
        for source, chain in sorted(found.items(), key=lambda item: -len(item[1].nodes)):
            hidden = [part.outputs[0] for part in chain.nodes[:-1]]
            known = None if protected.intersection(hidden) else _activation(chain)
            if known is not None:
                origin = tuple(name for part in chain.nodes for name in part.origin)
                op_type, attributes = known
                replaced[node.name] = replace(
                    node, op_type=op_type, inputs=(source,), attributes=attributes, origin=origin
                )
                inner.update(part.name for part in chain.nodes[:-1])
                break
    return _without_dead(graph, replaced, inner, protected) if replaced else graph


def _without_dead(
    graph: Graph, replaced: Mapping[str, Node], inner: Collection[str], protected: Collection[str]
) -> Graph:
    """The replacements in place, and no pieces that nobody reads any more."""
    nodes: list[Node] = []
    read = set(protected)
    for node in reversed(graph.nodes):
        node = replaced.get(node.name, node)
        if node.name not in inner or read.intersection(node.outputs):
            read.update(node.reads)
            nodes.append(node)
    return graph.with_nodes(nodes[::-1])


# ---- functions of one number ---------------------------------------------------------------------


def _chains(node: Node, graph: Graph, known: Mapping[str, dict[str, Chain]]) -> dict[str, Chain]:
    """The node's output as a function of each tensor that it alone depends on, number by number."""
    function = _FUNCTIONS.get(node.op_type)
    if function is None or node.domain or len(node.outputs) != 1 or _is_whole(node.outputs[0], graph):
        return {}
    operands: list[float | dict[str, Chain]] = []
    for name in node.inputs:
        constant = graph.constant(name) if name else np.array(np.nan)
        if constant is None:
            operands.append({name: Chain(POINTS, ()), **known.get(name, {})})
        elif constant.size == 1 and constant.ndim <= _rank(node, graph):
            operands.append(float(constant.ravel()[0]))
        else:
            return {}
    varying = [operand for operand in operands if isinstance(operand, dict)]
    sources = set(varying[0]).intersection(*varying) if varying else set()
    found = {}
    for source in sources:
        parts = {part.name: part for operand in varying for part in operand[source].nodes}
        if len(parts) < LONGEST:
            values = [o if isinstance(o, float) else o[source].values for o in operands]
            with np.errstate(all="ignore"):
                result = np.asarray(function(node.attributes, *values), np.float64)
            found[source] = Chain(np.broadcast_to(result, POINTS.shape), (*parts.values(), node))
    return found


def _is_whole(name: str, graph: Graph) -> bool:
    """True for a tensor of whole numbers: sizes and positions, which divide by other rules."""
    dtype = graph.value(name).dtype
    return dtype is not None and dtype.kind in "biu"


def _rank(node: Node, graph: Graph) -> int:
    """The lowest rank of what a node reads and the model computes; 0 where it is not known."""
    computed = [graph.value(name).shape for name in node.inputs if name and not graph.is_constant(name)]
    return min((len(shape or ()) for shape in computed), default=0)


def _clip(attributes: Mapping[str, Any], x: Samples, low: float = np.nan, high: float = np.nan) -> Samples:
    low = attributes.get("min", -np.inf) if math.isnan(low) else low
    high = attributes.get("max", np.inf) if math.isnan(high) else high
    return np.clip(x, low, high)


def _erf(attributes: Mapping[str, Any], x: Samples) -> Samples:
    return np.array([math.erf(number) for number in x])


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "Identity": lambda given, x: x,
    "Neg": lambda given, x: -x,
    "Abs": lambda given, x: np.abs(x),
    "Add": lambda given, a, b: a + b,
    "Sub": lambda given, a, b: a - b,
    "Mul": lambda given, a, b: a * b,
    "Div": lambda given, a, b: np.divide(a, b),
    "Pow": lambda given, a, b: np.power(a, b),
    "Max": lambda given, *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda given, *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Reciprocal": lambda given, x: 1.0 / x,
    "Sqrt": lambda given, x: np.sqrt(x),
    "Exp": lambda given, x: np.exp(x),
    "Log": lambda given, x: np.log(x),
    "Erf": _erf,
    "Tanh": lambda given, x: np.tanh(x),
    "Sigmoid": lambda given, x: _sigmoid(x),
    "Softplus": lambda given, x: np.logaddexp(x, 0.0),
    "Relu": lambda given, x: np.maximum(x, 0.0),
    "LeakyRelu": lambda given, x: np.where(x > 0, x, given.get("alpha", 0.01) * x),
    "HardSigmoid": lambda given, x: np.clip(given.get("alpha", 0.2) * x + given.get("beta", 0.5), 0, 1),
    "Clip": _clip,
}


def _sigmoid(x: Samples) -> Samples:
    return 0.5 * np.tanh(0.5 * x) + 0.5


# ---- what they are -------------------------------------------------------------------------------

Known = tuple[str, dict[str, Any]]


def _activation(chain: Chain) -> Known | None:
    """The operator that computes the same, with its attributes; None where there is none to prefer."""
    last = chain.nodes[-1].op_type
    if last == "Identity" or (len(chain.nodes) == 1 and last not in ("Max", "Min")):
        return None
    if not np.isfinite(chain.values).all():
        return None
    for known, values in _candidates(chain.values):
        if _close(chain.values, values):
            return None if known[0] == last else known
    return None


def _close(values: Samples, expected: Samples) -> bool:
    return bool((np.abs(values - expected) <= TOLERANCE * (1.0 + np.abs(expected))).all())


def _candidates(y: Samples) -> Iterator[tuple[Known, Samples]]:
    """Activations with the parameters that the values suggest, and their values."""
    x = POINTS
    at = _at(y)
    yield ("Relu", {}), np.maximum(x, 0.0)
    slope = at(-1) / x[_near(-1)]
    if not math.isclose(slope, 1.0, rel_tol=TOLERANCE):  # what changes nothing is no rectifier
        yield ("LeakyRelu", {"alpha": slope}), np.where(x > 0, x, slope * x)
    yield ("Sigmoid", {}), _sigmoid(x)
    alpha = (at(0.5) - at(-0.5)) / (x[_near(0.5)] - x[_near(-0.5)])
    beta = at(0.5) - alpha * x[_near(0.5)]
    if alpha:
        yield ("HardSigmoid", {"alpha": alpha, "beta": beta}), np.clip(alpha * x + beta, 0.0, 1.0)
    yield ("HardSwish", {}), x * np.clip(x / 6 + 0.5, 0.0, 1.0)
    gate = at(1) / x[_near(1)]
    if 0 < gate < 1:
        alpha = math.log(gate / (1 - gate)) / x[_near(1)]
        yield ("Swish", {"alpha": alpha}), x * _sigmoid(alpha * x)
    yield ("Gelu", {}), x * 0.5 * (1.0 + _erf({}, x / math.sqrt(2)))
    cubic = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    yield ("Gelu", {"approximate": "tanh"}), 0.5 * x * (1.0 + np.tanh(cubic))
    softplus = np.logaddexp(x, 0.0)
    yield ("Softplus", {}), softplus
    yield ("Mish", {}), x * np.tanh(softplus)
    yield ("Softsign", {}), x / (1.0 + np.abs(x))


def _near(number: float) -> int:
    return int(np.abs(POINTS - number).argmin())


def _at(y: Samples) -> Callable[[float], float]:
    return lambda number: float(y[_near(number)])
