"""Composites: which rule goes where, as a table of which the first row that matches counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxvis.errors import UnknownNameError, UsageError

from .positions import POSITIONS, Positions
from .registry import registry

if TYPE_CHECKING:
    import os

    from onnxvis.graph.ir import Graph, Node

__all__ = ["COMPOSITES", "Assignment", "Choice", "Composite", "Match", "composite", "frozen"]

CONVOLUTION, DENSE, FIRST = {"layer": "convolution"}, {"layer": "dense"}, {"position": "first"}


@dataclass(frozen=True)
class Match:
    """A row's condition: all that is given must hold; what is None does not matter.

    ``operator``: the operator type ("Conv", "com.acme::Swirl"); ``layer``: the kind of a linear
    operator ("convolution" or "dense"); ``name``: a pattern for the names of the file's
    nodes that it stands for ("features.*"); ``position``: "first" or "last" layer, in the order of the
    data flow; ``before``, ``after``: the name of a node that the data reach later or have passed, itself
    excluded.
    """

    operator: str | None = None
    layer: str | None = None
    name: str | None = None
    position: str | None = None
    before: str | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if value is not None and not isinstance(value, str):
                raise UsageError(f"the condition {key!r} of a composite is a text, not {value!r}")
        if self.position is not None and self.position not in POSITIONS:
            raise UnknownNameError("position of a layer", self.position, POSITIONS)

    @classmethod
    def of(cls, given: str | Mapping[str, Any] | Match) -> Match:
        """A condition from its short forms: an operator type, or a mapping of the fields."""
        if isinstance(given, Match):
            return given
        if isinstance(given, str):
            return cls(operator=given)
        if not isinstance(given, Mapping):
            raise UsageError(
                f"a condition of a composite is an operator or a mapping of fields, not {given!r}"
            )
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise UnknownNameError("condition of a composite", min(unknown), cls.__dataclass_fields__)
        return cls(**given)

    def fits(self, node: Node, where: Positions) -> bool:
        """True where the node meets the condition."""
        operator = registry.linears.get((node.domain, node.op_type))
        names = node.origin or (node.name,)
        return (
            self.operator in (None, node.kind)
            and (self.layer is None or (operator is not None and operator.layer == self.layer))
            and (self.name is None or any(fnmatchcase(name, self.name) for name in names))
            and (self.position is None or where.holds(node, self.position))
            and (self.before is None or where.before(node, self.before))
            and (self.after is None or where.after(node, self.after))
        )


class Choice(NamedTuple):
    """What a node gets: a rule (a method of the registry), and settings of its own for it."""

    rule: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, given: str | Sequence[Any]) -> Choice:
        """A rule by its name, or with its settings: ``("alpha_beta", {"alpha": 2, "beta": 1})``."""
        rule, settings = (given, {}) if isinstance(given, str) else (*given, {})[:2]
        if rule not in registry.methods:
            raise UnknownNameError("rule or method", rule, registry.methods)
        if not isinstance(settings, Mapping):
            raise UsageError(f"settings of the rule {rule!r} are a mapping, not {settings!r}")
        known = registry.defaults(rule)
        for name in settings:
            if name not in known:
                raise UnknownNameError(f"setting of the rule {rule!r}", name, known or ["(none)"])
        if all(value is not None for value in {**known, **settings}.values()):  # else they are to come yet
            registry.settings(rule, settings)
        return cls(rule, settings)


class Assignment:
    """A composite on one graph: called with a node, it says what the node gets."""

    def __init__(self, composite: Composite, graph: Graph, seeds: Collection[str] = ()) -> None:
        self.composite, self.where = composite, Positions(graph, seeds)

    def __call__(self, node: Node) -> Choice:
        rows = self.composite.rows
        found = (choice for condition, choice in rows if condition.fits(node, self.where))
        return next(found, self.composite.otherwise)


class Composite:
    """A table of (condition, rule) rows for a backward pass.

    ::

        Composite([({"name": "features.0"}, "epsilon"), ("Conv", ("gamma", {"gamma": 0.1}))], default="lrp")

    The first row that fits a node names its rule, by itself or with settings for it; ``default`` serves
    the others.  FeatureVis' free combination of a ReLU pass and a convolution pass is such a table, for
    any range of layers: ``Composite([({"operator": "Relu", "after": "conv3"}, "guided_backprop"),
    ("Conv", "epsilon")], default="gradient")``.
    Raises UnknownNameError for a rule, a setting or a condition that does not exist.
    """

    def __init__(
        self,
        rows: Iterable[tuple[str | Mapping[str, Any] | Match, str | Sequence[Any]]],
        default: str = "lrp",
        name: str = "custom",
    ) -> None:
        self.rows = tuple((Match.of(condition), Choice.of(rule)) for condition, rule in rows)
        self.otherwise, self.default, self.name = Choice.of(default), default, name

    @classmethod
    def from_toml(cls, source: str | os.PathLike[str]) -> Composite:
        """The composite in a .toml file (a path), or in a text of that form.

        ::

            name = "mine"
            default = "lrp"              # what no row fits

            [[rows]]                     # conditions: operator, layer, name, position, before, after
            layer = "convolution"
            position = "first"
            rule = "flat"

            [[rows]]
            layer = "convolution"
            rule = "alpha_beta"
            settings = { alpha = 2, beta = 1 }

        Raises UsageError that names the row and the key that cannot be understood.
        """
        from .composite_files import read

        name, default, rows = read(source)
        return cls(rows, default, name)

    def on(self, graph: Graph, seeds: Collection[str] = ()) -> Assignment:
        """What each node of a graph gets, in a pass that starts at the tensors ``seeds``."""
        return Assignment(self, graph, seeds)

    def assign(self, node: Node, graph: Graph) -> str:
        """The rule (a method of the registry) that this node gets."""
        return self.on(graph)(node).rule

    @property
    def methods(self) -> Sequence[str]:
        """Every rule that occurs."""
        return list(dict.fromkeys([*(choice.rule for _, choice in self.rows), self.default]))

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for composites that assign alike."""
        rows = ((condition, choice.rule, frozen(choice.settings)) for condition, choice in self.rows)
        return (*rows, self.default)

    def __repr__(self) -> str:
        return f"Composite({self.name!r}, {len(self.rows)} rows, default={self.default!r})"


