"""``onnxvis explain`` and ``onnxvis reconstruct``: pictures out of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxvis.errors import ImageError
from onnxvis.overlap import overlapped
from onnxvis.zoo import PREFIX

from .options import Opening, Wish, model_options, size_option, wish_options
from .output import Destination, explanation_grid, unique_stems
from .program import main

if TYPE_CHECKING:
    from PIL import Image

    from onnxvis.explanation import Explanation
    from onnxvis.model import Model
    from onnxvis.taxonomy import MethodInfo

__all__ = ["explain", "reconstruct"]

output_option = click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="A file, or a folder for a file each. Default: <name>.<method>.png in the current folder.",
)


def _several(ctx: click.Context, option: click.Parameter, given: Sequence[str]) -> list[str]:
    """Methods from repeated options and comma-separated lists, each once."""
    return list(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))


Explained = tuple[str, "list[Explanation]"]
WORKERS = 2  # threads that read and draw pictures beside the net

# ---- explain -------------------------------------------------------------------------------------


@main.command(short_help="Explain a model's answers to pictures.")
@click.argument("model")
@click.argument("sources", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    default=["guided_backprop"],
    show_default=True,
    callback=_several,
    help="How to explain (`onnxvis methods`); several, repeated or separated by commas, make a grid.",
)
@wish_options
@model_options
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="How many pictures of the same prepared size go through the model at the same time, where it takes "
    "any number. More than there are threads pays on a GPU, and for nets of large dense layers.  [default: "
    "as many as there are threads; one where that is no quicker]",
)
@output_option
def explain(
    model: str,
    sources: Sequence[str],
    methods: Sequence[str],
    wish: Wish,
    opening: Opening,
    batch_size: int | None,
    output: str | None,
) -> None:
    """Explain why MODEL answers as it does for each IMAGE (or .npy array, as the net takes it).

    A folder stands for the pictures in it, sorted by name. Prints a line an image: image, class, score,
    file written; separated by tabs. Nothing is written unless all images can be read. While the net
    runs, threads prepare the next image and draw the last ones.

    \b
    Examples:
      onnxvis explain zoo:shapes star.png
      onnxvis explain net.onnx a.jpg b.jpg -m gradcam,lrp -t "tabby cat" -o grid.png
      onnxvis explain net.onnx photos/ -m gradcam -o explained/
      onnxvis explain net.onnx photo.jpg -m occlusion --set size=32 --set stride=16
      onnxvis explain net.onnx photo.jpg --layer conv4 --target 7 --position max
    """
    infos = _infos(methods)
    wish.check(infos)
    to = Destination.of(output)
    opened = opening.open(model, for_pictures=True)
    pictures = _listed(sources)
    for _ in overlapped(_check, pictures, workers=WORKERS):
        pass

    found = _explained(opened, pictures, infos, wish, batch_size)
    if to.file is not None and len(pictures) * len(infos) > 1:
        _as_one_grid(found, methods, to.file)
    else:
        _as_files(found, unique_stems(pictures), methods, to)


def _infos(methods: Sequence[str], reconstruct: bool = False) -> list[MethodInfo]:
    from onnxvis.taxonomy import find

    if not methods:
        raise click.UsageError("--method names no method")
    return [find(method, reconstruct) for method in methods]


def _listed(sources: Sequence[str]) -> list[str]:
    """Every picture once, those of a folder in its place."""
    from onnxvis.images import pictures_in

    listed = (map(str, pictures_in(path)) if Path(path).is_dir() else [path] for path in sources)
    return list(dict.fromkeys(chain.from_iterable(listed)))


def _check(picture: str) -> None:
    """ImageError where it cannot be read; nothing of it is kept, there may be many."""
    from onnxvis.images import read_image

    if not _is_array(picture):
        read_image(picture)
    else:
        _array(picture)


def _is_array(path: str) -> bool:
    return Path(path).suffix.lower() == ".npy"


def _read(picture: str) -> Any:
    """What is to be explained: an array, or the path of a picture."""
    return _array(picture) if _is_array(picture) else picture


def _array(path: str) -> Any:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"cannot read array {path!r}: {reason}; save it with numpy.save") from None
    if array.ndim and len(array) != 1:
        raise ImageError(f"array {path!r} has shape {array.shape}: give one sample a file, with a leading 1")
    return array


def _row(picture: str, found: Sequence[Explanation], side: int | None = None) -> Any:
    """A row of the grid, its pictures no larger than they are shown."""
    from onnxvis.images.grid import fit_picture

    def fitted(image: Image.Image | None) -> Image.Image | None:
        return image if image is None or side is None or max(image.size) <= side else fit_picture(image, side)

    return (
        Path(picture).stem,
        fitted(found[0].photo()),
        found[0].caption(),
        [fitted(e.picture()) for e in found],
    )


def _explained(
    model: Model, pictures: Sequence[str], infos: Sequence[MethodInfo], wish: Wish, batch_size: int | None
) -> Iterator[Explained]:
    """Every picture with its explanations, one a method; a bar on stderr where there are several."""
    from tqdm import tqdm

    runs = [
        model.explain_each(
            map(_read, pictures),
            info.name,
            wish.target_for(info, model),
            batch_size=batch_size,
            **wish.settings_for(info),
        )
        for info in infos
    ]
    steps = len(pictures) * len(infos)
    with tqdm(total=steps, unit="map", disable=None if steps > 1 else True, leave=False) as bar:
        for picture in pictures:
            found = []
            for run in runs:
                found.append(next(run))
                bar.update()
            yield picture, found


def _as_one_grid(explained: Iterable[Explained], methods: Sequence[str], file: Path) -> None:
    from onnxvis.images import save_image

    def draw(entry: Explained) -> tuple[Any, str]:
        picture, found = entry
        return _row(picture, found, side=320), _answer(picture, found[0], file)

    rows, answers = zip(*overlapped(draw, explained, workers=WORKERS), strict=True)
    save_image(explanation_grid(rows, methods), file)
    _print(answers)


def _as_files(
    explained: Iterable[Explained], stems: Mapping[str, str], methods: Sequence[str], to: Destination
) -> None:
    ending = methods[0] if len(methods) == 1 else "methods"

    def write(entry: Explained) -> str:
        picture, found = entry
        image = found[0].picture() if len(found) == 1 else explanation_grid([_row(picture, found)], methods)
        return _answer(picture, found[0], to.write(image, stems[picture], ending))

    for answer in overlapped(write, explained, workers=WORKERS):
        _print([answer])


def _answer(picture: str, found: Explanation, file: Path) -> str:
    """The line that is printed for a picture."""
    return f"{picture}\t{found.unit_name()}\t{found.score[0]:.4g}\t{file}"


def _print(lines: Sequence[str]) -> None:
    """Lines to stdout, beside a bar that may stand on the same terminal."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo("\n".join(lines))


