"""What is traced gives the numbers that the host executor gives; what is known is not written down."""

import numpy as np
import pytest

from onnxvis.engine import tracing
from onnxvis.ops.host import HostOps
from onnxvis.ops.trace import NotTraceableError, Traced, TraceOps
from onnxvis.ops.window import Window
from ops import windows
from ops.expressions import EXPRESSIONS
from ops.test_host import operands
from ops.tracing import inputs, run, traced

HOST = HostOps(np.float32)


def single(*arrays):
    return [np.asarray(a, np.float32) if a.dtype == np.float64 else a for a in arrays]


def close(ours, theirs, tolerance=2e-5):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if ours.dtype.kind in "bi":
        assert (ours == theirs).all()
    else:
        assert abs(ours - theirs).max(initial=0) <= tolerance * abs(theirs).max(initial=1e-30)


def alike(function, *arrays):
    """``function(ops, *arrays)`` traced and on the host: with inputs, and with constants."""
    arrays = single(*arrays)
    on_host = np.asarray(function(HOST, *arrays))
    close(traced(function, *arrays), on_host)
    ops = TraceOps()
    folded = function(ops, *map(ops.constant, arrays))
    close(run([], folded, []), on_host)


# ---- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: e.id.strip())
def test_expression(expression):
    alike(expression.use, *expression.arrays)


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_weight"])
@pytest.mark.parametrize("group", [1, 2])
def test_convolution(name, group):
    rng = np.random.default_rng(4)
    for window in windows.random_windows(40, seed=1):
        x, w, g = operands(window, group, rng)
        chosen = {"conv": (x, w), "conv_transpose": (g, w), "conv_weight": (x, g)}[name]
        alike(lambda ops, *a, n=name, s=window: getattr(ops, n)(*a, s, group), *chosen)


@pytest.mark.parametrize("group", [1, 2])
def test_convolutions_of_pairs(group):
    rng = np.random.default_rng(8)
    for window in windows.random_windows(10, seed=3):
        (x, v, g), (y, w, _) = (operands(window, group, rng) for _ in range(2))
        arrays = map(abs, (g, x, v, y, w))  # of one sign, or a quotient may be that of rounding
        alike(lambda ops, g, x, v, y, w, s=window: ops.conv_quotient(g, [(x, v), (y, w)], s, group), *arrays)
        alike(
            lambda ops, g, x, v, y, w, s=window: ops.conv_transpose_product(g, [(x, v), (y, w)], s, group),
            *(g, x, v, y, w),
        )
        alike(lambda ops, *a, s=window: ops.conv_transpose_onto(*a, s, group), y, g, w)
        for gate in ("gradient", "guided", "deconvnet"):
            alike(
                lambda ops, x, y, g, w, s=window, n=gate: ops.conv_transpose_gated(n, x, y, g, w, s, group),
                *(x, y, g, w),
            )
        alike(
            lambda ops, o, g, x, w, s=window: ops.conv_transpose_product_onto(o, g, [(x, w)], s, group),
            *(y, g, x, w),
        )


@pytest.mark.parametrize("name", ["window_sum", "window_spread"])
def test_window(name):
    rng = np.random.default_rng(5)
    for window in windows.random_windows(60, seed=2):
        size = window.size_in if name == "window_sum" else window.size_out
        alike(lambda ops, x, n=name, s=window: getattr(ops, n)(x, s), rng.normal(size=(2, 3, *size)))


@pytest.mark.parametrize("ties", [False, True])
def test_max_route(ties):
    rng = np.random.default_rng(6)
    for window in windows.random_windows(40, pooling=True, seed=3):
        x = rng.normal(size=(2, 3, *window.size_in)) - 2
        x = np.round(x) if ties else x
        g = rng.normal(size=(2, 3, *window.size_out))
        close(
            *(f(lambda ops, g, x, s=window: ops.max_route(g, x, s), *single(g, x)) for f in (traced, hosted))
        )


def hosted(function, *arrays):
    return function(HOST, *arrays)


