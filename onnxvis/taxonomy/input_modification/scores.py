"""What a target becomes when the input is changed: many changes, some of them run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from onnxvis.engine.engine import Seeds
from onnxvis.errors import UsageError
from onnxvis.target import inner
from onnxvis.taxonomy.registry import Array, Case

__all__ = ["scores"]

T = TypeVar("T")


def scores(
    case: Case, seeds: Seeds, changes: Sequence[T], changed: Callable[[T], Array], batch: int, method: str
) -> Iterator[tuple[T, Array]]:
    """Each change, and the target's value for every sample of the ``changed`` input.

    ``seeds``: what the target counts, by tensor.  ``batch``: changed inputs run at a time, where the model
    takes any number.  ``method``: who asks, for messages.
    """
    from tqdm import tqdm

    samples = len(case.x)
    per_run = max(1, batch // samples) if case.engine.free_batch else 1
    starts = range(0, len(changes), per_run)
    for start in tqdm(starts, method, disable=None, leave=False, delay=1):  # on a terminal, after 1 s
        chunk = changes[start : start + per_run]
        inputs = np.concatenate([changed(change) for change in chunk])
        feeds = {name: _repeat(array, len(chunk)) for name, array in case.feeds.items()}
        found = _scores(case, seeds, {**feeds, case.input: inputs}, len(chunk), method)
        yield from zip(chunk, found.reshape(len(chunk), samples), strict=True)


def _repeat(array: Array, times: int) -> Array:
    return np.concatenate([array] * times) if times > 1 else array


def _scores(case: Case, seeds: Seeds, feeds: Seeds, copies: int, method: str) -> Array:
    """⟨seed, tensor⟩ for each sample of each copy."""
    record = case.engine.run(feeds, seeds)
    for name, seed in seeds.items():
        expected = (len(seed) * copies, *seed.shape[1:])
        if record[name].shape != expected:
            raise UsageError(
                f"{name!r} has shape {record[name].shape} for {copies} changed inputs at a time, where "
                f"{expected} was expected; {method} with batch=1 runs them one by one"
            )
    return inner({name: _repeat(seed, copies) for name, seed in seeds.items()}, record, copies * len(case.x))
