"""Composites: which rule goes where, as a table of which the first row that matches counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from onnxvis.errors import UnknownNameError, UsageError

from .registry import registry

if TYPE_CHECKING:
    from onnxvis.graph.ir import Graph, Node

__all__ = ["COMPOSITES", "Composite", "Match", "composite"]

CONVOLUTION, DENSE = {"layer": "convolution"}, {"layer": "dense"}


@dataclass(frozen=True)
class Match:
    """A row's condition; what is None does not matter.

    ``operator``: the operator type ("Conv", "com.acme::Swirl"); ``layer``: the kind of a linear
    operator ("convolution" or "dense"); ``name``: a pattern for the names of the file's
    nodes that it stands for ("features.*").
    """

    operator: str | None = None
    layer: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, given: str | Mapping[str, Any] | Match) -> Match:
        """A condition from its short forms: an operator type, or a mapping of the fields."""
        if isinstance(given, Match):
            return given
        if isinstance(given, str):
            return cls(operator=given)
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise UnknownNameError("condition of a composite", min(unknown), cls.__dataclass_fields__)
        return cls(**given)

    def fits(self, node: Node) -> bool:
        """True where the node meets the condition."""
        operator = registry.linears.get((node.domain, node.op_type))
        return (
            self.operator in (None, node.kind)
            and (self.layer is None or (operator is not None and operator.layer == self.layer))
            and (
                self.name is None or any(fnmatchcase(name, self.name) for name in node.origin or (node.name,))
            )
        )


class Composite:
    """A table of (condition, rule) rows for a backward pass.

    ::

        Composite([({"name": "features.0"}, "epsilon"), ("Conv", "zplus")], default="lrp")

    The first row that fits a node names its rule; ``default`` serves the others.  FeatureVis' free
    combination of a ReLU pass and a convolution pass is such a table:
    ``Composite([("Relu", "guided_backprop"), ("Conv", "epsilon")], default="gradient")``.
    Raises UnknownNameError for a rule that does not exist.
    """

    def __init__(
        self,
        rows: Iterable[tuple[str | Mapping[str, Any] | Match, str]],
        default: str = "lrp",
        name: str = "custom",
    ) -> None:
        self.rows = tuple((Match.of(condition), rule) for condition, rule in rows)
        self.default, self.name = default, name
        for rule in (default, *(rule for _, rule in self.rows)):
            if rule not in registry.methods:
                raise UnknownNameError("rule or method", rule, registry.methods)

    def assign(self, node: Node, graph: Graph) -> str:
        """The rule (a method of the registry) that this node gets."""
        return next((rule for condition, rule in self.rows if condition.fits(node)), self.default)

    @property
    def methods(self) -> Sequence[str]:
        """Every rule that occurs."""
        return list(dict.fromkeys([*(rule for _, rule in self.rows), self.default]))

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for composites that assign alike."""
        return (*self.rows, self.default)

    def __repr__(self) -> str:
        return f"Composite({self.name!r}, {len(self.rows)} rows, default={self.default!r})"


COMPOSITES: dict[str, Composite] = {
    table.name: table
    for table in (
        Composite([(CONVOLUTION, "epsilon"), (DENSE, "epsilon")], name="epsilon"),
        Composite([(CONVOLUTION, "zplus"), (DENSE, "epsilon")], name="epsilon_plus"),
    )
}


def composite(given: str | Composite) -> Composite:
    """A composite by its name, or itself."""
    if isinstance(given, Composite):
        return given
    if not isinstance(given, str):
        raise UsageError(f"a composite is a name or a Composite, not {given!r}")
    if given not in COMPOSITES:
        raise UnknownNameError("composite", given, COMPOSITES)
    return COMPOSITES[given]
