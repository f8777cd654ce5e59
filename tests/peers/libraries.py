"""The libraries that onnxvis is compared with: imported, or the importing test module is skipped."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType

import pytest

from .torchvision_shim import import_torchvision


def peer(name: str) -> ModuleType:
    """A peer library's module; where it is not installed, a skip that says what to do."""
    for package in ("torch", name.partition(".")[0]):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; run tests/peers/install.sh", allow_module_level=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a peer deprecates at import is not ours to mend
        if importlib.util.find_spec("torchvision") is not None:
            import_torchvision()  # other peers import it too
        return importlib.import_module(name)
