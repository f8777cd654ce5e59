"""``onnxvis info | methods | rules``: what a model is made of, and what can be done with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .options import Opening, model_options
from .program import main
from .tables import table

if TYPE_CHECKING:
    from onnxvis.graph.ir import TensorSpec
    from onnxvis.model import Model
    from onnxvis.taxonomy import MethodInfo

__all__ = ["info", "methods", "rules"]

# ---- info ----------------------------------------------------------------------------------------


@main.command()
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


@main.command()
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

OWN, NONE, STOP = "own", "–", "stop"


@main.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def rules(model: str | None, as_json: bool) -> None:
    """Show which operator has a rule for which method; with MODEL, for its operators only.

    "own": a rule written for this method; the name of another method: its rule serves; "–": none, the
    method refuses models that need it; "stop": nothing can be propagated through this operator.

    \b
    Examples:
      onnxvis rules
      onnxvis rules net.onnx
    """
    from onnxvis.rules import registry

    counts = _operators(model) if model else {(*key, 10**6): 0 for key in registry.operators()}
    columns = list(registry.methods)
    coverage = {key: {method: _served(*key, method) for method in columns} for key in counts}
    rows = [
        {
            "operator": f"{domain}::{op_type}" if domain else op_type,
            "nodes": counts[domain, op_type, opset],
            **cells,
        }
        for (domain, op_type, opset), cells in coverage.items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    heads = ["operator", *(["nodes"] if model else []), *columns]
    click.echo(table([heads, *([row[head] for head in heads] for row in rows)]))
    if model:
        click.echo("\n" + "\n".join(_missing(rows, columns)))


def _operators(model: str) -> Mapping[tuple[str, str, int], int]:
    """(domain, operator, opset) of the model's layers, and how many there are of each."""
    import onnxvis

    nodes = onnxvis.load(model).graph.nodes
    return Counter((node.domain, node.op_type, node.opset) for node in nodes)


def _served(domain: str, op_type: str, opset: int, method: str) -> str:
    """By what rule the operator is served."""
    from onnxvis.rules import registry

    if (domain, op_type) in registry.stops:
        return STOP
    rule = registry.find(op_type, method, domain, opset)
    if rule is None:
        return NONE
    return OWN if rule.method == method else rule.method


def _missing(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> Iterable[str]:
    """One line a method: what it lacks for this model."""
    rows = list(rows)
    for method in columns:
        lacking = [f"{row['operator']} ({row['nodes']})" for row in rows if row[method] == NONE]
        yield f"{method}: " + (f"no rule for {', '.join(lacking)}" if lacking else "complete")
