"""The device's primitives on the stand-in for CuPy: the same numbers as the host's."""

import numpy as np
import pytest
from ops.expressions import EXPRESSIONS

from onnxvis.ops.device import DeviceOps
from onnxvis.ops.device.gpu import NotCapturableError
from onnxvis.ops.host import HostOps
from onnxvis.ops.primitives import Ops
from onnxvis.ops.window import Window

from .compiling import GPP, WHY
from .stand_in import stand_in_ops

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
    known = ops.gpu._large
    assert len(known) == 1  # the copy is gone, and what was made of it
    del weights
    assert not known


def test_small_constants_are_known_by_content():
    ops = stand_in_ops()
    first = ops.constant(np.float64([1, 2]))
    assert ops.constant(np.float64([1, 2])) is first
    assert ops.constant(np.float32([1, 2])) is not first
    assert ops.constant(np.float64([[1, 2]])).shape == (1, 2)
    for number in range(2 * ops.gpu.KEPT):
        ops.constant(np.float64([number]))
    assert len(ops.gpu._small) == ops.gpu.KEPT


def test_nothing_is_uploaded_into_a_graph():
    ops = stand_in_ops()
    known = np.float32([1, 2])
    ops.constant(known)
    ops.gpu.held = []
    assert ops.constant(known.copy()) is ops.gpu.held[0]
    with pytest.raises(NotCapturableError):
        ops.constant(np.float32([3]))


# ---- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "expected"), [("float32", 1), ("tf32", 7), ("float16", 1)])
def test_how_products_are_computed_is_set_and_put_back(precision, expected):
    ops = stand_in_ops(precision=precision)
    with ops.gpu.running(precision=precision):
        assert ops.xp._core.compute_type == expected
    assert ops.xp._core.compute_type == 2


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
