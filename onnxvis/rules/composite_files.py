"""Composites as TOML: see ``Composite.from_toml``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxvis.errors import UnknownNameError, UsageError

from .composites import Choice, Match

__all__ = ["read"]

Row = tuple[Match, tuple[str, Mapping[str, Any]]]
_KEYS = ("name", "default", "rows")
_ROW_KEYS = ("rule", "settings", *Match.__dataclass_fields__)


def read(source: str | os.PathLike[str]) -> tuple[str, str, list[Row]]:
    """Name, default and rows of the composite in a file (a path that ends in .toml), or in a text."""
    is_path = not isinstance(source, str) or source.endswith(".toml")
    where = f"composite file {os.fspath(source)!r}" if is_path else "composite"
    try:
        text = Path(source).read_text(encoding="utf-8-sig") if is_path else str(source)
        table = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {where}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from None
    default_name = Path(source).stem if is_path else "custom"
    return _parsed(table, where, default_name)


def _parsed(table: Mapping[str, Any], where: str, default_name: str) -> tuple[str, str, list[Row]]:
    _known(table, _KEYS, where)
    name, default = _text(table, "name", where, default_name), _text(table, "default", where, "lrp")
    _explained(where, Choice.of, default)
    rows = table.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{where} has no rows: give one or more tables [[rows]], each with a rule")
    return name, default, [_row(row, f"row {i} of {where}") for i, row in enumerate(rows, start=1)]


def _row(row: Mapping[str, Any], where: str) -> Row:
    _known(row, _ROW_KEYS, where)
    if "rule" not in row:
        raise UsageError(f'{where} has no rule: give rule = "NAME"')
    condition = {key: value for key, value in row.items() if key not in ("rule", "settings")}
    choice = (_text(row, "rule", where), row.get("settings", {}))
    _explained(where, Choice.of, choice)
    return _explained(where, Match.of, condition), choice


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise UnknownNameError(f"key of {where},", key, keys)


def _text(table: Mapping[str, Any], key: str, where: str, default: str = "") -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise UsageError(f"{key} of {where} is a text, not {value!r}")
    return value


def _explained(where: str, make: Any, given: Any) -> Any:
    """What ``make`` makes of it; errors say where it stands."""
    try:
        return make(given)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
