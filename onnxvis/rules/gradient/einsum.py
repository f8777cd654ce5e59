"""Einsum: sums of products over named axes, as in ``numpy.einsum``.

An *axis name* is a letter of the equation, or "…k" for the k-th last of the axes that an ellipsis
stands for.  A *factor* is an array with one name an axis, each once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnxvis.ops.primitives import Array
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step

Names = tuple[str, ...]
ELLIPSIS = "..."


@dataclass(frozen=True)
class Factor:
    """An array and the names of its axes."""

    array: Array
    names: Names


@rule("Einsum", needs="xs")
def einsum(step: Step, g: Array) -> tuple[Array | None, ...]:
    """To each operand the sum of products of g with all others, over the axes that it does not have."""
    terms, output = _equation(step)
    sizes = _sizes(step, terms)
    upstream = Factor(g, output)
    positions = range(len(terms))
    # Only what a wanted gradient multiplies with is read.
    factors = {
        i: _factor(step, i, terms[i], sizes)
        for i in positions
        if any(step.wants(j) for j in positions if j != i)
    }
    return tuple(
        _back(step, i, terms[i], [upstream, *(factors[j] for j in positions if j != i)], sizes)
        if step.wants(i)
        else None
        for i in positions
    )


# ---- the equation --------------------------------------------------------------------------------


def _equation(step: Step) -> tuple[list[Names], Names]:
    """Axis names of every operand and of the output."""
    inputs, arrow, output = step.attribute("equation").replace(" ", "").partition("->")
    terms = [_names(term, len(step.shape(i))) for i, term in enumerate(inputs.split(","))]
    if arrow:
        return terms, _names(output, len(step.output_shape()))
    every = [name for term in terms for name in term]
    stretched = {name for name in every if len(name) > 1}
    single = {name for name in every if len(name) == 1 and every.count(name) == 1}
    return terms, (*sorted(stretched, key=_place), *sorted(single))


def _names(term: str, rank: int) -> Names:
    before, dots, after = term.partition(ELLIPSIS)
    count = rank - len(before) - len(after) if dots else 0
    return (*before, *(f"…{k}" for k in range(count, 0, -1)), *after)


def _place(name: str) -> int:
    """Axes of an ellipsis from the first to the last."""
    return -int(name[1:])


def _sizes(step: Step, terms: Sequence[Names]) -> dict[str, int]:
    """The length of every named axis; operands may have 1 in its place."""
    sizes: dict[str, int] = {}
    for i, term in enumerate(terms):
        for name, n in zip(term, step.shape(i), strict=True):
            sizes[name] = n if sizes.get(name, 1) == 1 else sizes[name]
    return sizes


# ---- operands ------------------------------------------------------------------------------------


def _factor(step: Step, position: int, term: Names, sizes: dict[str, int]) -> Factor:
    """An operand, of a repeated axis the diagonal, without axes of length 1 that others stretch."""
    array: Array = step.input(position)
    names = list(term)
    for first, second in _repeated(term):
        array = _diagonal(step, array, first, second)
        del names[second]
    kept = [i for i, name in enumerate(names) if array.shape[i] == sizes[name]]
    return Factor(step.reshape(array, tuple(array.shape[i] for i in kept)), tuple(names[i] for i in kept))


def _repeated(term: Names) -> list[tuple[int, int]]:
    """Pairs of positions with the same name: of each the second goes, one pair after the other."""
    names, pairs = list(term), []
    second = 0
    while second < len(names):
        first = names.index(names[second])
        if first < second:
            pairs.append((first, second))
            del names[second]
        else:
            second += 1
    return pairs


def _diagonal(step: Step, x: Array, first: int, second: int) -> Array:
    """The diagonal of two axes, in place of the first."""
    n, rest = x.shape[first], [i for i in range(len(x.shape)) if i not in (first, second)]
    lead = tuple(x.shape[i] for i in rest)
    flat = step.reshape(step.transpose(x, (*rest, first, second)), (*lead, n * n))
    flat = step.slice(flat, (*(slice(None),) * len(rest), slice(None, None, n + 1)))
    return step.transpose(flat, (*range(first), len(rest), *range(first, len(rest))))


def _spread(step: Step, g: Array, first: int, second: int) -> Array:
    """Adjoint of ``_diagonal``: zeros beside the diagonal."""
    n, rank = g.shape[first], len(g.shape)
    rest = [i for i in range(rank) if i != first]
    lead = tuple(g.shape[i] for i in rest)
    g = step.transpose(g, (*rest, first))
    key = (*(slice(None),) * len(rest), slice(None, None, n + 1))
    g = step.reshape(step.unslice(g, key, (*lead, n * n)), (*lead, n, n))
    # Axes are (others, first, second): the two go back to where they were.
    order = list(range(rank - 1))
    order.insert(first, rank - 1)
    order.insert(second, rank)
    return step.transpose(g, order)


# ---- products ------------------------------------------------------------------------------------


def _back(step: Step, position: int, term: Names, factors: Sequence[Factor], sizes: dict[str, int]) -> Array:
    """The product of factors, summed or stretched to the axes of an operand."""
    shape, pairs = step.shape(position), _repeated(term)
    names, lengths = list(term), list(shape)
    for _, second in pairs:
        del names[second], lengths[second]
    own = [name for name, n in zip(names, lengths, strict=True) if n == sizes[name]]
    result = _product(step, factors, own)
    # An axis that no factor has was summed over in the forward pass: everything along it gets the same.
    found = step.reshape(result.array, _sized(names, result.names, sizes))
    g = step.expand(found, tuple(lengths))
    for first, second in reversed(pairs):
        g = _spread(step, g, first, second)
    return g


def _sized(names: Sequence[str], present: Sequence[str], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[name] if name in present else 1 for name in names)


def _product(step: Step, factors: Sequence[Factor], order: Sequence[str]) -> Factor:
    """The product of all factors, summed over axes that are not in ``order`` and transposed to it."""
    product, *others = factors
    for i, factor in enumerate(others):
        later = {name for other in others[i + 1 :] for name in other.names}
        product = _matmul(step, product, factor, later.union(order))
    product = _summed(step, product, order)
    names = tuple(name for name in order if name in product.names)
    return _ordered(step, product, names)


def _matmul(step: Step, a: Factor, b: Factor, kept: Iterable[str]) -> Factor:
    """The product of two factors, summed over the axes that are not kept: one matrix product."""
    a = _summed(step, a, {*kept, *b.names})
    b = _summed(step, b, {*kept, *a.names})
    both = [name for name in a.names if name in b.names]
    batch, inner = [n for n in both if n in kept], [n for n in both if n not in kept]
    rows = [name for name in a.names if name not in both]
    columns = [name for name in b.names if name not in both]
    left, right = _ordered(step, a, (*batch, *rows, *inner)), _ordered(step, b, (*batch, *inner, *columns))
    lead = left.array.shape[: len(batch)]
    high, wide = left.array.shape[len(batch) : len(batch) + len(rows)], right.array.shape[len(both) :]
    deep = math.prod(right.array.shape[len(batch) : len(both)])
    count = math.prod(lead)
    matrix = step.matmul(
        step.reshape(left.array, (count, math.prod(high), deep)),
        step.reshape(right.array, (count, deep, math.prod(wide))),
    )
    return Factor(step.reshape(matrix, (*lead, *high, *wide)), (*batch, *rows, *columns))


def _summed(step: Step, factor: Factor, kept: Iterable[str]) -> Factor:
    """Summed over the axes that are not kept."""
    axes = [i for i, name in enumerate(factor.names) if name not in kept]
    names = tuple(name for name in factor.names if name in kept)
    return Factor(step.sum(factor.array, axes), names) if axes else factor


def _ordered(step: Step, factor: Factor, names: Names) -> Factor:
    return Factor(step.transpose(factor.array, [factor.names.index(name) for name in names]), names)
