"""Makes what the README shows, its pictures and its table of methods, and the page of operators.

Run from anywhere: python docs/generate.py (with --text: without the pictures)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import onnxvis
from onnxvis import zoo
from onnxvis.cli.demo import reconstructions
from onnxvis.cli.output import explanation_grid
from onnxvis.images import save_image
from onnxvis.rules import coverage, registry

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
OPERATORS = ROOT / "docs" / "operators.md"
SHOWN = ("arrow", "cross", "heart", "ring")
METHODS = ("gradient", "guided_backprop", "lrp", "gradcam", "occlusion")
TABLE = re.compile(r"(?<=<!-- methods -->\n).*?(?=<!-- /methods -->)", re.DOTALL)


def methods_table() -> str:
    """Every method with its class, what it shows and its settings, in Markdown."""
    rows = ["| method | class | what it shows | settings |", "|---|---|---|---|"]
    for m in onnxvis.methods().values():
        settings = ", ".join(f"`{name}={default!r}`" for name, default in m.settings.items())
        rows.append(
            f"| `{m.name}` | {m.category} | {m.summary.partition(': ')[2] or m.summary} | {settings} |"
        )
    return "\n".join(rows) + "\n"


# ---- operators -----------------------------------------------------------------------------------


def operators_page() -> str:
    """Which operator is served for which method, in Markdown, from the registry."""
    parts = ["# Operators\n", OPERATORS_HEAD, _lrp_words()]
    for heading, found in coverage.families().items():
        rows = [
            f"| `{coverage.kind_of(*operator)}` | " + " | ".join(_cells(*operator)) + " |"
            for operator, _ in found
        ]
        head = "| operator | gradient | deconvnet | guided_backprop | lrp |\n|---|---|---|---|---|"
        parts.append(f"## {heading.replace('``', '`')}\n\n" + "\n".join([head, *rows]) + "\n")
    parts.append("## Where the way back ends\n\n" + _reasons(registry.stops))
    outputs = {
        (domain, f"{name}, output {i}"): why for (domain, name, i), why in registry.stopped_outputs.items()
    }
    parts.append(_reasons(outputs))
    parts.append("## Refused\n\n" + _reasons(registry.refusals))
    return "\n".join(parts)


OPERATORS_HEAD = """\
What `onnxvis rules` prints, in words. *Own*: a rule written for this method. *Gradient*: the gradient's
rule serves. *Refused*: there is no rule; a model that needs one is refused, and the error says how to add
it. A star: some forms of the operator are refused, and the error says why.
"""


def _cells(domain: str, op_type: str) -> list[str]:
    return [_cell(domain, op_type, method) for method in ("gradient", "deconvnet", "guided_backprop")] + [
        _lrp(domain, op_type)
    ]


def _cell(domain: str, op_type: str, method: str) -> str:
    found = registry.find(op_type, method, domain)
    star = "*" if found is not None and found.refuses is not None else ""
    word = coverage.served(domain, op_type, method)
    return ("refused" if word == coverage.NONE else word) + star


def _lrp(domain: str, op_type: str) -> str:
    """In a word what LRP does: the name of the rule's function, or that the gradient's serves."""
    if (domain, op_type) in registry.linears:
        return "layer"
    found = registry.find(op_type, "lrp", domain)
    if found is None:
        return "refused"
    star = "*" if found.refuses is not None else ""
    return (FOLLOWS if ".gradient." in found.origin else found.body.__name__.replace("_", " ")) + star


FOLLOWS = "follows"


def _lrp_words() -> str:
    """What the words in the column of LRP mean: the first sentence of the rules' documentation."""
    rules = [rule for found in registry.rules.values() for rule in found if rule.method == "lrp"]
    bodies = {rule.body.__name__: rule.body for rule in rules if ".gradient." not in rule.origin}
    words = {
        "layer": "what the composite says: any of the rules for layers with weights",
        FOLLOWS: "relevance follows the data, at a maximum to the winner",
        **{
            name.replace("_", " "): (body.__doc__ or "").strip().partition("\n")[0].rstrip(".")
            for name, body in sorted(bodies.items())
        },
    }
    listed = (f"- *{word}*: {meaning}." for word, meaning in words.items())
    return "LRP, in a word:\n\n" + "\n".join(listed) + "\n"


def _reasons(table) -> str:
    found = coverage.by_reason(table)
    return "\n".join(f"- {', '.join(f'`{op}`' for op in ops)}: {why}." for why, ops in found.items()) + "\n"


# ---- pictures ------------------------------------------------------------------------------------


def explanations():
    """Some samples of the shipped model with the best-known methods."""
    model = onnxvis.load("zoo:shapes")
    samples = [path for path in zoo.find("shapes").samples if path.stem in SHOWN]
    found = [model.explain(samples, method) for method in METHODS]
    rows = (
        (sample.stem, found[0].photo(i), found[0].caption(i), [e.picture(i) for e in found])
        for i, sample in enumerate(samples)
    )
    return explanation_grid(rows, METHODS, cell_size=144)


def main(text_only: bool = False) -> None:
    text = README.read_text(encoding="utf-8")
    README.write_text(TABLE.sub(lambda _: methods_table(), text), encoding="utf-8")
    OPERATORS.write_text(operators_page(), encoding="utf-8")
    print(README, OPERATORS, sep="\n")
    for draw in () if text_only else (explanations, reconstructions):
        print(save_image(draw(), ROOT / "docs" / "images" / f"{draw.__name__}.png"))


if __name__ == "__main__":
    main("--text" in sys.argv[1:])
