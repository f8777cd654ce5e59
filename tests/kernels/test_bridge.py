"""From onnxruntime to the device: tensors that lie there, providers, and outputs that stay in their place."""

import gc
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from engine.branching import RUNTIME, WRT, close
from models import small_cnn
from onnx import helper

import onnxvis
from onnxvis.engine import bindings
from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.runtime import Runtime
from onnxvis.errors import MissingRuntimeError, OnnxvisError

from .compiling import GPP, WHY
from .passes import executors, random_seeds
from .stand_in import stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

# ---- onnxruntime's tensors -----------------------------------------------------------------------


class OnDevice:
    """An OrtValue that says that its memory is the device's."""

    def __init__(self, value, readable=False):
        self.value, self.readable = value, readable

    def __getattr__(self, name):
        return getattr(self.value, name)

    def device_name(self):
        return "Cuda"

    def numpy(self):
        assert self.readable, "copied through the host"
        return self.value.numpy()


def on_device(array):
    return OnDevice(onnxruntime.OrtValue.ortvalue_from_numpy(array))


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
    gpu, value = stand_in_ops().gpu, on_device(array)
    found = gpu.tensor(value)
    assert found.dtype == array.dtype
    assert found.ctypes.data == value.data_ptr()
    np.testing.assert_array_equal(gpu.download(found), array)


def test_an_empty_tensor_has_no_address():
    assert stand_in_ops().gpu.tensor(on_device(np.zeros((0, 3), np.float32))).shape == (0, 3)


def test_a_tensor_on_the_host_is_copied():
    array = np.arange(3.0)
    gpu = stand_in_ops().gpu
    found = gpu.tensor(RUNTIME.value(array))
    array[0] = 9
    assert gpu.download(found)[0] == 0


def test_a_pass_over_tensors_on_the_gpu():
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    there = Record({name: on_device(record[name]) for name in record})
    for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
        found = ours.backward(Record(there.raw), seeds)
        for name in WRT:
            close(found[name], theirs[name])
    assert ours._graph.there.keys() == ours._used and not ours._graph.places


def test_a_graph_reads_where_the_next_numbers_lie_too():
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    other = executors("gradient", seeds, shift=0.3)
    place = {name: record[name].copy() for name in record}
    there = Record({name: on_device(array) for name, array in place.items()})
    for _ in range(DeviceExecutor.GRAPH_AFTER + 1):
        ours.backward(Record(there.raw), seeds)
    for name, array in place.items():
        array[...] = other[1][name]
    graph, found = ours._graph, ours.backward(Record(there.raw), seeds)
    assert ours._graph is graph and graph.graph.launches == 2
    for name in WRT:
        close(found[name], other[2][name])
    assert abs(found["x"] - theirs["x"]).max() > 1e-3


def test_what_lies_elsewhere_each_time_is_copied_into_the_graph():
    """And a graph that read in place is let go of, once that is no longer so."""
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)

    def moved():
        return Record({name: on_device(record[name].copy()) for name in record})

    records = [moved() for _ in range(9)]
    same = records[0]
    for given in (*[same] * 4, *records[1:8]):
        found = ours.backward(Record(given.raw), seeds)
        for name in WRT:
            close(found[name], theirs[name])
        if given is same and ours._graph:
            assert ours._graph.there
    assert not ours._graph.there and ours._graph.places.keys() == ours._used


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
            own = binding

            @staticmethod
            def get_outputs():
                return [OnDevice(value, readable=True) for value in binding.get_outputs()]

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


def test_memory_that_cupy_keeps_is_given_back_first(cuda, monkeypatch):
    runtime, full = Runtime("cuda"), [True]
    monkeypatch.setattr(runtime.gpu.pool, "free_all_blocks", full.clear)
    real = Session.run_with_iobinding

    def run(session, binding):
        if full:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
        real(session, binding)

    monkeypatch.setattr(Session, "run_with_iobinding", run)
    model = onnxvis.load(small_cnn(), device="cuda")
    model.engine.forward.runtime.gpu = runtime.gpu
    model.engine.run({"x": np.zeros((6, 3, 12, 12), np.float32)}, model.engine.file_graph.outputs)
    assert not full


def test_a_provider_that_misses_cudnn_names_what_to_install(cuda, monkeypatch):
    def missing(*_):
        raise RuntimeError("Operator 'Conv' on the CUDA EP requires cuDNN, which was not found")

    monkeypatch.setattr(Session, "run_with_iobinding", missing)
    model = onnxvis.load(small_cnn(), device="cuda")
    with pytest.raises(MissingRuntimeError, match=r"no cuDNN.*onnxvis\[cuda12\]"):
        model.engine.run({"x": np.zeros((1, 3, 12, 12), np.float32)}, model.engine.file_graph.outputs)


