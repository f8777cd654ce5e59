"""Targets as text, for the command line: "7", "tabby cat", "boxes:2", "boxes[:, 17, 2]"."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from onnxvis.errors import TargetError, UnknownNameError, UsageError

__all__ = ["fitting", "read", "unit_index"]


def read(text: str, labels: Sequence[str], known: Collection[str]) -> dict[str, Any]:
    """The fields of the Target that a text means.

    In this order: UNIT (an index), CLASS (a name among ``labels``), LAYER (its strongest unit),
    LAYER[INDEX] (an index expression as NumPy has it, samples first), LAYER:UNIT; a layer is a name in
    ``known``, and may hold colons and brackets itself.
    """
    if _is_number(text):
        return {"unit": int(text)}
    if fitting(text, labels):
        return {"unit": unit_index(text, labels)}
    if text in known:
        return {"layer": text}
    opened = re.fullmatch(r"(.+?)\[([^\[\]]*)\]", text)
    if opened:
        return {"layer": opened[1], "index": _index(opened[2], text)}
    layer, colon, unit = text.rpartition(":")
    if colon and (layer in known or _is_number(unit)):
        return {"layer": layer, "unit": int(unit) if _is_number(unit) else unit.strip()}
    return {"unit": unit_index(text, labels)}


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+\s*", text) is not None


def _index(inside: str, text: str) -> tuple[Any, ...]:
    """The index that stands between brackets."""
    try:
        return tuple(_entry(part.strip()) for part in inside.split(","))
    except ValueError:
        raise TargetError(
            f"{text!r} is not an index expression: between the brackets stand whole numbers, slices like 2:5 "
            "and '...', one for each axis, samples first, as in 'boxes[:,17,2]'"
        ) from None


def _entry(part: str) -> Any:
    if part == "...":
        return Ellipsis
    if ":" not in part:
        return int(part)
    ends = part.split(":")
    if len(ends) > 3:
        raise ValueError(part)
    return slice(*(int(end) if end.strip() else None for end in ends))


# ---- units by name -------------------------------------------------------------------------------


def unit_index(text: str, labels: Sequence[str]) -> int:
    """The unit that a text means: an index, or a class by its name (in either case, if only one fits).

    A label such as "tench, Tinca tinca" also goes by "tench".  Raises UsageError where names are not
    known or several fit, UnknownNameError where none does.
    """
    if _is_number(text):
        return int(text)
    if not labels:
        raise TargetError(
            f"the target {text!r} is a name, but names of the units are not known here; give an index, or "
            "the names of the classes (labels=, --labels FILE); another layer's unit is 'LAYER:UNIT'"
        )
    found = fitting(text, labels)
    if not found:
        raise UnknownNameError(
            "class", text, labels, "An index works as well, and 'LAYER:UNIT' for another layer."
        )
    if len(found) > 1:
        raise UsageError(f"{text!r} names {len(found)} classes ({', '.join(map(str, found))}); give an index")
    return found[0]


def fitting(text: str, labels: Sequence[str]) -> list[int]:
    """Units of this name: those of exactly this label, else those that go by it."""
    wanted = text.strip().lower()
    exact = [index for index, label in enumerate(labels) if label == text]
    return exact or [index for index, label in enumerate(labels) if wanted in _names(label)]


def _names(label: str) -> tuple[str, str]:
    return label.strip().lower(), label.split(",")[0].strip().lower()
