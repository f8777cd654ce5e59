"""On a GPU: every primitive, every rule, whole models. ``python -m benchmarks.gpu`` also measures."""

import numpy as np
import pytest
from models import small_cnn

import onnxvis
from onnxvis.errors import MissingRuntimeError
from onnxvis.ops.device import device_ops

pytestmark = pytest.mark.gpu


@pytest.fixture(params=[np.float32, np.float64])
def ops(request):
    try:
        return device_ops(np.dtype(request.param), "float32")
    except MissingRuntimeError as error:
        pytest.skip(f"needs a GPU: {error}")


@pytest.fixture(scope="module")
def script():
    return pytest.importorskip(
        "benchmarks.gpu.correctness", reason="needs benchmarks/ and tests/ beside each other"
    )


def test_primitives(ops, script):
    assert not [row for row in script.primitives(ops) if not row["passed"]]


def test_rules(ops, script):
    if ops.dtype == np.float64:
        pytest.skip("the cases are in single precision")
    assert not [row for row in script.rules(ops) if not row["passed"]]


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_a_model(ops, precision):
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    ours = onnxvis.load(small_cnn(), executor="device", precision=precision)
    theirs = onnxvis.load(small_cnn(), device="cpu")
    for method in ("gradient", "lrp", "gradcam"):
        found, expected = (model.explain(x, method).values for model in (ours, theirs))
        allowed = 1e-5 if precision == "float32" else 2e-2
        assert abs(found - expected).max() <= allowed * abs(expected).max()


def test_both_passes(ops):
    """With onnxruntime's CUDA provider: what it leaves on the GPU is used there."""
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    try:
        ours = onnxvis.load(small_cnn(), device="cuda")
    except MissingRuntimeError as error:
        pytest.skip(f"needs onnxruntime-gpu: {error}")
    for method in ("gradient", "lrp", "gradcam"):
        expected = onnxvis.load(small_cnn(), device="cpu").explain(x, method).values
        for _ in range(4):
            found = ours.explain(x, method).values
            assert abs(found - expected).max() <= 1e-4 * abs(expected).max()
