"""``onnxvis info | methods | rules``: what a model is made of, and what can be done with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .options import Opening, model_options
from .program import main
from .tables import table

if TYPE_CHECKING:
    from onnxvis.graph.ir import Graph, Node, TensorSpec
    from onnxvis.model import Model
    from onnxvis.rules.composites import Choice
    from onnxvis.taxonomy import MethodInfo

__all__ = ["info", "methods", "rules"]

# ---- info ----------------------------------------------------------------------------------------


@main.command(short_help="Show what a model is made of.")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@model_options
def info(model: str, as_json: bool, opening: Opening) -> None:
    """Show what MODEL takes and answers, how pictures are prepared for it, and its layers.

    \b
    Examples:
      onnxvis info zoo:shapes
      onnxvis info net.onnx --json
    """
    opened = opening.open(model)
    if as_json:
        click.echo(json.dumps(_description(opened), indent=2, ensure_ascii=False))
        return
    click.echo(table(_facts(opened)))
    click.echo()
    click.echo(str(opened.graph))


def _facts(model: Model) -> list[tuple[str, str]]:
    found = _description(model)
    labels = found["labels"]
    return [
        ("producer", found["producer"] or "(not stated)"),
        (
            "opset",
            ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in found["opsets"].items()),
        ),
        ("preprocess", f"{_short(found['preprocess'])}  (from: {found['preprocess_source']})"),
        (
            "labels",
            f"{len(labels)}: {', '.join(labels[:5])}{', …' * (len(labels) > 5)}" if labels else "none",
        ),
        ("layers", str(len(found["layers"]))),
    ]


def _short(preprocess: Mapping[str, Any]) -> str:
    """The settings that matter, on one line."""
    shown = ("size", "resize", "resize_to", "color", "range", "mean", "std")
    return " ".join(f"{name}={preprocess[name]}".replace(" ", "") for name in shown if preprocess[name])


def _description(model: Model) -> dict[str, Any]:
    file = model.engine.file
    return {
        "name": model.graph.name,
        "producer": file.producer,
        "opsets": dict(model.graph.opsets),
        "inputs": [_spec(spec) for spec in model.inputs],
        "outputs": [_spec(spec) for spec in model.outputs],
        "preprocess": model.preprocess.to_json(),
        "preprocess_source": model.preprocess_source,
        "labels": list(model.labels),
        "layers": [
            {
                "name": node.name,
                "operator": node.kind,
                "inputs": list(node.inputs),
                "outputs": [_spec(model.graph.value(name).spec) for name in node.outputs if name],
            }
            for node in model.graph.nodes
        ],
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "shape": None if spec.shape is None else list(spec.shape),
        "dtype": None if spec.dtype is None else str(spec.dtype),
    }


# ---- methods -------------------------------------------------------------------------------------


@main.command(short_help="List the methods and their settings.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def methods(as_json: bool) -> None:
    """List the methods in the taxonomy's three classes, with their settings and defaults.

    \b
    Examples:
      onnxvis methods
      onnxvis methods --json
    """
    import onnxvis

    found = onnxvis.methods().values()
    if as_json:
        listed = [
            {"name": m.name, "class": m.category, "summary": m.summary, "settings": dict(m.settings)}
            for m in found
        ]
        click.echo(json.dumps(listed, indent=2, default=str, ensure_ascii=False))
        return
    for category in dict.fromkeys(m.category for m in found):
        click.echo(f"{category}\n{table(_method_rows(m for m in found if m.category == category))}\n")
    click.echo("Give a setting with --set NAME=VALUE. Input reconstruction: `onnxvis reconstruct`.")


def _method_rows(found: Iterable[MethodInfo]) -> Iterable[tuple[str, str]]:
    for method in found:
        yield f"  {method.name}", method.summary
        if method.settings:
            yield "", ", ".join(f"{name}={default!r}" for name, default in method.settings.items())


# ---- rules ---------------------------------------------------------------------------------------


@main.command(short_help="Show which operator has which rules.")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def rules(model: str | None, as_json: bool) -> None:
    """Show which operator has a rule for which method; with MODEL, for its operators only.

    "own": a rule written for this method; the name of another method: its rule serves; "–": none, the
    method refuses models that need it; "stop": nothing can be propagated through this operator.
    Below the table: why an operator stops the way back, or is refused.

    \b
    Examples:
      onnxvis rules
      onnxvis rules net.onnx
    """
    import onnxvis
    from onnxvis.rules import coverage, registry

    graph = onnxvis.load(model).graph if model else None
    every = [(*key, coverage.ANY_OPSET) for key in registry.operators()]
    keys = every if graph is None else [(node.domain, node.op_type, node.opset) for node in graph.nodes]
    rows = [_coverage(*key, count) for key, count in Counter(keys).items()]
    missing = {} if graph is None else _missing(graph)
    among = None if graph is None else {key[:2] for key in keys}
    stops, refused = (coverage.by_reason(table, among) for table in (registry.stops, registry.refusals))
    if as_json:
        found = {"operators": rows, "missing": missing, "stops": stops, "refused": refused}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    heads = ["operator", *(["nodes"] if model else []), *registry.methods]
    click.echo(table([heads, *([row[head] for head in heads] for row in rows)]))
    for title, reasons in (("stop", stops), ("refused", refused)):
        for why, operators in reasons.items():
            click.echo(f"\n{title}: {', '.join(operators)}\n  {why}")
    if missing:
        click.echo()
    for method, operators in missing.items():
        click.echo(f"{method}: " + (f"no rule for {', '.join(operators)}" if operators else "complete"))


def _coverage(domain: str, op_type: str, opset: int, count: int) -> dict[str, Any]:
    """A row: the operator, how many nodes the model has of it, and what serves each method."""
    from onnxvis.rules import coverage, registry

    found = {method: coverage.served(domain, op_type, method, opset) for method in registry.methods}
    return {"operator": coverage.kind_of(domain, op_type), "nodes": count, **found}


def _missing(graph: Graph) -> dict[str, list[str]]:
    """For each way back through the model: the operators that it has no rule for."""
    from onnxvis.engine.plan import Pass
    from onnxvis.rules import registry
    from onnxvis.rules.composites import COMPOSITES

    passes = {name: Pass(name) for name in registry.methods if "lrp" not in registry.lineage(name)}
    passes |= {f"lrp, composite {name}": Pass(table) for name, table in COMPOSITES.items()}
    return {name: _unserved(graph, backward.on(graph)) for name, backward in passes.items()}


def _unserved(graph: Graph, assigned: Callable[[Node], Choice]) -> list[str]:
    """Operators without a rule, each once."""
    from onnxvis.rules.coverage import NONE, served

    missing = (
        node.kind
        for node in graph.nodes
        if served(node.domain, node.op_type, assigned(node).rule, node.opset) == NONE
    )
    return list(dict.fromkeys(missing))
