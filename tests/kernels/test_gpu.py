"""On a GPU: every primitive, every rule, whole models. ``python -m benchmarks.gpu`` also measures."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from models import build, normal, small_cnn
from onnx import TensorProto, helper

import onnxvis
from onnxvis.errors import MissingRuntimeError, OnnxvisError
from onnxvis.ops.device import device_ops, find_gpu

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu():
    try:
        return find_gpu()
    except MissingRuntimeError as error:
        pytest.skip(f"needs a GPU: {error}")


@pytest.fixture(params=[np.float32, np.float64])
def ops(request, gpu):
    return device_ops(np.dtype(request.param), "float32")


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


def test_every_way_of_tensor_cores(gpu, script):
    ways = pytest.importorskip("benchmarks.gpu.ways").ways
    assert not [row for row in ways(device_ops(np.dtype("float32"), "float32")) if not row["passed"]]


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_a_model(gpu, precision):
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    ours = onnxvis.load(small_cnn(), executor="device", precision=precision)
    theirs = onnxvis.load(small_cnn(), device="cpu")
    for method in ("gradient", "lrp", "gradcam"):
        found, expected = (model.explain(x, method).values for model in (ours, theirs))
        allowed = 1e-5 if precision == "float32" else 2e-2
        assert abs(found - expected).max() <= allowed * abs(expected).max()


@pytest.fixture
def cuda(gpu):
    """Opens a model on the GPU, both passes."""

    def load(model, **options):
        try:
            return onnxvis.load(model, device="cuda", **options)
        except MissingRuntimeError as error:
            pytest.skip(f"needs onnxruntime-gpu: {error}")

    return load


def agree(ours, theirs, x, method, target, allowed=1e-4):
    found, expected = (model.explain(x, method, target) for model in (ours, theirs))
    assert abs(found.values - expected.values).max() <= allowed * abs(expected.values).max()
    assert abs(found.score - expected.score).max() <= allowed * max(1, abs(expected.score).max())


@pytest.mark.parametrize("method", ["gradient", "lrp", "gradcam"])
def test_both_passes(cuda, method):
    """What onnxruntime's CUDA provider leaves on the GPU is used there."""
    ours, theirs = cuda(small_cnn()), onnxvis.load(small_cnn(), device="cpu")
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    for _ in range(4):
        agree(ours, theirs, x, method, None)


def test_the_next_numbers_are_explained_when_all_is_a_graph(cuda):
    ours, theirs = cuda(small_cnn()), onnxvis.load(small_cnn(), device="cpu")
    rng = np.random.default_rng(0)
    for turn in range(12):
        x = rng.normal(size=(2, 3, 12, 12)).astype(np.float32)
        agree(ours, theirs, x, "gradient", [turn % 4, (turn + 1) % 4])
    (session,) = ours.engine.forward._sessions.values()
    assert session.bindings._graphs and not session.bindings.refused


def test_threads_share_a_model(cuda):
    ours, theirs = cuda(small_cnn()), onnxvis.load(small_cnn(), device="cpu")

    def explain(seed):
        rng = np.random.default_rng(seed)
        for turn in range(10):
            x = rng.normal(size=(1 + seed % 2, 3, 12, 12)).astype(np.float32)
            agree(ours, theirs, x, ("gradient", "lrp")[turn % 2], turn % 4)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(explain, range(8)))


def test_too_little_memory_is_said_and_survived(cuda):
    ours, theirs = cuda(small_cnn()), onnxvis.load(small_cnn(), device="cpu")
    x = np.random.default_rng(0).normal(size=(64, 3, 12, 12)).astype(np.float32)
    pool = ours.engine.runtime.gpu.pool
    limit = pool.get_limit()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**16)
    try:
        with pytest.raises(OnnxvisError, match=r"too little memory .* 64 samples .* batches of 32"):
            ours.explain(x, "gradient", 1)
    finally:
        pool.set_limit(size=limit)
    agree(ours, theirs, x, "gradient", 1)


def quantized():
    """A convolution of whole numbers, which onnxruntime's CUDA provider leaves to the CPU."""
    weights = {
        "s": np.array(0.05, np.float32), "z": np.array(128, np.uint8), "t": np.array(0.2, np.float32),
        "w": normal(4, 3, 3, 3, scale=40).astype(np.int8), "v": np.array(0.01, np.float32),
        "n": np.array(0, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "v", "n", "t", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "t", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    return build(nodes, {"x": ["N", 3, 12, 12]}, ["y"], weights)


def halves():
    """A net that computes in float16 as a whole."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]), helper.make_node("Flatten", ["p"], ["y"]),
    ]  # fmt: skip
    weights = {"w": normal(4, 3, 3, 3, scale=0.3).astype(np.float16)}
    model = build(nodes, {"x": ["N", 3, 12, 12]}, ["y"], weights)
    for entry in (model.graph.input[0], model.graph.output[0]):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


@pytest.mark.parametrize(
    ("made", "dtype", "allowed"), [(quantized, np.float32, 1e-4), (halves, np.float16, 2e-2)]
)
def test_nets_of_other_numbers(cuda, made, dtype, allowed):
    model = made()
    ours, theirs = cuda(model), onnxvis.load(model, device="cpu")
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.normal(size=(1, 3, 12, 12)).astype(dtype)
        for method in ("gradient", "lrp"):
            agree(ours, theirs, x, method, 1, allowed)