def frozen(value: Any) -> Any:
    """Settings in a form that can be a dictionary's key: equal for equal numbers."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, frozen(entry)) for key, entry in value.items()))
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


_ALPHA2_BETA1 = ("alpha_beta", {"alpha": 2.0, "beta": 1.0})
_FIRST_CONVOLUTION = {**CONVOLUTION, **FIRST}
COMPOSITES: dict[str, Composite] = {
    table.name: table
    for table in (
        Composite([(CONVOLUTION, "epsilon"), (DENSE, "epsilon")], name="epsilon"),
        Composite([(CONVOLUTION, "zplus"), (DENSE, "epsilon")], name="epsilon_plus"),
        Composite(
            [(FIRST, "flat"), (CONVOLUTION, "zplus"), (DENSE, "epsilon")],
            name="epsilon_plus_flat",
        ),
        Composite([(CONVOLUTION, _ALPHA2_BETA1), (DENSE, "epsilon")], name="epsilon_alpha2_beta1"),
        Composite(
            [(FIRST, "flat"), (CONVOLUTION, _ALPHA2_BETA1), (DENSE, "epsilon")],
            name="epsilon_alpha2_beta1_flat",
        ),
        Composite(
            [(_FIRST_CONVOLUTION, "zbox"), (CONVOLUTION, ("gamma", {"gamma": 0.25})), (DENSE, "epsilon")],
            name="epsilon_gamma_box",
        ),
        Composite([(CONVOLUTION, "zplus"), (DENSE, "zplus")], name="excitation_backprop"),
    )
}


def composite(given: str | Composite) -> Composite:
    """A composite by its name or from a .toml file, or itself."""
    if isinstance(given, Composite):
        return given
    if not isinstance(given, str):
        raise UsageError(f"a composite is a name, a .toml file or a Composite, not {given!r}")
    if given.endswith(".toml"):
        return Composite.from_toml(given)
    if given not in COMPOSITES:
        raise UnknownNameError("composite", given, COMPOSITES, "Or give a .toml file, or a Composite.")
    return COMPOSITES[given]
