"""Lines of text for figures: measured, wrapped, shortened, and drawn with Pillow's built-in font."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["Text", "set_text"]

_ELLIPSIS = "…"
_SPELLED = {
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "·": ".",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "ß": "ss",
}


@dataclass(frozen=True)
class Text:
    """Lines that fit a width.  ``size`` is the font's, in pixels; so are ``width`` and ``height``."""

    lines: tuple[str, ...]
    size: int
    width: int

    @property
    def height(self) -> int:
        """From the top of the first line to the bottom of the last."""
        return len(self.lines) * _line_height(self.size)

    def draw(
        self,
        canvas: ImageDraw.ImageDraw,
        left: int,
        top: int,
        width: int,
        colour: str = "black",
        align: str = "m",
    ) -> None:
        """Draw into a column ``width`` wide; ``align``: l(eft), m(iddle) or r(ight)."""
        x = {"l": left, "m": left + width / 2, "r": left + width}[align]
        for line in self.lines:
            canvas.text((x, top), line, fill=colour, font=_font(self.size), anchor=f"{align}a")
            top += _line_height(self.size)


def set_text(text: str, width: int, size: int, most_lines: int = 2) -> Text:
    """``text`` wrapped between words to ``width`` pixels; what ``most_lines`` cannot hold ends in "…".

    The built-in font holds ASCII only: accents are dropped, Greek letters spelled out, the rest is "?".
    """
    lines = _wrap(_to_ascii(text), width, size)
    if len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], _shorten(lines[most_lines - 1], width, size)]
    return Text(tuple(lines), size, max((_length(line, size) for line in lines), default=0))


def _wrap(text: str, width: int, size: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _length(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.extend(_break(word, width, size))
    return lines


def _break(word: str, width: int, size: int) -> list[str]:
    """A word in pieces that fit, after "_", "/", "-" or "." where one is in the second half of a piece."""
    pieces = []
    while _length(word, size) > width and len(word) > 1:
        end = _fitting(word, width, size)
        joint = max(word.rfind(sign, end // 2, end) for sign in "_/-.") + 1
        pieces.append(word[: joint or end])
        word = word[joint or end :]
    return [*pieces, word]


def _shorten(text: str, width: int, size: int) -> str:
    """As much of ``text`` as fits with "…" after it."""
    end = _fitting(text, width - _length(_ELLIPSIS, size), size)
    return text[:end].rstrip() + _ELLIPSIS


def _fitting(text: str, width: int, size: int) -> int:
    """How many characters of ``text`` fit the width, at least 1."""
    end = len(text)
    while end > 1 and _length(text[:end], size) > width:
        end -= 1
    return end


def _to_ascii(text: str) -> str:
    return "".join(map(_spelled, text))


def _spelled(character: str) -> str:
    if character.isascii() or character == _ELLIPSIS:
        return character
    if character in _SPELLED:
        return _SPELLED[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK"):
        return name.split(" WITH ")[0].rsplit(" ", 1)[-1].lower()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or ("" if unicodedata.combining(character) else "?")


def _length(text: str, size: int) -> int:
    return int(-(-_font(size).getlength(text) // 1))


def _line_height(size: int) -> int:
    return round(size * 1.3)


@lru_cache(maxsize=16)
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)
