"""What each kernel computes, compiled for the CPU, against the host executor's primitives."""

from dataclasses import replace

import numpy as np
import pytest
from ops import windows

from onnxvis.ops.device import geometry as geometries
from onnxvis.ops.device import sources
from onnxvis.ops.device.convolution import Convolution
from onnxvis.ops.device.geometry import fixed_windows, geometry, index_type
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window

from .compiling import GPP, WHY, compiled
from .stand_in import launched, stand_in_gpu, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

TOLERANCE = {"float64": 1e-13, "float32": 1e-5, "float16": 3e-3}
# Windows that random ones seldom are.
ODD = [
    Window((3, 3), (5, 4), (1, 1), (0, 0), (13, 12), (3, 3)),  # strides beyond the kernel
    Window((2, 3), (7, 1), (4, 2), (1, 2), (9, 7), (1, 7)),
    Window((1, 2), (1, 1), (1, 1), (2, 1), (3, 4), (7, 5)),  # padding beyond the kernel
    Window((1, 2), (5, 1), (1, 1), (3, 0), (2, 3), (1, 2)),  # windows that see padding only
    Window((2,), (3,), (3,), (0,), (8,), (3,)),
    Window((1, 1, 1), (2, 3, 1), (1, 1, 1), (0, 0, 0), (4, 5, 3), (2, 2, 3)),
    Window((2, 3, 2), (2, 2, 2), (1, 1, 2), (0, 1, 1), (4, 5, 6), (2, 3, 3)),
    Window((13, 5), (1, 1), (1, 1), (6, 2), (6, 5), (6, 5)),
]
FIXED = windows.frequent_windows()
POOLING = [w for w in ODD if all(0 <= b < k for b, k in zip(w.before, w.kernel, strict=True))]


@pytest.fixture(params=["int", "long long"])
def index(request, monkeypatch):
    """Both widths of indices, and a grid so small that every thread walks several strides."""
    if request.param == "long long":
        monkeypatch.setattr(geometries, "LIMIT", 0)
    monkeypatch.setattr("onnxvis.ops.device.gpu.Gpu.BLOCKS", 3)
    monkeypatch.setattr("onnxvis.ops.device.gpu.Gpu.THREADS", 5)
    return request.param


def agree(ours, theirs, dtype, ops):
    found = ops.gpu.download(ours)
    assert found.shape == theirs.shape
    assert found.dtype == theirs.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(theirs))
    error = abs(np.nan_to_num(found) - np.nan_to_num(theirs)).max(initial=0)
    assert error <= TOLERANCE[np.dtype(dtype).name] * abs(np.nan_to_num(theirs)).max(initial=1e-30)


def compare(name, arrays, dtype, *rest, kernels=()):
    """A primitive on the stand-in's kernels and on the host."""
    ops, host = stand_in_ops(dtype), HostOps(dtype)
    arrays = [np.asarray(a, dtype) if a.dtype.kind == "f" else a for a in arrays]
    with launched() as seen, np.errstate(all="ignore"):
        ours = getattr(ops, name)(*map(ops.constant, arrays), *rest)
        theirs = getattr(host, name)(*arrays, *rest)
    if ours.size:
        assert [kernel.partition("<")[0] for kernel in seen] == [*kernels]
    agree(ours, np.asarray(theirs), dtype, ops)


def channels(rng, *sizes):
    """Data for windows: two samples of three channels, with ties."""
    return [np.round(rng.normal(size=(2, 3, *size)), 1) for size in sizes]


def for_window(window, *names):
    """Which of the kernels' versions a window in ``channels`` has launched."""
    return [f"{name}_fixed" if fixed_windows(window, 6) else name for name in names]


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_window_sums_and_spreads(dtype, index):
    rng = np.random.default_rng(1)
    for window in [*windows.random_windows(30, seed=11), *ODD, *FIXED]:
        x, g = channels(rng, window.size_in, window.size_out)
        compare("window_sum", [x], dtype, window, kernels=for_window(window, "window_sum"))
        compare("window_spread", [g], dtype, window, kernels=for_window(window, "window_spread"))


