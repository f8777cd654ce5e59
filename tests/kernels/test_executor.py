"""The device executor on the stand-in for CuPy: every rule, memory, graphs, and how it is chosen."""

import gc
import weakref

import numpy as np
import onnx
import pytest
from engine.branching import RUNTIME, WRT, branching, close, engine, feeds
from models import build, small_cnn
from onnx import helper, numpy_helper
from rules.cases import CASES, named_pairs, pairs

import onnxvis
from onnxvis.engine import device as module
from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.errors import MissingRuntimeError, OnnxvisError, UnsupportedError, UsageError

from .compiling import GPP, WHY
from .passes import executors, random_seeds
from .stand_in import DeviceArray, OutOfMemoryError, launched, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)

OPS = {dtype: stand_in_ops(dtype) for dtype in (np.float32, np.float64)} if GPP else {}


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


def test_all_is_done_before_the_numbers_are_waited_for(monkeypatch):
    seeds, order, given = random_seeds(), [], []
    ours, record, _ = executors("gradient", seeds)
    monkeypatch.setattr(type(ours.gpu.stream), "__exit__", lambda *_: order.append("left"))
    monkeypatch.setattr(type(ours.gpu.stream), "synchronize", lambda _: order.append("waited"))

    def meanwhile(arrived):
        order.append("meanwhile")
        given.append(arrived)

    found = ours.backward(record, seeds, meanwhile)
    assert order[-3:] == ["meanwhile", "left", "waited"] and order.count("waited") == 1
    assert given[0] is found


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
    used = weakref.WeakValueDictionary(enumerate(ours.gpu.constants._small.values()))
    assert len(used) > 2
    ours.gpu.constants._small.clear()
    ours.gpu.constants._made.clear()
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
    monkeypatch.setattr(ours.gpu.constants, "_small", type(ours.gpu.constants._small)())
    monkeypatch.setattr(ours.gpu.constants, "_large", {})
    for _ in range(2):
        found = ours.backward(Record(record.raw), seeds)
        assert ours._graph is None and "made anew" in ours.uncaptured
        assert ours.gpu.constants.held is None
        for name in WRT:
            close(found[name], theirs[name])


def test_large_inputs_are_not_copied_into_a_graph(monkeypatch):
    monkeypatch.setattr(type(OPS[np.float32].gpu), "share", 100)
    seeds = random_seeds()
    ours, record, _ = executors("gradient", seeds)
    for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
        ours.backward(Record(record.raw), seeds)
    assert ours._graph is None and "large" in ours.uncaptured


# ---- choosing it ---------------------------------------------------------------------------------


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
    assert {"split", "quotient", "multiply_stacked", "im2col", "col2im"} <= used


@pytest.mark.parametrize(("composite", "shares"), [("epsilon_plus", 1), ("epsilon_alpha2_beta1", 2)])
def test_what_is_never_negative_has_no_negative_part(with_gpu, composite, shares):
    """Behind a rectifier a rule by signs has no second half to stack."""
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    with launched() as seen:
        onnxvis.load(small_cnn(), executor="device").explain(x, "lrp", composite=composite)
    for kernel, layers in (("im2col", 2), ("col2im", 2), ("multiply_stacked", 1)):
        assert seen.count(f"{kernel}<float, int>") == layers * shares


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("operator", "form", "kernels"),
    [
        ("Add", "", ["proportions"]),
        ("Add", "constant second", ["quotient", "multiply"]),
        ("Add", "second stretched", ["quotient", "multiply", "multiply"]),
        ("Sum", "three", ["quotient", "multiply", "multiply", "multiply"]),
        ("Sub", "", ["quotient", "multiply", "multiply"]),
    ],
)
def test_two_summands_get_their_shares_at_once(operator, form, kernels, dtype):
    case = next(case for case in CASES if (case.operator, case.form) == (operator, form))
    plan, record, seeds = case.plan("lrp", dtype), case.record(dtype), {"y": case.seed(dtype)}
    with launched() as seen:
        found = DeviceExecutor(plan, OPS[dtype]).backward(record_of(record), seeds)
    expected = HostExecutor(plan, dtype).backward(record, seeds)
    for name in plan.wrt:
        close(found[name], expected[name])
    assert [name.partition("<")[0] for name in seen if not name.startswith("add")] == kernels


