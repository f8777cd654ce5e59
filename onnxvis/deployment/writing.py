"""A model to files: checked, tried out, and then put in place in one step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from onnxvis.errors import OnnxvisError, OutputError, UnsupportedError

__all__ = ["LIMIT", "check_destination", "write"]

LIMIT = 2**31 - 2**26  # bytes of weights: what a protocol buffer holds, less some for the rest


def check_destination(path: str | os.PathLike[str], force: bool) -> Path:
    """The path, if a model may be written there; OutputError where it may not."""
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise _unwritable(path, "a model's name ends in .onnx", f"call it {path.stem or 'model'}.onnx")
    if path.is_dir():
        raise _unwritable(path, "it is a folder", "give the name of a file")
    if not path.parent.is_dir():
        raise _unwritable(path, f"there is no folder {str(path.parent)!r}", "create it first")
    if not force and (path.exists() or data_file(path).exists()):
        there = path if path.exists() else data_file(path)
        raise _unwritable(path, f"{str(there)!r} is there already", "choose another name, or force it")
    return path


def data_file(path: Path) -> Path:
    """Where the weights go that do not fit into the model's file."""
    return path.with_name(f"{path.name}.data")


def write(
    model: onnx.ModelProto,
    path: Path,
    external: bool,
    try_out: Callable[[Path], None],
    excused: Callable[[], bool],
) -> list[Path]:
    """Write the model (``external``: its weights beside it), check it, try it out; the files written.

    Nothing is left at ``path`` that failed: whoever reads there finds what was there before, or all of
    the new model.  Raises OutputError where nothing can be written, UnsupportedError where ONNX's checker
    refuses the model and nothing has ``excused`` it, and whatever ``try_out`` raises.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem[:40]}-", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error), "choose another place") from None
    try:
        draft = folder / path.name
        location = data_file(path).name if external else None
        onnx.save_model(
            model, draft, save_as_external_data=external, all_tensors_to_one_file=True, location=location
        )
        _check(draft, excused)
        try_out(draft)
        # The weights first: a model is complete when its own file appears.
        names = [name for name in (location, path.name) if name]
        if not external:
            data_file(path).unlink(missing_ok=True)
        return [(folder / name).replace(path.with_name(name)) for name in names][::-1]
    except OnnxvisError:
        raise
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error), "choose another place") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(path: Path, excused: Callable[[], bool]) -> None:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        if excused():
            return
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedError(
            f"ONNX's checker refuses the model with its explanation: {reason}; please report this"
        ) from None


def _unwritable(path: Path, reason: str, remedy: str) -> OutputError:
    return OutputError(f"cannot write model {str(path)!r}: {reason}; {remedy}")
