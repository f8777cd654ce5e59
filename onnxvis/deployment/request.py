"""What is asked for when a model is exported, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxvis.engine.engine import Engine
from onnxvis.errors import UnknownNameError, UsageError
from onnxvis.explanation import Explanation
from onnxvis.graph.ir import TensorSpec
from onnxvis.images import Preprocess
from onnxvis.inputs import Batch
from onnxvis.target import Target, Wanted
from onnxvis.taxonomy import Case, MethodInfo

from .pictures import LAYOUTS

__all__ = ["OUTPUTS", "Exported", "Form", "Subject", "check_form"]

Array = np.ndarray[Any, Any]
OUTPUTS = ("explanation", "heatmap", "score", "unit")


@dataclass(frozen=True)
class Subject:
    """What is exported: a method with settings and target, on an input of a model.

    ``blank``: inputs of one sample, or of as many as the file fixes; ``bounds``: lowest and highest
    numbers of the explained input; ``preprocess``: how photos become it, None where it takes none.
    ``case``, ``run`` and ``explain`` are the library's own ways with a batch.
    """

    engine: Engine
    info: MethodInfo
    settings: Mapping[str, Any]
    target: Wanted
    input: str
    blank: Mapping[str, Array]
    bounds: tuple[Array, Array] | None
    preprocess: Preprocess | None
    labels: Sequence[str]
    case: Callable[[Batch], Case]
    run: Callable[[Mapping[str, Array]], Mapping[str, Any]]
    explain: Callable[[Mapping[str, Array], Wanted], Explanation]


@dataclass(frozen=True)
class Form:
    """What the exported model looks like; see ``Model.export``."""

    outputs: Sequence[str] = ("explanation", "heatmap")
    target_input: bool = False
    batch: int | None = None
    pictures: str | None = None
    normalize: bool = False
    external_data: bool | None = None
    tolerance: float = 1e-5
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """A model that was written, and compared with the library.

    ``inputs``, ``outputs``: all of its tensors from outside and to there.  ``files``: the model's, and
    the one with its weights where they are apart; ``size``, ``original_size``: bytes of all files.
    ``difference``: for each output max|model − library| / max|library|.  ``converted``: whether ONNX's
    converter brought the file's own nodes to a newer opset.
    """

    path: Path
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    size: int
    original_size: int
    difference: Mapping[str, float]
    converted: bool


def check_form(subject: Subject, form: Form) -> None:
    """Raise UsageError where what is asked for does not go together."""
    for name in form.outputs:
        if name not in OUTPUTS:
            raise UnknownNameError("output of an exported model", name, OUTPUTS)
    if not form.outputs or len(set(form.outputs)) < len(form.outputs):
        raise UsageError(f"outputs are one or more of {', '.join(OUTPUTS)}, each once")
    if form.normalize and "heatmap" not in form.outputs:
        raise UsageError("normalize concerns the heatmap, which is not among the outputs")
    if form.pictures is not None:
        if form.pictures not in LAYOUTS:
            raise UnknownNameError("layout of pictures", form.pictures, LAYOUTS)
        if subject.preprocess is None:
            raise UsageError(f"the input {subject.input!r} takes no pictures; leave out pictures")
    if form.target_input and not (isinstance(subject.target, Target) and subject.target.unit is None):
        raise UsageError("the unit is either fixed or an input: leave out the target's unit, or target_input")
    if form.batch is not None and (isinstance(form.batch, bool) or form.batch < 1):
        raise UsageError(f"batch is a whole number above 0 or None, not {form.batch!r}")
