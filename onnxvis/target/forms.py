"""What a user writes as a target, and the one form in which everything else knows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from onnxvis.errors import TargetError

from .aims import Aim, SampleAim, SumAim, UnitAim
from .text import fitting, read, unit_index

__all__ = [
    "Names", "Target", "Wanted", "describe", "normal", "number_of_targets", "selected", "separable",
    "settled", "tensors_of",
]  # fmt: skip

Array = np.ndarray[Any, Any]
FORMS = (
    "a target is None, a unit's index or name, a list or array with one for each sample, {output: target}, "
    "a function of the outputs, or onnxvis.Target(layer, unit, position)"
)


@dataclass(frozen=True, eq=False)
class Target:
    """Units of a layer, elements of a tensor, or a seed for one: what a score is made of.

    ``layer``: a layer's or tensor's name; None: the scores (before the last softmax or sigmoid).
    ``unit``: the index along the axis of channels, a class by name, a list with one for each sample, or
    weights {unit: weight}; None: for each sample the strongest.  ``position``: where in the unit's map: a
    tuple of indices along the other axes; ``"max"``: where the unit is strongest; ``"region"``: where it is
    the strongest of all units, its part of a segmentation; a mask of the map's shape (or samples × that),
    boolean or of weights; None: everywhere.  ``reduce``: "sum" or "mean" over these positions.  ``axis``:
    that of the units, where it is not the one that the model's operators suggest.

    Instead of units: ``index``, a NumPy index into the whole tensor, samples first (``np.s_[:, 3, 5]``); or
    ``seed``, an array of the tensor's shape (or a sample's), or a function that makes it of the tensor's
    values.  The score of a sample is the sum of what is chosen: ⟨seed, tensor⟩.
    """

    layer: str | None = None
    unit: Any = None
    position: Any = None
    reduce: str = "sum"
    axis: int | None = None
    index: Any = None
    seed: Any = None

    def __post_init__(self) -> None:
        if self.layer is not None and not isinstance(self.layer, str):
            raise TargetError(f"layer is the name of a layer or tensor, not {self.layer!r}")
        if self.reduce not in ("sum", "mean"):
            raise TargetError(f"reduce is 'sum' or 'mean', not {self.reduce!r}")
        if self.index is None and self.seed is None:
            return
        ways = {
            "unit or position": any(e is not None for e in (self.unit, self.position, self.axis)),
            "index": self.index is not None,
            "seed": self.seed is not None,
        }
        given = [name for name, there in ways.items() if there]
        if len(given) > 1:
            raise TargetError(f"a target has either {' or '.join(given)}: each says what is meant by itself")
        if self.seed is not None and self.reduce == "mean":
            raise TargetError("a seed says itself what counts how much: scale it instead of reduce='mean'")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Target):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    @property
    def key(self) -> tuple[Any, ...] | None:
        """Its first fields, hashable; None where it has weights, an array, an index or a function."""
        unit = tuple(self.unit) if isinstance(self.unit, list) else self.unit
        units = unit is None or isinstance(unit, int | tuple)
        place = self.position is None or isinstance(self.position, str)
        axis = self.axis is None or _is_index(self.axis)
        plain = units and place and axis and self.index is None and self.seed is None
        return (self.layer, unit, self.position, self.reduce, self.axis) if plain else None


Wanted = Target | Mapping[str, Target] | Sequence[Any] | Callable[..., Any]


@dataclass(frozen=True)
class Names:
    """What a model calls its things: ``tensor`` finds a tensor by its own or its layer's name and raises
    UnknownNameError; ``known``: all such names; ``labels``: the names of the units of the tensors ``scores``.
    """

    tensor: Callable[[str], str]
    known: Collection[str]
    labels: Sequence[str] = ()
    scores: frozenset[str] = frozenset()

    def is_class(self, name: Any) -> bool:
        """Whether this is the name of a class, and not of a layer."""
        return isinstance(name, str) and name not in self.known and bool(fitting(name, self.labels))

    def labels_of(self, tensor: str | None) -> Sequence[str]:
        """Names of a tensor's units, none where they are not known."""
        return self.labels if tensor is None or tensor in self.scores else ()


