"""Uses of every primitive that is no sliding window, with what each must give by plain NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import special

Array = np.ndarray[Any, Any]
Use = Callable[..., Any]

RNG = np.random.default_rng(0)
X, Y, BATCH, COLUMN = (RNG.normal(size=shape) for shape in ((3, 4), (3, 4), (2, 3, 4), (3, 1)))
ONE, SCALAR = RNG.normal(size=(1, 1, 1)), np.array(1.5)
TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
NUMBERS, FLAGS, WHOLE = np.array([-2.0, 0.0, 3.0]), X > 0, slice(None)


class Expression(NamedTuple):
    """``use(ops, *arrays)`` must give ``formula(*arrays)``; the id starts with the primitive's name."""

    id: str
    use: Use
    formula: Use
    arrays: tuple[Array, ...]


def _elementwise() -> Iterator[Expression]:
    positive = abs(X) + 0.1
    for name, formula, x in (
        ("abs", lambda x: np.sqrt(x * x), X),
        ("exp", lambda x: np.e**x, X),
        ("log", lambda x: np.log2(x) / np.log2(np.e), positive),
        ("sqrt", lambda x: x**0.5, positive),
        ("tanh", lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1), X),
        ("sin", lambda x: np.exp(1j * x).imag, X),
        ("cos", lambda x: np.exp(1j * x).real, X),
        ("erf", lambda x: 2 * special.ndtr(x * 2**0.5) - 1, X),
        ("sigmoid", special.expit, 40 * X),
        ("positive", lambda x: (x + abs(x)) / 2, X),
        ("negative", lambda x: (x - abs(x)) / 2, X),
        ("sign", np.sign, NUMBERS),
        ("stabilize", lambda x: x + 1e-6 * (1 if x.flat[0] > 0 else -1), positive[:1]),
    ):
        for form, array in (("", x), (" one number", x[..., :1]), (" no axes", np.array(x.flat[0]))):
            yield Expression(name + form, lambda ops, x, n=name: getattr(ops, n)(x), formula, (array,))
    for form, a in (("", Y), ("stretched", COLUMN)):
        gated = lambda ops, g, x: ops.gate(g, x)  # noqa: E731
        rectified = lambda ops, g, x: ops.gate(g, x, rectified=True)  # noqa: E731
        for low, high in ((-0.4, 0.8), (-np.inf, 0.3), (-0.2, np.inf), (-np.inf, np.inf)):
            kept = lambda ops, g, x, low=low, high=high: ops.between(g, x, low, high)  # noqa: E731
            there = lambda g, x, low=low, high=high: g * (x > low) * (x < high)  # noqa: E731
            yield Expression(f"between {low} {high} {form}", kept, there, (X, a))
        yield Expression(f"gate {form}", gated, lambda g, x: g * (x > 0), (X, a))
        yield Expression(f"gate rectified {form}", rectified, lambda g, x: g * (x > 0) * (g > 0), (X, a))
        quotient = lambda ops, r, z: ops.quotient(r, z, 0.5)  # noqa: E731
        yield Expression(f"quotient {form}", quotient, lambda r, z: r / (z + 0.5 * np.sign(z)), (X, a))
        halves = lambda ops, x, y: 2.0 * ops.split(x)[0] - ops.split(y)[1]  # noqa: E731
        formula = lambda x, y: x + abs(x) - (y - abs(y)) / 2  # noqa: E731
        yield Expression(f"split {form}", halves, formula, (X, a))
        for count in (1, 2, 3):
            products = lambda ops, a, b, n=count: ops.sum_of_products(*[(a, b)] * n)  # noqa: E731
            formula = lambda a, b, n=count: n * a * b  # noqa: E731
            yield Expression(f"sum_of_products {count} {form}", products, formula, (X, a))
    for form, z in (("", Y), ("stretched", COLUMN)):
        for count in (1, 2, 3):
            shares = lambda ops, r, z, x, n=count: ops.proportions(r, z, [r, x, r][:n], 0.5)  # noqa: E731
            weighed = lambda *given, f=shares: sum(2.0**k * s for k, s in enumerate(f(*given)))  # noqa: E731
            whole = lambda r, x, n=count: sum([r, 2 * x, 4 * r][:n])  # noqa: E731
            formula = lambda r, z, x, f=whole: f(r, x) * r / (z + 0.5 * np.sign(z))  # noqa: E731
            yield Expression(f"proportions {count} {form}", weighed, formula, (X, z, BATCH[0]))
    for name, bias in (("alike", Y), ("stretched", COLUMN), ("of channels", COLUMN[None, :, 0, None])):
        data = (BATCH, BATCH + 1) if bias.ndim == 3 else (X, Y)
        biased = lambda ops, r, z, b: ops.quotient(r, z, 0.5, b)  # noqa: E731
        formula = lambda r, z, b: r / (z + b + 0.5 * np.sign(z + b))  # noqa: E731
        yield Expression(f"quotient biased {name}", biased, formula, (*data, bias))
    for count in (1, 2, 3):
        totals = lambda ops, a, b, n=count: ops.total([a, b, a][:n])  # noqa: E731
        formula = lambda a, b, n=count: sum([a, b, a][:n])  # noqa: E731
        yield Expression(f"total {count}", totals, formula, (X, Y))
    yield Expression("quotient by 0", lambda ops, r: ops.quotient(r, 0.0 * r, 0.5), lambda r: 2 * r, (X,))
    yield Expression(
        "stabilize around 0",
        lambda ops, x: ops.stabilize(x, 0.5),
        lambda x: np.array([-2.5, 0.5, 3.5]),
        (NUMBERS,),
    )


