"""What a model says of its pictures: in its metadata, or in files that lie beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from onnxvis.errors import UnknownNameError, UsageError
from onnxvis.images.labels import parse_labels
from onnxvis.images.preprocess import Preprocess

__all__ = [
    "LABELS_KEY",
    "PREPROCESS_KEY",
    "from_metadata",
    "labels_file",
    "labels_from_metadata",
    "side_file",
]

_Entry = TypeVar("_Entry")

PREPROCESS_KEY = "onnxvis.preprocess"
"""Metadata key of a model; its value is :meth:`Preprocess.to_json` as JSON text."""

LABELS_KEY = "onnxvis.labels"
"""Metadata key of a model; its value is a JSON list of the classes' names."""

_PIXEL_FORMATS = {
    "gray8": "L",
    "gray16": "L",
    "rgb8": "RGB",
    "bgr8": "BGR",
    "rgba8": "RGB",
    "bgra8": "BGR",
}
_PIXEL_RANGES = {
    "nominalrange_0_255": (0.0, 255.0),
    "normalized_0_1": (0.0, 1.0),
    "normalized_1_1": (-1.0, 1.0),
    "nominalrange_16_235": (16.0, 235.0),
}


def from_metadata(props: Mapping[str, str]) -> Preprocess | None:
    """The preprocess that a model's metadata (``metadata_props``) state, or None where they do not.

    Read are our own key ``onnxvis.preprocess`` and, failing that, ONNX's image metadata
    ``Image.BitmapPixelFormat`` (default Bgr8) and ``Image.NominalPixelRange`` (default 0..255), cropped
    as Windows ML does: the photo covers the input.  Keys and values of the latter in either case.
    Source: docs/MetadataProps.md of the ONNX repository.

    Raises :class:`~onnxvis.errors.UsageError` where they are there but make no sense.
    """
    if PREPROCESS_KEY in props:
        return _from_own_key(props[PREPROCESS_KEY])
    image = {key.lower(): value for key, value in props.items()}
    pixels = image.get("image.bitmappixelformat")
    span = image.get("image.nominalpixelrange")
    if pixels is None and span is None:
        return None
    return Preprocess(
        resize="shortest",
        color=_look_up("Image.BitmapPixelFormat", pixels or "Bgr8", _PIXEL_FORMATS),
        range=_look_up("Image.NominalPixelRange", span or "NominalRange_0_255", _PIXEL_RANGES),
    )


def labels_from_metadata(props: Mapping[str, str]) -> list[str] | None:
    """The names of the classes in the metadata key ``onnxvis.labels``, or None where it is not there.

    Raises :class:`~onnxvis.errors.UsageError` where it is not a JSON list (or dict) of names.
    """
    if LABELS_KEY not in props:
        return None
    return parse_labels(props[LABELS_KEY], f"the model's metadata {LABELS_KEY!r}", structured=True)


def side_file(model_path: str | Path) -> Path | None:
    """``<stem>.preprocess.json`` or else ``.toml`` beside the model, or None where there is neither."""
    return _beside(model_path, "preprocess.json", "preprocess.toml")


def labels_file(model_path: str | Path) -> Path | None:
    """``<stem>.labels.txt`` or else ``.json`` beside the model, or None where there is neither."""
    return _beside(model_path, "labels.txt", "labels.json")


def _beside(model_path: str | Path, *endings: str) -> Path | None:
    model = Path(model_path)
    candidates = (model.with_name(f"{model.stem}.{ending}") for ending in endings)
    return next((path for path in candidates if path.is_file()), None)


def _from_own_key(text: str) -> Preprocess:
    try:
        return Preprocess.from_json(json.loads(text))
    except UsageError as error:
        raise UsageError(f"the model's metadata {PREPROCESS_KEY!r}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the model's metadata {PREPROCESS_KEY!r} is not JSON: {error}") from None


def _look_up(key: str, value: str, table: Mapping[str, _Entry]) -> _Entry:
    if value.lower() not in table:
        raise UnknownNameError(f"{key} (the model's metadata)", value, table)
    return table[value.lower()]
