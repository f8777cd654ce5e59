"""From onnxruntime to the device: tensors that lie there, providers, and outputs that stay in their place."""

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from engine.branching import RUNTIME, WRT, close
from models import build, small_cnn
from onnx import helper

import onnxvis
from onnxvis.cases import Cases
from onnxvis.engine import bindings, engine, runtime
from onnxvis.engine.bound import Fed, Left, Run
from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.forward_graph import ForwardGraph
from onnxvis.engine.plan import Pass
from onnxvis.engine.runtime import Runtime
from onnxvis.errors import MissingRuntimeError, OnnxvisError
from onnxvis.ops.device import Sender, lies_on_gpu, on_host
from onnxvis.taxonomy.registry import METHODS

from .compiling import GPP, WHY
from .passes import executors, random_seeds
from .provider import OnDevice, Session, on_device
from .stand_in import stand_in_gpu, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

# ---- onnxruntime's tensors -----------------------------------------------------------------------


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


def moved(record):
    """The same numbers, where nothing lay before."""
    return Record({name: on_device(record[name].copy()) for name in record})


def test_what_lies_elsewhere_each_time_is_copied_into_the_graph():
    """And a graph that read in place is let go of, once that is no longer so."""
    seeds = random_seeds()
    ours, record, theirs = executors("gradient", seeds)
    records = [moved(record) for _ in range(DeviceExecutor.PATIENCE + 2)]
    same = records[0]
    for given in (*[same] * 4, *records[1:]):
        found = ours.backward(Record(given.raw), seeds)
        for name in WRT:
            close(found[name], theirs[name])
        if given is same and ours._graph:
            assert ours._graph.there
    assert not ours._graph.there and ours._graph.places.keys() == ours._used


def test_what_comes_to_rest_is_copied_no_longer():
    """However often it begins to move again."""
    seeds, patience = random_seeds(), DeviceExecutor.PATIENCE
    ours, record, theirs = executors("gradient", seeds)

    def back(given):
        found = ours.backward(Record(given.raw), seeds)
        for name in WRT:
            close(found[name], theirs[name])
        return ours._graph

    held, still = [], moved(record)
    for _ in range(2):
        held += [moved(record) for _ in range(patience + 1)]
        copying = [back(given) for given in held[-patience - 1 :]][-1]
        assert [back(still) for _ in range(patience)] == [copying] * patience
        assert copying.places.keys() == ours._used
        resting = back(still)
        assert resting.there.keys() == ours._used and not resting.places and back(still) is resting


# ---- onnxruntime with CUDA -----------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("method", "as_it_arrives"),
    [("gradient", True), ("deconvnet", True), ("guided_backprop", True), ("lrp", True),
     ("excitation_backprop", True), ("input_x_gradient", False), ("gradcam", False)],
)  # fmt: skip
def test_an_explanation_is_made_while_the_gpu_computes(cuda, monkeypatch, method, as_it_arrives):
    """Where its numbers are what arrives; all it takes is to wait then."""
    model, order = onnxvis.load(small_cnn(), device="cuda"), []
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    for _ in range(6):  # until both passes are CUDA graphs
        model.explain(x, method)
    stream, made = type(model.engine.runtime.gpu.stream), Cases._explanation
    monkeypatch.setattr(stream, "synchronize", lambda _: order.append("waited"))
    monkeypatch.setattr(Cases, "_explanation", lambda *given: order.append("made") or made(*given))
    found = model.explain(x, method)
    monkeypatch.undo()
    assert order == (["made", "waited"] if as_it_arrives else ["waited", "made"])
    theirs = onnxvis.load(small_cnn(), device="cpu").explain(x, method)
    close(found.values, theirs.values)
    close(found.score, theirs.score)
    assert found.target == theirs.target