def test_max_route_with_padding_as_wide_as_the_kernel():
    """By ceil_mode with dilation; onnxruntime's own MaxPool would refuse it."""
    window = Window((2,), (3,), (3,), (0,), (8,), (3,))
    assert window.after == (2,)
    rng = np.random.default_rng(3)
    alike(
        lambda ops, g, x: ops.max_route(g, x, window),
        rng.standard_normal((2, 3, 3)),
        rng.standard_normal((2, 3, 8)),
    )


@pytest.mark.parametrize("ties", [False, True])
def test_back_through_a_maximum(ties):
    rng = np.random.default_rng(5)
    for window in (
        Window((3, 3), (2, 2), (1, 1), (1, 1), (9, 10), (5, 5)),
        Window((2, 2), (2, 2), (1, 1), (0, 0), (7, 8), (3, 4)),
        Window((2, 3), (3, 1), (1, 2), (0, 2), (8, 9), (3, 9)),
        Window((1, 2), (2, 3), (1, 1), (0, 0), (5, 11), (3, 4)),
        Window((3, 2), (4, 1), (3, 2), (2, 1), (11, 6), (2, 6)),
        Window((13, 5), (1, 1), (1, 1), (6, 2), (6, 5), (6, 5)),
        Window((6, 5), (1, 1), (1, 1), (0, 0), (6, 5), (1, 1)),
        Window((2, 3, 2), (2, 2, 2), (1, 1, 2), (0, 1, 1), (4, 5, 6), (2, 3, 3)),
        Window((3,), (2,), (1,), (1,), (9,), (5,)),
    ):
        g, x = maxima(rng, window, 3, ties)
        alike(lambda ops, g, x, window=window: ops.max_route(g, x, window), g, x)


@pytest.mark.parametrize("channels", [1, 16, 34, 37])
@pytest.mark.parametrize(
    "window",
    [
        Window((3, 3), (2, 2), (1, 1), (0, 0), (11, 13), (5, 6)),  # odd sizes: the last column is alone
        Window((3, 3), (2, 2), (1, 1), (0, 0), (12, 10), (6, 5)),  # ceil_mode
        Window((3, 3), (1, 1), (1, 1), (1, 1), (7, 5), (7, 5)),
        Window((2, 2), (2, 2), (1, 1), (0, 0), (6, 8), (3, 4)),  # tiles, four columns at once
        Window((2, 2), (2, 2), (1, 1), (0, 0), (6, 6), (3, 3)),  # tiles, two columns at once
        Window((5, 3), (5, 3), (1, 1), (0, 0), (12, 9), (2, 3)),
        Window((1, 2), (1, 4), (1, 1), (0, 1), (3, 2), (3, 1)),
        Window((2, 2), (4, 5), (1, 1), (1, 1), (7, 3), (2, 1)),
    ],
)
def test_back_through_a_maximum_of_many_channels(channels, window):
    g, x = maxima(np.random.default_rng(7), window, channels, ties=True)
    alike(lambda ops, g, x: ops.max_route(g, x, window), g, x)


def maxima(rng, window, channels, ties):
    """What arrives at the maxima, and what they are of."""
    x = rng.standard_normal((2, channels, *window.size_in))
    return rng.standard_normal((2, channels, *window.size_out)), np.round(x) if ties else x


@pytest.mark.parametrize("rectified", [False, True])
def test_a_gate_behind_a_maximum_is_at_the_maximum(rectified):
    rng = np.random.default_rng(4)
    for window in windows.random_windows(20, pooling=True, seed=4):
        x = np.round(rng.normal(size=(2, 3, *window.size_in)))
        g = rng.normal(size=(2, 3, *window.size_out))
        alike(lambda ops, g, x, s=window: ops.gate(ops.max_route(g, x, s), x, rectified), g, x)
        ops = TraceOps()
        given = inputs(ops, single(g, x))
        gated = ops.gate(ops.max_route(*given, window), given[1], rectified)
        assert (given[1].name,) not in [
            node.inputs for node in alive(ops, gated) if node.op_type == "HardSigmoid"
        ]


def test_a_gate_behind_the_maximum_of_something_else():
    rng = np.random.default_rng(4)
    window = Window((2, 2), (2, 2), (1, 1), (0, 0), (4, 4), (2, 2))
    arrays = (rng.normal(size=(2, 3, n, n)) for n in (2, 4, 4))
    alike(lambda ops, g, x, y: ops.gate(ops.max_route(g, x, window), y), *arrays)