def _pairs() -> Iterator[Expression]:
    """Two operands: alike, stretched either way, a number on either side."""
    operands = (
        ("alike", (X, Y)), ("second stretched", (X, COLUMN)), ("first stretched", (COLUMN, BATCH)),
        ("ones", (X, ONE)), ("scalars", (SCALAR, SCALAR)), ("scalar first", (SCALAR, X)),
    )  # fmt: skip
    for name, use, formula, prepare in (
        ("add", lambda ops, a, b: a + b, operator.add, np.array),
        ("subtract", lambda ops, a, b: a - b, operator.sub, np.array),
        ("multiply", lambda ops, a, b: a * b, operator.mul, np.array),
        ("divide", lambda ops, a, b: a / b, operator.truediv, np.array),
        ("power", lambda ops, a, b: ops.power(a, b), operator.pow, np.abs),
        ("maximum", lambda ops, a, b: ops.maximum(a, b), lambda a, b: np.where(a > b, a, b), np.array),
        ("minimum", lambda ops, a, b: ops.minimum(a, b), lambda a, b: np.where(a < b, a, b), np.array),
    ):
        for form, (a, b) in operands:
            yield Expression(f"{name} {form}", use, formula, (prepare(a), b))
        by_number = (lambda ops, a, u=use: u(ops, a, 2)), (lambda a, f=formula: f(a, 2.0))
        yield Expression(f"{name} whole number", *by_number, (prepare(X),))
        by_zeros = (
            lambda ops, a, u=use: u(ops, a, ops.zeros((2, 3, 4))),
            lambda a, f=formula: f(a, np.zeros((2, 3, 4))),
        )
        if name != "divide":
            yield Expression(f"{name} zeros", *by_zeros, (prepare(X),))
    turned = lambda ops, x: 3 * (1 - 2.0 / (1.5 + x * x))  # noqa: E731
    yield Expression("operator reflected", turned, lambda x: 3 - 6 / (1.5 + x**2), (X,))
    yield Expression(
        "operator numpy numbers", lambda ops, x: x * np.float32(2) + 1, lambda x: 2 * x + 1, (X,)
    )
    yield Expression("operator unary", lambda ops, x: -x, lambda x: 0 - x, (X,))
    yield Expression("operator integers", lambda ops, x: x * 2 + 1, lambda x: 2 * x + 1, (np.arange(6),))


