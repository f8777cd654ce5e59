"""The registry: which rule takes one step back through an operator, for which method.

Lookup: (domain, operator, method), the newest rule whose ``since`` is not above the node's opset;
else the rule that the method has for every linear operator; else the same for the method's parent.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from onnxvis.errors import OnnxvisError, UnknownNameError, UsageError
from onnxvis.ops.primitives import Gate

from .linear_operators import Linear

if TYPE_CHECKING:
    from onnxvis.graph.ir import Graph, Node


__all__ = ["Method", "Registry", "Rule", "linear", "lrp_rule", "refuse", "registry", "rule", "stop"]

Body = Callable[..., Any]
_versions = itertools.count(1)
ENTRY_POINTS = "onnxvis.rules"


@dataclass(frozen=True)
class Method:
    """A way to walk back: ``parent`` serves the operators that it has no rule for.

    ``check`` raises UsageError for settings that the rules cannot work with.
    """

    name: str
    parent: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    check: Callable[[Mapping[str, Any]], None] | None = None


@dataclass(frozen=True)
class Rule:
    """One step back through one operator.

    ``body(step, *g)`` gets what arrives at each output and returns what goes to each input (one array:
    to the first; a tuple: one an input, None for nothing).  ``needs``: the tensors of the forward pass
    that it reads (see ``step.needed``).  ``inputs(node, graph)``: positions that it propagates to (all
    by default).  ``refuses(node, graph)``: a reason why it does not apply to a node, or None.
    ``traceable``: False for plain Python that only works on real arrays.  ``adds``: it adds what it returns
    to what ``step.taken`` hands it, and puts it through what ``step.gating`` does.  ``gate``: it is nothing
    but ``step.rectify(g, gate, step.y)``, which another rule may then do for it.  ``origin``: where it is
    defined.
    """

    op_type: str
    method: str
    body: Body
    needs: tuple[str, ...] = ()
    domain: str = ""
    since: int = 1
    inputs: Callable[[Node, Graph], Sequence[int]] | None = None
    refuses: Callable[[Node, Graph], str | None] | None = None
    traceable: bool = True
    adds: bool = False
    gate: Gate | None = None
    linear: Linear | None = None
    origin: str = ""

    @property
    def kind(self) -> str:
        """``domain::op_type``, the domain only where it is not ONNX's own."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type