def alive(ops, result):
    """The nodes that a result depends on."""
    return tracing.alive(ops.nodes, [result.name])


def test_negative_padding_in_front_is_cut_off():
    """As in the adjoint of a pointwise convolution with padding."""
    window = Window((1, 2), (1, 1), (1, 1), (2, 1), (3, 4), (7, 5))
    rng = np.random.default_rng(7)
    alike(
        lambda ops, g, w: ops.conv_transpose(g, w, window),
        rng.normal(size=(2, 3, 7, 5)),
        rng.normal(size=(3, 2, 1, 2)),
    )


def test_windows_that_end_before_the_input_begins():
    window = Window((1, 2), (5, 1), (1, 1), (3, 0), (2, 3), (1, 2))
    assert window.blind
    rng = np.random.default_rng(8)
    x, w, g = (rng.normal(size=shape) for shape in ((1, 2, 2, 3), (3, 2, 1, 2), (1, 3, 1, 2)))
    alike(lambda ops, x, w: ops.conv(x, w, window), x, w)
    alike(lambda ops, g, w: ops.conv_transpose(g, w, window), g, w)
    alike(lambda ops, x: ops.window_sum(x, window), x)
    alike(lambda ops, g: ops.window_spread(g, window), g)


def test_double_precision():
    x = np.array([1.0, 1e-12])
    np.testing.assert_array_equal(traced(lambda ops, x: x + 1.0, x, dtype=np.float64), x + 1.0)


def test_other_floating_dtypes_are_cast():
    ops = TraceOps()
    (half,) = inputs(ops, [np.ones(3, np.float16)])
    assert ops.working(half).dtype == np.float32
    close(run([half], ops.working(half) * 0.1, [np.ones(3, np.float16)]), np.full(3, 0.1, np.float32))


# ---- what is not written down --------------------------------------------------------------------


@pytest.fixture
def ops():
    return TraceOps()


@pytest.fixture
def x(ops):
    (x,) = inputs(ops, [np.zeros((1, 2, 3, 3), np.float32)])
    return x


