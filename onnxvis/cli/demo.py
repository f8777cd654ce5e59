"""``onnxvis demo``: what ships, explained with every method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import explanation_grid, make_folder
from .program import main

if TYPE_CHECKING:
    from PIL import Image
    from tqdm import tqdm

    from onnxvis.explanation import Explanation
    from onnxvis.model import Model

__all__ = ["demo", "explanations", "reconstructions"]

CELL = 112
SHAPES, DIGITS = "shapes", "digits"
INVERTED = ("star", "heart", "crescent")
"""Samples of the shapes whose codes are inverted, layer by layer."""
RECONSTRUCTION: dict[str, Any] = {"progress": False}
"""Settings of the reconstructions."""

Row = tuple[str, "Image.Image | None", str, list["Image.Image | None"]]


@main.command(short_help="Explain what ships with onnxvis.")
@click.option(
    "-o", "--output", default="onnxvis-demo", show_default=True, metavar="FOLDER", help="Where to write."
)
def demo(output: str) -> None:
    """Explain the pictures that ship with onnxvis, with every method, and say where the results are.

    Writes explanations.png (pictures × methods) and reconstructions.png (what excites each class most;
    what each layer still knows of a picture) into FOLDER. Needs no network.

    \b
    Example:
      onnxvis demo -o out
    """
    from onnxvis.images import save_image

    folder = make_folder(Path(output))
    for draw in (explanations, reconstructions):
        click.echo(save_image(draw(), folder / f"{draw.__name__}.png"))


# ---- explanations --------------------------------------------------------------------------------


def explanations() -> Image.Image:
    """Every shipped sample (rows), explained with every method (columns)."""
    from onnxvis.taxonomy import methods
    from onnxvis.taxonomy.registry import INPUT_RECONSTRUCTION

    names = [m.name for m in methods().values() if m.category != INPUT_RECONSTRUCTION]
    with _progress("explaining", 2 * len(names)) as bar:
        rows = [row for model in (SHAPES, DIGITS) for row in _explained(model, names, bar)]
    title = "What the two shipped models look at, by every method"
    return explanation_grid(rows, names, title, CELL)


def _explained(name: str, methods: Sequence[str], bar: tqdm[Any]) -> Iterator[Row]:
    """A row a sample of the model; an empty place where a method does not apply to it."""
    import onnxvis
    from onnxvis.zoo import find

    samples = find(name).samples
    model = onnxvis.load(f"zoo:{name}")
    columns = [_explain(model, samples, method, bar) for method in methods]
    first = next(column for column in columns if column)
    for i, sample in enumerate(samples):
        pictures = [column.picture(i) if column else None for column in columns]
        yield sample.stem, first.photo(i), first.caption(i), pictures


def _explain(model: Model, samples: Sequence[Path], method: str, bar: tqdm[Any]) -> Explanation | None:
    from onnxvis.errors import UnsupportedError

    bar.set_postfix_str(method)
    try:
        return model.explain(list(samples), method)
    except UnsupportedError:
        return None
    finally:
        bar.update()


# ---- reconstructions -----------------------------------------------------------------------------


def reconstructions() -> Image.Image:
    """What excites each class most, and what is left of a sample in each layer."""
    import onnxvis
    from onnxvis.images import labelled_grid

    models = {name: onnxvis.load(f"zoo:{name}") for name in (SHAPES, DIGITS)}
    layers = _layers(models[SHAPES])
    with _progress("reconstructing", 20 + len(INVERTED) * len(layers)) as bar:
        rows = {f"{name}: what excites each class most": _exciting(m, bar) for name, m in models.items()}
        for sample in INVERTED:
            rows[f"{sample}: what each layer still knows of it"] = _inverted(
                models[SHAPES], sample, layers, bar
            )
    width = max(len(row) for row in rows.values())
    cells = [[*(picture for picture, _ in row), *[None] * (width - len(row))] for row in rows.values()]
    captions = [[*(caption for _, caption in row), *[""] * (width - len(row))] for row in rows.values()]
    return labelled_grid(cells, [], list(rows), "Input reconstruction", CELL, captions)


def _exciting(model: Model, bar: tqdm[Any]) -> list[tuple[Image.Image, str]]:
    """The most exciting input for each class, by its name."""
    found = []
    for unit, name in enumerate(model.labels):
        bar.set_postfix_str(name)
        found.append(
            (model.reconstruct("activation_maximization", target=unit, **RECONSTRUCTION).image(), name)
        )
        bar.update()
    return found


def _layers(model: Model) -> list[str]:
    """The convolutions and the dense layer."""
    return [node.name for node in model.graph.nodes if node.op_type in ("Conv", "Gemm")]


def _inverted(
    model: Model, sample: str, layers: Sequence[str], bar: tqdm[Any]
) -> list[tuple[Image.Image, str]]:
    """The sample, and the inversions of its code in each layer."""
    from onnxvis.images import read_image
    from onnxvis.zoo import find

    path = next(path for path in find(SHAPES).samples if path.stem == sample)
    found = [(read_image(path), "input")]
    for layer in layers:
        bar.set_postfix_str(f"{sample} {layer}")
        found.append((model.reconstruct("inversion", x=path, layer=layer, **RECONSTRUCTION).image(), layer))
        bar.update()
    return found


def _progress(what: str, steps: int) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(total=steps, desc=what, unit="picture", disable=None, leave=False)