class Registry:
    """All rules, methods and linear operators; ``scoped`` undoes what is registered inside."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str, str], list[Rule]] = {}
        self.methods: dict[str, Method] = {}
        self.linears: dict[tuple[str, str], Linear] = {}
        self.for_linear: dict[str, Rule] = {}
        self.stops: dict[tuple[str, str], str] = {}
        self.stopped_outputs: dict[tuple[str, str, int], str] = {}
        self.refusals: dict[tuple[str, str], str] = {}
        self.version = 0  # changes whenever a rule does: what was compiled with another is stale
        self._complete = False  # onnxvis' own rules are all there: those of plugins may follow
        self._plugins_loaded = False

    # ---- registering -----------------------------------------------------------------------------

    def add(self, rule: Rule, override: bool = False) -> None:
        """Register a rule; one for the same operator, method and opset is refused unless overridden."""
        if rule.method not in self.methods:
            raise UnknownNameError("method", rule.method, self.methods, "Add it with registry.add_method.")
        rules = self.rules.setdefault((rule.domain, rule.op_type, rule.method), [])
        same = [other for other in rules if other.since == rule.since]
        if same and not override:
            raise UsageError(
                f"there is already a {rule.method!r} rule for {rule.kind} since opset {rule.since} "
                f"({same[0].origin}); pass override=True to replace it"
            )
        self.version = next(_versions)
        rules[:] = sorted([*(r for r in rules if r not in same), rule], key=lambda r: -r.since)

    def add_method(
        self,
        name: str,
        parent: str | None = None,
        doc: str = "",
        check: Callable[[Mapping[str, Any]], None] | None = None,
        **settings: Any,
    ) -> None:
        """Make a method known: ``parent`` serves operators without a rule of its own."""
        if parent is not None and parent not in self.methods:
            raise UnknownNameError("method", parent, self.methods)
        self.methods[name] = Method(name, parent, settings, doc, check)

    @contextmanager
    def scoped(self) -> Iterator[Registry]:
        """Everything registered inside is forgotten at the end: for tests and experiments."""
        self.load_plugins()
        saved = {
            name: {key: [*rules] for key, rules in table.items()} if name == "rules" else copy.copy(table)
            for name, table in vars(self).items()
        }
        try:
            yield self
        finally:
            vars(self).update(saved)

    def complete(self) -> None:
        """Declare that onnxvis' own rules are registered: a plugin imports what they are registered with."""
        self._complete = True

    def load_plugins(self) -> None:
        """Import what installed packages announce in the entry point group ``onnxvis.rules``."""
        if self._plugins_loaded or not self._complete:
            return
        self._plugins_loaded = True
        from importlib.metadata import entry_points

        for entry in entry_points(group=ENTRY_POINTS):
            try:
                entry.load()
            except OnnxvisError:
                raise
            except Exception as error:
                raise OnnxvisError(
                    f"the plugin {entry.name!r} ({entry.value}) cannot be loaded: {error!r}; "
                    "mend or uninstall it"
                ) from error

    # ---- looking up ------------------------------------------------------------------------------

    def lineage(self, method: str) -> Iterator[str]:
        """The method, its parent, and so on."""
        self.load_plugins()
        name: str | None = method
        while name is not None:
            if name not in self.methods:
                raise UnknownNameError("rule or method", name, self.methods)
            yield name
            name = self.methods[name].parent

    def find(self, op_type: str, method: str, domain: str = "", opset: int = 10**6) -> Rule | None:
        """The rule for an operator, None where there is none."""
        for name in self.lineage(method):
            for rule in self.rules.get((domain, op_type, name), ()):
                if rule.since <= opset:
                    return rule
            generic, operator = self.for_linear.get(name), self.linears.get((domain, op_type))
            if generic and operator:
                return Rule(
                    op_type, name, generic.body, generic.needs, domain, inputs=computed,
                    refuses=_either(_weights_vary, generic.refuses), adds=generic.adds, linear=operator,
                    origin=generic.origin,
                )  # fmt: skip
        return None

    def methods_of(self, op_type: str, domain: str = "") -> list[str]:
        """Methods that have a rule for this operator, by themselves or through a parent."""
        return [name for name in self.methods if self.find(op_type, name, domain)]

    def operators(self) -> list[tuple[str, str]]:
        """(domain, op_type) of every operator that has any rule."""
        self.load_plugins()
        found = {(domain, op_type) for domain, op_type, _ in self.rules} | set(self.linears)
        return sorted(found)

    def settings(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """A method's settings, defaults of its parents included, with the given ones in place.

        Raises UsageError for settings that the method cannot work with.
        """
        settings = {**self.defaults(method), **given}
        check = self.methods[method].check
        if check is not None:
            check(settings)
        return settings

    def defaults(self, method: str) -> dict[str, Any]:
        """The settings that a method knows, those of its parents included, with their defaults."""
        found: dict[str, Any] = {}
        for name in reversed([*self.lineage(method)]):
            found.update(self.methods[name].settings)
        return found


def computed(node: Node, graph: Graph) -> tuple[int, ...]:
    """Positions of the inputs that the model computes: not the constants."""
    return tuple(i for i, name in enumerate(node.inputs) if name and not graph.is_constant(name))


def _weights_vary(node: Node, graph: Graph) -> str | None:
    """LRP through a linear operator takes its weights as given numbers."""
    varying = [i for i in computed(node, graph) if i > 0]
    if not varying:
        return None
    name = node.inputs[varying[0]]
    return f"its operand {name!r} is computed by the model: LRP knows only constant weights"


def _either(
    first: Callable[[Node, Graph], str | None], second: Callable[[Node, Graph], str | None] | None
) -> Callable[[Node, Graph], str | None]:
    """The first reason of two for refusing a node."""
    return first if second is None else lambda node, graph: first(node, graph) or second(node, graph)


registry = Registry()
registry.add_method("gradient", doc="the derivative")
registry.add_method("deconvnet", "gradient", doc="at a rectifier, what is positive on the way back")
registry.add_method("guided_backprop", "gradient", doc="at a rectifier, what is positive both ways")
registry.add_method("lrp", doc="relevance: operators that carry it along", epsilon=1e-6)


def _origin(body: Any) -> str:
    return f"{body.__module__}.{body.__qualname__}"


def rule(
    *op_types: str,
    method: str = "gradient",
    needs: str = "",
    domain: str = "",
    since: int = 1,
    inputs: Callable[[Node, Graph], Sequence[int]] | Sequence[int] | None = None,
    refuses: Callable[[Node, Graph], str | None] | None = None,
    traceable: bool = True,
    adds: bool = False,
    gate: Gate | None = None,
    override: bool = False,
) -> Callable[[Body], Body]:
    """Register a function as the rule of one or more operators.

    ::

        @onnxvis.rule("Relu", needs="y")
        def relu(step, g):
            return step.where(step.y > 0, g)

    ``needs``: tensors of the forward pass that the body reads, e.g. ``"x y"`` (``step.needed``);
    ``inputs``: positions that it propagates to, where not all; the other parameters as in ``Rule``.
    Raises UsageError where there is such a rule already and ``override`` is not set.
    """
    if gate is not None and gate not in get_args(Gate):
        raise UnknownNameError("gate", gate, get_args(Gate))

    def register(body: Body) -> Body:
        chosen = inputs if inputs is None or callable(inputs) else (lambda node, graph: inputs)
        for op_type in op_types:
            made = Rule(
                op_type, method, body, tuple(needs.split()), domain, since, chosen, refuses, traceable, adds,
                gate, origin=_origin(body),
            )  # fmt: skip
            registry.add(made, override)
        return body

    return register


def linear(
    op_type: str, *, domain: str = "", override: bool = False
) -> Callable[[type[Linear]], type[Linear]]:
    """Register a class with ``forward`` and ``adjoint`` as a linear operator.

    Its gradient and every LRP rule follow from the pair (see ``Linear``).
    """

    def register(cls: type[Linear]) -> type[Linear]:
        methods = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
        made = cls() if issubclass(cls, Linear) else type(cls.__name__, (Linear,), methods)()
        gradient = Rule(
            op_type, "gradient", made.gradient, ("x", "w"), domain, linear=made, origin=_origin(cls),
            adds=type(made).gradient is Linear.gradient,  # another may change what this one returns
        )  # fmt: skip
        registry.add(gradient, override)
        registry.linears[domain, op_type] = made
        return cls

    return register


def lrp_rule(
    name: str,
    *,
    needs: str = "x",
    refuses: Callable[[Node, Graph], str | None] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    adds: bool = False,
    **settings: Any,
) -> Callable[[Body], Body]:
    """Register an LRP rule for every linear operator; ``settings`` are its parameters and defaults.

    ``refuses`` and ``adds`` as in ``Rule``; ``check(settings)`` raises UsageError for what the rule cannot
    work with.
    """

    def register(body: Body) -> Body:
        doc = (body.__doc__ or "").strip().split("\n")[0]
        if name not in registry.methods:
            registry.add_method(name, parent="lrp", doc=doc, check=check, **settings)
        registry.for_linear[name] = Rule(
            "*", name, body, tuple(needs.split()), refuses=refuses, adds=adds, origin=_origin(body)
        )
        return body

    return register


def stop(*op_types: str, why: str, domain: str = "", output: int | None = None) -> None:
    """Declare operators (or one of their outputs) that nothing can be propagated through, and why."""
    if output is None:
        registry.stops.update({(domain, op_type): why for op_type in op_types})
    else:
        registry.stopped_outputs.update({(domain, op_type, output): why for op_type in op_types})


def refuse(*op_types: str, why: str, domain: str = "") -> None:
    """Declare operators that have no rule on purpose, with the reason that the error message gives."""
    registry.refusals.update({(domain, op_type): why for op_type in op_types})
