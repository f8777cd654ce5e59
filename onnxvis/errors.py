"""Everything that onnxvis raises on purpose.

::

    OnnxvisError
    ├── UsageError                 what was asked for does not exist or does not fit       exit code 2
    │   ├── UnknownNameError       method, setting, layer, preset, model of the zoo …
    │   ├── InputError             an array of the wrong shape, dtype or name
    │   ├── TargetError            a target that the model does not have
    │   └── OutputError            a file that cannot be written
    └── UnsupportedError           what was given cannot be read or explained              exit code 3
        ├── ModelError             not an ONNX file, truncated, weights missing
        ├── ImageError             a picture that cannot be read
        ├── MissingRuleError       operators on the way that have no rule for the method
        ├── MissingRuntimeError    no onnxruntime is installed, or it lacks the device
        └── DownloadError          a model of the zoo that cannot be fetched or verified

Every message says what was asked, what is there, and what to do.  ``exit_code`` is what the
command line returns for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DownloadError",
    "ImageError",
    "InputError",
    "MissingRuleError",
    "MissingRuntimeError",
    "ModelError",
    "OnnxvisError",
    "OutputError",
    "TargetError",
    "UnknownNameError",
    "UnsupportedError",
    "UsageError",
]


class OnnxvisError(Exception):
    """Base of all errors that onnxvis raises on purpose."""

    exit_code = 3


class UsageError(OnnxvisError, ValueError):
    """What was asked for does not exist or does not fit."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that nothing goes by: it lists the names that there are, the closest first.

    Parameters: ``kind`` what was looked up ("method"), ``name`` what was asked for, ``known`` the
    names that exist, ``hint`` an optional last sentence on what to do.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str], hint: str = "") -> None:
        known = [str(entry) for entry in known]
        close = difflib.get_close_matches(str(name), known, n=3)
        message = f"no {kind} {str(name)!r}"
        if close:
            message += f"; did you mean {' or '.join(map(repr, close))}?"
        if known:
            shown = ", ".join(known[:40]) + (f", … ({len(known)} in all)" if len(known) > 40 else "")
            message += f" Known: {shown}." if close else f"; known: {shown}."
        super().__init__(f"{message} {hint}".rstrip())


class InputError(UsageError):
    """An array of the wrong shape, dtype or name was given to the model."""


class TargetError(UsageError):
    """The model has no such target (layer, unit or position)."""


class OutputError(UsageError):
    """A file cannot be written."""


class UnsupportedError(OnnxvisError):
    """What was given cannot be read, or cannot be explained."""


class ModelError(UnsupportedError):
    """The model cannot be read: not ONNX, truncated, weights missing, or refused by the runtime."""


class ImageError(UnsupportedError):
    """A picture cannot be read."""


class MissingRuleError(UnsupportedError):
    """Operators between input and target have no rule for the method that was asked for."""


class MissingRuntimeError(UnsupportedError):
    """No onnxruntime is installed, or it does not offer the device that was asked for."""


class DownloadError(UnsupportedError):
    """A model of the zoo cannot be fetched, or is not what the manifest says."""