def test_a_method_may_change_what_arrives(cuda, monkeypatch):
    """An explanation that was made of it before is then not the one."""
    gradient = METHODS["gradient"]

    def run(case):
        outcome = case.walked(Pass("gradient"))
        return outcome._replace(values=2 * outcome.values)

    model, x = onnxvis.load(small_cnn(), device="cuda"), np.ones((2, 3, 12, 12), np.float32)
    plain = model.explain(x, "gradient").values
    monkeypatch.setitem(METHODS, "gradient", replace(gradient, run=run))
    np.testing.assert_array_equal(model.explain(x, "gradient").values, 2 * plain)


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        (
            "[ONNXRuntimeError] : 6 : FAIL : Failed to allocate memory for requested buffer",
            OnnxvisError, r"forward pass of 6 samples .*batches of 3",
        ),
        (
            "Operator 'Conv' on the CUDA EP requires cuDNN, which was not found",
            MissingRuntimeError, r"no cuDNN.*onnxvis\[cuda12\]",
        ),
    ],
    ids=["too many samples", "no cuDNN"],
)  # fmt: skip
def test_what_a_provider_misses_is_said_with_what_to_do(cuda, monkeypatch, said, error, match):
    def fail(*_):
        raise RuntimeError(said)

    monkeypatch.setattr(Session, "run_with_iobinding", fail)
    model = onnxvis.load(small_cnn(), device="cuda")
    with pytest.raises(error, match=match):
        model.engine.run({"x": np.zeros((6, 3, 12, 12), np.float32)}, model.engine.file_graph.outputs)


def test_memory_that_cupy_keeps_is_given_back_first(cuda, monkeypatch):
    runtime, full = Runtime("cuda"), [True]
    monkeypatch.setattr(runtime.gpu.pool, "free_all_blocks", full.clear)
    real = Session.run_with_iobinding

    def run(session, *given):
        if full:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
        real(session, *given)

    monkeypatch.setattr(Session, "run_with_iobinding", run)
    model = onnxvis.load(small_cnn(), device="cuda")
    model.engine.forward.runtime.gpu = runtime.gpu
    model.engine.run({"x": np.zeros((6, 3, 12, 12), np.float32)}, model.engine.file_graph.outputs)
    assert not full


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


@pytest.mark.parametrize(
    ("providers", "executor", "device"),
    [
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "auto", "cuda"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "compiled", "cpu"),
        (["CPUExecutionProvider"], "auto", "cpu"),
        (["CPUExecutionProvider"], "device", "cpu+cuda"),
    ],
)
def test_by_itself_it_takes_a_gpu_that_computes(cuda, providers, executor, device):
    cuda["providers"] = providers
    assert onnxvis.load(small_cnn(), executor=executor).device == device


def test_by_itself_it_does_without_a_gpu(cuda, monkeypatch):
    def missing():
        raise MissingRuntimeError("no GPU")

    monkeypatch.setattr("onnxvis.engine.runtime.find_gpu", missing)
    assert onnxvis.load(small_cnn()).device == "cpu"


def test_an_onnxruntime_without_cuda_is_an_error(with_gpu):
    with pytest.raises(MissingRuntimeError, match="CPUExecutionProvider"):
        onnxvis.load(small_cnn(), device="cuda")


def test_sequences_are_the_hosts(cuda):
    """Onnxruntime does not say where they are."""
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], axis=1),
        helper.make_node("SequenceAt", ["s", "i"], ["first"]),
        helper.make_node("Relu", ["first"], ["y"]),
    ]
    model = build(nodes, {"x": [1, 4]}, ["y"], {"i": np.array(2)})
    x = np.float32([[1, -2, 3, -4]])
    ours, theirs = (onnxvis.load(model, device=device) for device in ("cuda", "cpu"))
    for _ in range(4):
        close(ours.explain(x, "gradient", 0).values, theirs.explain(x, "gradient", 0).values)
    record = ours.engine.run({"x": x}, ["s", "y"])
    assert not lies_on_gpu(record.raw["s"]) and lies_on_gpu(record.raw["y"])


# ---- what is not waited for ----------------------------------------------------------------------


