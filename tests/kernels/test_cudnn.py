"""What cuDNN is asked for, by a stand-in for its frontend that convolves as it is told."""

import ctypes
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from ops import windows

from onnxvis.ops.device.cudnn import Cudnn
from onnxvis.ops.host import HostOps
from onnxvis.ops.window import Window

from .compiling import GPP, WHY
from .stand_in import launched, stand_in_gpu, stand_in_ops

pytestmark = pytest.mark.skipif(GPP is None, reason=WHY)


TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}


class Tensor:
    def __init__(self, dim=None, stride=None, data_type=None, name=""):
        self.dim, self.stride, self.type, self.output = dim, stride, data_type, False

    def set_output(self, value):
        self.output = value
        return self

    def set_data_type(self, value):
        self.type = value
        return self

    def set_dim(self, value):
        self.dim = value
        return self

    def set_stride(self, value):
        self.stride = value
        return self


class Graph:
    """cuDNN's own formula for the output's size, and a convolution by the host; plans as ``PLANS`` has them.

    Of these each is how it fails ("build" or "run"), what it adds to the result that it should not read (what
    is "behind" its data, what was in its "workspace", or in the "result", times 0), or the bytes of its
    workspace, the seconds it waits, and what it adds to the result, if it is wrong.
    """

    made, refusing, PLANS = [], False, ("build", (16, 0))

    def __init__(self, **types):
        self.types, self.steps, self.executed = types, [], []
        Graph.made.append(self)

    def tensor(self, **description):
        return Tensor(**description)

    def conv_fprop(self, image, weight, **geometry):
        return self._node("conv", image, weight, geometry)

    def conv_dgrad(self, loss, filter, **geometry):
        return self._node("conv_transpose", loss, filter, geometry)

    def _node(self, kind, data, weights, geometry):
        self.kind, self.data, self.weights, self.geometry, self.result = (
            kind,
            data,
            weights,
            geometry,
            Tensor(),
        )
        return self.result

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def step(*arguments):
            self.steps.append(name)
            if name == "check_support" and Graph.refusing:
                raise RuntimeError("no engine\nand more words")

        return step

    def get_execution_plan_count(self):
        return len(Graph.PLANS)

    def build_plan_at_index(self, index):
        if Graph.PLANS[index] == "build":
            raise RuntimeError("this plan is for tensor cores")

    def get_workspace_size_plan_at_index(self, index):
        return 16 if isinstance(Graph.PLANS[index], str) else Graph.PLANS[index][0]

    def execute_plan_at_index(self, tensors, workspace, index, handle):
        if Graph.PLANS[index] == "run":
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        reads = Graph.PLANS[index] if isinstance(Graph.PLANS[index], str) else ""
        _, seconds, *wrong = (16, 0) if reads else Graph.PLANS[index]
        assert type(workspace) is int and handle == "handle"
        self.executed.append(index)
        time.sleep(seconds)
        assert all(type(address) is int for address in tensors.values())
        memory = {tensor: _memory(address, tensor) for tensor, address in tensors.items()}
        data, weights, result = (memory[t].astype(np.float64) for t in (self.data, self.weights, self.result))
        inside, outside = (result, data) if self.kind == "conv_transpose" else (data, result)
        given = [self.geometry[k] for k in ("pre_padding", "post_padding", "stride", "dilation")]
        kernel = self.weights.dim[2:]
        sizes = [
            (n + a + b - (k - 1) * d - 1) // s + 1
            for n, k, a, b, s, d in zip(inside.shape[2:], kernel, *given, strict=True)
        ]
        assert sizes == [*outside.shape[2:]], "cuDNN expects another size"
        window = Window(
            *map(tuple, (kernel, given[2], given[3], given[0], inside.shape[2:], outside.shape[2:]))
        )
        group = inside.shape[1] // weights.shape[1]
        found = getattr(HostOps(np.float64), self.kind)(data, weights, window, group)
        if reads == "behind":
            wrong = [_behind(tensors[self.data], self.data)]
        elif reads == "result":
            found = found + 0 * memory[self.result].astype(np.float64)
        elif reads == "workspace":
            wrong = [float(np.frombuffer((ctypes.c_uint8 * 4).from_address(workspace), np.float32)[0])]
        memory[self.result][...] = found + sum(wrong)


