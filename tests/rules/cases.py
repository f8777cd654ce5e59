"""One table of one-node models: every operator that has a rule, in the forms that files hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxvis.rules import registry

from .case import SETTINGS, Case, normal, positive
from .families import FAMILIES

__all__ = ["CASES", "SETTINGS", "Case", "named", "named_pairs", "normal", "pairs", "positive"]

CASES: tuple[Case, ...] = tuple(case for family in FAMILIES for case in family.cases())


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