def test_libraries_of_pip_are_loaded_before_the_first_session(cuda, monkeypatch, capsys):
    loaded = []

    def preload():
        loaded.append(len(cuda["sessions"]))
        sys.stdout.write("Failed to load libcufft")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    onnxvis.load(small_cnn(), device="cuda").explain(np.zeros((1, 3, 12, 12), np.float32), "gradient")
    assert loaded == [0] and cuda["sessions"] and not capsys.readouterr().out


def test_cuda_that_fell_back_to_the_cpu_is_an_error(cuda):
    cuda["providers"] = ["CPUExecutionProvider"]
    model = onnxvis.load(small_cnn(), device="cuda")
    with pytest.raises(MissingRuntimeError, match="fell back to CPUExecutionProvider"):
        model.run(np.zeros((1, 3, 12, 12), np.float32))


def test_an_onnxruntime_without_cuda_is_an_error(with_gpu):
    with pytest.raises(MissingRuntimeError, match="CPUExecutionProvider"):
        onnxvis.load(small_cnn(), device="cuda")


# ---- outputs that stay in their place ------------------------------------------------------------


@pytest.fixture
def session(cuda):
    """A session whose output "y" is as long as what is not zero in "x", and "z" twice that."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Flatten", ["at"], ["flat"], axis=0),
        helper.make_node("Cast", ["flat"], ["y"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["x", "x"], ["z"]),
    ]  # fmt: skip
    named = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph(nodes, "g", named, [onnx.ValueInfoProto(name=name) for name in ("y", "z")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    runtime = Runtime("cuda")
    session = runtime.session(model.SerializeToString())
    return lambda names, *x: runtime.run(session, names, {"x": RUNTIME.value(np.array(x, np.float32))})


def places(values):
    return [value.data_ptr() for value in values]


def numbers(values):
    return [value.numpy().ravel().tolist() for value in values]


def test_outputs_lie_where_they_lay(session, cuda):
    first = session(["z"], 1, 2)
    there, bound = places(first), cuda["sessions"][-1].bound
    assert numbers(first) == [[2, 4]]
    del first
    again = session(["z"], 3, 5)
    assert numbers(again) == [[6, 10]] and places(again) == there
    assert bound == [("z", "cuda", 0)]  # bound once


def test_what_somebody_holds_is_not_written_over(session):
    first = session(["z"], 1, 2)
    second = session(["z"], 3, 5)
    assert numbers(first) == [[2, 4]] and numbers(second) == [[6, 10]]
    assert places(first) != places(second)


def test_an_array_of_the_device_holds_its_tensor(session):
    gpu = stand_in_ops().gpu
    held = gpu.tensor(session(["z"], 1, 2)[0])[1:]
    gc.collect()
    session(["z"], 3, 5)
    assert gpu.download(held).tolist() == [4]


def test_shapes_and_outputs_have_places_of_their_own(session):
    assert numbers(session(["z"], 1, 2)) == [[2, 4]]
    assert numbers(session(["z"], 1, 2, 3)) == [[2, 4, 6]]
    assert numbers(session(["y", "z"], 0, 2)) == [[1], [0, 4]]
    assert numbers(session(["z"], 7, 8)) == [[14, 16]]


def test_an_output_of_another_length_than_before(session):
    assert numbers(session(["y"], 1, 0)) == [[0]]
    assert numbers(session(["y"], 1, 1)) == [[0, 1]]
    assert numbers(session(["y"], 0, 1)) == [[1]]


def test_large_outputs_are_not_kept(session, monkeypatch):
    monkeypatch.setattr(bindings, "KEPT_BYTES", 7)
    for x in ((1, 2), (3, 4)):
        session(["z"], *x)
    held = [*session.__closure__]
    assert not next(c.cell_contents for c in held if hasattr(c.cell_contents, "bindings")).bindings._kept


def test_few_bindings_are_kept(session):
    for length in range(1, 9):
        session(["z"], *range(length))
    kept = next(c.cell_contents for c in session.__closure__ if hasattr(c.cell_contents, "bindings"))
    assert len(kept.bindings._kept) == bindings.Bindings.LIMIT


def test_repeated_passes_become_a_graph_that_reads_in_place(cuda):
    rng = np.random.default_rng(0)
    ours, theirs = (onnxvis.load(small_cnn(), device=device) for device in ("cuda", "cpu"))
    for _ in range(DeviceExecutor.GRAPH_AFTER + 3):
        x = rng.normal(size=(1, 3, 12, 12)).astype(np.float32)
        close(ours.explain(x, "gradient").values, theirs.explain(x, "gradient").values)
    (executor,) = ours.engine._executors.values()
    assert executor._graph.there and executor._graph.graph.launches == 3
