"""The device executor on the stand-in for CuPy: every rule, memory, graphs, and onnxruntime's tensors."""

import gc
import weakref

import numpy as np
import onnx
import onnxruntime
import pytest
from engine.branching import RUNTIME, branching, engine, feeds
from models import small_cnn
from onnx import helper, numpy_helper
from rules.cases import named_pairs, pairs

import onnxvis
from onnxvis.engine import device as module
from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.errors import MissingRuntimeError, OnnxvisError, UnsupportedError, UsageError

from .compiling import GPP, WHY
from .stand_in import OutOfMemoryError, launched, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

OPS = {dtype: stand_in_ops(dtype) for dtype in (np.float32, np.float64)} if GPP else {}
SEEDS = {"scores": (2, 5), "mean": (2,), "r1": (2, 4, 6, 6)}
WRT = ("x", "gate", "r1", "residual", "pooled")


def close(ours, theirs, tolerance=1e-5):
    """max|a − b| / max|b|."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert abs(ours - theirs).max(initial=0) <= tolerance * abs(theirs).max(initial=1e-30)


def record_of(arrays):
    return Record({name: RUNTIME.value(array) for name, array in arrays.items()})


# ---- every rule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(**named_pairs(pairs()))
def test_device_is_host(case, method, monkeypatch):
    """Walked, and as a CUDA graph, which all can be that do not compute on the host in between."""
    monkeypatch.setattr(DeviceExecutor, "GRAPH_AFTER", 1)
    plan = case.plan(method, np.float32)
    if not plan.traceable:
        pytest.skip("a rule in plain Python, which runs on the host only")
    record, seeds = case.record(np.float32), {"y": case.seed(np.float32)}
    device, theirs = DeviceExecutor(plan, OPS[np.float32]), HostExecutor(plan).backward(record, seeds)
    for _ in range(2):
        ours = device.backward(record_of(record), seeds)
        assert [*ours] == [*theirs]
        for name in plan.wrt:
            close(ours[name], theirs[name])
    assert device._graph is not None or "on the host" in device.uncaptured


def executors(method, seeds, dtype=np.float32, ops=None):
    """A device executor for the branching model, with its record and the host's answer."""
    made = engine(branching(), "host")
    host = made.backward(feeds(), Pass(method), seeds, WRT)
    record = made.run(feeds(), host.needs)
    return DeviceExecutor(host.plan, ops or stand_in_ops(dtype)), record, host.backward(record, seeds)


def random_seeds(names=tuple(SEEDS), seed=2):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=SEEDS[name]).astype(np.float32) for name in names}


@pytest.mark.parametrize("method", ["gradient", "deconvnet", "guided_backprop"])
def test_a_graph_with_branches(method):
    seeds = random_seeds()
    ours, record, theirs = executors(method, seeds)
    found = ours.backward(Record(record.raw), seeds)
    for name in WRT:
        close(found[name], theirs[name])


# ---- memory --------------------------------------------------------------------------------------


def test_activations_go_after_their_last_reader(monkeypatch):
    """No more of them are on the device at once than a step reads, and none when all is over."""
    seeds = random_seeds(["scores"])
    ours, record, _ = executors("gradient", seeds)
    alive, counts = weakref.WeakValueDictionary(), []
    upload = ours.gpu.tensor

    def tensor(value):
        array = memory = upload(value)
        while memory.base is not None:
            memory = memory.base  # what views of the array hold too
        alive[len(counts)] = memory
        counts.append(len(alive))
        return array

    monkeypatch.setattr(ours.gpu, "tensor", tensor)
    ours.backward(Record(record.raw), seeds)
    gc.collect()
    assert len(counts) > 3  # so many were read,
    assert max(counts) < len(counts)  # and never all of them there
    assert not [*alive]


def test_a_record_is_used_up():
    """What onnxruntime left on the GPU is free again before all is over."""
    seeds = random_seeds(["scores"])
    ours, record, _ = executors("gradient", seeds)
    given = Record(record.raw)
    ours.backward(given, seeds)
    assert not {*given.raw} & {*ours._used}


def test_what_was_computed_from_the_record_is_read_too():
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    computed = Record({}, {name: record[name] for name in ours.needs})
    for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
        found = ours.backward(computed, seeds)
        for name in WRT:
            close(found[name], theirs[name])