def _behind(address, tensor):
    """The number that follows an array in memory."""
    return float(_memory(address, Tensor([math.prod(tensor.dim) + 1], [1], tensor.type))[-1])


def _memory(address, tensor):
    """The array that a tensor's description makes of an address."""
    dtype = np.dtype(next(name for name, kind in TYPES.items() if kind == tensor.type))
    assert tensor.stride == [math.prod(tensor.dim[i + 1 :]) for i in range(len(tensor.dim))]
    raw = (ctypes.c_uint8 * (math.prod(tensor.dim) * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(tensor.dim)


@pytest.fixture
def cudnn():
    Graph.made, Graph.refusing, Graph.PLANS = [], False, ("build", (16, 0))
    return SimpleNamespace(
        create_handle=lambda: "handle",
        set_stream=lambda handle, stream: None,
        pygraph=Graph,
        data_type=SimpleNamespace(FLOAT="FLOAT", DOUBLE="DOUBLE", HALF="HALF"),
        heur_mode=SimpleNamespace(A="A", FALLBACK="F"),
        numerical_note=SimpleNamespace(TENSOR_CORE="T"),
    )


def operands(ops, window, group=1):
    rng = np.random.default_rng(0)
    shapes = (2, 2 * group, *window.size_in), (3 * group, 2, *window.kernel), (2, 3 * group, *window.size_out)
    return [ops.constant(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("group", [1, 2])
def test_both_maps(cudnn, dtype, group):
    both = stand_in_ops(dtype, cudnn=cudnn), stand_in_ops(dtype)
    for window in windows.random_windows(25, seed=3):
        for name, pick in (("conv", 0), ("conv_transpose", 2)):
            found, expected = (
                ops.gpu.download(getattr(ops, name)(a[pick], a[1], window, group))
                for ops, a in ((ops, operands(ops, window, group)) for ops in both)
            )
            assert found.dtype == expected.dtype
            close = 1e-2 if dtype == np.float16 else 1e-4
            np.testing.assert_allclose(found, expected, rtol=close, atol=close / 10)
    assert len(Graph.made) == 2 * 25 and all(graph.executed for graph in Graph.made)  # none fell back


PLAIN = Window((3, 3), (2, 2), (1, 1), (1, 1), (8, 8), (4, 4))


def test_a_graph_is_built_once_for_a_shape(cudnn):
    ops = stand_in_ops(cudnn=cudnn)
    x, w, _ = operands(ops, PLAIN)
    ops.conv(x, w, PLAIN)
    (graph,) = Graph.made
    graph.executed.clear()
    with launched() as seen:
        for _ in range(3):
            ops.conv(x, w, PLAIN)
    assert not seen and Graph.made == [graph]
    assert graph.executed == [1] * 3
    assert graph.steps.index("create_execution_plans") < graph.steps.index("deselect_numeric_notes")
    assert graph.steps[-1] == "check_support"


def test_the_fastest_plan_that_runs_is_kept(cudnn):
    gpu = stand_in_gpu()
    Graph.PLANS = ("build", (8, 0.02), "run", (gpu.share + 1, 0), (24, 0), (32, 0.01), (8, 0, 0.01))
    ops = stand_in_ops(cudnn=cudnn)
    x, w, _ = operands(ops, PLAIN)
    expected = ops.gpu.download(ops.conv(x, w, PLAIN))
    (graph,) = Graph.made
    assert {*graph.executed} == {1, 4, 5, 6}
    assert graph.executed.count(6) == 1  # and found to be wrong
    graph.executed.clear()
    found = ops.gpu.download(ops.conv(x, w, PLAIN))
    assert graph.executed == [4]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("plans", [("run", "run"), ((16, 0, 1.0), "run"), ((16, 0, np.nan),)])
def test_where_no_plan_is_right_the_kernels_are_left(cudnn, plans):
    Graph.PLANS = plans
    ops, plain = stand_in_ops(cudnn=cudnn), stand_in_ops()
    x, w, _ = operands(ops, PLAIN)
    for _ in range(2):
        with launched() as seen:
            found = ops.conv(x, w, PLAIN)
    assert seen == ["im2col<float, int>"]
    np.testing.assert_array_equal(ops.gpu.download(found), plain.gpu.download(plain.conv(x, w, PLAIN)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("reads", ["behind", "result", "workspace"])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_a_plan_that_reads_what_it_should_not_is_left_out(cudnn, dtype, reads, kind):
    """Which, by itself, would show now and then."""
    Graph.PLANS = (reads, (16, 0.001))
    ops = stand_in_ops(dtype, cudnn=cudnn)
    x, w, g = operands(ops, PLAIN)
    getattr(ops, kind)(x if kind == "conv" else g, w, PLAIN)
    (graph,) = Graph.made
    assert graph.executed.count(0) == 1 and graph.executed[-1] == 1
    assert graph.types["io_data_type"] == TYPES[np.dtype(dtype).name]


@pytest.mark.parametrize(("before", "size_in", "after"), [
    (1, 8, 1),  # of a window that does not reach the last row of its padding
    (1, 9, 1), (0, 8, 0), (0, 9, 0),
    (0, 6, 1),  # as SAME_UPPER pads
])  # fmt: skip
def test_padding_is_even_where_that_says_the_same(cudnn, before, size_in, after):
    """Few engines take another."""
    ops, out = stand_in_ops(cudnn=cudnn), (size_in + before + after - 3) // 2 + 1
    window = Window((3, 3), (2, 2), (1, 1), (before,) * 2, (size_in,) * 2, (out,) * 2)
    x, w, _ = operands(ops, window)
    ops.conv(x, w, window)
    (graph,) = Graph.made
    assert graph.geometry["pre_padding"] == [before] * 2
    assert graph.geometry["post_padding"] == [after] * 2


def test_a_product_is_tried_beside_the_plans(cudnn):
    """Of a pointwise layer."""
    window, Graph.PLANS = Window((1, 1), (2, 2), (1, 1), (0, 0), (4, 5), (2, 3)), ((16, 0.02),)
    ops = stand_in_ops(cudnn=cudnn)
    x, w, g = operands(ops, window)
    for tried in (True, False):
        ops.conv(x, w, window)
        ops.conv_transpose(g, w, window)
        assert [bool(graph.executed) for graph in Graph.made] == [tried] * 2
        for graph in Graph.made:
            graph.executed.clear()


@pytest.mark.parametrize(("precision", "kept", "exact"), [
    ("float32", "FLOAT", True), ("tf32", "FLOAT", False), ("float16", "HALF", False),
])  # fmt: skip
def test_precision_is_what_was_asked_for(cudnn, precision, kept, exact):
    ops = stand_in_ops(precision=precision, cudnn=cudnn)
    x, w, _ = operands(ops, PLAIN)
    assert ops.conv(x, w, PLAIN).dtype == np.float32
    (graph,) = Graph.made
    assert graph.types["io_data_type"] == kept and graph.types["compute_data_type"] == "FLOAT"
    assert ("deselect_numeric_notes" in graph.steps) == exact


@pytest.mark.parametrize(
    "window",
    [
        Window((1, 2), (1, 1), (1, 1), (-1, 0), (5, 4), (3, 3)),
        Window((1, 1), (1, 1), (1, 1), (0, 0), (6, 6), (4, 4)),  # two positions left out at the end
    ],
    ids=["negative padding", "short"],
)
def test_what_cudnn_cannot_describe_is_left_to_the_kernels(cudnn, window):
    maps = Cudnn(cudnn, stand_in_gpu())
    x, w, g = operands(stand_in_ops(), window)
    assert not maps.ways("conv_fprop", x, w, window, g.shape)
    assert not maps.ways("conv_dgrad", g, w, window, x.shape)
    assert not Graph.made and len(maps.refused) == 2


def test_what_no_engine_supports_is_left_to_the_kernels(cudnn):
    Graph.refusing = True
    ops = stand_in_ops(cudnn=cudnn)
    x, w, _ = operands(ops, PLAIN)
    with launched() as seen:
        for _ in range(2):
            ops.conv(x, w, PLAIN)
    assert [name.partition("<")[0] for name in seen] == ["im2col", "im2col"]
    assert len(Graph.made) == 1  # asked once
    assert [*ops.convolution.cudnn.refused.values()] == ["no engine"]
