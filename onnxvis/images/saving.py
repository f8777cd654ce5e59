"""Pictures to files: complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from onnxvis.errors import OutputError
from onnxvis.images.reading import read_image

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "check_destination", "save_image"]

SUFFIXES: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
"""File suffix → Pillow's name of the format, and the options it is written with."""


def save_image(image: Image.Image | NDArray[Any], path: str | os.PathLike[str]) -> Path:
    """Write a picture (PIL image, or array as :func:`read_image` takes it) and return the path.

    The format follows the suffix: PNG, JPEG, WebP, BMP or TIFF.  An existing file is replaced, in one
    step: whoever reads the path finds the old file or the new one, never half of one.

    Raises :class:`~onnxvis.errors.OutputError` for a suffix, folder or permission that does not do, and
    :class:`~onnxvis.errors.ImageError` for an array that is no picture.
    """
    path = check_destination(path)
    picture = read_image(image)
    try:
        _write_and_rename(picture, path)
    except PermissionError:
        raise _unwritable(path, "permission denied", "choose another place or change permissions") from None
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error), "choose another place") from error
    return path


def check_destination(path: str | os.PathLike[str]) -> Path:
    """The path, if a picture may be written there as far as can be told without writing.

    Raises :class:`~onnxvis.errors.OutputError` as :func:`save_image` does: to fail before long work.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise _unwritable(path, f"the suffix {path.suffix!r} is not known", f"use {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise _unwritable(path, "it is a folder", "give the name of a file")
    if not path.parent.is_dir():
        raise _unwritable(path, f"there is no folder {str(path.parent)!r}", "create it first")
    return path


def _write_and_rename(picture: Image.Image, path: Path) -> None:
    format_name, options = SUFFIXES[path.suffix.lower()]
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as file:
            picture.save(file, format=format_name, **options)
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _unwritable(path: Path, reason: str, remedy: str) -> OutputError:
    return OutputError(f"cannot write picture {str(path)!r}: {reason}; {remedy}")
