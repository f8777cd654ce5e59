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
    (folder / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")
    return text


def kept(name: str, where: Mapping[str, str], folder: Path | None = None) -> Any:
    """What ``NAME.json`` holds, if it was measured under these circumstances; else None."""
    path = (folder or RESULTS) / f"{name}.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    return data["results"] if data.get("circumstances") == dict(where) else None