def test_who_reads_an_output_waits_for_it_once():
    waits: list[int] = []
    done = SimpleNamespace(synchronize=lambda: waits.append(1))
    value = OnDevice(on_device(np.ones(3)).value, readable=True)
    left = Left(value, value.data_ptr(), value, Run(done))
    assert tuple(left.shape()) == (3,) and not waits
    assert left.numpy().tolist() == left.numpy().tolist() == [1, 1, 1] and len(waits) == 1


def test_an_input_in_its_place_holds_that():
    """Also when its binding is gone."""
    gpu, kept = stand_in_ops().gpu, onnxruntime.OrtValue.ortvalue_from_numpy(np.ones(2, np.float32))
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Neg", ["x"], ["y"])], "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
        ),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
    )  # fmt: skip
    inner = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = [OnDevice(on_device(-np.ones(2, np.float32)).value, readable=True)]
    bound = ForwardGraph(onnxruntime, Session(inner, [], True), gpu, ["y"], {"x": kept}, expected)
    (y,), placed = bound.run({"x": kept})
    assert y.numpy().tolist() == [-1, -1] and not bound.free
    memory = weakref.ref(bound._inputs["x"].place)
    del bound
    gc.collect()
    assert memory() is not None and gpu.download(gpu.tensor(placed["x"])).tolist() == [1, 1]
    del placed
    gc.collect()
    assert memory() is None


def test_an_array_that_is_fed_is_a_value_once_somebody_asks():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    made: list[np.ndarray] = []
    module = SimpleNamespace(
        OrtValue=SimpleNamespace(ortvalue_from_numpy=lambda a: made.append(a) or RUNTIME.value(a))
    )
    fed, value = Fed(module, array), RUNTIME.value(array)
    for ask in ("data_type", "shape", "numpy"):
        np.testing.assert_array_equal(getattr(fed, ask)(), getattr(value, ask)())
    assert not lies_on_gpu(fed) and on_host(fed) is array and not made
    fed.numpy()[...] = 9
    assert array[1, 2] == 5
    assert fed.data_ptr() == array.ctypes.data and fed.is_tensor() and made == [array]


@pytest.mark.parametrize("at_once", [32, 2**20], ids=["in parts", "as it lies"])
@pytest.mark.parametrize("numbers", [0, 1, 7, 8, 9, 23])
def test_what_is_sent_arrives_whole(monkeypatch, numbers, at_once):
    gpu = stand_in_gpu()
    monkeypatch.setattr(Sender, "AT_ONCE", at_once)
    array = np.arange(2 * numbers, dtype=np.float32).reshape(2, numbers)[:, ::-1]
    send = Sender(gpu, gpu.xp.empty(array.shape, np.float32))
    assert send.staged == (array.nbytes > at_once)
    for sent in (array, -array):
        send(sent)
        np.testing.assert_array_equal(gpu.download(send.place), sent)


@pytest.mark.parametrize("at_once", [4, 2**20], ids=["staged", "as it lies"])
def test_nothing_is_staged_before_the_last_run_is_done(session, cuda, monkeypatch, at_once):
    """Whose inputs may still be on their way; an array that nobody stages CUDA has read when it goes on."""
    monkeypatch.setattr(Sender, "AT_ONCE", at_once)
    run_often(session)
    (graph,) = kept_by(session)._graphs.values()
    order = []
    send = Sender.__call__
    monkeypatch.setattr(Sender, "__call__", lambda *given: order.append("sent") or send(*given))
    for _ in range(2):
        graph._done = SimpleNamespace(synchronize=lambda: order.append("done"))
        session(["z"], 4, 5)
    assert order == (["done", "sent"] if at_once == 4 else ["sent"]) * 2


def test_only_a_graph_is_not_waited_for(session, cuda):
    """All that it computes, it computes on the GPU."""
    run_often(session)
    session(["z"], 4, 5)
    plain, replayed = cuda["sessions"][-2:]
    assert plain.waited and not replayed.waited