WINDOW = Window((2, 2), (1, 1), (1, 1), (0, 0), (3, 3), (2, 2))
KERNEL = lambda ops: ops.constant(np.ones((2, 2, 2, 2)))  # noqa: E731
KEY, WIDER = (slice(1, 3), slice(2, None, -2)), (slice(0, 2), slice(0, 3, 2))
ROWS = lambda ops: ops.constant(np.array([2, 0, 2]))  # noqa: E731
ZEROED = {
    "multiply": lambda ops, x, zero: x * zero,
    "multiply from the left": lambda ops, x, zero: zero * x,
    "divide": lambda ops, x, zero: zero / x,
    "where": lambda ops, x, zero: ops.where(x > 0, zero),
    "sum": lambda ops, x, zero: ops.sum(zero * x, [1]),
    "reshape": lambda ops, x, zero: ops.reshape(zero * x, (9, 2)),
    "transpose": lambda ops, x, zero: ops.transpose(zero, (1, 0, 3, 2)),
    "expand": lambda ops, x, zero: ops.expand(zero, (4, 2, 3, 3)),
    "concat": lambda ops, x, zero: ops.concat([zero, zero], 1),
    "slice": lambda ops, x, zero: ops.slice(zero, (slice(None),) * 3 + (slice(1, 2),)),
    "unslice": lambda ops, x, zero: ops.unslice(zero, (slice(0, 1),) * 4, (2, 2, 3, 3)),
    "take": lambda ops, x, zero: ops.take(ops.zeros((4, 2)), ops.indices([3, 1])),
    "put": lambda ops, x, zero: ops.put(ops.zeros((2, 4)), ops.indices([3, 1]), 5),
    "matmul": lambda ops, x, zero: ops.matmul(x, zero),
    "conv": lambda ops, x, zero: ops.conv(x, ops.zeros((2, 2, 2, 2)), WINDOW),
    "conv of zeros": lambda ops, x, zero: ops.conv(zero, KERNEL(ops), WINDOW),
    "conv_transpose": lambda ops, x, zero: ops.conv_transpose(ops.zeros((1, 2, 2, 2)), KERNEL(ops), WINDOW),
    "window_spread": lambda ops, x, zero: ops.window_spread(ops.zeros((1, 2, 2, 2)), WINDOW),
    "max_route": lambda ops, x, zero: ops.max_route(ops.zeros((1, 2, 2, 2)), x, WINDOW),
    "negative half of a ReLU": lambda ops, x, zero: ops.negative(ops.positive(x)),
    "positive half of what is negative": lambda ops, x, zero: ops.positive(-ops.positive(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", ZEROED)
def test_zeros_vanish(name, ops, x):
    result = ZEROED[name](ops, x, ops.zeros((1, 2, 3, 3)))
    assert result.zero
    fed = [np.ones((1, 2, 3, 3), np.float32)]
    assert not run([x], result, fed).any()
    assert run([x], result, fed).shape == result.shape


@pytest.mark.parametrize(
    "use",
    [
        lambda ops, x: x + 0.0, lambda ops, x: 0.0 + x, lambda ops, x: x - 0.0, lambda ops, x: x * 1.0,
        lambda ops, x: 1 * x, lambda ops, x: x / 1, lambda ops, x: x + ops.zeros((3, 3)),
        lambda ops, x: ops.reshape(x, x.shape), lambda ops, x: ops.expand(x, x.shape),
        lambda ops, x: ops.transpose(x, (0, 1, 2, 3)), lambda ops, x: ops.concat([x], 1),
        lambda ops, x: ops.slice(x, (slice(None),) * 4), lambda ops, x: ops.sum(x, []),
    ],
)  # fmt: skip
def test_what_changes_nothing_is_not_written(use, ops, x):
    assert use(ops, x).name == x.name
    assert not ops.nodes


def test_constants_are_computed_at_once(ops):
    a, b = ops.constant(np.ones((2, 2))), ops.constant(np.full((2, 2), 3.0))
    result = ops.matmul(ops.where(a < b, a + b, 0.0), ops.sqrt(b * b))
    assert not ops.nodes
    np.testing.assert_allclose(result.value, np.full((2, 2), 24.0))


def test_equal_expressions_are_written_once(ops, x):
    first, second = ops.positive(x) * 2.0, ops.positive(x) * 2.0
    assert first.name == second.name
    assert [node.op_type for node in ops.nodes] == ["Relu", "Mul"]
    assert len(ops.constants) == 1
    assert (ops.positive(x) * 3.0).name != first.name


def test_attributes_tell_expressions_apart(ops, x):
    assert ops.sum(x, [1]).name != ops.sum(x, [1], keepdims=True).name
    assert ops.transpose(x, (0, 1, 3, 2)).name != ops.transpose(x, (1, 0, 2, 3)).name
    outputs = [ops.emit("MaxPool", [x], x.shape, output=i, kernel_shape=[1, 1]).name for i in (0, 1)]
    assert outputs[0] != outputs[1]


def test_a_large_constant_is_kept_once(ops, x):
    weights = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    rows = ops.reshape(x, (2, 9))
    ops.matmul(rows, ops.constant(weights)) + ops.matmul(-rows, ops.constant(weights))
    assert [array.shape for array in ops.constants.values()].count((9, 9)) == 1


# ---- signs ---------------------------------------------------------------------------------------

UNARY = ("positive", "negative", "abs", "exp", "tanh", "erf", "sigmoid", "sign", "stabilize")
BINARY = {
    "add": lambda ops, a, b: a + b,
    "subtract": lambda ops, a, b: a - b,
    "multiply": lambda ops, a, b: a * b,
    "divide": lambda ops, a, b: a / b,
    "maximum": lambda ops, a, b: ops.maximum(a, b),
    "minimum": lambda ops, a, b: ops.minimum(a, b),
    "where": lambda ops, a, b: ops.where(a > b, a, b),
    "where else 0": lambda ops, a, b: ops.where(a > b, b),
    "where else": lambda ops, a, b: ops.where(a > b, 0.0, b),
    "matmul": lambda ops, a, b: ops.matmul(a, b),
    "concat": lambda ops, a, b: ops.slice(ops.concat([a, b], 0), (slice(0, 6, 2), slice(None))),
    "power": lambda ops, a, b: ops.power(a, 2.0),
    "negate": lambda ops, a, b: -a,
    "sum": lambda ops, a, b: ops.expand(ops.sum(a, [1], True), (3, 3)),
    "transpose": lambda ops, a, b: ops.transpose(a, (1, 0)),
    "unslice": lambda ops, a, b: ops.unslice(ops.slice(a, KEY), WIDER, (3, 3)),
    "rows": lambda ops, a, b: ops.put(ops.take(a, ROWS(ops)), ROWS(ops), 3),
}  # fmt: skip


def grown(rng, values):
    """One more value, (traced, on the host), from those that are there; None where a number overflows."""
    pick = lambda: values[rng.integers(len(values))]  # noqa: E731
    (a, on_host), (b, other) = pick(), pick()
    if rng.random() < 0.4:
        name = str(rng.choice(UNARY))
        return getattr(a.ops, name)(a), getattr(HOST, name)(on_host)
    use = BINARY[str(rng.choice([*BINARY]))]
    return use(a.ops, a, b), use(HOST, on_host, other)


@pytest.mark.parametrize("seed", range(12))
def test_signs_hold_for_random_expressions(seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(3, 3)).astype(np.float32) for _ in range(3)]
    arrays[1:] = [abs(arrays[1]), -abs(arrays[2])]
    ops = TraceOps()
    given = inputs(ops, arrays, signs=(0, 1, -1))
    constants = (np.ones((3, 3)), -np.eye(3), rng.normal(size=(3, 3)))
    values = [*zip(given, arrays, strict=True), *((ops.constant(c), HOST.constant(c)) for c in constants)]
    values.append((ops.zeros((3, 3)), HOST.zeros((3, 3))))
    known = 0
    with np.errstate(all="ignore"):
        for _ in range(120):
            value, on_host = grown(rng, values)
            if not np.isfinite(on_host).all() or abs(on_host).max() > 1e6:
                continue
            assert value.shape == on_host.shape
            assert value.signs * on_host.min() >= 0
            assert value.signs * on_host.max() >= 0
            assert not value.zero or not on_host.any()
            known += value.signs != 0
            values.append((value, on_host))
    assert known > 20
    value, on_host = max(values[-5:], key=lambda pair: len(pair[0].name))
    np.testing.assert_allclose(run(given, value, arrays), on_host, rtol=1e-3, atol=1e-3)


def test_the_sign_of_an_input_is_used(ops):
    (y,) = inputs(ops, [np.ones(3, np.float32)], signs=[1])
    assert ops.positive(y) is y
    assert ops.negative(y).zero
    ops.stabilize(y)
    assert [node.op_type for node in ops.nodes] == ["Add"]


def test_what_stabilizes_a_sum_of_layers_is_part_of_a_bias(ops):
    """All of it ≥ 0, as in LRP's z⁺."""
    rng = np.random.default_rng(9)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), (5, 5), (5, 5))
    arrays = single(
        *(abs(rng.normal(size=shape)) for shape in [(2, 3, 5, 5)] + 2 * [(4, 3, 3, 3)] + [(4, 1, 1)])
    )

    def z(ops, x, *weights):
        w, v, bias = map(ops.constant, weights)
        return ops.stabilize(ops.conv(x, w, window) + bias + ops.conv(x, v, window), 0.1)

    given = inputs(ops, arrays[:1], signs=[1])
    result = z(ops, *given, *arrays[1:])
    close(run(given, result, arrays[:1]), z(HOST, *arrays))
    assert sorted(node.op_type for node in alive(ops, result)) == ["Add", "Add", "Conv", "Conv"]


