"""Names of classes, from the formats in which they are handed around."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxvis.errors import UsageError

__all__ = ["parse_labels", "read_labels"]

_SYNSET_LINE = re.compile(r"n\d{8}\s+(\S.*)")
_MOST_LABELS = 1_000_000


def read_labels(path: str | Path) -> list[str]:
    """The names of the classes, in the order of the net's output.

    The file holds one name a line (``n01440764 tench, Tinca tinca`` loses its WordNet id where all
    lines have one), a JSON list, or a JSON or Python dict: ``{0: 'tench', …}``, ``{"tench": 0, …}``,
    ``{"0": ["n01440764", "tench"], …}`` (Keras) or ``{"id2label": {…}, …}`` (Hugging Face).  A class that
    a dict leaves out is named by its number.

    Raises :class:`~onnxvis.errors.UsageError` naming the file, and what is wrong with it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read labels file {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"labels file {str(path)!r} is not UTF-8 text: {error}") from None
    return parse_labels(text, f"labels file {str(path)!r}", structured=path.suffix.lower() == ".json")


def parse_labels(text: str, origin: str, structured: bool = False) -> list[str]:
    """As :func:`read_labels`, of the text itself; ``origin`` names it in errors.

    ``structured``: plain lines are not accepted.
    """
    if structured or text.lstrip().startswith(("{", "[")):
        data = _parse_literal(text)
        if data is not None:
            return _from_data(data, origin)
    if structured:
        raise UsageError(f"{origin} is neither JSON nor a Python dict or list")
    labels = [line.strip() for line in text.rstrip().splitlines()]
    if not labels:
        raise UsageError(f"{origin} is empty; give one name a line")
    matches = [_SYNSET_LINE.fullmatch(label) for label in labels]
    return [
        match[1] if match and all(matches) else label for match, label in zip(matches, labels, strict=True)
    ]


def _parse_literal(text: str) -> Any:
    """JSON or a Python literal; None where the text is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _from_data(data: Any, origin: str) -> list[str]:
    if isinstance(data, Mapping):
        return _from_mapping(data.get("id2label", data), origin)
    if not isinstance(data, list | tuple) or not data:
        raise UsageError(f"{origin} holds no list or dict of names, but {str(data)[:60]}")
    return [_name(entry, origin) for entry in data]


def _from_mapping(data: Any, origin: str) -> list[str]:
    if isinstance(data, Mapping) and all(type(value) is int for value in data.values()):
        data = {value: key for key, value in data.items()}
    try:
        entries = {int(key): value for key, value in data.items()}
    except (ValueError, TypeError, AttributeError):
        raise UsageError(f"{origin}: its keys are not class numbers; write {{0: 'name', 1: …}}") from None
    if not entries or min(entries) < 0 or max(entries) > _MOST_LABELS:
        raise UsageError(f"{origin}: class numbers must lie in 0..{_MOST_LABELS}, and there must be one")
    return [_name(entries.get(index, str(index)), origin) for index in range(max(entries) + 1)]


def _name(entry: Any, origin: str) -> str:
    """A class's name: text, or a list such as ["n01440764", "tench"] whose last entry it is."""
    if isinstance(entry, list | tuple) and entry:
        entry = entry[-1]
    if not isinstance(entry, str):
        raise UsageError(f"{origin}: {str(entry)[:60]!r} is not the name of a class")
    return entry
