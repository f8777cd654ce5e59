"""Imports point one way: from what a user calls down to the primitives."""

import ast
from pathlib import Path

import onnxvis

PACKAGE = Path(onnxvis.__file__).parent

# What each part may import of the others; a part may always import itself.
ALLOWED = {
    "errors": set(),
    "cache": set(),
    "resources": set(),
    "_version": set(),
    "zoo": {"errors", "resources"},
    "images": {"errors"},
    "ops": {"errors", "resources"},
    "graph": {"errors", "cache"},
    "rules": {"errors", "ops", "graph"},
    "engine": {"errors", "cache", "ops", "graph", "rules", "overlap"},
    "target": {"errors", "graph"},
    "taxonomy": {"errors", "images", "ops", "graph", "rules", "engine", "target"},
    "inputs": {"errors", "graph", "images"},
    "explanation": {"errors", "graph", "images", "target"},
    "overlap": set(),
    "pictures": {"graph", "images", "inputs", "taxonomy"},
    "stream": {"errors", "inputs", "explanation", "target", "overlap"},
    "deployment": {
        "errors", "_version", "images", "graph", "ops", "rules", "engine", "target", "taxonomy", "inputs",
        "explanation",
    },
    "cases": {"errors", "cache", "engine", "explanation", "inputs", "pictures", "target", "taxonomy"},
    "model": {
        "errors", "cases", "images", "graph", "rules", "engine", "target", "taxonomy", "inputs",
        "explanation", "overlap", "pictures", "stream", "deployment",
    },
    "loading": {"zoo", "images", "graph", "engine", "inputs", "model"},
}  # fmt: skip
# The parts at the top may use everything below them.
TOP = {"__init__", "__main__", "cli"}
# Libraries that only some parts know.
LIBRARIES = {
    "onnxruntime": {"engine"},
    "onnx": {"graph", "engine", "loading", "deployment"},
    "PIL": {"images", "explanation"},
    "click": {"cli"},
    "cupy": {"ops"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    """Absolute names of the modules that a file imports, those under TYPE_CHECKING excepted."""
    tree = ast.parse(path.read_text())
    for block in [entry for entry in ast.walk(tree) if isinstance(entry, ast.If)]:
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            block.body = []
    for entry in ast.walk(tree):
        if isinstance(entry, ast.Import):
            yield from (alias.name for alias in entry.names)
        elif isinstance(entry, ast.ImportFrom):
            module = entry.module or ""
            if entry.level:
                base = path.relative_to(PACKAGE.parent).parts[: -entry.level]
                module = ".".join([*base, module]).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in entry.names)


def test_imports_point_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = part_of(path)
        for name in imports(path):
            if part in TOP or not name.startswith("onnxvis."):
                continue
            other = name.split(".")[1]
            if other != part and other not in ALLOWED[part]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_every_part_is_listed():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert parts == set(ALLOWED) | (TOP & parts)


def test_libraries_stay_where_they_belong():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for name in imports(path):
            library = name.split(".")[0]
            if library in LIBRARIES and part_of(path) not in LIBRARIES[library]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_rules_know_nothing_of_arrays_and_runtimes():
    """A rule body sees the protocol only: numpy for constants, no executor."""
    for path in (PACKAGE / "rules").rglob("*.py"):
        assert not [
            name for name in imports(path) if name.startswith(("onnxvis.ops.host", "onnxvis.ops.trace"))
        ]
