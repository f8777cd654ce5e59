"""Where an explanation starts, on traced values: what ``Aim`` computes on arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxvis.errors import UnsupportedError

from .aims import Aim, ArrayAim, SumAim, UnitAim

if TYPE_CHECKING:
    from onnxvis.ops.trace import Traced, TraceOps

__all__ = ["TracedAim"]

Read: TypeAlias = "Callable[[str], Traced]"


class TracedAim:
    """The seeds of a target, its score and its units.

    ``read``: tensors of the forward pass; ``given``: the unit to explain of each sample, int64; where it is
    negative, the strongest.
    """

    def __init__(self, ops: TraceOps, aim: Aim, read: Read, given: Traced | None = None) -> None:
        self.ops, self.aim, self.read, self.given = ops, aim, read, given

    def __call__(self, weight: str = "one") -> dict[str, Traced]:
        """What starts at each tensor; ``weight`` "logit": times the tensor's values."""
        values = {name: self.read(name) for name in self.ones}
        if weight == "logit":
            return {name: values[name] * ones for name, ones in self.ones.items()}
        return {name: self.ops.expand(ones, values[name].shape) for name, ones in self.ones.items()}

    @cached_property
    def ones(self) -> dict[str, Traced]:
        """What each element counts, in shapes that broadcast to the tensors'."""
        return self._ones(self.aim)

    def _ones(self, aim: Aim) -> dict[str, Traced]:
        if isinstance(aim, UnitAim):
            return {aim.layer: _Unit(self.ops, aim, self.read(aim.layer), self.given).ones}
        if isinstance(aim, ArrayAim):
            return {aim.layer: self.ops.constant(aim.array)}
        if isinstance(aim, SumAim):
            found: dict[str, Traced] = {}
            for part, weight in zip(aim.parts, aim.weights, strict=True):
                for name, ones in self._ones(part).items():
                    found[name] = found[name] + ones * weight if name in found else ones * weight
            return found
        raise UnsupportedError(
            "a target that is a function, or another kind for each sample, cannot be exported; give a unit, "
            "weights of units, an index or a seed array"
        )

    @cached_property
    def score(self) -> Traced:
        """The target's value for each sample."""
        samples = self.aim.samples
        total: Traced | None = None
        for name, ones in self.ones.items():
            product = self.read(name) * ones
            product = self.ops.reshape(product, (samples, int(np.prod(product.shape)) // samples))
            part = self.ops.sum(product, (1,))
            total = part if total is None else total + part
        assert total is not None
        return total

    @property
    def units(self) -> Traced:
        """The unit of each sample, int64; UnsupportedError for a target of another kind."""
        if not isinstance(self.aim, UnitAim):
            raise UnsupportedError(
                "the target is not one unit a sample: leave out 'unit' among the outputs, and target_input"
            )
        return _Unit(self.ops, self.aim, self.read(self.aim.layer), self.given).units


class _Unit:
    """A unit for each sample, and where in its map; see ``UnitAim``.

    ``y`` has its samples first (a tensor of one sample is given such an axis), and its units along ``axis``.
    """

    def __init__(self, ops: TraceOps, aim: UnitAim, y: Traced, given: Traced | None) -> None:
        self.ops, self.aim, self.given, self.shape = ops, aim, given, y.shape
        alone = len(y.shape) == 1 and aim.batched  # a lone axis of samples, of one unit each
        self.axis = 1 if alone else aim.channel_axis + (not aim.batched)
        self.y = ops.reshape(y, (*y.shape, 1) if alone else y.shape if aim.batched else (1, *y.shape))
        self.spatial = tuple(i for i in range(1, len(self.y.shape)) if i != self.axis)

    @cached_property
    def units(self) -> Traced:
        """int64, one a sample."""
        known = self.aim.units
        if self.given is None and known is not None:
            if len(set(known)) == 1:
                return self.ops.expand(self.ops.constant(np.array(known[:1], np.int64)), (self.samples,))
            return self.ops.constant(np.array(known, np.int64))
        strongest = self.ops.argmax(self.ops.sum(self.y, self.spatial), 1)
        strongest = self.ops.reshape(strongest, (self.samples,))
        if self.given is None:
            return strongest
        # A node of its own: the primitive ``where`` is one of the working precision.
        chosen = [self.given < 0, strongest, self.given]
        return self.ops.emit("Where", chosen, (self.samples,), dtype=np.int64)

    @property
    def samples(self) -> int:
        return self.y.shape[0]

    @cached_property
    def ones(self) -> Traced:
        """1 (a mask's weights) at the target and 0 elsewhere, in a shape that broadcasts to the tensor's."""
        ones, places = self._at_units(), self._at_positions()
        ones.support = self._support()
        if places is not None:
            ones = ones * places
        elif self.aim.mean:
            ones = ones / float(np.prod([self.y.shape[axis] for axis in self.spatial]))
        if self.y.shape == self.shape:
            return ones
        return self.ops.reshape(self.ops.expand(ones, self.y.shape), self.shape)

    def _at_units(self) -> Traced:
        count, known = self.y.shape[self.axis], self.aim.units
        along = tuple(count if i == self.axis else 1 for i in range(len(self.y.shape)))
        if self.given is None and known is not None and len(set(known)) == 1:
            return self.ops.constant(np.eye(1, count, known[0]).reshape(along))
        return self._equal(self.ops.constant(np.arange(count).reshape(along)), self._column(self.units))

    def _support(self) -> Traced | None:
        """The one channel that counts, where it is the same for all samples."""
        if self.axis != 1 or self.y.shape != self.shape:
            return None
        known = self.aim.units
        if self.given is None and known is not None and len(set(known)) == 1:
            return self.ops.constant(np.array(known[:1], np.int64))
        return self.units if self.samples == 1 else None

    def _at_positions(self) -> Traced | None:
        """What each position counts; None for all of them alike."""
        positions = self.aim.positions
        if positions is None:
            return None
        if isinstance(positions, str):
            found = self._region() if positions == "region" else self._strongest()
        elif isinstance(positions, np.ndarray):
            found = self.ops.constant(np.expand_dims(np.asarray(positions, np.float64), self.axis))
        else:
            sides = [self.y.shape[axis] for axis in self.spatial]
            mask = np.zeros((self.samples, *sides))
            for i, position in enumerate(positions):
                mask[(i, *position)] = 1
            found = self.ops.constant(np.expand_dims(mask, self.axis))
        if self.aim.mean:
            found = found / self.ops.sum(self.ops.abs(found), self.spatial, keepdims=True)
        return found

    def _region(self) -> Traced:
        """Where the unit is the strongest of all: nowhere, maybe."""
        return self._equal(self.ops.argmax(self.y, self.axis), self._column(self.units))

    def _strongest(self) -> Traced:
        """The first position at which the unit is strongest."""
        sides = [self.y.shape[axis] for axis in self.spatial]
        maps = self.ops.sum(self.y * self._at_units(), (self.axis,))
        best = self.ops.argmax(self.ops.reshape(maps, (self.samples, int(np.prod(sides)))), 1)
        at_best = self._equal(self.ops.constant(np.arange(int(np.prod(sides)))[None]), best)
        sides.insert(self.axis - 1, 1)
        return self.ops.reshape(at_best, (self.samples, *sides))

    def _column(self, units: Traced) -> Traced:
        return self.ops.reshape(units, (self.samples, *(1,) * (len(self.y.shape) - 1)))

    def _equal(self, a: Traced, b: Traced) -> Traced:
        """1 where two arrays of indices agree, else 0."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self.ops.numbers(self.ops.emit("Equal", [a, b], shape, dtype=bool))
