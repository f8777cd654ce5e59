"""What an exported model says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxvis._version import __version__
from onnxvis.images import LABELS_KEY, PREPROCESS_KEY
from onnxvis.target import describe

from .request import Form, Subject

__all__ = ["about"]


def about(subject: Subject, form: Form, names: Mapping[str, str]) -> tuple[dict[str, str | None], str]:
    """Metadata (None: none of this key) and a description in words; ``names``: those of the outputs."""
    info, target = subject.info, "the unit that the input names"
    if not form.target_input:
        target = describe(subject.target, 0, subject.labels)
    layer = getattr(subject.target, "layer", None)
    photos = form.pictures is not None
    preprocess = None if subject.preprocess is None else json.dumps(subject.preprocess.to_json())
    metadata = {
        "onnxvis.version": __version__,
        "onnxvis.method": info.name,
        "onnxvis.settings": json.dumps({**info.settings, **subject.settings}, default=_plain),
        "onnxvis.target": target,
        "onnxvis.layer": layer,
        "onnxvis.input": subject.input,
        "onnxvis.outputs": json.dumps({name: names[name] for name in form.outputs}),
        "onnxvis.normalized": json.dumps(form.normalize),
        # What prepares photos inside of the model is no advice on what to feed it.
        PREPROCESS_KEY: None if photos else preprocess,
        "onnxvis.prepared": preprocess if photos else None,
        LABELS_KEY: json.dumps([*subject.labels]) if subject.labels else None,
    }
    place = f" of {layer}" if layer else ""
    return metadata, (
        f"With an explanation by onnxvis {__version__}: {info.name} of {target}{place}, "
        f"with respect to {subject.input!r}."
    )


def _plain(value: Any) -> Any:
    """Settings as JSON takes them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return getattr(value, "name", None) or str(value)
