"""Where the files that ship with onnxvis lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["resource"]

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """Path of a shipped file or folder, e.g. ``resource("model_zoo", "manifest.toml")``.

    An installed wheel holds ``model_zoo/`` and ``kernels/`` inside the package; a checkout (editable
    install) holds them beside it.  Raises FileNotFoundError where neither does.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"{'/'.join(parts)} did not come with this installation of onnxvis")
