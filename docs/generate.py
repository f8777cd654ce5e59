"""Makes what the README shows: its pictures and its table of methods.

Run from anywhere: python docs/generate.py
"""

from __future__ import annotations

import re
from pathlib import Path

import onnxvis
from onnxvis import zoo
from onnxvis.cli.demo import reconstructions
from onnxvis.cli.output import explanation_grid
from onnxvis.images import save_image

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
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


def main() -> None:
    for draw in (explanations, reconstructions):
        print(save_image(draw(), ROOT / "docs" / "images" / f"{draw.__name__}.png"))
    text = README.read_text(encoding="utf-8")
    README.write_text(TABLE.sub(lambda _: methods_table(), text), encoding="utf-8")
    print(README)


if __name__ == "__main__":
    main()
