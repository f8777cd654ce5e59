"""Where pictures are written, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxvis.errors import OutputError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Destination", "explanation_grid", "make_folder", "unique_stems"]

INPUT_LABEL = "input"


@dataclass(frozen=True)
class Destination:
    """One ``file`` for everything, or a file for each picture in ``folder``."""

    file: Path | None = None
    folder: Path = Path()

    @classmethod
    def of(cls, output: str | None) -> Destination:
        """What -o means: a folder where there is one or the name has no suffix, else a file.

        Raises OutputError where that cannot be written, as far as can be told before.
        """
        from onnxvis.images.saving import check_destination

        if output is None:
            return cls()
        path = Path(output)
        if path.is_dir() or output.endswith(("/", "\\")) or (not path.suffix and not path.exists()):
            return cls(folder=path)
        return cls(file=check_destination(path))

    def write(self, image: Image.Image, stem: str, ending: str) -> Path:
        """Write one picture: to the file, or as ``<stem>.<ending>.png`` into the folder, made if need be."""
        from onnxvis.images import save_image

        return save_image(image, self.file or make_folder(self.folder) / f"{stem}.{ending}.png")


def unique_stems(pictures: Sequence[str]) -> Mapping[str, str]:
    """The pictures' names without folder and suffix, numbered where they repeat."""
    taken: set[str] = set()
    found = {}
    for picture in pictures:
        stem = name = Path(picture).stem
        number = 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        found[picture] = name
    return found


def make_folder(path: Path) -> Path:
    """The folder, made where it is not there; OutputError where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {str(path)!r}: {error.strerror or error}; choose another place"
        ) from None
    return path


def explanation_grid(
    rows: Iterable[tuple[str, Image.Image | None, str, Sequence[Image.Image | None]]],
    methods: Sequence[str],
    title: str | None = None,
    cell_size: int | None = None,
) -> Image.Image:
    """Rows of (label, photo, what the net answers, a picture a method) as one figure."""
    from onnxvis.images import labelled_grid

    rows = list(rows)
    cells = [[photo, *explained] for _, photo, _, explained in rows]
    captions = [[answer, *([""] * len(methods))] for _, _, answer, _ in rows]
    labels = [label for label, *_ in rows]
    return labelled_grid(cells, [INPUT_LABEL, *methods], labels, title, cell_size, captions)