@pytest.mark.parametrize("invalid", [False, True])
def test_what_breaks_while_it_is_captured_leaves_the_stream_free(session, cuda, monkeypatch, invalid):
    """As onnxruntime leaves it when an operator fails; asked then, CuPy says that the capture is invalid."""
    gpu = stand_in_gpu()
    stream = type(gpu.stream)
    asked = stream.is_capturing

    class Breaking(Session):
        def run_with_iobinding(self, binding, options=None):
            if asked(gpu.stream):
                raise RuntimeError("cannot be captured")
            super().run_with_iobinding(binding, options)

    if invalid:

        def is_capturing(self):
            if asked(self):
                raise RuntimeError("an error has invalidated the capture sequence")
            return False

        monkeypatch.setattr(stream, "is_capturing", is_capturing)
    cuda["class"] = Breaking
    run_often(session)
    assert [*kept_by(session).refused.values()] == ["cannot be captured"]
    gpu.stream.synchronize()  # refuses while it is captured
    assert numbers(session(["z"], 4, 5)) == [[8, 10]]


@pytest.mark.parametrize(
    ("target", "waits"),
    [(1, 0), ({1: 2.0, 3: -1.0}, 0), (onnxvis.Target("relu2", unit=2, position=(1, 1)), 0), (None, 1)],
    ids=["a unit", "weights", "a position", "the strongest"],
)
def test_the_way_back_begins_before_the_forward_pass_is_over(cuda, monkeypatch, target, waits):
    """Where the seeds do not depend on its numbers."""
    read, backward = [], DeviceExecutor.backward
    monkeypatch.setattr(Left, "numpy", lambda left, real=Left.numpy: read.append(left) or real(left))
    before = []

    def noted(executor, *given):
        before.append(len({*read}))
        return backward(executor, *given)

    monkeypatch.setattr(DeviceExecutor, "backward", noted)
    x = np.random.default_rng(0).random((2, 3, 12, 12), np.float32)
    ours, theirs = (onnxvis.load(small_cnn(), device=device) for device in ("cuda", "cpu"))
    for seed in ({}, {"seed": "logit"}) if waits == 0 else ({},):
        method = "lrp" if seed else "gradient"
        found = ours.explain(x, method, target, **seed)
        assert before.pop() == (1 if seed else waits)
        read.clear()
        close(found.values, theirs.explain(x, method, target, **seed).values)
        close(found.score, theirs.explain(x, method, target, **seed).score)
        read.clear()


def test_threads_share_a_model(cuda):
    """And its graphs, which one of them captured."""
    ours, theirs = (onnxvis.load(small_cnn(), device=device) for device in ("cuda", "cpu"))

    def explain(seed):
        rng, method = np.random.default_rng(seed), ("gradient", "lrp")[seed % 2]
        for turn in range(8):
            x = rng.normal(size=(1, 3, 12, 12)).astype(np.float32)
            found, expected = (model.explain(x, method, turn % 4) for model in (ours, theirs))
            close(found.values, expected.values)
            close(found.score, expected.score)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(explain, range(8)))
    for seed in range(2):  # nobody else holds what a graph reads
        explain(seed)
    assert all(executor._graph for executor in ours.engine._executors.values())


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
    ours = Runtime("cuda")
    session = ours.session(model.SerializeToString())
    return lambda names, *x: ours.run(session, names, {"x": RUNTIME.value(np.array(x, np.float32))})


def kept_by(session):
    return next(c.cell_contents for c in session.__closure__ if hasattr(c.cell_contents, "bindings")).bindings


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
    monkeypatch.setattr(type(stand_in_ops().gpu), "share", 7)
    for x in ((1, 2), (3, 4)):
        session(["z"], *x)
    assert not kept_by(session)._kept


def test_few_bindings_are_kept(session):
    for length in range(1, 9):
        session(["z"], *range(length))
    assert len(kept_by(session)._kept) == bindings.Bindings.LIMIT


