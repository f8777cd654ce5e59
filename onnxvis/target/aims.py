"""Aims: targets found in a graph.  From the values of a forward pass they make the seed and the score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxvis.errors import TargetError

__all__ = ["Aim", "ArrayAim", "FunctionAim", "SampleAim", "SumAim", "UnitAim", "inner"]

Array = np.ndarray[Any, Any]
Values = Mapping[str, Array]


class Aim(ABC):
    """A target of a batch of ``samples``.

    ``tensors``: where the way back starts; ``reads``: whose values tell the seeds (``tensors`` and maybe
    others).
    """

    samples: int

    @property
    @abstractmethod
    def tensors(self) -> tuple[str, ...]:
        """Where the way back starts."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Tensors whose values tell the seeds."""
        return self.tensors

    @property
    def tensor(self) -> str:
        """The one tensor of the target; TargetError where it has several."""
        first, *others = self.tensors
        if others:
            raise TargetError(
                f"this needs a target in one tensor, not in {', '.join(self.tensors)}; choose one of them"
            )
        return first

    @property
    def fixed(self) -> bool:
        """Whether ``ones`` depends on the shapes and dtypes of the values alone."""
        return False

    @abstractmethod
    def ones(self, values: Values) -> dict[str, Array]:
        """What each element of ``tensors`` counts."""

    def chosen(self, values: Values) -> Aim:
        """The same with what is strongest in these values chosen for good."""
        return self

    def seeds(self, values: Values, weight: str = "one") -> dict[str, Array]:
        """Where the way back starts: ``ones``, or with weight "logit" these times the values there."""
        ones = self.ones(values)
        return {n: seed * values[n] for n, seed in ones.items()} if weight == "logit" else ones

    def score(self, values: Values) -> Array:
        """The target's value for each sample: ⟨seed, tensor⟩."""
        return inner(self.ones(values), values, self.samples)


def inner(seeds: Values, values: Values, samples: int) -> Array:
    """⟨seed, tensor⟩ for each sample, added up over the tensors."""
    products = ((seed * values[name]).reshape(samples, -1).sum(axis=1) for name, seed in seeds.items())
    return np.asarray(sum(products))


def _working(y: Array) -> np.dtype[Any]:
    """The precision of seeds for a tensor."""
    return np.dtype(np.float64 if y.dtype == np.float64 else np.float32)


def _second(y: Array, axis: int) -> Array:
    """A view with this axis second, where it mostly is."""
    return y if axis == 1 else np.moveaxis(y, axis, 1)


