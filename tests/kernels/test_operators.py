"""The device's primitives on the stand-in for CuPy: the same numbers as the host's."""

import numpy as np
import pytest
from ops.expressions import EXPRESSIONS

from onnxvis.errors import OnnxvisError
from onnxvis.ops.device import DeviceOps
from onnxvis.ops.device.constants import NotCapturableError
from onnxvis.ops.host import HostOps
from onnxvis.ops.primitives import Ops
from onnxvis.ops.window import Window

from .compiling import GPP, WHY
from .stand_in import COMPUTED, DeviceArray, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: e.id.strip())
def test_expression(expression, dtype):
    ops, host = stand_in_ops(dtype), HostOps(dtype)
    ours = expression.use(ops, *map(ops.constant, expression.arrays))
    theirs = np.asarray(expression.use(host, *map(host.constant, expression.arrays)))
    found = ops.gpu.download(ours)
    assert found.shape == theirs.shape
    assert found.dtype == theirs.dtype
    np.testing.assert_allclose(found, theirs, rtol=1e-5 if dtype is np.float32 else 1e-13, atol=1e-7)


def test_only_what_the_set_allows_is_implemented():
    """Abstract methods, and overrides of what is written with them: no primitive of its own."""
    own = {name for name in vars(DeviceOps) if not name.startswith("_")}
    assert own <= {name for name in dir(Ops) if not name.startswith("_")}
    assert not DeviceOps.__abstractmethods__


def test_arrays_of_both_memories_do_not_mix():
    ops = stand_in_ops()
    with pytest.raises(TypeError, match="NumPy"):
        ops.constant(np.ones(3)) + np.ones(3)


# ---- constants -----------------------------------------------------------------------------------


def test_large_constants_stay_while_their_array_lives():
    ops = stand_in_ops()
    weights = np.ones((200, 200), np.float32)
    first = ops.constant(weights)
    assert ops.constant(weights) is first
    assert ops.constant(weights.copy()) is not first
    known = ops.gpu.constants._large
    assert len(known) == 1  # the copy is gone, and what was made of it
    del weights
    assert not known


def test_small_constants_are_known_by_content():
    ops = stand_in_ops()
    first = ops.constant(np.float64([1, 2]))
    assert ops.constant(np.float64([1, 2])) is first
    assert ops.constant(np.float32([1, 2])) is not first
    assert ops.constant(np.float64([[1, 2]])).shape == (1, 2)
    for number in range(2 * ops.gpu.constants.KEPT):
        ops.constant(np.float64([number]))
    assert len(ops.gpu.constants._small) == ops.gpu.constants.KEPT


def test_nothing_is_uploaded_into_a_graph():
    ops = stand_in_ops()
    known = np.float32([1, 2])
    ops.constant(known)
    ops.gpu.constants.held = []
    assert ops.constant(known.copy()) is ops.gpu.constants.held[0]
    with pytest.raises(NotCapturableError):
        ops.constant(np.float32([3]))


# ---- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "expected"), [("float32", 68), ("tf32", 77), ("float16", 68)])
def test_what_products_are_computed_in(precision, expected):
    for dtype, kind in ((np.float32, expected), (np.float64, 70)):
        ops = stand_in_ops(dtype, precision)
        COMPUTED.clear()
        ops.matmul(*map(ops.constant, (np.ones((2, 3)), np.ones((3, 4)))))
        assert [kind] == COMPUTED


@pytest.mark.parametrize("name", ["matmul", "conv"])
def test_half_precision_rounds_factors_and_nothing_else(name):
    window = Window((2, 2), (1, 1), (1, 1), (0, 0), (6, 6), (5, 5))
    rng = np.random.default_rng(0)
    if name == "matmul":
        a, b, rest = rng.normal(size=(7, 20)), rng.normal(size=(20, 5)), ()
    else:
        a, b, rest = rng.normal(size=(2, 3, 6, 6)), rng.normal(size=(4, 3, 2, 2)), (window,)
    half, single = stand_in_ops(precision="float16"), stand_in_ops()
    found, exact = (
        ops.gpu.download(getattr(ops, name)(ops.constant(a), ops.constant(b), *rest))
        for ops in (half, single)
    )
    assert found.dtype == np.float32
    error = abs(found - exact).max() / abs(exact).max()
    assert 1e-5 < error < 3e-3


# ---- products ------------------------------------------------------------------------------------


def views(rng, *shape):
    """The same numbers as they may lie in memory: whole, transposed, cut out, stretched, backwards."""
    x = rng.normal(size=shape)
    wide = rng.normal(size=(*shape[:-2], shape[-2] + 3, shape[-1] + 2))
    yield x
    yield x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    yield wide[..., 1:-2, 2:]
    yield wide.swapaxes(-1, -2).copy().swapaxes(-1, -2)[..., 3:, :-2]
    yield x[..., ::-1, ::-1]
    yield rng.normal(size=(*shape[:-2], 2 * shape[-2], 3 * shape[-1]))[..., ::2, ::3]
    yield np.broadcast_to(x[..., :1, :], shape)


@pytest.mark.parametrize(
    "sizes", [(3, 4, 5), (1, 6, 4), (4, 6, 1), (5, 1, 3), (1, 1, 1), (0, 3, 2), (2, 0, 3)]
)
@pytest.mark.parametrize(
    ("left", "right"),
    [((), ()), ((2,), (2,)), ((2,), ()), ((), (3,)), ((1,), (2,)), ((2, 1), (3,)), ((1, 1), ()), ((0,), ())],
)
def test_products_of_what_lies_anyhow(sizes, left, right):
    rows, inner, columns = sizes
    rng, ops = np.random.default_rng(0), stand_in_ops(np.float64)
    for a in views(rng, *left, rows, inner):
        for b in views(rng, *right, inner, columns):
            ours = ops.gpu.download(ops.matmul(as_it_lies(a), as_it_lies(b)))
            np.testing.assert_allclose(ours, a @ b, rtol=1e-12, atol=1e-12)


def as_it_lies(array):
    """On the device, with the strides that it has."""
    return array.view(DeviceArray)


def test_factors_that_cublas_can_read_are_not_copied(monkeypatch):
    ops, rng = stand_in_ops(np.float64), np.random.default_rng(0)
    monkeypatch.setattr(DeviceArray, "copy", lambda array: pytest.fail("copied"))
    a = as_it_lies(rng.normal(size=(6, 4, 5)))
    for left, right in (
        (a, a.swapaxes(1, 2)),
        (a.swapaxes(1, 2), a),
        (a[0], a[0].transpose((1, 0))),
        (a[:, 1:3], a[0].transpose((1, 0))),
    ):
        ops.matmul(left, right)


def test_shapes_that_do_not_fit_are_named():
    ops = stand_in_ops()
    with pytest.raises(OnnxvisError, match=r"\(2, 3\) and \(4, 5\)"):
        ops.matmul(ops.zeros((2, 3)), ops.zeros((4, 5)))


def test_what_cublas_says_is_passed_on():
    ops = stand_in_ops()
    ops.gpu.cublas.library.cublasCreate_v2 = lambda handle: 3
    with pytest.raises(OnnxvisError, match="status 3"):
        ops.matmul(ops.zeros((2, 3)), ops.zeros((3, 5)))
