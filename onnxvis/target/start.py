"""Where a way back starts: on arrays, or as part of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .aims import Aim, Array, UnitAim, Values
from .traced import TracedAim

if TYPE_CHECKING:
    from onnxvis.ops.trace import Traced, TraceOps

__all__ = ["Start"]

UNITS = "units"  # the input of a graph that says which unit each sample's is


@dataclass(frozen=True)
class Start:
    """The seeds of an aim: of ones, or with ``weight`` "logit" of the values there."""

    aim: Aim
    weight: str = "one"

    def __call__(self, values: Values) -> dict[str, Array]:
        """The seeds, from the values of a forward pass."""
        return self.aim.seeds(values, self.weight)

    @property
    def fixed(self) -> bool:
        """Whether the seeds depend on the shapes and dtypes of the values alone."""
        return self.aim.fixed and self.weight == "one"

    @property
    def key(self) -> Hashable | None:
        """Equal for those that one graph serves, whichever units they are of; None where no graph does.

        None too where sums over a map tell which unit is the strongest: other runtimes round them otherwise.
        """
        aim = self.aim
        if not isinstance(aim, UnitAim) or (aim.units is None and aim.rank > 2):
            return None
        if aim.positions is not None and not (isinstance(aim.positions, str) and aim.positions == "max"):
            return None
        units = (aim.layer, aim.channel_axis, aim.rank, aim.samples, aim.batched)
        return (*units, aim.positions, aim.mean, self.weight)

    @property
    def inputs(self) -> dict[str, Array]:
        """What the graph is given: the unit of each sample, −1 for the strongest."""
        aim = self._aim
        return {UNITS: np.array(aim.units or (-1,) * aim.samples, np.int64)}

    def traced(
        self, ops: TraceOps, read: Callable[[str], Traced], given: Mapping[str, Traced]
    ) -> dict[str, Traced]:
        """The seeds as part of a graph that ``reads`` the forward pass and is ``given`` the inputs."""
        return TracedAim(ops, replace(self._aim, units=None), read, given[UNITS])(self.weight)

    @property
    def _aim(self) -> UnitAim:
        assert isinstance(self.aim, UnitAim)
        return self.aim
