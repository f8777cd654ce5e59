"""Convolution by tensor cores, emulated: threads that wait for each other, copies that arrive late."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
from ops import windows

from onnxvis.ops.device import tensor_cores
from onnxvis.ops.device.tensor_cores import TensorCores
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window

from .compiling import GPP, WHY
from .stand_in import launched, stand_in_gpu, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

KINDS = ("conv_fprop", "conv_dgrad")
POINTWISE = Window((1, 1), (1, 1), (1, 1), (0, 0), (4, 5), (4, 5))


def result_shape(kind, x, w, window):
    if kind == "conv_fprop":
        return (x.shape[0], w.shape[0], *window.size_out)
    return (x.shape[0], w.shape[1], *window.size_in)


def ways(gpu, kind, x, w, window):
    return TensorCores(gpu).ways(kind, x, w, window, result_shape(kind, x, w, window))


def exact(kind, x, w, window):
    name = {"conv_fprop": "conv", "conv_dgrad": "conv_transpose"}[kind]
    with np.errstate(all="ignore"):
        return getattr(HostOps(np.float64), name)(x.astype(np.float64), w.astype(np.float64), window)


def compare(kind, x, w, window, tolerance=1e-6, blocks=tensor_cores.BLOCKS):
    gpu = stand_in_gpu(90)
    gpu.processors = 0  # for which there are blocks enough
    x, w = np.float32(x), np.float32(w)
    expected = exact(kind, x, w, window)
    x, w = gpu.upload(x), gpu.upload(w)
    found = [way for way in ways(gpu, kind, x, w, window) if way.block in blocks]
    assert found
    for way in found:
        y = gpu.download(way(x, w))
        assert y.shape == expected.shape and y.dtype == np.float32
        assert abs(y - expected).max() <= tolerance * max(abs(expected).max(), 1e-30)


def data(rng, kind, window, samples, filters, channels):
    w = rng.normal(size=(filters, channels, *window.kernel))
    given = (channels, window.size_in) if kind == "conv_fprop" else (filters, window.size_out)
    return rng.normal(size=(samples, given[0], *given[1])), w


def planar_windows(count, seed):
    return [window for window in windows.random_windows(3 * count, seed=seed) if len(window.kernel) == 2][
        :count
    ]


def with_strides(window, strides):
    """The same window at more places, or at fewer."""
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    ends = [n + b + 1 for n, b in zip(window.size_in, window.before, strict=True)]  # 1 behind the input
    size_out = tuple(max(1, (e - r) // s + 1) for e, r, s in zip(ends, reach, strides, strict=True))
    return dataclasses.replace(window, strides=strides, size_out=size_out)


@pytest.mark.parametrize("kind", KINDS)
def test_random_windows(kind):
    rng = np.random.default_rng(1)
    for window in planar_windows(20, seed=21):
        samples, filters, channels = (int(n) for n in rng.integers(1, (4, 40, 40)))
        if kind == "conv_dgrad":
            window = with_strides(window, (1, 1))
        compare(kind, *data(rng, kind, window, samples, filters, channels), window, blocks=[(64, 64)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "filters", "channels"), [((4, 5), 64, 64), ((4, 5), 130, 33), ((3, 5), 65, 129)]
)
def test_blocks(kind, size, filters, channels):
    """Every shape of block, whole ones and what is left over, 16 bytes at a time and 4."""
    rng = np.random.default_rng(2)
    for window, samples in (
        (dataclasses.replace(POINTWISE, size_in=size, size_out=size), 9),
        (Window((2, 3), (1, 1), (1, 2), (1, 0), size, (size[0] + 1, size[1] - 2)), 12),
    ):
        compare(kind, *data(rng, kind, window, samples, filters, channels), window)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_in_parts(kind, monkeypatch):
    """Where there are few blocks; parts of one length, but the last."""
    monkeypatch.setattr(tensor_cores, "STEPS", 1)
    monkeypatch.setattr(tensor_cores._Block, "resident", 1)
    rng = np.random.default_rng(9)
    window = Window((1, 3), (1, 1), (1, 1), (0, 1), (4, 5), (4, 5))
    filters, channels = (6, 83) if kind == "conv_fprop" else (83, 6)
    gpu = stand_in_gpu(90)
    x, w = (np.float32(a) for a in data(rng, kind, window, 2, filters, channels))
    x[1, 40, 2, 2] = np.inf
    z = exact(kind, x, w, window)
    r, bias = np.float32(rng.normal(size=z.shape)), np.float32(rng.normal(size=z.shape[1]))
    shape, given = result_shape(kind, x, w, window), [gpu.upload(a) for a in (x, w, r)]
    for processors, at_once in ((1, 96), (2, 48), (3, 32), (100, 16)):
        gpu.processors = processors
        found = TensorCores(gpu).ways(kind, *given[:2], window, shape)
        way = [way for way in found if way.block == (64, 64)][-1]
        assert way.at_once == at_once
        added = z + bias[:, None, None]
        for ours, theirs in (
            (way(*given[:2]), z),
            (way.product(*given), z * r),
            (way.quotient(*given, gpu.upload(bias), 0.5), r / (added + np.where(added >= 0, 0.5, -0.5))),
        ):
            np.testing.assert_allclose(gpu.download(ours), theirs, rtol=1e-4, atol=1e-5)


def test_16_bytes_at_a_time_where_they_lie_so():
    gpu = stand_in_gpu(90)
    strided, padded = with_strides(POINTWISE, (2, 1)), dataclasses.replace(POINTWISE, before=(0, 1))
    odd = dataclasses.replace(POINTWISE, size_in=(3, 5), size_out=(3, 5))
    for window, wide in ((POINTWISE, "true"), (strided, "false"), (padded, "false"), (odd, "false")):
        x, w = gpu.upload(np.ones((2, 3, *window.size_in), "f")), gpu.upload(np.ones((5, 3, 1, 1), "f"))
        (way,) = [way for way in ways(gpu, "conv_fprop", x, w, window) if way.block == (64, 64)]
        with launched() as seen:
            way(x, w)
        assert seen == ["by_offset<float>", f"convolve<float, 64, 64, {wide}, PLAIN, 1, 1>"]
    shifted = gpu.upload(np.ones(121, "f"))[1:].reshape(2, 3, 4, 5)
    with launched() as seen:
        ways(gpu, "conv_fprop", shifted, w, POINTWISE)[0](shifted, w)
    assert seen[-1] == "convolve<float, 64, 128, false, PLAIN, 1, 1>"


@pytest.mark.parametrize("strides", [(2, 2), (1, 4), (3, 1)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (7, 2)])
@pytest.mark.parametrize("before", [(0, 0), (1, 3), (-1, 0)])
def test_adjoint_of_strides(strides, kernel, before):
    """Whatever the phases' sizes; what no window sees gets 0, and r has a say in what it is."""
    rng = np.random.default_rng(4)
    window = with_strides(Window(kernel, (1, 1), (1, 1), before, (9, 8), (1, 1)), strides)
    g, w = (np.float32(a) for a in data(rng, "conv_dgrad", window, 3, 18, 5))
    r = rng.normal(size=(3, 5, 9, 8)).astype(np.float32)
    expected, gpu = windows.conv_transpose(g.astype(float), w.astype(float), window), stand_in_gpu(90)
    given = [gpu.upload(a) for a in (g, w, r)]
    found = ways(gpu, "conv_dgrad", *given[:2], window)
    assert {way.block for way in found} == {(64, 64), (64, 128)}
    for way in found:
        for ours, theirs in ((way(*given[:2]), expected), (way.product(*given), r * expected)):
            ours = gpu.download(ours)
            assert abs(ours - theirs).max() <= 1e-6 * abs(theirs).max()
            assert (ours[expected == 0] == 0).all()