def test_a_tensor_that_two_steps_read_is_copied_once(monkeypatch):
    seeds = random_seeds()
    ours, record, _ = executors("gradient", seeds)
    read, upload = [], ours.gpu.tensor
    monkeypatch.setattr(ours.gpu, "tensor", lambda value: read.append(id(value)) or upload(value))
    ours.backward(Record(record.raw), seeds)
    assert len(read) == len(set(read))


@pytest.mark.parametrize(("samples", "advice"), [(8, "batches of 4"), (1, "smaller input")])
def test_out_of_memory_names_a_batch_to_try(monkeypatch, samples, advice):
    made = engine(small_cnn(), "host")
    given = {"x": np.ones((samples, 3, 12, 12), np.float32)}
    (output,) = made.file_graph.outputs
    seeds = {output: np.ones_like(made.run(given, [output])[output])}
    host = made.backward(given, Pass("gradient"), seeds, ["x"])
    ours = DeviceExecutor(host.plan, stand_in_ops())

    def full(*_):
        raise OutOfMemoryError("allocating 9 bytes")

    monkeypatch.setattr(ours.ops, "conv_transpose", full)
    with pytest.raises(OnnxvisError, match=advice):
        ours.backward(made.run(given, host.needs), seeds)


def test_a_missing_tensor_is_named():
    seeds = random_seeds(["scores"])
    ours, _, _ = executors("gradient", seeds)
    with pytest.raises(OnnxvisError, match="did not keep"):
        ours.backward(Record({}), seeds)


# ---- CUDA graphs ---------------------------------------------------------------------------------


def test_a_repeated_pass_becomes_a_graph():
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    for _ in range(DeviceExecutor.GRAPH_AFTER):
        ours.backward(Record(record.raw), seeds)
        assert ours._graph is None
    ours.backward(Record(record.raw), seeds)
    assert ours._graph is not None, ours.uncaptured
    with launched() as seen:
        found = ours.backward(Record(record.raw), seeds)
    assert not seen  # nothing was launched one by one
    assert ours._graph.graph.launches == 2
    for name in WRT:
        close(found[name], theirs[name])


def test_a_graph_follows_its_inputs():
    """Other activations and other seeds, in the same places."""
    seeds = random_seeds()
    ours, record, _ = executors("gradient", seeds)
    for _ in range(DeviceExecutor.GRAPH_AFTER + 1):
        first = ours.backward(Record(record.raw), seeds)
    kept = {name: array.copy() for name, array in first.items()}
    made, other = engine(branching(), "host"), random_seeds(seed=5)
    moved = {name: array[::-1] * 1.5 - 0.1 for name, array in feeds().items()}
    host = made.backward(moved, Pass("gradient"), seeds, WRT)
    record = made.run(moved, host.needs)
    found, theirs = ours.backward(Record(record.raw), other), host.backward(record, other)
    for name in WRT:
        close(found[name], theirs[name])
        np.testing.assert_array_equal(first[name], kept[name])  # what was handed out stays


def test_a_graph_holds_what_it_reads():
    """Constants that others have pushed out of the cache since are still there."""
    seeds = random_seeds()
    ours, record, _ = executors("gradient", seeds)
    for _ in range(DeviceExecutor.GRAPH_AFTER + 1):
        ours.backward(Record(record.raw), seeds)
    used = weakref.WeakValueDictionary(enumerate(ours.gpu._small.values()))
    assert len(used) > 2
    ours.gpu._small.clear()
    gc.collect()
    assert len(used) > 2
    ours._graph = None
    gc.collect()
    assert not used


def test_what_cannot_be_captured_is_walked(monkeypatch):
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    for _ in range(DeviceExecutor.GRAPH_AFTER):
        ours.backward(Record(record.raw), seeds)
    monkeypatch.setattr(ours.gpu, "_small", type(ours.gpu._small)())
    monkeypatch.setattr(ours.gpu, "_large", {})
    for _ in range(2):
        found = ours.backward(Record(record.raw), seeds)
        assert ours._graph is None and "made anew" in ours.uncaptured
        assert ours.gpu.held is None
        for name in WRT:
            close(found[name], theirs[name])