@dataclass(frozen=True)
class UnitAim(Aim):
    """A unit for each sample, and where in its map.

    ``channel_axis``: the axis of the units; ``rank``: of the tensor; ``batched``: whether its first axis
    is that of the samples (else there is one sample).  ``units``: one a sample; None: the strongest.
    ``positions``: None for all; "max"; "region"; a tuple of indices for each sample; or a mask, samples ×
    map.  ``mean``: over the positions.
    """

    layer: str
    channel_axis: int
    rank: int
    samples: int
    batched: bool = True
    units: tuple[int, ...] | None = None
    positions: tuple[tuple[int, ...], ...] | str | Array | None = None
    mean: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Its one tensor."""
        return (self.layer,)

    @property
    def fixed(self) -> bool:
        """Where units and positions are known."""
        return self.units is not None and not isinstance(self.positions, str)

    def chosen(self, values: Values) -> UnitAim:
        """The same with units and positions chosen for these values."""
        if self.fixed:
            return self
        y = self.units_second(values[self.layer])
        units = self.units
        if units is None:
            totals = y.reshape(*y.shape[:2], -1).sum(axis=2)
            units = tuple(int(unit) for unit in totals.argmax(axis=1))
        positions = self.positions
        if isinstance(positions, str) and positions == "max":
            maps = [y[i, unit] for i, unit in enumerate(units)]
            positions = tuple(tuple(map(int, np.unravel_index(m.argmax(), m.shape))) for m in maps)
        elif isinstance(positions, str):
            positions = y.argmax(axis=1) == np.reshape(units, (-1, *(1,) * (y.ndim - 2)))
            self._check_regions(positions, units)
        return replace(self, units=units, positions=positions)

    def _check_regions(self, regions: Array, units: Sequence[int]) -> None:
        for i, (region, unit) in enumerate(zip(regions, units, strict=True)):
            if not region.any():
                raise TargetError(
                    f"unit {unit} of {self.layer!r} has no region in sample {i}: it is nowhere the "
                    "strongest; choose another unit, or position='max'"
                )

    def ones(self, values: Values) -> dict[str, Array]:
        """Ones (a mask's weights) at the target, zeros elsewhere."""
        y, chosen = values[self.layer], self.chosen(values)
        assert chosen.units is not None
        result = np.zeros(y.shape, _working(y))
        marked = self.units_second(result)  # a view
        for i, unit in enumerate(chosen.units):
            if chosen.positions is None:
                marked[i, unit] = 1
            elif isinstance(chosen.positions, np.ndarray):
                marked[i, unit] = chosen.positions[i]
            else:
                marked[(i, unit, *chosen.positions[i])] = 1
            if self.mean:
                marked[i, unit] /= np.abs(marked[i, unit]).sum()
        return {self.layer: result}

    def units_second(self, y: Array) -> Array:
        """A view of the tensor as samples × units × map."""
        if not self.batched:
            return _second(y[None], self.channel_axis + 1)
        return y[:, None] if y.ndim == 1 else _second(y, self.channel_axis)


@dataclass(frozen=True)
class ArrayAim(Aim):
    """A seed that is known, for one tensor."""

    layer: str
    array: Array
    samples: int

    @property
    def tensors(self) -> tuple[str, ...]:
        """Its one tensor."""
        return (self.layer,)

    @property
    def fixed(self) -> bool:
        """Always."""
        return True

    def ones(self, values: Values) -> dict[str, Array]:
        """The seed."""
        return {self.layer: self.array.astype(_working(values[self.layer]))}


@dataclass(frozen=True)
class FunctionAim(Aim):
    """Seeds that a user's function makes of the values of ``names``, an array each, for ``starts``."""

    function: Callable[[Values], Any]
    names: tuple[str, ...]
    starts: tuple[str, ...]
    samples: int

    @property
    def tensors(self) -> tuple[str, ...]:
        """Those that the function makes a seed for."""
        return self.starts

    @property
    def reads(self) -> tuple[str, ...]:
        """Those that it is called with."""
        return self.names

    def ones(self, values: Values) -> dict[str, Array]:
        """What the function returns; TargetError where that is no seed."""
        found = called(self.function, {name: values[name] for name in self.names})
        if set(found) != set(self.starts):
            raise TargetError(
                f"the target function returned seeds for {', '.join(found)}, and before for "
                f"{', '.join(self.starts)}: return them for the same tensors always, with zeros where there "
                "is nothing"
            )
        return {name: seed.astype(_working(values[name])) for name, seed in found.items()}


def called(function: Callable[[Values], Any], values: Values) -> dict[str, Array]:
    """The seeds that a function returns for these values: {name: array of that tensor's shape}."""
    found = function(values)
    if not isinstance(found, Mapping):
        if len(values) > 1:
            raise TargetError(
                f"the target function returned {type(found).__name__}; with several outputs "
                f"({', '.join(values)}) it is to return {{name: seed}}"
            )
        found = dict.fromkeys(values, found)
    for name in found:
        if name not in values:
            raise TargetError(
                f"the target function returned a seed for {name!r}, but was called with {', '.join(values)}"
            )
    if not found:
        raise TargetError("the target function returned no seeds")
    return {name: _like(seed, values[name], name) for name, seed in found.items()}


def _like(seed: Any, y: Array, name: str) -> Array:
    array = np.asarray(seed)
    if array.shape != y.shape or array.dtype.kind not in "biuf":
        raise TargetError(
            f"the target function is to return a seed for {name!r}: real numbers of shape {y.shape}, "
            f"what each element counts; it returned {array.dtype} of shape {array.shape}"
        )
    return array


@dataclass(frozen=True)
class SumAim(Aim):
    """A weighted sum of aims."""

    parts: tuple[Aim, ...]
    weights: tuple[float, ...]
    samples: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", self.parts[0].samples)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.tensors))

    @property
    def reads(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.reads))

    @property
    def fixed(self) -> bool:
        """Where all parts are."""
        return all(part.fixed for part in self.parts)

    def chosen(self, values: Values) -> SumAim:
        """With all parts chosen."""
        return SumAim(tuple(part.chosen(values) for part in self.parts), self.weights)

    def ones(self, values: Values) -> dict[str, Array]:
        """The parts', weighted and added."""
        found: dict[str, Array] = {}
        for part, weight in zip(self.parts, self.weights, strict=True):
            for name, seed in part.ones(values).items():
                scaled = seed * seed.dtype.type(weight)
                found[name] = found[name] + scaled if name in found else scaled
        return found


@dataclass(frozen=True)
class SampleAim(Aim):
    """An aim for each sample (``rows``, each of one sample)."""

    rows: tuple[Aim, ...]
    samples: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", len(self.rows))

    @property
    def tensors(self) -> tuple[str, ...]:
        """Those of all samples."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.tensors))

    @property
    def reads(self) -> tuple[str, ...]:
        """Those of all samples."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.reads))

    def chosen(self, values: Values) -> SampleAim:
        """With those of all samples chosen."""
        return SampleAim(tuple(row.chosen(self._of_row(i, values)) for i, row in enumerate(self.rows)))

    def ones(self, values: Values) -> dict[str, Array]:
        """Each sample's, where the others have zeros."""
        found = {name: np.zeros(values[name].shape, _working(values[name])) for name in self.tensors}
        for i, row in enumerate(self.rows):
            for name, seed in row.ones(self._of_row(i, values)).items():
                if len(self.rows) == 1:
                    found[name] = seed
                else:
                    found[name][i : i + 1] = seed
        return found

    def _of_row(self, i: int, values: Values) -> Values:
        """The values of one sample, samples first as ever."""
        if len(self.rows) == 1:
            return values
        return {name: values[name][i : i + 1] for name in self.reads}
