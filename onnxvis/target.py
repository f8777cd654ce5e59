"""What is to be explained: a layer, a unit of it, a position (FeatureVis' MeasureLayer and MeasureFilter)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import TargetError
from .graph.analysis import channel_axes, logits, spatial_axes
from .graph.ir import Graph

__all__ = ["Aim", "Target"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Target:
    """A unit of a layer.

    ``layer``: a layer's or tensor's name; None: the scores (before the last softmax or sigmoid).
    ``unit``: the index along the channel axis, or a list with one for each sample; None: for each
    sample the strongest.  ``position``: the index along the spatial axes, a tuple of integers;
    ``"max"``: where the unit is strongest; None: the sum over all positions.
    """

    layer: str | None = None
    unit: int | Sequence[int] | None = None
    position: tuple[int, ...] | str | None = None

    def of_samples(self, where: slice, samples: int) -> Target:
        """The target for some of all samples; TargetError where a list does not have one unit each."""
        if self.unit is None or isinstance(self.unit, int):
            return self
        if len(self.unit) != samples:
            raise TargetError(
                f"{len(self.unit)} units were given for {samples} sample{'s' * (samples != 1)}; give one each"
            )
        return replace(self, unit=[_index(unit) for unit in self.unit][where])

    @classmethod
    def of(cls, given: Any) -> Target:
        """A Target from its short forms: None, an index, or a list of indices."""
        if isinstance(given, Target):
            return given
        if given is None:
            return cls()
        if isinstance(given, bool) or not isinstance(given, int | np.integer | list | tuple | np.ndarray):
            raise TargetError(
                "a target is None, a unit's index, a list of them, or onnxvis.Target(layer, unit, position), "
                f"not {given!r}"
            )
        return cls(unit=int(given) if isinstance(given, int | np.integer) else [_index(u) for u in given])


def _index(unit: Any) -> int:
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer):
        raise TargetError(f"a unit is given by its index, not {unit!r}")
    return int(unit)


@dataclass(frozen=True)
class Aim:
    """A target found in a graph: its tensor, the axis of its units, and what was asked of them.

    ``units`` and ``positions`` hold one entry a sample; None where the strongest is to be found.
    """

    tensor: str
    channel_axis: int
    rank: int
    units: tuple[int, ...] | None = None
    positions: tuple[tuple[int, ...], ...] | str | None = None

    @classmethod
    def at(cls, target: Target, graph: Graph, samples: int) -> Aim:
        """Find the target; raises TargetError or UnknownNameError where the model has no such thing."""
        tensor = logits(graph) if target.layer is None else graph.tensor(target.layer)
        shape = graph.value(tensor).shape
        if shape is None or len(shape) < 1:
            raise TargetError(f"{tensor!r} is not a tensor with units; choose another layer")
        axis = channel_axes(graph)[tensor]
        units = _units(target.unit, samples, tensor, shape[axis])
        spatial = [shape[i] for i in spatial_axes(len(shape), axis)]
        position = _position(target.position, tensor, spatial)
        positions = (position,) * samples if isinstance(position, tuple) else position
        return cls(tensor, axis, len(shape), units, positions)

    def fixed(self, y: Array) -> Aim:
        """The same with units and positions chosen for these values of the tensor."""
        y = self._units_second(y)
        units = self.units
        if units is None:
            totals = y.reshape(*y.shape[:2], -1).sum(axis=2)
            units = tuple(int(unit) for unit in totals.argmax(axis=1))
        positions = self.positions
        if positions == "max":
            maps = [y[i, unit] for i, unit in enumerate(units)]
            positions = tuple(tuple(map(int, np.unravel_index(m.argmax(), m.shape))) for m in maps)
        return replace(self, units=units, positions=positions)

    def repeated(self, times: int) -> Aim:
        """The same aim for a batch that holds all samples several times over, one copy after another."""
        positions = self.positions
        return replace(
            self,
            units=None if self.units is None else self.units * times,
            positions=positions * times if isinstance(positions, tuple) else positions,
        )

    def seed(self, y: Array, weight: str = "one") -> Array:
        """Ones at the target, zeros elsewhere, in the tensor's shape; ``"logit"``: its values there."""
        chosen = self.fixed(y)
        assert chosen.units is not None
        result = np.zeros(y.shape, np.float64 if y.dtype == np.float64 else np.float32)
        marked = self._units_second(result)
        for i, unit in enumerate(chosen.units):
            marked[(i, unit, *(chosen.positions[i] if chosen.positions else ()))] = 1
        return result * y if weight == "logit" else result

    def score(self, y: Array) -> Array:
        """The target's value for each sample."""
        scores: Array = (self.seed(y) * y).reshape(len(y), -1).sum(axis=1)
        return scores

    def _units_second(self, y: Array) -> Array:
        if y.ndim == 1:
            return y[None] if self.channel_axis == 0 else y[:, None]
        return np.moveaxis(y, self.channel_axis, 1)


def _units(unit: Any, samples: int, tensor: str, count: Any) -> tuple[int, ...] | None:
    if unit is None:
        return None
    units = [unit] * samples if isinstance(unit, int | np.integer) else list(unit)
    for u in units:
        if isinstance(count, int) and not -count <= u < count:
            raise TargetError(f"{tensor!r} has no unit {u}: it has {count}, from 0 to {count - 1}")
    return tuple(int(u) % count if isinstance(count, int) else int(u) for u in units)


def _position(position: Any, tensor: str, spatial: Sequence[Any]) -> tuple[int, ...] | str | None:
    if position is None or position == "max":
        return position if spatial else None
    if isinstance(position, int | np.integer):
        position = (position,)
    if isinstance(position, str) or len(position) != len(spatial):
        raise TargetError(
            f"a position in {tensor!r} is a tuple of {len(spatial)} indices, 'max' or None, not {position!r}"
        )
    for p, n in zip(position, spatial, strict=True):
        if isinstance(n, int) and not -n <= p < n:
            raise TargetError(
                f"{tensor!r} has no position {tuple(position)}: its maps are {'×'.join(map(str, spatial))}"
            )
    return tuple(int(p) % n if isinstance(n, int) else int(p) for p, n in zip(position, spatial, strict=True))
