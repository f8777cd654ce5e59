"""What a rule is given: one node of the graph, its tensors, and the primitives of the executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxvis.errors import OnnxvisError
from onnxvis.graph.analysis import nonnegative
from onnxvis.ops.window import Window

from .dequantization import dequantized

if TYPE_CHECKING:
    from onnxvis.graph.ir import Graph, Node
    from onnxvis.ops.primitives import Array, Gate, Ops, Shape

    # A step offers every primitive of its executor under the same name (see __getattr__).
    from onnxvis.ops.primitives import Ops as _Primitives

    from .linear_operators import Linear
    from .registry import Rule
else:
    _Primitives = object

__all__ = ["Step", "needed"]


def needed(needs: Sequence[str], node: Node) -> tuple[str, ...]:
    """Names of the tensors that ``needs`` stands for at this node.

    "x" (or "x0") is the first input, "w" (or "x1") the second, "xN" the N-th, "xs" all inputs;
    "y" (or "y0") is the first output, "yN" the N-th, "ys" all outputs.
    """
    names: list[str] = []
    for need in needs:
        side = node.outputs if need[0] == "y" else node.inputs
        if need in ("xs", "ys"):
            names += side
        else:
            index = 1 if need == "w" else int(need[1:] or 0)
            names += side[index : index + 1]
    return tuple(dict.fromkeys(filter(None, names)))


class Step(_Primitives):
    """One node on the way back, as a rule sees it.

    ``x``, ``w``, ``b``: first, second, third input; ``xs``: all of them; ``y``, ``ys``: outputs, all as
    arrays of the running executor.  A rule may read what its ``needs`` declare, and constants.
    ``settings`` are the method's.  Every primitive of ``ops.primitives.Ops`` is a method of the step:
    ``step.where(step.y > 0, g)``.
    """

    def __init__(
        self,
        ops: Ops,
        graph: Graph,
        node: Node,
        rule: Rule,
        read: Callable[[str], Array],
        settings: Mapping[str, Any],
        wanted: frozenset[int],
        arrived: MutableMapping[str, list[Array]] | None = None,
    ) -> None:
        self.ops, self.graph, self.node, self.rule = ops, graph, node, rule
        self.settings, self.wanted = settings, wanted
        self._read = read
        self._arrived = {} if arrived is None else arrived  # by tensor, at inputs of this node too
        self.rectifier: Step | None = None  # the next, where it is one and nobody wants what arrives there
        self.gated = False  # what arrives has been through this rule's gate already
        self._readable = frozenset(needed(rule.needs, node))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.ops, name)

    # ---- tensors ---------------------------------------------------------------------------------

    def tensor(self, name: str) -> Array:
        """An input or output of the node, by its name in the graph.

        What ``graph.quantized`` knows is computed from the whole numbers that the file holds.
        """
        if self.graph.is_constant(name):
            return self._constant(name)
        if name not in self._readable:
            raise OnnxvisError(
                f"the rule {self.rule.origin} for {self.node.kind} reads {name!r} of node "
                f"{self.node.name!r}, but declares only needs={' '.join(self.rule.needs)!r}; add it to needs"
            )
        quantized = self.graph.quantized.get(name)
        return self._read(name) if quantized is None else dequantized(quantized, self.ops, self._whole)

    def _whole(self, name: str) -> Array:
        return self._constant(name) if self.graph.is_constant(name) else self._read(name)

    def _constant(self, name: str) -> Array:
        value = self.graph.value(name)
        return self.ops.constant(value.constant) if value.weight is None else self.ops.weight(value.weight)

    def input(self, index: int) -> Array | None:
        """The input at this position, None where it is absent."""
        name = self.node.inputs[index] if index < len(self.node.inputs) else ""
        return self.tensor(name) if name else None

    @property
    def x(self) -> Array:
        """First input."""
        return self.input(0)

    @property
    def w(self) -> Array | None:
        """Second input: a layer's weight."""
        return self.input(1)

    @property
    def b(self) -> Array | None:
        """Third input: a layer's bias."""
        return self.input(2)

    @property
    def y(self) -> Array:
        """First output."""
        return self.tensor(self.node.outputs[0])

    @property
    def xs(self) -> list[Array | None]:
        """All inputs."""
        return [self.input(index) for index in range(len(self.node.inputs))]

    @property
    def ys(self) -> list[Array]:
        """All outputs."""
        return [self.tensor(name) for name in self.node.outputs]

    # ---- what is known without running -----------------------------------------------------------

    def nonnegative(self, index: int = 0) -> bool:
        """True where no number of an input is ever negative, as after a rectifier."""
        return self.node.inputs[index] in nonnegative(self.graph)

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input."""
        return self.graph.shape(self.node.inputs[index])

    def output_shape(self, index: int = 0) -> Shape:
        """Shape of an output."""
        return self.graph.shape(self.node.outputs[index])

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attributes.get(name, default)

    def known(self, index: int, default: Any = None) -> Any:
        """The content (ndarray) of an input that must be a constant: axes, pads, limits."""
        name = self.node.inputs[index] if index < len(self.node.inputs) else ""
        if not name:
            return default
        content = self.graph.constant(name)
        if content is None:
            raise OnnxvisError(
                f"input {index} ({name!r}) of {self.node.kind} node {self.node.name!r} is computed by the "
                "model while it runs; the rule can only follow it where it is a constant"
            )
        return content

    def content(self, index: int) -> Any:
        """The content (ndarray) of an input, also of one that the model computes.

        While a plan is traced there are no numbers yet: then the host executor takes over.
        """
        content = self.graph.constant(self.node.inputs[index])
        return self.to_numpy(self.input(index)) if content is None else content

    def axes(self, position: int, rank: int) -> tuple[int, ...] | None:
        """The ``axes`` of a node (attribute in older opsets, else an input), non-negative."""
        axes = self.attribute("axes")
        axes = self.known(position) if axes is None else axes
        return None if axes is None else tuple(int(axis) % rank for axis in np.ravel(axes))

    def wants(self, index: int) -> bool:
        """True where something is to be propagated to this input."""
        return index in self.wanted

    def taken(self, index: int = 0) -> Array | None:
        """The sum of what has arrived at an input so far, which the rule then adds to what it returns for it.

        It is handed over once, and must not be written to.  None where there is nothing to add to, and for a
        rule that is not registered with ``adds``: where such a one calls the body of another, what that
        returns is its own part alone.
        """
        if not (self.rule.adds and self.wants(index)):
            return None
        name, like = self.node.inputs[index], (self.shape(index), self.ops.dtype)
        parts = self._arrived.get(name, [])
        alone = self.node.inputs.count(name) == 1
        if not (alone and parts and all((tuple(part.shape), part.dtype) == like for part in parts)):
            return None
        return self.ops.total(self._arrived.pop(name))

    def gating(self, index: int = 0) -> tuple[Gate, Array | None] | None:
        """What the rectifier in front of an input does, which the rule then does to what it returns for it.

        The gate, and the rectifier's output y if it reads that: what the primitive ``rectify`` takes.  It is
        handed over once, and behind ``taken``: a sum of which a part stays where it is cannot be rectified.
        None also where the rectifier's own step is not the next, where what arrives there is a result, and
        for a rule that is not registered with ``adds``.
        """
        following = self.rectifier
        if following is None or following.gated or not (self.rule.adds and self.wants(index)):
            return None
        name, gate = self.node.inputs[index], following.rule.gate
        alone = self.node.inputs.count(name) == 1 and not self._arrived.get(name)
        if gate is None or following.node.outputs != (name,) or not alone:
            return None
        following.gated = True
        return gate, None if gate == "deconvnet" else following.y

    def window(self, kernel: Sequence[int]) -> Window:
        """The sliding window of a convolution or pooling node."""
        return Window.of(self.node.attributes, kernel, self.shape()[2:], self.output_shape()[2:])

    # ---- linear operators ------------------------------------------------------------------------

    @property
    def linear(self) -> Linear:
        """The forward map and adjoint of a node that was registered with ``@linear``."""
        assert self.rule.linear is not None, f"{self.node.kind} is not registered as linear"
        return self.rule.linear

    def forward(self, x: Array, w: Array | None) -> Array:
        """The linear map of the node (without bias) at other data and weights."""
        return self.linear.forward(self, x, w)

    def adjoint(self, g: Array, w: Array | None) -> Array:
        """The adjoint of ``forward`` in x."""
        return self.linear.adjoint(self, g, w)

    @property
    def bias(self) -> Array | None:
        """The bias, shaped so that it can be added to the output; None where there is none."""
        return None if self.b is None else self.linear.bias(self, self.b)