def test_adjoint_of_strides_of_numbers_that_are_not_finite():
    window, rng = Window((3, 3), (2, 2), (1, 1), (1, 1), (6, 7), (3, 4)), np.random.default_rng(6)
    g, w = (np.float32(abs(a)) for a in data(rng, "conv_dgrad", window, 2, 18, 17))
    g[0, 3, 1, 2] = np.inf
    expected, gpu = HostOps(np.float32).conv_transpose(g, w, window), stand_in_gpu(90)
    g, w = gpu.upload(g), gpu.upload(w)
    for way in ways(gpu, "conv_dgrad", g, w, window):
        np.testing.assert_allclose(gpu.download(way(g, w)), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_long_sums_of_positive_numbers(kind):
    """What every product, or every sum, would lose adds up; float32 itself, one by one, loses 3e-6."""
    window, rng = Window((3, 3), (1, 1), (1, 1), (1, 1), (3, 3), (3, 3)), np.random.default_rng(5)
    filters, channels = (8, 512) if kind == "conv_fprop" else (512, 8)
    x, w = (rng.uniform(1, 2, a.shape) for a in data(rng, kind, window, 1, filters, channels))
    compare(kind, x, w, window, blocks=[(64, 64)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3.4e38])
def test_numbers_that_are_not_finite(kind, odd):
    """As float32 sums them: infinity stays, and reaches what sees it only."""
    window, rng = Window((2, 2), (1, 1), (1, 1), (0, 1), (4, 4), (3, 4)), np.random.default_rng(6)
    x, w = (np.float32(abs(a)) for a in data(rng, kind, window, 2, 18, 17))
    x[0, 3, 1, 2] = odd
    gpu = stand_in_gpu(90)
    name = {"conv_fprop": "conv", "conv_dgrad": "conv_transpose"}[kind]
    with np.errstate(all="ignore"):
        expected = getattr(HostOps(np.float32), name)(x, w, window)
    assert np.isfinite(expected).any()
    x, w = gpu.upload(x), gpu.upload(w)
    for way in ways(gpu, kind, x, w, window):
        np.testing.assert_allclose(gpu.download(way(x, w)), expected, rtol=1e-5)


@pytest.mark.parametrize("window", [POINTWISE, Window((2, 3), (1, 1), (1, 1), (1, 1), (4, 5), (5, 5))])
def test_what_becomes_of_the_sums(window):
    """Multiplied on the way out, or what another array is divided by, stabilized."""
    gpu, rng = stand_in_gpu(90), np.random.default_rng(7)
    for kind in KINDS:
        x, w = (np.float32(a) for a in data(rng, kind, window, 3, 70, 5))
        z = exact(kind, x, w, window)
        r, bias = np.float32(rng.normal(size=z.shape)), np.float32(rng.normal(size=z.shape[1]))
        given = [gpu.upload(a) for a in (x, w, r)]
        way = next(way for way in ways(gpu, kind, *given[:2], window) if way.block == (64, 64))
        found = gpu.download(way.product(*given))
        assert abs(found - z * r).max() <= 1e-6 * abs(z * r).max()
        found = gpu.download(way.quotient(*given, gpu.upload(bias), 0.5))
        added = z + bias[:, None, None]
        np.testing.assert_allclose(found, r / (added + np.where(added >= 0, 0.5, -0.5)), rtol=1e-4, atol=1e-5)


def gated(gate, g, y):
    host = HostOps(np.float64)
    return host.positive(g) if gate == "deconvnet" else host.gate(g, y, gate == "guided")


@pytest.mark.parametrize(
    "window",
    [
        POINTWISE,
        Window((3, 2), (2, 2), (1, 1), (1, 1), (4, 5), (2, 3)),
        Window((3, 3), (1, 1), (1, 1), (1, 1), (3, 5), (3, 5)),
        Window((1, 1), (2, 2), (1, 1), (0, 0), (4, 5), (2, 3)),
    ],
)
def test_onto_what_is_there(window, monkeypatch):
    """In packs, one by one, between phases, in parts."""
    monkeypatch.setattr(tensor_cores, "STEPS", 1)
    gpu, rng, in_parts = stand_in_gpu(90), np.random.default_rng(10), 0
    for kind in KINDS:
        x, w = (np.float32(a) for a in data(rng, kind, window, 3, 40, 37))
        z = exact(kind, x, w, window)
        r, onto = (np.float32(rng.normal(size=z.shape)) for _ in range(2))
        x, w, r_there, onto_there = (gpu.upload(a) for a in (x, w, r, onto))
        for way in ways(gpu, kind, x, w, window):
            in_parts += way.at_once < 37
            for found, expected in (
                (way(x, w, onto=onto_there), z + onto),
                (way.product(x, w, r_there, onto=onto_there), z * r + onto),
                *(
                    (way(x, w, onto=there, gate=gate, y=r_there), gated(gate, z + added, r))
                    for gate in ("gradient", "guided", "deconvnet")
                    for there, added in ((onto_there, onto), (None, 0))
                ),
            ):
                assert abs(gpu.download(found) - expected).max() <= 1e-6 * abs(expected).max()
        assert (gpu.download(onto_there) == onto).all()
    assert in_parts


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8])
def test_few_channels_go_by_several_offsets(channels):
    gpu, rng, taps = stand_in_gpu(90), np.random.default_rng(11), 4 if channels < 5 else 2
    for window in (
        Window((3, 3), (2, 1), (1, 2), (1, 2), (6, 7), (3, 7)),
        Window((1, 5), (1, 1), (1, 1), (0, 4), (4, 5), (4, 9)),
    ):
        x, w = (np.float32(a) for a in data(rng, "conv_fprop", window, 2, 70, channels))
        x[0, 0, 2, 2] = np.inf
        z, bias = exact("conv_fprop", x, w, window), np.float32(rng.normal(size=70))
        r, added = np.float32(rng.normal(size=z.shape)), z + bias[:, None, None]
        quotient = r / (added + np.where(added >= 0, 0.5, -0.5))
        x, w, r, bias = (gpu.upload(a) for a in (x, w, r, bias))
        found = ways(gpu, "conv_fprop", x, w, window)
        assert {(way.block, way.taps) for way in found} == {((64, 64), taps), ((64, 128), taps)}
        for way in found:
            for ours, theirs in ((way(x, w), z), (way.quotient(x, w, r, bias, 0.5), quotient)):
                np.testing.assert_allclose(gpu.download(ours), theirs, rtol=1e-4, atol=1e-5)