def _truths() -> Iterator[Expression]:
    comparisons = (operator.gt, operator.ge, operator.lt, operator.le, operator.eq)
    for compare in comparisons:
        name = f"compare {compare.__name__}"
        use, by_number = lambda ops, a, b, c=compare: c(a, b), lambda ops, a, c=compare: c(a, 2)
        yield Expression(name, use, compare, (TIES, TIES[:, 1:2]))
        yield Expression(f"{name} number", by_number, lambda a, c=compare: c(a, 2), (TIES,))
        yield Expression(f"{name} integers", by_number, lambda a, c=compare: c(a, 2), (np.arange(4),))
    logic = lambda x: ((x > 0) & ~(x > 1)) | (x < -1)  # noqa: E731
    yield Expression("logic", lambda ops, x: logic(x), logic, (X,))
    for form, x in (("bytes", np.arange(250, 256).astype(np.uint8)), ("flags", FLAGS), ("as they are", X)):
        as_numbers = lambda ops, x: ops.numbers(x) * 0.5  # noqa: E731
        yield Expression(f"numbers {form}", as_numbers, lambda x: np.where(x, x / 2, 0.0), (x,))
    signed = np.array([-3, 0, 5], np.int8)
    above = lambda ops, x: ops.positive(ops.numbers(x)) - ops.negative(ops.numbers(x))  # noqa: E731
    yield Expression("numbers with a sign", above, lambda x: np.array([3.0, 0.0, 5.0]), (signed,))
    yield Expression("logic of numbers", lambda ops, c: c & True, lambda c: c, (FLAGS,))
    yield Expression("where", lambda ops, c, a, b: ops.where(c, a, b), np.where, (FLAGS, X, Y))
    yield Expression(
        "where else 0", lambda ops, c, a: ops.where(c, a), lambda c, a: np.where(c, a, 0), (FLAGS, X)
    )
    yield Expression(
        "where numbers", lambda ops, c: ops.where(c, 1, -2), lambda c: np.where(c, 1.0, -2.0), (FLAGS,)
    )
    for form, c, a in (
        ("choice", FLAGS, COLUMN),
        ("condition", COLUMN > 0, BATCH),
        ("both", FLAGS[:1], COLUMN),
    ):
        use = lambda ops, c, a: ops.where(c, a, 0.0)  # noqa: E731
        yield Expression(f"where {form} stretched", use, lambda c, a: np.where(c, a, 0.0), (c, a))


def _axes() -> Iterator[Expression]:
    for axes in ((0,), (2,), (0, 2), (0, 1, 2), ()):
        for keep in (False, True):
            use = lambda ops, x, a=axes, k=keep: ops.sum(x, a, k)  # noqa: E731
            yield Expression(
                f"sum {axes} {keep}", use, lambda x, a=axes, k=keep: x.sum(a, keepdims=k), (BATCH,)
            )
    yield Expression("sum of one", lambda ops, x: ops.sum(x, [0, 2]), lambda x: x.reshape(1), (ONE,))
    mean = lambda ops, x: ops.mean(x, [1, 2], keepdims=True)  # noqa: E731
    yield Expression("mean", mean, lambda x: x.mean((1, 2), keepdims=True), (BATCH,))
    yield Expression("argmax rows", lambda ops, x: ops.argmax(x, 1), lambda x: np.array([[1], [0]]), (TIES,))
    yield Expression(
        "argmax columns", lambda ops, x: ops.argmax(x, 0), lambda x: np.array([[1, 0, 0]]), (TIES,)
    )
    unbroadcast = lambda shape: lambda ops, g: ops.unbroadcast(g, shape)  # noqa: E731
    yield Expression("unbroadcast", unbroadcast((3, 1)), lambda g: g.sum((0, 2))[:, None], (BATCH,))
    yield Expression("unbroadcast to no axes", unbroadcast(()), np.sum, (BATCH,))
    yield Expression("unbroadcast one", unbroadcast((1,)), np.ravel, (ONE,))


def _moves() -> Iterator[Expression]:
    for form, x, shape in (
        ("", BATCH, (4, 6)), ("to no axes", ONE, ()), ("from no axes", SCALAR, (1, 1)), ("alike", X, (3, 4)),
        ("of flags", FLAGS, (12,)),
    ):  # fmt: skip
        reshape = lambda ops, x, s=shape: ops.reshape(x, s)  # noqa: E731
        yield Expression(f"reshape {form}", reshape, lambda x, s=shape: x.reshape(s), (x,))
    moved = lambda x: np.moveaxis(x, 2, 0)  # noqa: E731
    yield Expression("transpose", lambda ops, x: ops.transpose(x, (2, 0, 1)), moved, (BATCH,))
    yield Expression("transpose alike", lambda ops, x: ops.transpose(x, (0, 1)), lambda x: x, (X,))
    for form, x in (("", COLUMN), ("of flags", FLAGS), ("one", ONE), ("no axes", SCALAR), ("alike", BATCH)):
        expand = lambda ops, x: ops.expand(x, (2, 3, 4))  # noqa: E731
        yield Expression(f"expand {form}", expand, lambda x: (x * np.ones((2, 3, 4))).astype(x.dtype), (x,))
    beside = lambda ops, a, b: ops.concat([a, b, a], 1)  # noqa: E731
    yield Expression("concat", beside, lambda a, b: np.hstack([a, b, a]), (X, COLUMN))
    yield Expression("concat one", lambda ops, a: ops.concat([a], 0), lambda a: a, (X,))
    yield Expression("zeros", lambda ops, x: x - ops.zeros((2, 3, 4)), lambda x: np.stack([x, x]), (X,))
    yield Expression("constant", lambda ops, x: ops.constant(Y) - x, lambda x: Y - x, (X,))
    yield Expression(
        "constant no axes", lambda ops, x: ops.constant(SCALAR) - x, lambda x: SCALAR - x, (SCALAR,)
    )
    product = lambda ops, a, b: ops.matmul(a, b)  # noqa: E731
    yield Expression("matmul", product, lambda a, b: np.einsum("ij,jk->ik", a, b), (X, Y.T))
    yield Expression("matmul stretched", product, lambda a, b: np.einsum("nij,jk->nik", a, b), (BATCH, Y.T))