@pytest.mark.parametrize(
    "window",
    [
        Window((3, 2), (1, 1), (1, 1), (-1, -2), (7, 8), (3, 4)),
        Window((3, 3), (2, 2), (1, 1), (0, -1), (9, 10), (4, 4)),
    ],
)
def test_a_margin_in_front_that_nothing_sees(window, index):
    """Negative padding, which the host does not take: against loops."""
    assert not fixed_windows(window, 6)
    x, g = channels(np.random.default_rng(1), window.size_in, window.size_out)
    ops = stand_in_ops(np.float64)
    agree(ops.window_sum(ops.constant(x), window), windows.window_sum(x, window), "float64", ops)
    agree(ops.window_spread(ops.constant(g), window), windows.window_spread(g, window), "float64", ops)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("low", [-np.inf, -2.0, np.nan])
def test_max_route(dtype, low, index):
    """With ties everywhere; with maxima of −∞; with NaN, which wins nowhere."""
    rng = np.random.default_rng(2)
    for window in [*windows.random_windows(20, pooling=True, seed=12), *POOLING, *FIXED]:
        x, g = channels(rng, window.size_in, window.size_out)
        x = np.where(x > 0.5, low, np.round(x - 1))
        compare("max_route", [g, x], dtype, window, kernels=for_window(window, "max_first", "max_route"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("window", [FIXED[5], FIXED[13], FIXED[21], ODD[0]], ids=lambda w: str(w.kernel))
def test_windows_over_what_is_no_number(dtype, window, index):
    """Infinities and NaN in all places of a window, equal ones of both kinds among them."""
    rng = np.random.default_rng(5)
    for numbers in ([np.nan, 0.0, 1.0], [np.inf, -np.inf, 1.0], [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0]):
        x, g = (rng.choice(numbers, (3, 4, *size)) for size in (window.size_in, window.size_out))
        compare("window_sum", [x], dtype, window, kernels=for_window(window, "window_sum"))
        compare("window_spread", [g], dtype, window, kernels=for_window(window, "window_spread"))
        compare("max_route", [g, x], dtype, window, kernels=for_window(window, "max_first", "max_route"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("workspace", [1, 300, 2**28])
def test_convolution_in_parts(dtype, group, workspace, index, monkeypatch):
    monkeypatch.setattr(Convolution, "WORKSPACE", workspace)
    rng = np.random.default_rng(3)
    host, ops = HostOps(dtype), stand_in_ops(dtype)
    for window in [*windows.random_windows(8, seed=13), *ODD]:
        x = rng.normal(size=(3, 2 * group, *window.size_in)).astype(dtype)
        w = rng.normal(size=(3 * group, 2, *window.kernel)).astype(dtype)
        g = rng.normal(size=(3, 3 * group, *window.size_out)).astype(dtype)
        for name, data in (("conv", x), ("conv_transpose", g)):
            ours = getattr(ops, name)(ops.constant(data), ops.constant(w), window, group)
            agree(ours, getattr(host, name)(data, w, window, group), dtype, ops)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [(2, 4), (3, 5), (1, 2)], ids=str)  # a sample's: whole packs, or not
def test_two_pairs_are_stacked(dtype, shift, size, index, monkeypatch):
    """One convolution of both; and one adjoint, whose halves are multiplied and added."""
    monkeypatch.setattr("kernels.compiling.SHIFT", shift)
    rng, window = np.random.default_rng(15), Window((1, 1), (1, 1), (1, 1), (0, 0), size, size)
    ops, host = stand_in_ops(dtype), HostOps(dtype if dtype != "float16" else np.float64)
    for samples, channels in ((1, 4), (3, 2), (2, 1)):
        x, y = rng.uniform(0.1, 1, (2, samples, channels, *size)).astype(dtype)
        v, w = rng.uniform(0.1, 1, (2, 3, channels, 1, 1)).astype(dtype)
        r, b = rng.normal(size=(samples, 3, *size)).astype(dtype), np.ones((1, 3, 1, 1), dtype)
        for bias in ((), (b,)):
            found, expected = (
                on.conv_quotient(c(r), [(c(x), c(v)), (c(y), c(w))], window, 1, 0.5, *map(c, bias))
                for on, c in ((ops, ops.constant), (host, host.constant))
            )
            agree(found, np.asarray(expected, dtype), dtype, ops)
        x.flat[0], y.flat[-1], x.flat[x.size // 2] = np.nan, -np.inf, np.inf
        with launched() as seen:
            found, expected = (
                on.conv_transpose_product(c(r), [(c(x), c(v)), (c(y), c(w))], window)
                for on, c in ((ops, ops.constant), (host, host.constant))
            )
        assert [name.partition("<")[0] for name in seen] == ["multiply_stacked"]
        finite = np.isfinite(expected := np.asarray(expected, dtype))
        found = ops.gpu.download(found)
        np.testing.assert_array_equal(found[~finite], expected[~finite])
        agree(ops.constant(np.where(finite, found, 0)), np.where(finite, expected, 0), dtype, ops)


def test_pairs_that_cannot_be_stacked_are_taken_one_by_one():
    """Groups, other shapes, and more than two: the same numbers."""
    rng, window = np.random.default_rng(16), Window((2, 2), (1, 1), (1, 1), (0, 1), (4, 3), (3, 4))
    ops, host = stand_in_ops(), HostOps()
    for group, channels in ((2, (4, 4)), (1, (2, 3)), (1, (2, 2, 2))):
        pairs = [
            (rng.uniform(0.1, 1, (2, c, 4, 3)), rng.uniform(0.1, 1, (6, c // group, 2, 2))) for c in channels
        ]
        r = rng.normal(size=(2, 6, 3, 4))
        ours = [(ops.constant(x), ops.constant(w)) for x, w in pairs]
        theirs = [(host.constant(x), host.constant(w)) for x, w in pairs]
        with launched() as seen:
            agree(
                ops.conv_quotient(ops.constant(r), ours, window, group),
                host.conv_quotient(host.constant(r), theirs, window, group), "float32", ops,
            )  # fmt: skip
        assert seen.count("im2col<float, int>") == (1 if len(channels) == 3 else 2)
        if channels != (2, 3):
            with launched() as seen:
                agree(
                    ops.conv_transpose_product(ops.constant(r), ours, window, group),
                    host.conv_transpose_product(host.constant(r), theirs, window, group), "float32", ops,
                )  # fmt: skip
            assert seen.count("col2im<float, int>") == len(channels)


def test_views_are_stacked_as_they_look():
    ops, host, rng = stand_in_ops(), HostOps(), np.random.default_rng(17)
    window = Window((1, 1), (1, 1), (1, 1), (0, 0), (5, 4), (5, 4))
    arrays = [np.float32(rng.normal(size=shape)) for shape in ((2, 3, 4, 5),) * 3 + ((3, 3, 1, 1),) * 2]

    def product(on):
        r, x, y = (on.transpose(on.constant(a), (0, 1, 3, 2)) for a in arrays[:3])
        v, w = (on.transpose(on.constant(a), (1, 0, 2, 3)) for a in arrays[3:])
        return on.conv_transpose_product(r, [(x, v), (y, w)], window)

    agree(product(ops), np.ascontiguousarray(product(host)), "float32", ops)


def test_convolution_takes_kernels_where_they_are_needed():
    """The data of a pointwise layer are a matrix as they are."""
    ops = stand_in_ops()
    plain = Window((1, 1), (1, 1), (1, 1), (0, 0), (4, 5), (4, 5))
    strided = Window((1, 1), (2, 2), (1, 1), (0, 0), (4, 5), (2, 3))
    padded = Window((1, 1), (1, 1), (1, 1), (1, 0), (4, 5), (6, 5))
    beyond = Window((1, 1), (1, 1), (1, 1), (0, 0), (4, 5), (4, 6))
    both = ["im2col", "col2im"]
    for window, expected in ((plain, []), (strided, []), (padded, both), (beyond, both)):
        x, w = ops.constant(np.ones((2, 3, 4, 5))), ops.constant(np.ones((4, 3, 1, 1)))
        with launched() as seen:
            ops.conv_transpose(ops.conv(x, w, window), w, window)
        assert [name.partition("<")[0] for name in seen] == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("samples", [1, 3])
def test_pointwise_convolution(dtype, samples):
    rng = np.random.default_rng(3)
    for strides, size_out in (((1, 1), (4, 5)), ((2, 3), (2, 2)), ((3, 2), (1, 2))):
        window = Window((1, 1), strides, (1, 1), (0, 0), (4, 5), size_out)
        for group in (1, 2):
            x, w = rng.normal(size=(samples, 2 * group, 4, 5)), rng.normal(size=(3 * group, 2, 1, 1))
            g = rng.normal(size=(samples, 3 * group, *size_out))
            compare("conv", [x, w], dtype, window, group, kernels=[])
            compare("conv_transpose", [g, w], dtype, window, group, kernels=[])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("group", [1, 2])
def test_adjoints_onto_what_is_there(dtype, group):
    """Which stays as it is, also where it is a view."""
    rng, wide = np.random.default_rng(19), dtype if dtype != "float16" else np.float64
    host, ops = HostOps(wide), stand_in_ops(dtype)
    for window in [*windows.random_windows(6, seed=14), *ODD, *FIXED[:3]]:
        a, onto = rng.normal(size=(2, 3, 2 * group, *window.size_in)).astype(dtype)
        w = rng.normal(size=(3 * group, 2, *window.kernel)).astype(dtype)
        g = rng.normal(size=(3, 3 * group, *window.size_out)).astype(dtype)
        pairs, arrays = (a, w), (onto.swapaxes(0, 1).copy(), g)

        def results(on, pairs=pairs, arrays=arrays, window=window):
            onto, g = map(on.constant, arrays)
            onto, (a, w) = on.transpose(onto, (1, 0, *range(2, onto.ndim))), map(on.constant, pairs)
            yield on.conv_transpose_onto(onto, g, w, window, group)
            for count in (1, 2):
                yield on.conv_transpose_product_onto(onto, g, [(a, w)] * count, window, group)
            yield onto

        for ours, theirs in zip(results(ops), results(host), strict=True):
            agree(ours, np.ascontiguousarray(theirs, dtype), dtype, ops)


@pytest.mark.parametrize(("samples", "channels"), [(0, 2), (1, 0)])
def test_nothing_to_do(samples, channels):
    """Zeros where there is a result at all: a sum over no channels is 0."""
    window = Window((2, 2), (1, 1), (1, 1), (0, 0), (3, 3), (2, 2))
    ops = stand_in_ops()
    x, g = ops.zeros((samples, channels, 3, 3)), ops.zeros((samples, channels, 2, 2))
    w, above = ops.zeros((3, channels, 2, 2)), ops.zeros((samples, 3, 2, 2))
    with launched() as seen:
        results = (
            ops.window_sum(x, window), ops.window_spread(g, window), ops.max_route(g, x, window),
            ops.conv(x, w, window), ops.conv_transpose(above, w, window),
        )  # fmt: skip
    assert not seen
    pairs = [(x, w), (x, w)]
    results += ops.conv_quotient(above, pairs, window), ops.conv_transpose_product(above, pairs, window)
    shapes = [g.shape, x.shape, x.shape, *(above.shape, x.shape) * 2]
    for result, shape in zip(results, shapes, strict=True):
        np.testing.assert_array_equal(ops.gpu.download(result), np.zeros(shape))
    onto = ops.constant(np.ones((samples, 3, 3, 3)))
    empty = ops.conv_transpose_onto(onto, ops.zeros((samples, 0, 2, 2)), ops.zeros((0, 3, 2, 2)), window)
    np.testing.assert_array_equal(ops.gpu.download(empty), np.ones((samples, 3, 3, 3)))


# ---- number by number ----------------------------------------------------------------------------

SHAPES = [(), (1,), (7,), (3, 1, 5), (4, 0, 2), (257,)]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-6, -1e-6])


def numbers(shape, count=1, seed=4):
    """Both signs, zeros, and what is no number."""
    rng = np.random.default_rng(seed)
    made = [np.round(rng.normal(size=shape), 1) for _ in range(count)]
    for array in made:
        array.flat[:: max(1, array.size // 7)] = np.resize(
            SPECIAL, array.flat[:: max(1, array.size // 7)].size
        )
    return made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rectifiers(dtype, shape, index):
    g, x = numbers(shape, 2)
    for data in (x, np.roll(x, 3)):
        compare("gate", [g, data], dtype, kernels=["rectify"])
        compare("gate", [g, data], dtype, True, kernels=["rectify"])
    compare("positive", [g], dtype, kernels=["rectify"])
    for limits in ((-0.3, 0.9), (-np.inf, 0.5), (0.0, np.inf)):
        compare("between", [g, x], dtype, *limits, kernels=["between"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_split(dtype, shape, index):
    (x,) = numbers(shape)
    ops, host = stand_in_ops(dtype), HostOps(dtype)
    with launched() as seen:
        ours = ops.split(ops.constant(x))
    assert seen == ([f"split<{sources.NUMBERS[dtype]}>"] if x.size else [])
    for part, expected in zip(ours, host.split(host.constant(x)), strict=True):
        agree(part, np.asarray(expected), dtype, ops)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("epsilon", [1e-6, 0.25])
def test_division(dtype, shape, epsilon, index):
    r, z = numbers(shape, 2)
    z = np.roll(z, 3)
    compare("stabilize", [z], dtype, epsilon, kernels=["stabilize"])
    finite = np.nan_to_num(z, posinf=2.0, neginf=-3.0)
    compare(
        "quotient", [np.nan_to_num(r, posinf=1.0, neginf=1.0), finite], dtype, epsilon, kernels=["quotient"]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_summed(dtype, shape, index):
    arrays = [np.random.default_rng(n).normal(size=shape) for n in range(4)]
    ops, host = stand_in_ops(dtype), HostOps(dtype)
    ours, theirs = ([ops.constant(a) for a in arrays], [host.constant(a) for a in arrays])
    for pairs in (1, 2):
        with launched() as seen:
            found = ops.sum_of_products(*zip(ours[0::2][:pairs], ours[1::2][:pairs], strict=True))
        expected = host.sum_of_products(*zip(theirs[0::2][:pairs], theirs[1::2][:pairs], strict=True))
        assert len(seen) == (expected.size > 0)
        agree(found, np.asarray(expected), dtype, ops)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shares_of_a_sum(dtype, shape, shift, index, monkeypatch):
    """Two at once; others, and what does not lie in one piece, one by one."""
    monkeypatch.setattr("kernels.compiling.SHIFT", shift)
    ops, host = stand_in_ops(dtype), HostOps(dtype if dtype != "float16" else np.float64)
    r, z, x, y = (array.astype(dtype) for array in numbers(shape, 4))
    z = np.roll(z, 3)

    def alike(xs, kernels, seen=lambda array: array):
        with np.errstate(all="ignore"):
            expected = host.proportions(
                *map(host.constant, (r, z)), [host.constant(seen(a)) for a in xs], 0.25
            )
            with launched() as used:
                found = ops.proportions(
                    *map(ops.constant, (r, z)), [seen(ops.constant(a)) for a in xs], epsilon=0.25
                )
        assert [name.partition("<")[0] for name in used] == kernels * (r.size > 0)
        assert len(found) == len(xs)
        for ours, theirs in zip(found, expected, strict=True):
            ours, theirs = ops.gpu.download(ours), np.asarray(theirs).astype(dtype)
            np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)

    alike([x, y], ["proportions"])
    alike([x, x], ["proportions"])
    alike([x], ["quotient", "multiply"])
    alike([x, y, x], ["quotient", *["multiply"] * 3])
    if len(shape) > 1:
        alike([x, y], ["quotient"], lambda array: array[..., ::-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums(dtype, shape, index):
    arrays = numbers(shape, 3)
    ops, host = stand_in_ops(dtype), HostOps(dtype)
    for count in (1, 2, 3):
        with launched() as seen:
            found = ops.total([ops.constant(a) for a in arrays[:count]])
        expected = np.asarray(host.total([host.constant(a) for a in arrays[:count]]))
        assert len(seen) == (count - 1) * (expected.size > 0)
        agree(found, expected, dtype, ops)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (1, 5, 7), (3, 2), (2, 1, 9), (4, 6, 1, 1), (2, 0, 3)], ids=str
)
def test_division_by_channel(dtype, shape, shift, index, monkeypatch):
    monkeypatch.setattr("kernels.compiling.SHIFT", shift)
    rng = np.random.default_rng(11)
    r, z = rng.normal(size=(2, *shape))
    bias = rng.normal(size=(1, shape[1], *(1,) * (len(shape) - 2)))
    ops, host = stand_in_ops(dtype), HostOps(dtype)
    with launched() as seen:
        found = ops.quotient(*map(ops.constant, (r, z)), 0.25, ops.constant(bias))
    assert [name.partition("<")[0] for name in seen] == ["quotient_by_channel"] * (r.size > 0)
    agree(found, host.quotient(*map(host.constant, (r, z)), 0.25, host.constant(bias)), dtype, ops)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (9, 4), (50, 3), (6, 0), (5, 2, 3)], ids=str)
@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_put(dtype, shape, kind, index):
    rng = np.random.default_rng(7)
    for count in (1, 5, 40):
        rows = rng.integers(-count, count, shape[0]).astype(kind)
        compare("put", [rng.normal(size=shape), rows], dtype, count, kernels=["put"])


def test_views_are_taken_as_they_look():
    """Transposed, stretched and strided: the result is that of a copy."""
    ops, host = stand_in_ops(), HostOps()
    rng = np.random.default_rng(8)
    x = rng.normal(size=(4, 3, 10, 9)).astype("f4")
    window = Window((3, 2), (2, 1), (1, 1), (1, 0), (9, 5), (5, 4))
    cut = (slice(None, None, -2), slice(None), slice(None), slice(None, None, 2))

    def view(on, array):
        return on.slice(on.transpose(array, (0, 1, 3, 2)), cut)

    given = view(ops, ops.constant(x)), view(host, x)
    assert not given[0].flags.c_contiguous
    for name in ("window_sum", "positive", "stabilize"):
        rest = [window] if name == "window_sum" else []
        agree(getattr(ops, name)(given[0], *rest), getattr(host, name)(given[1], *rest), "float32", ops)
    spread = [on.expand(on.constant(np.array([[[[2.0]]]])), (2, 3, 5, 4)) for on in (ops, host)]
    agree(ops.window_spread(spread[0], window), host.window_spread(spread[1], window), "float32", ops)
    agree(ops.gate(spread[0], spread[0] - 1.0), host.gate(spread[1], spread[1] - 1.0), "float32", ops)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shift", [0, 1])
def test_arrays_that_start_anywhere(dtype, shift, monkeypatch):
    """Where numbers can be moved 16 bytes at a time, where they cannot, and those left over at the end."""
    monkeypatch.setattr("kernels.compiling.SHIFT", shift)
    for count in (1, 8, 9, 31, 64):
        g, x = numbers((count,), 2)
        compare("gate", [g, x], dtype, True, kernels=["rectify"])


# ---- half precision ------------------------------------------------------------------------------


def test_half_converts_as_numpy_does():
    """The shim's float16, both ways, over all its values and what lies between them."""
    code = sources.source("stabilize.cu") + (
        "\ntemplate <typename T> __global__ void widen(const T* x, float* y, int n)"
        "{ for (int i = 0; i < n; ++i) y[i] = x[i]; }"
        "\ntemplate <typename T> __global__ void narrow(const float* x, T* y, int n)"
        "{ for (int i = 0; i < n; ++i) y[i] = T(x[i]); }"
    )
    kernels = compiled(code, sources.options(), ("widen<Half>", "narrow<Half>"))
    gpu = stand_in_gpu()
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    wide = gpu.xp.empty(halves.shape, np.float32)
    kernels["widen<Half>"]((1,), 1, (gpu.upload(halves), wide, np.int32(halves.size)))
    np.testing.assert_array_equal(gpu.download(wide), halves.astype(np.float32))
    with np.errstate(all="ignore"):
        finite = np.sort(halves[np.isfinite(halves)].astype(np.float32))
        middles = (finite[1:] + finite[:-1]) / 2
        others = [7e4, -1e9, np.nan, np.inf, -np.inf, 65519.9, 65520.0, 1e-8, -2.9e-8, 1e-30]
        around = np.nextafter(middles, 0), np.nextafter(middles, np.inf)
        floats = np.concatenate([finite, middles, *around, np.float32(others)])
        expected = floats.astype(np.float16)
    narrow = gpu.xp.empty(floats.shape, np.float16)
    kernels["narrow<Half>"]((1,), 1, (gpu.upload(floats), narrow, np.int32(floats.size)))
    found = gpu.download(narrow)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_half_is_summed_in_single_precision():
    """2051 ones: float16 alone would stop at 2048."""
    ops = stand_in_ops(np.float16)
    window = Window((1, 2051), (1, 1), (1, 1), (0, 0), (1, 2051), (1, 1))
    found = ops.gpu.download(ops.window_sum(ops.constant(np.ones((1, 1, 1, 2051))), window))
    assert found.dtype == np.float16 and found.item() == 2052  # the nearest float16 to 2051, ties to even
    assert ops.gpu.download(ops.window_spread(ops.constant(np.ones((1, 1, 1, 1))), window)).sum() == 2051


@pytest.mark.parametrize("name", sorted(n for n, k in sources.KERNELS.items() if "float16" in k.dtypes))
def test_every_kernel_runs_in_half_precision(name):
    ops, host = stand_in_ops(np.float16), HostOps(np.float64)
    rng = np.random.default_rng(9)
    kernel, fixed, _ = name.partition("_fixed")
    frequent = Window((3, 3), (2, 2), (1, 1), (1, 1), (7, 6), (4, 3))
    window = frequent if fixed else Window((3, 2), (2, 1), (1, 2), (1, 1), (7, 6), (4, 6))
    x, g = (rng.normal(size=(2, 3, *size)).astype(np.float16) for size in (window.size_in, window.size_out))
    w, rows = rng.normal(size=(4, 3, 3, 2)).astype(np.float16), np.array([1, 0, 1])
    calls = {
        "rectify": lambda on, c: on.gate(c(x), c(x), True),
        "between": lambda on, c: on.between(c(x), c(x), -0.5, 0.5),
        "split": lambda on, c: on.split(c(x))[1],
        "stabilize": lambda on, c: on.stabilize(c(x), 0.01),
        "quotient": lambda on, c: on.quotient(c(x), c(x) * 2.0, 0.01),
        "quotient_by_channel": lambda on, c: on.quotient(c(x), c(x) * 2.0, 0.01, c(w[:1, :, :1, :1])),
        "proportions": lambda on, c: on.proportions(c(x), c(x) * 2.0, [c(x), c(x[::-1])], 0.01)[1],
        "add": lambda on, c: on.total([c(x), c(x)]),
        "multiply": lambda on, c: on.sum_of_products((c(x), c(x))),
        "multiply_back": lambda on, c: on.sum_of_products((c(x), c(x)), (c(x), c(x))),
        "multiply_stacked": lambda on, c: on.conv_transpose_product(c(rng_g), [(c(x), c(w))] * 2, window),
        "max_first": lambda on, c: on.max_route(c(g), c(x), window),
        "max_route": lambda on, c: on.max_route(c(g), c(x), window),
        "window_sum": lambda on, c: on.window_sum(c(x), window),
        "window_spread": lambda on, c: on.window_spread(c(g), window),
        "im2col": lambda on, c: on.conv(c(x), c(w), window),
        "col2im": lambda on, c: on.conv_transpose(c(rng_g), c(w), window),
        "put": lambda on, c: on.put(c(x[0].reshape(3, -1)), c(rows), 2),
    }
    rng_g = rng.normal(size=(2, 4, *window.size_out)).astype(np.float16)
    with launched() as seen:
        found = calls[kernel](ops, ops.constant)
    assert any(kernel.startswith(f"{name}<Half") for kernel in seen)
    expected = np.asarray(calls[kernel](host, host.constant))
    error = abs(ops.gpu.download(found).astype(float) - expected).max()
    assert error <= TOLERANCE["float16"] * max(1.0, abs(expected).max())


# ---- indices -------------------------------------------------------------------------------------


def test_indices_are_wide_where_an_int_would_overflow():
    near, far = 2**28 - 1, 2**28
    assert index_type(near).cpp == "int" and index_type(far).cpp == "long long"
    window = Window((3,), (1,), (2**27,), (0,), (8,), (1,))
    assert index_type(8, window=window).cpp == "long long"
    assert geometry(window, index_type(far)).dtype["strides"].base == np.int64


def test_which_windows_have_kernels_of_their_own():
    assert all(fixed_windows(window, 6) for window in FIXED)
    assert not any(fixed_windows(window, 6) for window in ODD)
    usual = Window((3, 3), (2, 2), (1, 1), (1, 1), (9, 9), (5, 5))
    # Of windows strips of 4 rows, of inputs too, the first of which starts in front.
    found = fixed_windows(usual, 7)
    assert (found.windows.variant, found.windows.threads) == ("3, 2", 7 * 2 * 5)
    assert (found.inputs.variant, found.inputs.threads) == ("3, 2, 1", 7 * 3 * 9)
    even = fixed_windows(replace(usual, size_in=(9, 10)), 7)
    assert (even.inputs.variant, even.inputs.threads) == ("3, 2, 2", 7 * 3 * 5)
    near = replace(usual, strides=(1, 1), size_in=(9, 10))
    assert fixed_windows(near, 7).inputs[::2] == ("3, 1, 1", 7 * 2 * 10)
    assert fixed_windows(usual, 2**28 // 27) and not fixed_windows(usual, 2**28 // 27 + 1)  # threads
    narrow = replace(usual, size_in=(64, 1), size_out=(32, 1))
    assert fixed_windows(narrow, 2**22 - 1) and not fixed_windows(narrow, 2**22)  # rows
    for other in (
        {"kernel": (3, 2)}, {"strides": (2, 1)}, {"dilations": (1, 2)}, {"before": (3, 1)},
        {"kernel": (4, 4)}, {"strides": (3, 3)}, {"before": (0, -1)}, {"size_in": (9, 2**28)},
    ):  # fmt: skip
        assert not fixed_windows(replace(usual, **other), 7)
    front = {"kernel": 1, "strides": 1, "dilations": 1, "before": 0, "size_in": 4, "size_out": 4}
    deep = {name: (value, *getattr(usual, name)) for name, value in front.items()}
    assert fixed_windows(Window(**deep), 7).windows.threads == 4 * found.windows.threads
    for name, value in (("kernel", 2), ("strides", 2), ("before", 1), ("size_in", 5)):
        assert not fixed_windows(Window(**{**deep, name: (value, *getattr(usual, name))}), 7)


def test_a_divisor_divides():
    """Around every multiple, for all small divisors and some others, up to the last number below 2^31."""
    code = sources.source("window_sum.cu") + (
        "\ntemplate <typename I> __global__ void divide(const I* n, I* out, Divisor<I> by, I count)"
        "{ GRID_STRIDE(I, i, count) out[i] = by.quotient(n[i]); }"
    )
    names = {"int": "divide<int>", "long long": "divide<long long>"}
    kernels = compiled(code, sources.options(), tuple(names.values()))
    gpu, rng = stand_in_gpu(), np.random.default_rng(0)
    some = [2**k + d for k in range(9, 31) for d in (-1, 0, 1)] + [*rng.integers(1, 2**31 - 1, 50)]
    for index in (geometries.SHORT, geometries.LONG):
        for by in [*range(1, 300), *map(int, some)]:
            multiples = by * np.concatenate([rng.integers(0, (2**31 - 1) // by + 1, 40), [(2**31 - 1) // by]])
            n = np.clip(np.concatenate([multiples - 1, multiples, multiples + 1]), 0, 2**31 - 1)
            n = n.astype(index.dtype)
            out = gpu.xp.empty(n.shape, n.dtype)
            given = (gpu.upload(n), out, geometries.divisor(by, index), index(n.size))
            kernels[names[index.cpp]]((1,), 1, given)
            np.testing.assert_array_equal(gpu.download(out), n // by)


def test_positions_beyond_32_bits():
    """In 32 bits both offsets would fall on the input; in 64 the first one lies far in front of it."""
    window = Window((2,), (1,), (2**32,), (2**32,), (4,), (4,))
    ops, x = stand_in_ops(), np.arange(8.0).reshape(1, 2, 4)
    for name in ("window_sum", "window_spread"):
        found = ops.gpu.download(getattr(ops, name)(ops.constant(x), window))
        np.testing.assert_array_equal(found, x)