def test_what_it_does_not_take(monkeypatch):
    gpu = stand_in_gpu(90)
    window = Window((3, 3), (2, 2), (1, 1), (1, 1), (8, 8), (4, 4))
    x, g, w = (gpu.upload(np.ones(s, "f")) for s in ((2, 6, 8, 8), (2, 4, 4, 4), (4, 6, 3, 3)))
    assert ways(gpu, "conv_fprop", x, w, window)
    assert ways(gpu, "conv_dgrad", g, w, window)
    for others in ({"strides": (3, 2)}, {"dilations": (2, 2)}):  # six phases; offsets of several phases each
        assert not ways(gpu, "conv_dgrad", g, w, dataclasses.replace(window, **others))
    assert not TensorCores(gpu).ways("conv_fprop", x, w[:, :3], window, (2, 4, 4, 4))  # two groups
    assert not TensorCores(gpu).ways("conv_dgrad", g, w, with_strides(window, (1, 1)), (2, 12, 8, 8))
    assert not ways(gpu, "conv_fprop", x.astype(np.float64), w.astype(np.float64), window)
    assert not ways(gpu, "conv_fprop", x[:0], w, window)
    line = Window((3,), (1,), (1,), (1,), (8,), (8,))
    assert not ways(gpu, "conv_fprop", x.reshape(12, 8, 8), w.reshape(12, 6, 3)[:, :, :3], line)
    monkeypatch.setattr("onnxvis.ops.device.geometry.LIMIT", 700)
    assert not ways(gpu, "conv_fprop", x, w, window)
    monkeypatch.undo()
    gpu.capability = 75
    assert not ways(gpu, "conv_fprop", x, w, window)


