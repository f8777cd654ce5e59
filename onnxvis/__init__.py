"""See what a CNN has learned and why it answered as it did, from a plain ONNX file.

::

    import onnxvis

    model = onnxvis.load("net.onnx", preprocess="imagenet")
    model.explain("photo.jpg", method="guided_backprop").save("why.png")

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import errors
    from .explanation import Explanation, Reconstruction
    from .images import Preprocess
    from .loading import load
    from .model import Model
    from .rules import Composite, Linear, linear, rule
    from .target import Target
    from .taxonomy import methods

__all__ = [
    "Composite", "Explanation", "Linear", "Model", "Preprocess", "Reconstruction", "Target", "__version__",
    "errors", "linear", "load", "methods", "rule",
]  # fmt: skip

_HOMES = {
    "Composite": "rules", "Explanation": "explanation", "Linear": "rules", "Model": "model",
    "Preprocess": "images", "Reconstruction": "explanation", "Target": "target", "linear": "rules",
    "load": "loading", "methods": "taxonomy", "rule": "rules",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module(".errors", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxvis' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
