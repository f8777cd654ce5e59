"""What the benchmarks share: where results go, tables, the machine and the versions they ran on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "circumstances", "keep", "kept", "table", "write"]

RESULTS = Path(__file__).parent / "results"


def circumstances(*packages: str) -> dict[str, str]:
    """Processor, number of its cores, versions of Python and of packages."""
    found = {"processor": _processor(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(name: str, title: str, where: Mapping[str, str], body: str, results: Any) -> None:
    """Print a result, and keep it."""
    print(keep(name, title, where, body, results))


def keep(
    name: str, title: str, where: Mapping[str, str], body: str, results: Any, folder: Path | None = None
) -> str:
    """Keep a result as ``NAME.md`` and ``NAME.json`` in a folder (``results/``); what the first says."""
    folder = folder or RESULTS
    on = ", ".join(f"{key} {value}" for key, value in where.items())
    text = f"# {title}\n\n{body}\n\nMeasured on: {on}.\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    data = {"title": title, "circumstances": dict(where), "results": results}
    (folder / f"{name}.json").write_text(_json(data) + "\n")
    return text


def _json(value: Any, indent: str = "") -> str:
    """JSON with a line for each entry that holds nothing but numbers and texts; numbers with six digits."""
    inner = indent + "  "
    if isinstance(value, Mapping) and any(isinstance(entry, Mapping | list) for entry in value.values()):
        lines = (f"{inner}{json.dumps(key)}: {_json(entry, inner)}" for key, entry in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, Mapping | list) for entry in value):
        return "[\n" + ",\n".join(inner + _json(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [*map(_rounded, value)]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def kept(name: str, where: Mapping[str, str], folder: Path | None = None) -> Any:
    """What ``NAME.json`` holds, if it was measured under these circumstances; else None."""
    path = (folder or RESULTS) / f"{name}.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    return data["results"] if data.get("circumstances") == dict(where) else None