# ---- beside the other ways -----------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_all_ways_end_alike(bias, monkeypatch):
    """Those that make their end by themselves, and those behind which it follows."""
    ops, host, rng = stand_in_ops(capability=90), HostOps(np.float64), np.random.default_rng(9)
    for window in (Window((3, 3), (1, 1), (1, 1), (1, 1), (5, 6), (5, 6)),
                   Window((1, 1), (2, 2), (1, 1), (0, 0), (5, 6), (3, 3))):  # fmt: skip
        x, a, w, g, r = (
            rng.normal(size=shape).astype(np.float32)
            for shape in ((2, 5, *window.size_in),) * 2
            + ((7, 5, *window.kernel),) + ((2, 7, *window.size_out),) * 2
        )  # fmt: skip
        b = rng.normal(size=(1, 7, 1, 1)).astype(np.float32) if bias else None
        wide = [v.astype(np.float64) for v in (r, x, g, a, w)]
        quotient = host.conv_quotient(wide[0], [(wide[1], wide[4])], window, 1, 0.5, b)
        product = host.conv_transpose_product(wide[2], [(wide[3], wide[4])], window)
        seen = []

        def every(gpu, ways, *arrays, seen=seen):
            seen.append([gpu.download(way(*arrays)) for way in ways])
            return ways[0]

        monkeypatch.setattr("onnxvis.ops.device.convolution.fastest", every)
        r, x, g, a, w = (ops.constant(v) for v in (r, x, g, a, w))
        ops.conv_quotient(r, [(x, w)], window, 1, 0.5, None if b is None else ops.constant(b))
        ops.conv_transpose_product(g, [(a, w)], window)
        for found, expected in zip(seen, (quotient, product), strict=True):
            assert len(found) > 1
            for result in found:
                np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-5)


