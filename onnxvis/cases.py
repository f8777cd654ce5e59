"""From samples and a target to cases, which methods explain, and from what came of them to an Explanation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .cache import kept
from .explanation import Explanation
from .inputs import Batch, batches, main_input
from .pictures import Bounds, Pictures
from .target import Aim, Target, Wanted, find_aim, settled, tensors_of
from .taxonomy import Case, MethodInfo, Outcome

if TYPE_CHECKING:
    from .engine.engine import Engine
    from .model import Model

__all__ = ["Cases", "concatenated"]

Array = np.ndarray[Any, Any]


class Cases:
    """Those of one model."""

    AIMS = 64  # targets that are known, for inputs of some shapes

    def __init__(self, model: Model) -> None:
        self.model = model
        self._aims: OrderedDict[Hashable, Aim] = OrderedDict()

    def explanation(
        self,
        info: MethodInfo,
        name: str,
        settings: Mapping[str, Any],
        singly: bool,
        batch: Batch,
        wanted: Wanted,
    ) -> Explanation:
        """Samples explained by the input ``name``, in the batches that the model takes, or ``singly``."""
        side_by_side = self.model.engine.side_by_side
        engine = side_by_side.engine if singly else self.model.engine
        parts = batches(batch, self.model.inputs, singly)
        made = partial(self._explanation, info, name, settings, batch, wanted)
        early: list[tuple[Outcome, Explanation]] = []

        def told(outcome: Outcome) -> None:
            early.append((outcome, made([outcome])))

        def explained(part: tuple[slice, Batch]) -> Outcome:
            where, samples = part
            tell = told if len(parts) == 1 else None
            case = self.case(samples, name, wanted, where, batch.samples, engine, tell)
            return cast(Outcome, info.run(case, **settings))

        outcomes = [*(side_by_side.run(explained, parts) if singly else map(explained, parts))]
        for outcome, explanation in early:
            if outcome is outcomes[0]:  # and no other that the method made of it
                return explanation
        return made(outcomes)

    def _explanation(
        self,
        info: MethodInfo,
        name: str,
        settings: Mapping[str, Any],
        batch: Batch,
        wanted: Wanted,
        outcomes: Sequence[Outcome],
    ) -> Explanation:
        """Of what came of the batch's parts; the numbers of their values are not looked at."""
        target = settled(wanted, [outcome.aim for outcome in outcomes])
        values = concatenated([outcome.values for outcome in outcomes])
        return Explanation(
            values=values.astype(np.float64 if values.dtype == np.float64 else np.float32, copy=False),
            target=target,
            score=concatenated([outcome.score for outcome in outcomes]),
            method=info.name,
            settings={**info.settings, **settings},
            shows=info.shows,
            input_shape=batch.feeds[name].shape,
            channel_axis=self._pictures.channel_axis(name),
            layer=outcomes[0].layer,
            pictures=batch.pictures if name == main_input(self.model.inputs).name else (),
            inputs=batch.feeds[name],
            preprocess=self.model.preprocess,
            labels=self.labels(target),
        )

    def labels(self, target: Wanted) -> Sequence[str]:
        """Names of the units of a target, where they are those of the classes."""
        return self.model.labels if self.model.names.scores.issuperset(tensors_of(target)) else ()

    def case(
        self,
        batch: Batch,
        name: str,
        target: Wanted,
        part: slice | None = None,
        samples: int | None = None,
        engine: Engine | None = None,
        told: Callable[[Outcome], object] | None = None,
    ) -> Case:
        """One batch to explain, the ``part`` of all ``samples`` (None: it is all), with the target found."""
        engine = engine or self.model.engine
        if part is None or samples is None:
            part, samples = slice(0, batch.samples), batch.samples
        aim = self._aim(engine, batch.feeds, target, part, samples)
        return Case(engine, batch.feeds, name, aim, partial(self._bounds, batch, name), told)

    def _bounds(self, batch: Batch, name: str) -> Bounds | None:
        """What the input ``name`` can hold, where it is known how pictures become one."""
        known = bool(batch.pictures) or self.model.preprocess_source != "default"
        return self._pictures.bounds(batch.feeds[name], name) if known else None

    @property
    def _pictures(self) -> Pictures:
        return Pictures(self.model.engine.file_graph, self.model.preprocess)

    def _aim(
        self, engine: Engine, feeds: Mapping[str, Array], target: Wanted, part: slice, samples: int
    ) -> Aim:
        """The target found in the graph: in inputs of the same shapes it is not looked for again."""

        def look() -> Aim:
            graph = engine.specialized(feeds, tensors_of(target))
            return find_aim(target, graph, part, samples, lambda names: engine.run(feeds, names))

        key = target.key if isinstance(target, Target) else None
        if key is None:
            return look()
        shapes = [(name, array.shape) for name, array in feeds.items()]
        return kept(self._aims, (key, part.start, part.stop, samples, *shapes), self.AIMS, look)


def concatenated(parts: list[Any]) -> Any:
    """Arrays of several batches as one; sequences of maps as one list."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) and part.ndim for part in parts):
        return np.concatenate(parts)
    return (
        [entry for part in parts for entry in part]
        if all(isinstance(part, list) for part in parts)
        else parts
    )
