"""Which operator is served for which method: what ``onnxvis rules`` prints and docs/operators.md lists."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping

from .registry import Rule, registry

__all__ = ["NONE", "OWN", "STOP", "by_reason", "families", "kind_of", "served"]

OWN, NONE, STOP = "own", "–", "stop"
ANY_OPSET = 10**6

Operator = tuple[str, str]  # domain, op_type


def served(domain: str, op_type: str, method: str, opset: int = ANY_OPSET) -> str:
    """By what the operator is served: OWN, the name of the method whose rule serves, NONE or STOP."""
    if (domain, op_type) in registry.stops:
        return STOP
    rule = registry.find(op_type, method, domain, opset)
    if rule is None:
        return NONE
    return OWN if rule.method == method else rule.method


def kind_of(domain: str, op_type: str) -> str:
    """``domain::op_type``, the domain only where it is not ONNX's own."""
    return f"{domain}::{op_type}" if domain else op_type


def by_reason(
    reasons: Mapping[Operator, str], among: Container[Operator] | None = None
) -> dict[str, list[str]]:
    """Operators that stop the way back or are refused (of those given), by the reason."""
    found: dict[str, list[str]] = {}
    for operator, why in sorted(reasons.items()):
        if among is None or operator in among:
            found.setdefault(why, []).append(kind_of(*operator))
    return found


def families() -> dict[str, list[tuple[Operator, Rule]]]:
    """Operators with their gradient rules, by what the module that defines the rule says of itself."""
    found: dict[str, list[tuple[Operator, Rule]]] = {}
    for domain, op_type in registry.operators():
        rule = registry.find(op_type, "gradient", domain)
        if rule is not None:
            module = sys.modules.get(rule.origin.rpartition(".")[0])
            title = (module.__doc__ if module else None) or "Others"
            heading = title.strip().partition("\n")[0].rstrip(".")
            found.setdefault(heading, []).append(((domain, op_type), rule))
    return dict(sorted(found.items()))