def test_half_precision_takes_no_float32_of_three_parts():
    assert stand_in_ops(precision="float16", capability=90).convolution.tensor_cores is None


def test_a_group_has_other_ways():
    ops, window = stand_in_ops(capability=90), Window((3, 3), (1, 1), (1, 1), (1, 1), (5, 6), (5, 6))
    with launched() as seen:
        ops.conv(ops.constant(np.ones((1, 4, 5, 6))), ops.constant(np.ones((4, 2, 3, 3))), window, 2)
    assert [name.partition("<")[0] for name in seen] == ["im2col"]


def test_weights_of_a_model_are_laid_out_once():
    """As long as they live; what a rule computes is laid out each time."""
    ops, rng = stand_in_ops(capability=90), np.random.default_rng(0)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), (4, 5), (4, 5))
    g, weights = ops.constant(rng.normal(size=(1, 40, 4, 5))), np.float32(rng.normal(size=(40, 56, 3, 3)))
    (way, *_) = ways(ops.gpu, "conv_dgrad", g, weights, window)

    def made(w):
        with launched() as kernels:
            y = ops.gpu.download(way(g, w))
        expected = exact("conv_dgrad", ops.gpu.download(g), ops.gpu.download(w), window)
        assert abs(y - expected).max() < 1e-5 * abs(expected).max()
        return sum("by_offset" in kernel for kernel in kernels)

    assert weights.nbytes > ops.gpu.constants.SMALL
    assert [made(ops.constant(weights)) for _ in range(3)] == [1, 0, 0]
    assert [made(ops.constant(weights) * 2) for _ in range(2)] == [1, 1]
    weights = np.float32(rng.normal(size=weights.shape))  # the others are gone
    assert [made(ops.constant(weights)) for _ in range(2)] == [1, 0]
    assert len(ops.gpu.constants._made) == 2 + 1  # with g


