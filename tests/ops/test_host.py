"""The host executor against loops and formulas, in float64."""

import numpy as np
import pytest

from onnxvis.ops.host import HostOps
from onnxvis.ops.primitives import Ops
from ops import windows
from ops.expressions import EXPRESSIONS

OPS = HostOps(np.float64)
WINDOWED = {
    "conv", "conv_transpose", "conv_quotient", "conv_transpose_product", "conv_weight",
    "conv_transpose_onto", "conv_transpose_product_onto", "conv_transpose_gated", "rectify",
    "window_sum", "window_spread", "max_route",
}  # fmt: skip


def operands(window, group, rng):
    """Data, weight and gradient of a grouped convolution."""
    x = rng.normal(size=(2, 2 * group, *window.size_in))
    w = rng.normal(size=(3 * group, 2, *window.kernel))
    return x, w, rng.normal(size=(2, 3 * group, *window.size_out))


def close(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_every_primitive_is_tried():
    written_with_the_set = {
        "unbroadcast",
        "mean",
        "positive",
        "negative",
        "sign",
        "stabilize",
        "split",
        "gate",
        "quotient",
        "proportions",
        "sum_of_products",
        "conv_quotient",
        "conv_transpose_product",
        "conv_transpose_onto",
        "conv_transpose_product_onto",
        "conv_transpose_gated",
        "rectify",
        "sigmoid",
        "cos",
    }
    tried = {expression.id.split()[0] for expression in EXPRESSIONS} | WINDOWED
    assert Ops.__abstractmethods__ | written_with_the_set <= tried


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: e.id.strip())
def test_expression(expression):
    ours = np.asarray(expression.use(OPS, *expression.arrays))
    theirs = np.asarray(expression.formula(*expression.arrays))
    assert ours.dtype.kind == theirs.dtype.kind
    close(ours, theirs)


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_weight"])
@pytest.mark.parametrize("group", [1, 2])
def test_convolution(name, group):
    rng = np.random.default_rng(1)
    for window in windows.random_windows(40):
        x, w, g = operands(window, group, rng)
        chosen = {"conv": (x, w), "conv_transpose": (g, w), "conv_weight": (x, g)}[name]
        close(getattr(OPS, name)(*chosen, window, group), getattr(windows, name)(*chosen, window, group))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_convolutions_of_pairs(group, count):
    rng = np.random.default_rng(7)
    for window in windows.random_windows(20, seed=2):
        parts = [operands(window, group, rng) for _ in range(count)]
        pairs, (_, _, g) = [(x, w) for x, w, _ in parts], parts[0]
        z = sum(windows.conv(x, w, window, group) for x, w in pairs)
        close(OPS.conv_quotient(g, pairs, window, group, 0.5), g / (z + np.where(z < 0, -0.5, 0.5)))
        b = rng.normal(size=(1, g.shape[1], *(1,) * len(window.kernel)))
        biased = (z + b) + np.where(z + b < 0, -0.5, 0.5)
        close(OPS.conv_quotient(g, pairs, window, group, 0.5, b), g / biased)
        back = sum(x * windows.conv_transpose(g, w, window, group) for x, w in pairs)
        close(OPS.conv_transpose_product(g, pairs, window, group), back)
        onto = rng.normal(size=back.shape)
        close(OPS.conv_transpose_product_onto(onto, g, pairs, window, group), onto + back)


@pytest.mark.parametrize("group", [1, 2])
def test_onto_is_what_a_total_is(group):
    """To the last bit: a rule that adds by itself changes nothing."""
    rng, ops = np.random.default_rng(8), HostOps(np.float32)
    for window in windows.random_windows(20, seed=4):
        x, w, g = (np.float32(a) for a in operands(window, group, rng))
        onto = np.float32(rng.normal(size=x.shape))
        before = onto.copy()
        ours = ops.conv_transpose_onto(onto, g, w, window, group)
        np.testing.assert_array_equal(ours, ops.total([onto, ops.conv_transpose(g, w, window, group)]))
        ours = ops.conv_transpose_product_onto(onto, g, [(x, w)], window, group)
        theirs = ops.total([onto, ops.conv_transpose_product(g, [(x, w)], window, group)])
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(onto, before)


@pytest.mark.parametrize("group", [1, 2])
def test_gated_is_what_a_rectifier_does_behind(group):
    """To the last bit, too."""
    rng, ops = np.random.default_rng(9), HostOps(np.float32)
    for window in windows.random_windows(20, seed=6):
        x, w, g = (np.float32(a) for a in operands(window, group, rng))
        y, onto = np.maximum(x, 0), np.float32(rng.normal(size=x.shape))
        for there in (None, onto):
            back = ops.conv_transpose(g, w, window, group)
            back = back if there is None else ops.total([onto, back])
            expected = {"gradient": np.where(y > 0, back, 0), "deconvnet": np.maximum(back, 0)}
            expected["guided"] = np.where(y > 0, expected["deconvnet"], 0)
            for gate, right in expected.items():
                given = None if gate == "deconvnet" else y
                ours = ops.conv_transpose_gated(gate, given, there, g, w, window, group)
                np.testing.assert_array_equal(ours, right)
                np.testing.assert_array_equal(ops.rectify(back, gate, given), right)


@pytest.mark.parametrize("name", ["window_sum", "window_spread"])
def test_window(name):
    rng = np.random.default_rng(2)
    for window in windows.random_windows(60):
        size = window.size_in if name == "window_sum" else window.size_out
        x = rng.normal(size=(2, 3, *size))
        close(getattr(OPS, name)(x, window), getattr(windows, name)(x, window))


@pytest.mark.parametrize("ties", [False, True])
def test_max_route(ties):
    rng = np.random.default_rng(3)
    for window in windows.random_windows(60, pooling=True):
        x = rng.normal(size=(2, 3, *window.size_in)) - 2  # mostly below the 0 of padding
        x = np.round(x) if ties else x
        g = rng.normal(size=(2, 3, *window.size_out))
        close(OPS.max_route(g, x, window), windows.max_route(g, x, window))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_stay_of_the_working_dtype(dtype):
    ops = HostOps(dtype)
    x = ops.constant(np.ones((2, 3), np.float16))
    assert x.dtype == ops.zeros((2,)).dtype == ops.where(x > 0, 1.0).dtype == dtype
    assert ops.sum(x, [0]).dtype == ops.sigmoid(x).dtype == ops.stabilize(x).dtype == dtype
    assert ops.constant(np.arange(3)).dtype == np.int64
    assert ops.constant(np.array([True])).dtype == bool
