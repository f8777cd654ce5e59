"""What a user passes as x: arrays as the net takes them, or pictures that are prepared for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import InputError, UsageError
from .graph.ir import TensorSpec
from .images import Prepared, Preprocess

__all__ = [
    "Batch", "batches", "blank", "complete", "default_preset", "fixed_samples", "is_picture", "main_input",
    "one_sample",
]  # fmt: skip

Array = np.ndarray[Any, Any]


class Batch(NamedTuple):
    """Complete inputs by name, and the photos that they were made of, one a sample (or none)."""

    feeds: Mapping[str, Array]
    pictures: tuple[Prepared, ...] = ()

    @property
    def samples(self) -> int:
        """Length of the first axis."""
        return max([array.shape[0] for array in self.feeds.values() if array.ndim], default=1)


def main_input(specs: Sequence[TensorSpec]) -> TensorSpec:
    """The input that is explained unless another is named: the first that looks like a picture."""
    if not specs:
        raise InputError(
            "the model has no inputs: it answers the same always, so there is nothing to explain"
        )
    return next((spec for spec in specs if spec.shape is not None and len(spec.shape) >= 3), specs[0])


def default_preset(specs: Sequence[TensorSpec]) -> str:
    """Pictures as they are for a net that takes bytes, else scaled to 0..1."""
    dtype = main_input(specs).dtype if specs else None
    return "raw" if dtype is not None and dtype.kind in "iu" else "unit"


def is_picture(x: Any) -> bool:
    """True for a path, a PIL image, or a list of these."""
    if isinstance(x, list | tuple):
        return bool(x) and all(map(is_picture, x))
    return isinstance(x, str | os.PathLike) or (hasattr(x, "convert") and hasattr(x, "getexif"))


def complete(x: Any, specs: Sequence[TensorSpec], preprocess: Preprocess) -> Batch:
    """Inputs as the net takes them: pictures prepared, arrays checked.

    Raises InputError where names, shapes or dtypes do not fit, ImageError for unreadable pictures.
    """
    if len(specs) == 1 and _is_as_taken(x, specs[0]):
        return Batch({specs[0].name: x})
    main = main_input(specs)
    pictures: tuple[Prepared, ...] = ()
    if is_picture(x):
        sources = x if isinstance(x, list | tuple) else [x]
        pictures = tuple(preprocess.apply(source) for source in sources)
        shapes = {picture.array.shape for picture in pictures}
        if len(shapes) > 1:
            raise InputError(
                f"the pictures have different sizes ({sorted(shapes)}) and the model takes any; "
                "explain them one by one, or give a preprocess with a size"
            )
        x = {main.name: np.concatenate([picture.array for picture in pictures])}
    elif not isinstance(x, Mapping):
        if isinstance(x, list | tuple):
            x = np.asarray(x)
        x = {main.name: x}
    _check_names(x, specs)
    return Batch({spec.name: _checked(x[spec.name], spec) for spec in specs}, pictures)


def one_sample(x: Any, specs: Sequence[TensorSpec], preprocess: Preprocess) -> Batch:
    """As ``complete``, of a single sample; InputError for several."""
    batch = complete(x, specs, preprocess)
    if batch.samples != 1:
        raise InputError(f"one of the pictures holds {batch.samples} samples; give them one by one")
    return batch


def blank(
    specs: Sequence[TensorSpec], channel_axes: Mapping[str, int], size: tuple[int, int] | None
) -> Batch:
    """Zeros of the model's input shape: what is open is 1 (samples) or ``size``, (height, width)."""
    feeds = {}
    for spec in specs:
        axis = channel_axes.get(spec.name, 1)
        open_sides = iter(size or ())
        shape = []
        for i, n in enumerate(spec.shape or ()):
            if not isinstance(n, int):
                n = 1 if i == 0 else next(open_sides, None) if i != axis else None
                if n is None:
                    raise UsageError(f"input {spec} leaves its size open; give size=(height, width)")
            elif i not in (0, axis):
                next(open_sides, None)
            shape.append(n)
        feeds[spec.name] = np.zeros(shape, spec.dtype or np.float32)
    return Batch(feeds)


def _check_names(given: Mapping[str, Any], specs: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in specs]
    unknown = [name for name in given if name not in names]
    missing = [name for name in names if name not in given]
    if unknown or missing:
        raise InputError(
            f"the model takes {', '.join(map(str, specs))}; "
            + (
                f"it has no input {unknown[0]!r}"
                if unknown
                else f"give {missing[0]!r} too, as {{name: array}}"
            )
        )


def _is_as_taken(x: Any, spec: TensorSpec) -> bool:
    """Whether it is an array of samples as the net fixes them, of which there is nothing to check."""
    if not isinstance(x, np.ndarray) or x.dtype != spec.dtype or not spec.shape:
        return False
    return x.ndim == len(spec.shape) and x.shape[1:] == spec.shape[1:] and len(x) > 0


def _checked(array: Any, spec: TensorSpec) -> Array:
    array = np.asarray(array)
    wanted = spec.dtype or array.dtype
    floating = array.dtype.kind == "f" and wanted.kind == "f"
    if array.dtype != wanted and not floating and not (array.dtype.kind in "iu" and wanted.kind in "iu"):
        raise InputError(
            f"input {spec} was given {array.dtype}; convert it (x.astype({str(wanted)!r})), "
            "or pass a picture (a path or PIL image) to have it prepared"
        )
    if spec.shape is not None:
        fits = array.ndim == len(spec.shape) and all(
            not isinstance(n, int) or axis == 0 or m == n
            for axis, (m, n) in enumerate(zip(array.shape, spec.shape, strict=True))
        )
        if not fits:
            raise InputError(
                f"input {spec} was given an array of shape {'×'.join(map(str, array.shape)) or '()'}; "
                "give every axis that the model fixes its length, samples first, or pass an array yourself "
                "where a picture of 1 or 3 channels does not fit"
            )
        if array.ndim and array.shape[0] == 0:
            raise InputError(f"input {spec} was given no samples")
    checked: Array = array.astype(wanted, copy=False)
    return checked


def _lengths(specs: Sequence[TensorSpec]) -> set[int]:
    """The numbers of samples that the inputs fix."""
    return {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}


def fixed_samples(specs: Sequence[TensorSpec]) -> int | None:
    """The number of samples that the model takes; None where it takes any."""
    return min(_lengths(specs), default=None)


def batches(batch: Batch, specs: Sequence[TensorSpec], singly: bool = False) -> list[tuple[slice, Batch]]:
    """The batch in parts of the length that the model takes; where it takes any, whole or ``singly``."""
    lengths = {1} if singly else _lengths(specs)
    samples = batch.samples
    if not lengths or lengths == {samples}:
        return [(slice(0, samples), batch)]
    length = min(lengths)
    if len(lengths) > 1 or samples % length:
        raise InputError(
            f"the model takes {' or '.join(map(str, sorted(lengths)))} samples at a time; "
            f"{samples} were given"
        )
    parts = [slice(start, start + length) for start in range(0, samples, length)]
    return [
        (part, Batch({name: array[part] for name, array in batch.feeds.items()}, batch.pictures[part]))
        for part in parts
    ]
