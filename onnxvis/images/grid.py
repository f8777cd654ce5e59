"""Pictures in labelled rows and columns, as one figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxvis.errors import InputError
from onnxvis.images.typography import Text, set_text

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = ["fit_picture", "labelled_grid"]

Cells = Sequence[Sequence["Image.Image | None"]]
Captions = Sequence[Sequence["str | None"]]

_SMALLEST_CELL, _LARGEST_CELL = 160, 320
_TINY = 48  # pictures up to this size are enlarged with their pixels left visible
_CAPTION_COLOUR = "#555555"


def labelled_grid(
    cells: Cells,
    column_labels: Sequence[str],
    row_labels: Sequence[str],
    title: str | None = None,
    cell_size: int | None = None,
    captions: Captions | None = None,
) -> Image.Image:
    """The pictures in a grid on white, columns labelled above and rows at the left; PIL image, RGB.

    ``cells``: rows of PIL images, None where a place stays empty.  ``column_labels``, ``row_labels``: one
    each a column and row; pass empty strings, or an empty list, for none.  ``captions``: rows of lines set
    below the pictures.  ``cell_size``: the longer side of a picture in pixels (default: that of the
    largest, within 160..320); pictures keep their proportions, and those of up to 48 pixels are enlarged
    with their pixels left visible.  Labels that are too long are wrapped, then shortened.

    Raises :class:`~onnxvis.errors.InputError` where the lengths do not agree or there are no pictures.
    """
    _check_shape(cells, column_labels, row_labels, captions, cell_size)
    side = cell_size or _default_side(cells)
    fitted = [[cell and fit_picture(cell, side) for cell in row] for row in cells]
    return _Sheet.plan(fitted, column_labels, row_labels, title, captions, side).draw()


def fit_picture(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side scaled to ``side`` pixels, mode RGB.

    Photos are scaled with Lanczos' filter; pictures of up to 48 pixels keep square, even pixels.
    """
    from PIL import Image

    picture = picture.convert("RGB")
    longer = max(picture.size)
    size = (max(1, round(picture.width * side / longer)), max(1, round(picture.height * side / longer)))
    if longer > _TINY or side <= longer:
        return picture.resize(size, Image.Resampling.LANCZOS)
    # Whole multiples first: nearest alone would make some pixels wider than others.
    times = -(-side // longer)
    enlarged = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    return enlarged.resize(size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class _Sheet:
    """A figure whose parts are measured: every picture and text, and the space that each gets."""

    cells: list[list[Image.Image | None]]
    columns: list[Text]
    rows: list[Text]
    title: Text
    captions: list[list[Text]]
    width: int
    gap: int

    @classmethod
    def plan(
        cls,
        cells: list[list[Image.Image | None]],
        column_labels: Sequence[str],
        row_labels: Sequence[str],
        title: str | None,
        captions: Captions | None,
        side: int,
    ) -> _Sheet:
        size = max(13, side // 15)
        widest = max(cell.width for row in cells for cell in row if cell)
        width = max(widest, 5 * size)  # room for a label over slim pictures
        gap = max(6, side // 20)
        body = len(cells[0]) * (width + gap)
        set_caption = _setter(width, max(10, round(size * 0.85)), 2)
        return cls(
            cells=cells,
            columns=list(map(_setter(width, size, 2), column_labels)),
            rows=list(map(_setter(round(side * 0.8), size, 4), row_labels)),
            title=set_text(title or "", body, round(size * 1.3)),
            captions=[[set_caption(text or "") for text in row] for row in captions or ()],
            width=width,
            gap=gap,
        )

    @property
    def left(self) -> int:
        """Where the first column of pictures begins."""
        labels = max((text.width for text in self.rows), default=0)
        return 2 * self.gap + (labels + self.gap if labels else 0)

    @property
    def top(self) -> int:
        """Where the first row of pictures begins."""
        return (
            2 * self.gap
            + _with_gap(self.title.height, 2 * self.gap)
            + _with_gap(_tallest(self.columns), self.gap)
        )

    def picture_height(self, row: int) -> int:
        """Height of the tallest picture in a row."""
        return max((cell.height for cell in self.cells[row] if cell), default=0)

    def row_height(self, row: int) -> int:
        """Height of a row with its captions, or its label if that is taller, without the gap below."""
        caption = _tallest(self.captions[row]) if self.captions else 0
        content = self.picture_height(row) + (caption + self.gap // 2 if caption else 0)
        return max(content, self.rows[row].height if self.rows else 0)

    def rows_from_top(self) -> Iterator[tuple[int, int]]:
        """Each row's number and the height where it begins."""
        top = self.top
        for row in range(len(self.cells)):
            yield row, top
            top += self.row_height(row) + self.gap

    def column_left(self, column: int) -> int:
        """Where a column of pictures begins."""
        return self.left + column * (self.width + self.gap)

    def draw(self) -> Image.Image:
        """The finished figure."""
        from PIL import Image, ImageDraw

        width = self.column_left(len(self.cells[0])) + self.gap
        height = self.top + sum(self.row_height(row) + self.gap for row in range(len(self.cells))) + self.gap
        sheet = Image.new("RGB", (width, height), "white")
        canvas = ImageDraw.Draw(sheet)
        body = width - self.left - 2 * self.gap
        self.title.draw(canvas, self.left, 2 * self.gap, body)
        baseline = self.top - self.gap
        for column, text in enumerate(self.columns):
            text.draw(canvas, self.column_left(column), baseline - text.height, self.width)
        for row, top in self.rows_from_top():
            self._draw_row(sheet, canvas, row, top)
        return sheet

    def _draw_row(self, sheet: Image.Image, canvas: ImageDraw.ImageDraw, row: int, top: int) -> None:
        width, height = self.width, self.picture_height(row)
        if self.rows:
            text = self.rows[row]
            text.draw(canvas, 0, top + max(0, height - text.height) // 2, self.left - self.gap, align="r")
        for column, picture in enumerate(self.cells[row]):
            left = self.column_left(column)
            if picture:
                middle = (left + (width - picture.width) // 2, top + (height - picture.height) // 2)
                sheet.paste(picture, middle)
            if self.captions:
                below = top + height + self.gap // 2
                self.captions[row][column].draw(canvas, left, below, width, _CAPTION_COLOUR)


def _setter(width: int, size: int, most_lines: int) -> Callable[[str], Text]:
    return lambda text: set_text(text, width, size, most_lines)


def _with_gap(height: int, gap: int) -> int:
    return height + gap if height else 0


def _tallest(texts: Sequence[Text]) -> int:
    return max((text.height for text in texts), default=0)


def _default_side(cells: Cells) -> int:
    longest = max(max(cell.size) for row in cells for cell in row if cell)
    return min(max(longest, _SMALLEST_CELL), _LARGEST_CELL)


def _check_shape(
    cells: Cells,
    column_labels: Sequence[str],
    row_labels: Sequence[str],
    captions: Captions | None,
    cell_size: int | None,
) -> None:
    if not any(cell for row in cells for cell in row):
        raise InputError("a grid needs at least one picture")
    if cell_size is not None and cell_size < 16:
        raise InputError(f"cell_size is {cell_size} pixels; it must be at least 16")
    rows, columns = len(cells), len(cells[0])
    if any(len(row) != columns for row in cells):
        raise InputError(f"the rows of a grid must be equally long, not {[len(row) for row in cells]}")
    for name, labels, expected in (("column", column_labels, columns), ("row", row_labels, rows)):
        if labels and len(labels) != expected:
            raise InputError(
                f"the grid has {expected} {name}(s), but {len(labels)} {name} label(s) were given"
            )
    if captions is not None and [len(row) for row in captions] != [columns] * rows:
        raise InputError(f"captions must be {rows} row(s) of {columns}, as the cells are")