@pytest.mark.parametrize("refusing", [False, True])
def test_repeated_passes_become_graphs(cuda, refusing):
    """The way back reads where the forward pass leaves its outputs, be that a graph too or not."""
    cuda["refusing"] = refusing
    rng, calls = np.random.default_rng(0), 9
    ours, theirs = (onnxvis.load(small_cnn(), device=device) for device in ("cuda", "cpu"))
    for _ in range(calls):
        x = rng.normal(size=(1, 3, 12, 12)).astype(np.float32)
        close(ours.explain(x, "gradient").values, theirs.explain(x, "gradient").values)
    (executor,) = ours.engine._executors.values()
    assert executor._graph.there
    walked = DeviceExecutor.GRAPH_AFTER if refusing else bindings.Bindings.GRAPH_AFTER + 1
    assert executor._graph.graph.launches == calls - walked
    forward = [session.runs for session in cuda["sessions"] if session.graphs]
    captured, tried = 3, 2
    assert forward == ([] if refusing else [captured + tried + calls - bindings.Bindings.GRAPH_AFTER])


# ---- the forward pass as a graph -----------------------------------------------------------------


def run_often(session, names=("z",)):
    for x in range(bindings.Bindings.GRAPH_AFTER):
        session([*names], x + 1, 1)


def test_what_runs_often_is_replayed(session, cuda):
    run_often(session)
    (replayed,) = [made for made in cuda["sessions"] if made.graphs]
    before, there = replayed.runs, set()
    for x in range(5):
        values = session(["z"], x, -x)
        assert numbers(values) == [[2 * x, -2 * x]]
        there.add(values[0].data_ptr())
        del values
    assert replayed.runs == before + 5 and len(there) == 1
    assert numbers(session(["z"], 1, 2, 3)) == [[2, 4, 6]]  # other shapes do not


def test_a_replay_writes_over_nothing_that_somebody_holds(session):
    run_often(session)
    first = session(["z"], 1, 2)
    second = session(["z"], 3, 5)
    assert numbers(first) == [[2, 4]] and numbers(second) == [[6, 10]]


def test_few_shapes_become_graphs(session):
    for length in range(1, 5):
        for _ in range(2 * bindings.Bindings.GRAPH_AFTER):
            assert numbers(session(["z"], *range(length))) == [[2 * x for x in range(length)]]
    assert len(kept_by(session)._graphs) == bindings.Bindings.GRAPHS


def test_any_thread_launches_a_graph(session, cuda):
    run_often(session)
    (replayed,) = [made for made in cuda["sessions"] if made.graphs]
    before, found = replayed.runs, []
    thread = Thread(target=lambda: found.extend(numbers(session(["z"], 4, 5))))
    thread.start()
    thread.join()
    assert found == [[8, 10]] and replayed.runs == before + 1


@pytest.mark.parametrize("names", [["y"], ["y", "z"]])
def test_a_graph_whose_numbers_stay_is_refused(session, names):
    """The capture of "y", as long as what is not zero, has no room for what comes."""
    run_often(session, names)
    assert numbers(session(names, 1, 1))[0] == [0, 1]
    assert not kept_by(session)._graphs and kept_by(session).refused


class Stale(Session):
    """What is launched computes nothing."""

    def run_with_iobinding(self, binding, options=None):
        self.compute(binding.own)


def test_a_graph_that_does_not_see_its_input_is_refused(cuda, request):
    cuda["class"] = Stale
    session = request.getfixturevalue("session")
    run_often(session)
    assert numbers(session(["z"], 4, 5)) == [[8, 10]]
    assert [*kept_by(session).refused.values()] == ["a replay gives other numbers than a run"]


def test_what_onnxruntime_refuses_to_capture_is_run(session, cuda):
    cuda["refusing"] = True
    for _ in range(3):
        run_often(session)
    assert numbers(session(["z"], 4, 5)) == [[8, 10]]
    (why,) = kept_by(session).refused.values()
    assert "graph capture feature" in why