@pytest.mark.parametrize("kept", [[], [0], [71], [3, 50, 99], range(100)])
@pytest.mark.parametrize(("name", "shape"), [("matmul", (100, 5)), ("conv_transpose", (100, 5, 3, 2))])
def test_a_sparse_seed_reads_the_weights_of_its_channels(name, shape, kept):
    rng = np.random.default_rng(10)
    g, w, x = single(np.zeros((1, 100)), rng.normal(size=shape), rng.normal(size=(1, 100, 4, 4)))
    g[0, kept] = rng.normal(size=len(kept))
    window = Window((3, 2), (1, 1), (1, 1), (1, 0), (4, 5), (4, 4))

    def back(ops, g, w, x):
        if name == "matmul":
            return ops.matmul(g * 2.0, w)
        everywhere = ops.expand(ops.reshape(g, (1, 100, 1, 1)), x.shape)
        return ops.conv_transpose(ops.gate(everywhere * (1 / 16), x), w, window)

    ops = TraceOps()
    given = inputs(ops, [g, w, x])
    result = back(ops, ops.sparse(given[0]), *given[1:])
    close(run(given, result, [g, w, x]), back(HOST, g, w, x))
    assert sum(node.op_type == "Gather" for node in alive(ops, result)) == 2


def test_zeros_are_not_looked_for_where_something_was_added(ops):
    g, w = inputs(ops, single(np.zeros((1, 100)), np.zeros((100, 5))))
    ops.matmul(ops.sparse(g) + 1.0, w)
    assert "Gather" not in [node.op_type for node in ops.nodes]


