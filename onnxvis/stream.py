"""Samples that come one after another, explained in batches where they fit together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .errors import TargetError
from .explanation import Explanation
from .inputs import Array, Batch
from .overlap import Failure, drawn
from .target import Wanted, number_of_targets, selected

__all__ = ["Stream"]


@dataclass(frozen=True)
class Stream:
    """Explains samples as they come, in batches of neighbours that have the same shapes.

    ``explain`` makes an Explanation of a batch and its target, as a batch or ``singly``, as is better for
    batches like a sample's.  ``size``: samples in a batch.  Sessions are compiled for one number of samples:
    what is less than a batch is filled up with its last sample (unless it goes singly) where whole ones have
    gone before, or where the model takes no other number (``fixed``); else it goes one by one.
    """

    explain: Callable[[bool, Batch, Wanted], Explanation]
    singly: Callable[[Mapping[str, Array]], bool]
    target: Wanted
    size: int = 1
    fixed: bool = False

    def __call__(self, samples: Iterable[Batch]) -> Iterator[Explanation]:
        """An Explanation a sample, in order; TargetError where there are more or fewer than targets."""
        targets = number_of_targets(self.target)
        start, compiled = 0, set[Hashable]()
        for group in self._groups(samples):
            numbers = range(start, start + len(group))
            start = numbers.stop
            if targets is not None and start > targets:
                raise TargetError(f"there are {targets} targets and more pictures: give one for each")
            if len(group) == self.size:
                compiled.add(_shapes(group[0]))
            if self.size > 1 and (self.fixed or _shapes(group[0]) in compiled):
                yield from self._together(group, numbers)
            else:
                for sample, number in zip(group, numbers, strict=True):
                    yield self.explain(False, sample, selected(self.target, [number]))
        if targets is not None and start < targets:
            raise TargetError(f"there are {targets} targets and only {start} pictures: give one for each")

    def _groups(self, samples: Iterable[Batch]) -> Iterator[list[Batch]]:
        """Neighbours of the same shapes; what precedes an error is not lost to it."""
        group: list[Batch] = []
        for sample in drawn(samples):
            if group and (isinstance(sample, Failure) or _shapes(sample) != _shapes(group[0])):
                yield group
                group = []
            if isinstance(sample, Failure):
                raise sample.error
            group.append(sample)
            if len(group) == self.size:
                yield group
                group = []
        if group:
            yield group

    def _together(self, group: list[Batch], numbers: range) -> Iterator[Explanation]:
        singly = self.singly(group[0].feeds)
        missing = 0 if singly else self.size - len(group)
        filled = [*group, *[group[-1]] * missing]
        target = selected(self.target, [*numbers, *[numbers[-1]] * missing])
        feeds = {name: np.concatenate([part.feeds[name] for part in filled]) for name in filled[0].feeds}
        pictures = tuple(picture for part in filled for picture in part.pictures)
        found = self.explain(singly, Batch(feeds, pictures), target)
        yield from (found.sample(i) for i in range(len(group)))


def _shapes(sample: Batch) -> Hashable:
    """What neighbours must have in common; pictures and arrays are not mixed, the ones have photos."""
    return bool(sample.pictures), *((name, array.shape) for name, array in sample.feeds.items())