def test_large_inputs_are_not_copied_into_a_graph(monkeypatch):
    monkeypatch.setattr(DeviceExecutor, "GRAPH_BYTES", 100)
    seeds = random_seeds()
    ours, record, _ = executors("gradient", seeds)
    for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
        ours.backward(Record(record.raw), seeds)
    assert ours._graph is None and "large" in ours.uncaptured


# ---- onnxruntime's tensors -----------------------------------------------------------------------


class OnDevice:
    """An OrtValue that says that its memory is the device's."""

    def __init__(self, array):
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        self.data_type, self.shape, self.data_ptr = (
            self.value.data_type, self.value.shape, self.value.data_ptr,
        )  # fmt: skip

    def device_name(self):
        return "Cuda"

    def numpy(self):
        raise AssertionError("copied through the host")


DTYPES = [
    "float32",
    "float64",
    "float16",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_on_the_gpu_stays_where_it_is(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    gpu, value = stand_in_ops().gpu, OnDevice(array)
    found = gpu.tensor(value)
    assert found.dtype == array.dtype
    assert found.ctypes.data == value.data_ptr()
    np.testing.assert_array_equal(gpu.download(found), array)


def test_an_empty_tensor_has_no_address():
    assert stand_in_ops().gpu.tensor(OnDevice(np.zeros((0, 3), np.float32))).shape == (0, 3)


def test_a_tensor_on_the_host_is_copied():
    array = np.arange(3.0)
    gpu = stand_in_ops().gpu
    found = gpu.tensor(RUNTIME.value(array))
    array[0] = 9
    assert gpu.download(found)[0] == 0


def test_a_pass_over_tensors_on_the_gpu():
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    there = Record({name: OnDevice(record[name]) for name in record})
    for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
        found = ours.backward(Record(there.raw), seeds)
        for name in WRT:
            close(found[name], theirs[name])
    assert ours._graph is not None


# ---- choosing it ---------------------------------------------------------------------------------


@pytest.fixture
def with_gpu(monkeypatch):
    """An engine that finds a GPU, the stand-in."""
    found = {}

    def device_ops(dtype, precision):
        key = (np.dtype(dtype), precision)
        return found.setdefault(key, stand_in_ops(dtype, precision))

    monkeypatch.setattr("onnxvis.engine.engine.device_ops", device_ops)
    return found


def test_the_gpu_walks_back_what_the_cpu_computed(with_gpu):
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    ours = onnxvis.load(small_cnn(), executor="device")
    assert ours.device == "cpu+cuda"
    theirs = onnxvis.load(small_cnn())
    assert theirs.device == "cpu"
    for method in ("gradient", "lrp", "gradcam"):
        found, expected = ours.explain(x, method), theirs.explain(x, method)
        close(found.values, expected.values)
    assert {type(e) for e in ours.engine._executors.values()} == {DeviceExecutor}


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1"])
def test_relevance_takes_the_fused_kernels(with_gpu, composite):
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    with launched() as seen:
        ours = onnxvis.load(small_cnn(), executor="device").explain(x, "lrp", composite=composite)
    close(ours.values, onnxvis.load(small_cnn()).explain(x, "lrp", composite=composite).values)
    used = {name.partition("<")[0] for name in seen}
    assert {"split", "quotient", "multiply_back", "im2col", "col2im"} <= used


def test_double_precision_stays(with_gpu):
    """In a model that onnxruntime can run in it: without convolutions."""
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("MatMul", ["t", "w"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, x.shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = onnxvis.load(model, executor="device").vjp({"x": x}, {"y": np.ones((2, 2))})["x"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, w.sum(axis=1) / np.cosh(x) ** 2, rtol=1e-12)


def test_precision_reaches_the_operators(with_gpu):
    onnxvis.load(small_cnn(), executor="device", precision="tf32")
    assert [precision for _, precision in with_gpu] == ["tf32"]
    with pytest.raises(UsageError, match="'float32', 'tf32', 'float16'"):
        onnxvis.load(small_cnn(), precision="bfloat16")


def test_a_rule_in_plain_python_is_refused_by_name(with_gpu, monkeypatch):
    monkeypatch.setattr("onnxvis.engine.plan.Plan.traceable", property(lambda plan: False))
    x = np.zeros((1, 3, 12, 12), np.float32)
    with pytest.raises(UnsupportedError, match="plain Python"):
        onnxvis.load(small_cnn(), executor="device").explain(x, "gradient")


def test_the_device_executor_is_no_cpu(with_gpu):
    with pytest.raises(UsageError, match="device='cpu'"):
        onnxvis.load(small_cnn(), device="cpu", executor="device")


def test_without_a_gpu_it_says_so():
    from onnxvis.ops.device import find_gpu

    try:
        find_gpu()
    except MissingRuntimeError as error:
        assert "CuPy" in str(error)
        with pytest.raises(MissingRuntimeError, match="CuPy"):
            onnxvis.load(small_cnn(), executor="device")
    else:
        pytest.skip("there is a GPU")


# ---- onnxruntime with CUDA -----------------------------------------------------------------------


class Session:
    """onnxruntime's CPU session that calls itself one on the GPU, with what was bound written down."""

    def __init__(self, session, providers):
        self.session, self.providers, self.bound = session, providers, []

    def __getattr__(self, name):
        return getattr(self.session, name)

    def get_providers(self):
        return self.providers

    def io_binding(self):
        binding, bound = self.session.io_binding(), self.bound

        class Binding:
            bind_ortvalue_input = staticmethod(binding.bind_ortvalue_input)
            get_outputs = staticmethod(binding.get_outputs)
            own = binding

            @staticmethod
            def bind_output(name, *place):
                bound.append((name, *place))
                binding.bind_output(name)

        return Binding

    def run_with_iobinding(self, binding):
        self.session.run_with_iobinding(binding.own)


@pytest.fixture
def cuda(monkeypatch, with_gpu):
    """onnxruntime as it looks where its CUDA provider is; gives what sessions were asked for."""
    asked = {"sessions": [], "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    real = onnxruntime.InferenceSession

    def session(data, options, providers):
        asked["asked"] = providers
        asked["sessions"].append(Session(real(data, options), asked["providers"]))
        return asked["sessions"][-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxvis.engine.runtime.find_gpu", lambda: stand_in_ops().gpu)
    return asked


def test_both_passes_on_the_gpu(cuda):
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    ours = onnxvis.load(small_cnn(), device="cuda")
    assert ours.device == "cuda"
    found = ours.explain(x, "gradient")
    assert {type(e) for e in ours.engine._executors.values()} == {DeviceExecutor}
    (provider, options), fallback = cuda["asked"]
    assert (provider, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["user_compute_stream"] == "1" and options["use_tf32"] == "0"
    bound = [entry for session in cuda["sessions"] for entry in session.bound]
    assert bound and all(entry[1:] == ("cuda", 0) for entry in bound)
    close(found.values, onnxvis.load(small_cnn(), device="cpu").explain(x, "gradient").values)


def test_out_of_memory_in_the_forward_pass_names_a_batch_too(cuda, monkeypatch):
    def full(*_):
        raise RuntimeError("[ONNXRuntimeError] : 6 : FAIL : Failed to allocate memory for requested buffer")

    monkeypatch.setattr(Session, "run_with_iobinding", full)
    model = onnxvis.load(small_cnn(), device="cuda")
    with pytest.raises(OnnxvisError, match=r"forward pass of 6 samples .*batches of 3"):
        model.engine.run({"x": np.zeros((6, 3, 12, 12), np.float32)}, model.engine.file_graph.outputs)


def test_cuda_that_fell_back_to_the_cpu_is_an_error(cuda):
    cuda["providers"] = ["CPUExecutionProvider"]
    model = onnxvis.load(small_cnn(), device="cuda")
    with pytest.raises(MissingRuntimeError, match="fell back to CPUExecutionProvider"):
        model.run(np.zeros((1, 3, 12, 12), np.float32))


def test_an_onnxruntime_without_cuda_is_an_error(with_gpu):
    with pytest.raises(MissingRuntimeError, match="CPUExecutionProvider"):
        onnxvis.load(small_cnn(), device="cuda")


def test_the_other_executors_know_nothing_of_it():
    assert not {"DeviceOps", "Gpu"} & {*vars(HostExecutor)}
    assert module.DeviceExecutor.name == "device"