# ---- several samples may have another one ---------------------------------------------------------


def captured(cuda, samples, calls=4):
    """The kinds of operators of the session whose graph runs, after some explanations that are right."""
    ours, theirs = (onnxvis.load(small_cnn(), device=device) for device in ("cuda", "cpu"))
    for seed in range(calls):
        x = np.random.default_rng(seed).normal(size=(samples, 3, 12, 12)).astype(np.float32)
        close(ours.explain(x, "gradient", 1).values, theirs.explain(x, "gradient", 1).values)
    (session,) = ours.engine.forward._sessions.values()
    (graph,), why = session.bindings._graphs.values(), [*session.bindings.apart.values()]
    return graph.session.kinds, why


@pytest.mark.parametrize(("faster", "samples"), [(True, 2), (False, 2), (True, 1)])
def test_the_faster_of_two_graphs_stays(cuda, monkeypatch, faster, samples):
    """One sample is not worth the trial."""
    wanted = lambda graph: float(faster != ("FusedConv" in graph.session.kinds))  # noqa: E731
    monkeypatch.setattr(ForwardGraph, "milliseconds", wanted)
    kinds, why = captured(cuda, samples)
    assert ("FusedConv" in kinds) == (faster and samples > 1)
    assert why == (["it is slower"] if samples > 1 and not faster else [])


def test_a_graph_that_is_less_precise_is_left(cuda, monkeypatch):
    def fuse(model):
        found = real(model)
        for tensor in model.graph.initializer:
            if tensor.name == "b3":
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1e-3, "b3"))
        return found

    real = runtime.fuse
    monkeypatch.setattr(runtime, "fuse", fuse)
    monkeypatch.setattr(
        ForwardGraph, "milliseconds", lambda graph: 1.0 - ("FusedConv" in graph.session.kinds)
    )
    kinds, why = captured(cuda, 2)
    assert "FusedConv" not in kinds and why == ["a replay gives other numbers than a run"]


def test_a_graph_that_does_not_run_is_left(cuda, monkeypatch):
    def fuse(model):
        model.graph.node[0].op_type = "Unknown"
        return True

    monkeypatch.setattr(runtime, "fuse", fuse)
    kinds, (why,) = captured(cuda, 2)
    assert "Unknown" not in kinds and "Unknown" in why


def test_a_graph_that_takes_too_much_memory_is_left(cuda, monkeypatch):
    monkeypatch.setattr(
        ForwardGraph, "milliseconds", lambda graph: 1.0 - ("FusedConv" in graph.session.kinds)
    )
    gpu = engine.device_ops(np.float32, "float32").gpu
    monkeypatch.setattr(gpu.xp.cuda.Device, "mem_info", (2**27, 2**30))
    kinds, why = captured(cuda, 2)
    assert "FusedConv" not in kinds and why == ["it takes too much memory"]


def test_where_nothing_can_be_made_one_there_is_no_trial(session, cuda):
    for _ in range(4):
        session(["z"], 1, 2)
    assert [*kept_by(session).apart.values()] == ["there is nothing to make one"]
    assert len(cuda["sessions"]) == 2


# ---- quantised nets ------------------------------------------------------------------------------


def test_a_quantised_net_is_explained_where_it_runs(cuda):
    """Real numbers are computed on the host from the whole ones that the GPU left."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])]
    scale = onnx.numpy_helper.from_array(np.array(0.1, np.float32), "s")
    graph = helper.make_graph(nodes, "g", given, [onnx.ValueInfoProto(name="y")], [scale])
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    ours, theirs = onnxvis.load(net, device="cuda"), onnxvis.load(net, device="cpu")
    assert ours.device == "cuda"
    rng = np.random.default_rng(0)
    for _ in range(6):
        x = rng.normal(size=(1, 8)).astype(np.float32)
        for method in ("gradient", "lrp"):
            a, b = ours.explain(x, method), theirs.explain(x, method)
            close(a.values, b.values)
            assert a.target == b.target