def normal(given: Any, names: Names) -> Wanted:
    """A target as one of: a Target, {tensor: Target}, a list of these with one a sample, a function.

    Names are resolved: layers to tensors, units to indices.  Raises TargetError for what is none of the
    forms, UnknownNameError for a name that nothing goes by.
    """
    if given is None:
        return Target()
    if _is_index(given):
        return _of_unit(int(given))
    if isinstance(given, Target):
        return _resolved(given, names)
    if isinstance(given, str):
        return _resolved(Target(**read(given, names.labels, names.known)), names)
    if isinstance(given, Mapping):
        return _from_mapping(given, names)
    if isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and _one_a_sample(given)):
        return _from_list(list(given), names)
    if isinstance(given, np.ndarray):
        return Target(seed=given)
    if callable(given):
        wanted: Callable[..., Any] = given
        return wanted
    raise TargetError(f"{FORMS}, not {given!r}")


@lru_cache(1024)
def _of_unit(unit: int) -> Target:
    return Target(unit=unit)


def _from_mapping(given: Mapping[Any, Any], names: Names) -> Wanted:
    """{output: target}, or {unit: weight} of the scores, its units by index or name."""
    if given and all(_is_index(key) or names.is_class(key) for key in given):
        return Target(unit=_unit(given, names.labels))
    if not given or not all(isinstance(name, str) for name in given):
        raise TargetError(f"a dict as target is {{output: target}} or {{unit: weight}}, not {given!r}")
    found = {names.tensor(name): _of_tensor(name, value, names) for name, value in given.items()}
    return found if len(found) > 1 else next(iter(found.values()))


def _of_tensor(name: str, value: Any, names: Names) -> Target:
    """The target at a tensor, of its short forms."""
    tensor = names.tensor(name)
    if isinstance(value, Target):
        if value.layer is not None and names.tensor(value.layer) != tensor:
            raise TargetError(f"the target for {name!r} names another layer, {value.layer!r}")
        return _resolved(replace(value, layer=tensor), names)
    if isinstance(value, Mapping | str):
        return _resolved(Target(tensor, unit=value), names)
    if callable(value):
        return Target(tensor, seed=value)
    found = normal(value, names)
    if not isinstance(found, Target):
        raise TargetError(
            f"the target for {name!r} is a unit, a list of units with one a sample, {{unit: weight}}, a "
            f"seed, a function of the tensor, or a Target, not {value!r}"
        )
    return replace(found, layer=tensor)


def _from_list(given: list[Any], names: Names) -> Wanted:
    """One target a sample; plain units become one Target."""
    wanted = [normal(entry, names) for entry in given]
    units = [entry.unit for entry in wanted if isinstance(entry, Target) and entry == Target(unit=entry.unit)]
    if wanted and len(units) == len(wanted) and all(map(_is_index, units)):
        return Target(unit=units)
    return wanted


def _resolved(target: Target, names: Names) -> Target:
    tensor = None if target.layer is None else names.tensor(target.layer)
    return replace(target, layer=tensor, unit=_unit(target.unit, names.labels_of(tensor)))


def _unit(given: Any, labels: Sequence[str]) -> Any:
    """Units by their indices: None, an index, a list with one a sample, or {index: weight}."""
    if given is None:
        return None
    if isinstance(given, str):
        return unit_index(given, labels)
    if isinstance(given, Mapping):
        weights = {_single(key, labels): value for key, value in given.items()}
        for unit, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float | np.integer | np.floating):
                raise TargetError(f"the weight of unit {unit} is a number, not {weight!r}")
        if not weights:
            raise TargetError("{unit: weight} names no unit")
        return weights
    if isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.ndim == 1):
        return [_single(entry, labels) for entry in given]
    return _single(given, labels)


def _single(given: Any, labels: Sequence[str]) -> int:
    if isinstance(given, str):
        return unit_index(given, labels)
    if not _is_index(given):
        raise TargetError(f"a unit is given by its index or name, not {given!r}")
    return int(given)


