"""What a target becomes when the input is changed: many changes, some of them run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from onnxvis.engine.engine import Engine, Seeds
from onnxvis.errors import UsageError
from onnxvis.target import inner
from onnxvis.taxonomy.registry import Array, Case

__all__ = ["scores"]

T = TypeVar("T")


def scores(
    case: Case, seeds: Seeds, changes: Sequence[T], changed: Callable[[T], Array], batch: int, method: str
) -> Iterator[tuple[T, Array]]:
    """Each change, and the target's value for every sample of the ``changed`` input.

    ``seeds``: what the target counts, by tensor.  ``batch``: changed inputs that run at a time, shared out
    to the threads (where the model takes a fixed number, or there are more threads, one on each).
    ``method``: who asks, for messages.
    """
    from tqdm import tqdm

    samples, apart = len(case.x), case.engine.side_by_side
    per_run = max(1, batch // samples // apart.threads) if case.engine.free_batch else 1

    def inputs() -> Iterator[tuple[Sequence[T], Seeds]]:
        for start in range(0, len(changes), per_run):
            chunk = changes[start : start + per_run]
            feeds = {name: _repeat(array, len(chunk)) for name, array in case.feeds.items()}
            yield chunk, {**feeds, case.input: np.concatenate([changed(change) for change in chunk])}

    def scored(given: tuple[Sequence[T], Seeds]) -> tuple[Sequence[T], Array]:
        chunk, feeds = given
        return chunk, _scores(apart.engine, seeds, feeds, samples, len(chunk), method)

    # Progress is shown on a terminal, after 1 s.
    with tqdm(desc=method, total=len(changes), disable=None, leave=False, delay=1) as bar:
        for chunk, found in apart.run(scored, inputs()):
            yield from zip(chunk, found.reshape(len(chunk), samples), strict=True)
            bar.update(len(chunk))


def _repeat(array: Array, times: int) -> Array:
    return np.concatenate([array] * times) if times > 1 else array


def _scores(engine: Engine, seeds: Seeds, feeds: Seeds, samples: int, copies: int, method: str) -> Array:
    """⟨seed, tensor⟩ for each sample of each copy."""
    record = engine.run(feeds, seeds)
    for name, seed in seeds.items():
        expected = (len(seed) * copies, *seed.shape[1:])
        if record[name].shape != expected:
            raise UsageError(
                f"{name!r} has shape {record[name].shape} for {copies} changed inputs at a time, where "
                f"{expected} was expected; {method} with batch=1 runs them one by one"
            )
    return inner({name: _repeat(seed, copies) for name, seed in seeds.items()}, record, copies * samples)