# ---- reconstruct ---------------------------------------------------------------------------------


@main.command(short_help="Find an input that excites a unit.")
@click.argument("model")
@click.argument("picture", metavar="[IMAGE]", required=False)
@click.option(
    "--method",
    "-m",
    default="activation_maximization",
    show_default=True,
    help="activation_maximization, or inversion, which needs IMAGE.",
)
@wish_options
@size_option
@model_options
@output_option
def reconstruct(
    model: str,
    picture: str | None,
    method: str,
    size: tuple[int, int] | None,
    wish: Wish,
    opening: Opening,
    output: str | None,
) -> None:
    """Find an input: one that excites a unit of MODEL most, or one that a layer sees like IMAGE.

    Prints one line: method, target or layer, last loss, file written; separated by tabs.

    \b
    Examples:
      onnxvis reconstruct zoo:shapes --target star -o star.png
      onnxvis reconstruct zoo:shapes star.png -m inversion --layer /11/Conv --set steps=200
    """
    (info,) = _infos([method], reconstruct=True)
    wish.check([info])
    to = Destination.of(output)
    opened = opening.open(model, for_pictures=picture is not None)
    x = _read(picture) if picture is not None else None
    settings = wish.settings_for(info)
    found = opened.reconstruct(method, target=wish.target_for(info, opened), x=x, size=size, **settings)
    about = str(settings.get("layer") or wish.target or "strongest")
    source = Path((picture or model).removeprefix(PREFIX)).stem
    words = re.sub(r"[^\w.]+", "-", about).strip("-")
    file = to.write(found.image(), f"{source}.{words}", method)
    click.echo(f"{method}\t{about}\t{found.loss[-1]:.4g}\t{file}")