def _is_index(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _one_a_sample(array: Array) -> bool:
    """True for an array of indices or names, not of what elements count."""
    return array.ndim == 1 and array.dtype.kind in "iuU"


def _same(one: Any, other: Any) -> bool:
    """Equality of fields, arrays among them."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and np.array_equal(one, other)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def tensors_of(wanted: Wanted) -> list[str]:
    """The tensors that a target in its normal form names."""
    if isinstance(wanted, Target):
        return [] if wanted.layer is None else [wanted.layer]
    if isinstance(wanted, Mapping):
        return list(wanted)
    if callable(wanted):
        return []
    return list(dict.fromkeys(name for entry in wanted for name in tensors_of(entry)))


# ---- some of the samples -------------------------------------------------------------------------


def selected(wanted: Wanted, samples: Sequence[int]) -> Wanted:
    """The target of some of the samples: of what has one for each, those."""
    if isinstance(wanted, Target):
        several = isinstance(wanted.unit, list)
        return replace(wanted, unit=[wanted.unit[i] for i in samples]) if several else wanted
    if isinstance(wanted, Mapping):
        return {name: selected(target, samples) for name, target in wanted.items()}  # type: ignore[misc]
    return wanted if callable(wanted) else [wanted[i] for i in samples]


def number_of_targets(wanted: Wanted) -> int | None:
    """For how many samples it has one each (the least, where its parts differ); None: the same for all."""
    if isinstance(wanted, Target):
        return len(wanted.unit) if isinstance(wanted.unit, list) else None
    if isinstance(wanted, Mapping):
        numbers = [n for n in map(number_of_targets, wanted.values()) if n is not None]
        return min(numbers, default=None)
    return None if callable(wanted) else len(wanted)


def separable(wanted: Wanted) -> bool:
    """Whether ``selected`` tells all: no index, seed, mask or function sees the axis of the samples."""
    if isinstance(wanted, Target):
        place = wanted.position is None or isinstance(wanted.position, str | tuple)
        return place and wanted.index is None and wanted.seed is None
    if isinstance(wanted, Mapping):
        return all(map(separable, wanted.values()))
    return not callable(wanted) and all(map(separable, wanted))


# ---- what came of it -----------------------------------------------------------------------------


def settled(wanted: Wanted, found: Sequence[Aim]) -> Wanted:
    """The target with the units that were chosen, to be used again; ``found``: its aims, one a batch."""
    if isinstance(wanted, Target):
        units = [unit for aim in found if isinstance(aim, UnitAim) for unit in aim.units or ()]
        return replace(wanted, layer=found[0].tensor, unit=units or wanted.unit)
    if isinstance(wanted, Mapping):
        sums = [aim for aim in found if isinstance(aim, SumAim)]
        return {
            name: settled(target, [aim.parts[i] for aim in sums])  # type: ignore[misc]
            for i, (name, target) in enumerate(wanted.items())
        }
    if callable(wanted):
        return wanted
    rows = [row for aim in found if isinstance(aim, SampleAim) for row in aim.rows]
    return [_alone(settled(entry, [row])) for entry, row in zip(wanted, rows, strict=True)]


def _alone(wanted: Wanted) -> Wanted:
    """The same target for one sample, its unit not in a list."""
    one = isinstance(wanted, Target) and isinstance(wanted.unit, list) and len(wanted.unit) == 1
    return replace(wanted, unit=wanted.unit[0]) if one and isinstance(wanted, Target) else wanted


def describe(wanted: Wanted, index: int, labels: Sequence[str]) -> str:
    """The target of one sample in a few words: "star", "unit 3", "boxes: unit 2 − 0.5 unit 0"."""
    if isinstance(wanted, Target):
        return _describe(wanted, index, labels)
    if isinstance(wanted, Mapping):
        return ", ".join(f"{name}: {_describe(target, index, ())}" for name, target in wanted.items())
    if callable(wanted):
        return str(getattr(wanted, "__name__", type(wanted).__name__))
    return describe(wanted[index], 0, labels)


def _describe(target: Target, index: int, labels: Sequence[str]) -> str:
    if target.index is not None:
        return f"{target.layer}[{_index_text(target.index)}]"
    if target.seed is not None:
        return f"seed of {target.layer}"
    unit = target.unit[index] if isinstance(target.unit, list | tuple) else target.unit
    if isinstance(unit, Mapping):
        return " + ".join(f"{weight:g} {_unit_name(u, labels)}" for u, weight in unit.items())
    return _unit_name(unit, labels)


def _unit_name(unit: int | None, labels: Sequence[str]) -> str:
    if unit is None:
        return "strongest unit"
    return labels[unit].split(",")[0] if 0 <= unit < len(labels) else f"unit {unit}"


def _index_text(index: Any) -> str:
    """An index as one writes it between brackets."""
    if isinstance(index, tuple):
        return ", ".join(map(_index_text, index))
    if isinstance(index, slice):
        ends = ("" if end is None else str(end) for end in (index.start, index.stop))
        return ":".join(ends) + ("" if index.step is None else f":{index.step}")
    if isinstance(index, np.ndarray):
        return f"an array {'×'.join(map(str, index.shape))}"
    return "…" if index is Ellipsis else str(index)