def _cuts() -> Iterator[Expression]:
    for form, shape, key in (
        ("range", (5, 4), (slice(1, 4), WHOLE)),
        ("step", (7, 4), (slice(1, 7, 2), slice(0, 4, 3))),
        ("step over the end", (5, 4), (slice(0, 5, 4), slice(3, 4, 2))),
        ("reversed", (5, 4), (slice(None, None, -1), WHOLE)),
        ("reversed step", (7, 4), (slice(5, None, -2), slice(None, None, -3))),
        ("reversed part", (7, 4), (slice(5, 1, -1), WHOLE)),
        ("negative ends", (6, 4), (slice(-4, -1), slice(-3, 100))),
        ("axis of one", (1, 4), (slice(0, 1), slice(2, 3))),
        ("three axes", (2, 5, 4), (slice(1, 2), slice(0, 5, 2), slice(3, None, -1))),
        ("everything", (3, 4), (WHOLE, slice(0, 4))),
        ("no axes", (), ()),
    ):
        x = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
        yield Expression(f"slice {form}", lambda ops, x, k=key: ops.slice(x, k), lambda x, k=key: x[k], (x,))
        unslice = lambda ops, g, k=key, s=shape: ops.unslice(g, k, s)  # noqa: E731
        yield Expression(
            f"unslice {form}", unslice, lambda g, k=key, s=shape: _written(g, k, s), (x[key] + 0.5,)
        )


def _rows() -> Iterator[Expression]:
    for form, rows in (
        ("", np.array([2, 0])),
        ("repeated", np.array([1, 2, 1, 1])),
        ("from the end", np.array([-1, 0, -3])),
        ("repeated from the end", np.array([2, -1])),
        ("int32", np.array([2, 0, 2], np.int32)),
        ("one", np.array([1])),
    ):
        by_hand = lambda x, rows: np.stack([x[row] for row in rows])  # noqa: E731
        yield Expression(f"take {form}", lambda ops, x, rows: ops.take(x, rows), by_hand, (X, rows))
        fixed = lambda ops, x, r=rows: ops.take(x, ops.constant(r))  # noqa: E731
        yield Expression(f"take fixed {form}", fixed, lambda x, r=rows: x[r], (X,))
        g, put = np.resize(Y, (len(rows), 4)), lambda ops, g, rows: ops.put(g, rows, 3)
        yield Expression(f"put {form}", put, _added, (g, rows))
        fixed = lambda ops, g, r=rows: ops.put(g, ops.constant(r), 3)  # noqa: E731
        yield Expression(f"put fixed {form}", fixed, lambda g, r=rows: _added(g, r), (g,))


def _added(g: Array, rows: Array) -> Array:
    result = np.zeros((3, 4))
    for row, numbers in zip(rows, g, strict=True):
        result[row] += numbers
    return result


def _written(g: Array, key: tuple[slice, ...], shape: tuple[int, ...]) -> Array:
    """Zeros with g at ``key``, number by number."""
    result = np.zeros(shape)
    places = [range(n)[part] for part, n in zip(key, shape, strict=True)]
    for at in np.ndindex(*g.shape):
        result[tuple(place[i] for place, i in zip(places, at, strict=True))] = g[at]
    return result


EXPRESSIONS = [*_elementwise(), *_pairs(), *_truths(), *_axes(), *_moves(), *_cuts(), *_rows()]