def test_several_samples_begin_at_different_units(ops):
    g, w = inputs(ops, single(np.zeros((2, 100)), np.zeros((100, 5))))
    ops.matmul(ops.sparse(g), w)
    assert [node.op_type for node in ops.nodes] == ["MatMul"]


def test_a_product_with_one_row_is_added_up_in_parts(ops):
    rng = np.random.default_rng(11)
    a, b = single(rng.normal(size=(1, 4096)), rng.normal(size=(4096, 64)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    given = inputs(ops, [a, b])
    result = ops.matmul(*given)
    assert abs(run(given, result, [a, b]) - exact).max() < 4e-7 * abs(exact).max()
    assert [node.op_type for node in ops.nodes if node.op_type in ("MatMul", "ReduceSum")] == [
        "MatMul",
        "ReduceSum",
    ]


@pytest.mark.parametrize(
    "product",
    [
        lambda ops, a, b: ops.matmul(a, ops.transpose(b, (1, 0))),
        lambda ops, a, b: ops.matmul(ops.sparse(a), b),
        lambda ops, a, b: ops.matmul(ops.expand(a, (2, 1024)), b),
        lambda ops, a, b: ops.matmul(
            ops.slice(a, (slice(None), slice(64))), ops.slice(b, (slice(64), slice(64)))
        ),
    ],
    ids=["columns", "few rows", "several", "small"],
)
def test_other_products_are_left_whole(ops, product):
    a, b = single(np.ones((1, 1024)), np.ones((1024, 1024)))
    product(ops, *inputs(ops, [a, b]))
    assert [len(node.inputs) for node in ops.nodes if node.op_type == "MatMul"] == [2]
    assert "Reshape" not in [node.op_type for node in ops.nodes][-1:]
    assert ops.nodes[-1].op_type == "MatMul"


# ---- what cannot be traced -----------------------------------------------------------------------


BEYOND = {
    "bool": bool, "float": float, "int": int, "len": len, "list": list, "index": lambda x: [0][x],
    "asarray": np.asarray, "np.where": lambda x: np.where(x > 0, x, 0), "np.sum": np.sum, "np.exp": np.exp,
    "np.maximum": lambda x: np.maximum(x, 0), "np.add into": lambda x: np.add(x, 1, out=np.zeros(3)),
    "item": lambda x: x[0], "set item": lambda x: x.__setitem__(0, 1), "method": lambda x: x.sum(),
    "in": lambda x: 1 in x, "not equal": lambda x: x != 1, "abs": abs, "power": lambda x: x**2,
    "matmul": lambda x: np.ones((3, 3)) @ x, "remainder": lambda x: x % 2,
    "condition": lambda x: 0 if x > 0 else 1,
}  # fmt: skip


@pytest.mark.parametrize("name", BEYOND)
def test_a_traced_value_has_no_numbers(name, x):
    with pytest.raises(NotTraceableError):
        BEYOND[name](x)


def test_numpy_arrays_leave_arithmetic_to_the_traced_value(ops, x):
    for result in (np.ones(3, np.float32) + x, np.ones(3) * x, 2.0 / x, np.float64(2) * x, x - np.ones(3)):
        assert isinstance(result, Traced)
        assert result.dtype == np.float32
    assert (np.ones(3) > x).dtype == bool