def test_a_summand_gets_as_many_shares_as_are_asked_for(with_gpu):
    x, z, r = np.random.default_rng(0).normal(size=(3, 2, 3, 4)).astype(np.float32)

    def share(*summands):
        names = [*dict.fromkeys(summands)]
        node = helper.make_node("Add", summands, ["y"])
        net = onnxvis.load(build([node], {name: [2, 3, 4] for name in names}, ["y"], {}), executor="device")
        with launched() as seen:
            found = net.vjp({name: {"x": x, "z": z}[name] for name in names}, {"y": r}, "lrp", wrt=["x"])
        return found["x"], seen

    epsilon = np.float32(1e-6)
    found, seen = share("x", "x")
    assert seen == ["proportions<float>", "add<float>"]
    close(found, 2 * x * (r / (2 * x + np.copysign(epsilon, x))))
    found, seen = share("z", "x")
    assert seen == ["quotient<float>", "multiply<float>"]
    close(found, x * (r / (x + z + np.copysign(epsilon, x + z))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("method", "quotients", "products"), [("zplus", 1, 1), ("alpha_beta", 2, 2), ("zbox", 3, 1)]
)
@pytest.mark.parametrize("form", ["2-D", "no bias", "asymmetric pads strided", "grouped"])
def test_both_signs_are_one_convolution(monkeypatch, form, method, quotients, products, dtype):
    """And one back, with weights that are stacked once; those of groups are not."""
    case = next(case for case in CASES if (case.operator, case.opset, case.form) == ("Conv", 11, form))
    plan, ops = case.plan(method, dtype), stand_in_ops(dtype)
    record, seeds = case.record(dtype), {"y": case.seed(dtype)}
    stacked, concat = [], ops.concat
    monkeypatch.setattr(ops, "concat", lambda *given: stacked.append(1) or concat(*given))
    device, expected = DeviceExecutor(plan, ops), HostExecutor(plan, dtype).backward(record, seeds)
    first = True
    for _ in range(2):
        stacked.clear()
        with launched() as seen:
            found = device.backward(record_of(record), seeds)
        close(found["x0"], expected["x0"])
        kernels = [name.partition("<")[0] for name in seen]
        if form == "grouped":
            assert "multiply_stacked" not in kernels and not stacked
        else:
            assert [kernels.count(name) for name in ("im2col", "col2im", "multiply_stacked")] == [
                quotients, products, products,
            ]  # fmt: skip
            assert len(stacked) == (method != "zbox") * products + first * products
        first = False


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


def test_the_other_executors_know_nothing_of_it():
    assert not {"DeviceOps", "Gpu"} & {*vars(HostExecutor)}
    assert module.DeviceExecutor.name == "device"


@pytest.mark.parametrize("small", [True, False])
def test_seeds_are_sent_again_where_they_are_others(monkeypatch, small):
    """Large ones always: comparing them would take as long."""
    both = random_seeds(), random_seeds(seed=5)
    ours, record, _ = executors("gradient", both[0])
    expected = [executors("gradient", seeds)[2] for seeds in both]
    for _ in range(DeviceExecutor.GRAPH_AFTER + 1):
        ours.backward(Record(record.raw), both[0])
    if not small:
        monkeypatch.setattr(ours.gpu.constants, "SMALL", 0)
        ours._graph._last.clear()
    sent, real = [], DeviceArray.set
    monkeypatch.setattr(DeviceArray, "set", lambda *given, **more: sent.append(1) or real(*given, **more))
    counts = []
    for which in (0, 0, 1, 1, 0):
        sent.clear()
        found = ours.backward(Record(record.raw), both[which])
        counts.append(len(sent) // len(both[0]))
        for name in WRT:
            close(found[name], expected[which][name])
    assert counts == ([0, 0, 1, 0, 1] if small else [1] * 5)