def test_a_graph_lays_out_what_was_not_before():
    """Its memory is its own: the next pass makes it again, outside; and what it reads lives as long as it."""
    gpu, array = stand_in_gpu(90), np.ones(20000, np.float32)
    constant, count = gpu.constants.of(array, np.float32), []

    def make():
        count.append(len(count))
        return (gpu.xp.zeros((len(count),), np.float32),)

    def made(key):
        (array,) = gpu.constants.made_of(constant, key, make)
        return array

    first = gpu.capture(lambda: made("a"))
    assert first.made.shape == (1,) and not first.constants
    assert [made("a").shape for _ in range(2)] == [(2,)] * 2
    second = gpu.capture(lambda: made("a"))
    assert second.made.shape == (2,) and second.constants[0] is second.made
    assert made("b").shape == (3,)


@pytest.mark.parametrize("name", ["positive", "negative", "split"])
def test_parts_of_weights_are_made_once(monkeypatch, name):
    """And laid out once; when the weights are gone, so are these. Of the largest nothing is kept."""
    ops, rng = stand_in_ops(capability=90), np.random.default_rng(0)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), (4, 5), (4, 5))
    g, weights = ops.constant(rng.normal(size=(1, 40, 4, 5))), np.float32(rng.normal(size=(40, 56, 3, 3)))
    (way, *_) = ways(ops.gpu, "conv_dgrad", g, weights, window)

    def parts():
        with launched() as kernels:
            found = getattr(ops, name)(ops.constant(weights))
            found = found if isinstance(found, tuple) else (found,)
            for part in found:
                way(g, part)
        expected = getattr(HostOps(np.float32), name)(weights)
        for part, right in zip(found, expected if name == "split" else (expected,), strict=True):
            np.testing.assert_array_equal(ops.gpu.download(part), right)
        return [*map(id, found)], sum("by_offset" in kernel for kernel in kernels)

    (first, laid), (second, again) = parts(), parts()
    assert first == second and (laid, again) == (len(first), 0)
    weights = np.float32(rng.normal(size=(8, 8)))
    gc.collect()
    assert ops.gpu.constants._made.keys() == {id(g)}
    monkeypatch.setattr(ops.gpu, "share", 4 * 40 * 56 * 9)
    weights = np.float32(rng.normal(size=(40, 56, 3, 3)))
    assert parts()[1] == parts()[1] == len(first)


def test_what_is_made_of_two_is_made_once():
    """As long as the first lives; the second is held until then, or another might be taken for it."""
    gpu, count = stand_in_gpu(), []
    arrays = [np.full(20000, n, np.float32) for n in range(3)]

    def make():
        count.append(len(count))
        return (gpu.xp.zeros((3,), np.float32),)

    def made(first, *others):
        (array,) = gpu.constants.made_of(first, "both", make, others)
        return array

    a, b, c = (gpu.constants.of(array, np.float32) for array in arrays)
    assert made(a, b) is made(a, b)
    assert len({*map(id, (made(a, b), made(a, c), made(b, a), made(a)))}) == 4 == len(count)
    assert made(a, b * 1) is not made(a, b * 1)
    second = weakref.ref(b)
    del b, arrays[1]
    gc.collect()
    assert second() is not None and len(gpu.constants._large) == 2
    assert made(a, second()) is not made(a, second())  # it is no constant any more
    del a, arrays[0]
    gc.collect()
    assert second() is None and gpu.constants._made.keys() == {id(c)}


def test_parts_of_small_constants_go_with_them(monkeypatch):
    """A bias in the shape in which it is added, say."""
    ops = stand_in_ops()
    monkeypatch.setattr(ops.gpu.constants, "KEPT", 2)

    def positive(bias):
        return ops.positive(ops.reshape(ops.constant(np.float32(bias)), (1, 2, 1, 1)))

    first = positive([1, -1])
    assert positive([1, -1]) is first and ops.gpu.download(first).ravel().tolist() == [1, 0]
    others = [positive([n, -1]) for n in (2, 3)]
    assert len(others) == 2
    assert len(ops.gpu.constants._made) == 2 * 3  # the constants, in their shapes, and their parts
    assert positive([1, -1]) is not first


def test_what_is_computed_is_split_anew():
    ops = stand_in_ops()
    x = ops.constant(np.ones((200, 200))) * 2
    assert ops.positive(x) is not ops.positive(x) and not ops.gpu.constants._made.get(id(x))
