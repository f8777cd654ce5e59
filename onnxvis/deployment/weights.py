"""Where a model has its weights: what the way back reads of them need not be stored a second time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from onnxvis.engine.batches import LARGE
from onnxvis.graph.ir import Graph

__all__ = ["Held", "held"]

Array = np.ndarray[Any, Any]


class Held(NamedTuple):
    """A constant of the layer graph: ``name`` of the file's tensor with these numbers, "" for none.

    ``scale``, float64: the numbers are (tensor − ``offset``) · scale, where the layer graph has joined a
    normalization with the layer, or where the file holds whole numbers.  ``array``: the constant itself,
    which keeps its identity as long as it is held.
    """

    name: str = ""
    scale: Array | None = None
    offset: int = 0
    array: Array | None = None


def held(graph: Graph, file: Graph) -> Mapping[int, Held]:
    """Every large constant of the layer graph, by the identity of its array, and where ``file`` has it."""
    constants = [(name, graph.constant(name)) for name in graph.values if graph.is_constant(name)]
    large = [(name, array) for name, array in constants if array is not None and array.size >= LARGE]
    own = {name: array for name, array in large if file.is_constant(name) or name in file.producers}
    originals = {n: array for n in file.values if (array := _large(file, n)) is not None}
    alike: dict[Any, list[tuple[str, Array]]] = {}
    for name, array in {**originals, **own}.items():
        alike.setdefault(array.shape, []).append((name, array))
    found = {
        id(array): Held(name) if name in own else _found(array, alike.get(array.shape, ()))
        for name, array in large
    }
    return {id(array): found[id(array)]._replace(array=array) for _, array in large}


def _large(file: Graph, name: str) -> Array | None:
    """A large constant of the file itself."""
    value = file.value(name)
    if not value.is_constant:
        return None
    size = math.prod(n for n in value.shape or () if isinstance(n, int))
    return value.constant if size >= LARGE else None


def _found(array: Array, alike: Iterable[tuple[str, Array]]) -> Held:
    """A tensor with the same numbers, or with such that differ by a factor a channel."""
    for name, other in alike:
        if array.dtype == other.dtype and np.array_equal(array, other):
            return Held(name)
    if array.dtype.kind != "f":
        return Held()
    for name, other in alike:
        offset = _zero(array, other) if other.dtype.kind in "iu" and other.itemsize == 1 else 0
        scale = _scale(array, other.astype(np.float64) - offset)
        if scale is not None:
            return Held(name, scale, offset)
    return Held()


def _zero(array: Array, other: Array) -> int:
    """The whole number that stands for 0."""
    found = other[array == 0]
    return int(found[0]) if found.size else 0


def _scale(array: Array, other: Array) -> Array | None:
    """One number for each index of an axis by which ``other`` becomes ``array``, up to rounding."""
    for axis in range(min(array.ndim, 2)):
        rest = tuple(i for i in range(array.ndim) if i != axis)
        # As the largest weights of each channel have it, where rounding weighs least.
        largest = np.abs(other) == np.abs(other).max(axis=rest, keepdims=True)
        with np.errstate(all="ignore"):
            ratio = np.where(largest, array / other, 0.0).sum(axis=rest, keepdims=True)
            scale = ratio / largest.sum(axis=rest, keepdims=True)
        scale = np.where(np.isfinite(scale), scale, 0.0)
        made = (other * scale).astype(array.dtype)
        if np.allclose(made, array, rtol=4 * np.finfo(array.dtype).eps, atol=0):
            return np.asarray(scale, np.float64)
    return None
