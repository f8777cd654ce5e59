"""What cuDNN is asked for, by a stand-in for its frontend that convolves as it is told."""

import ctypes
import math
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
    """cuDNN's own formula for the output's size, and a convolution by the host."""

    made, refusing = [], False

    def __init__(self, **types):
        self.types, self.steps, self.executed = types, [], 0
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

    def get_workspace_size(self):
        return 16

    def execute(self, tensors, workspace, handle):
        assert workspace.nbytes == 16 and handle == "handle"
        self.executed += 1
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
        memory[self.result][...] = found


def _memory(address, tensor):
    """The array that a tensor's description makes of an address."""
    dtype = np.dtype(next(name for name, kind in TYPES.items() if kind == tensor.type))
    assert tensor.stride == [math.prod(tensor.dim[i + 1 :]) for i in range(len(tensor.dim))]
    raw = (ctypes.c_uint8 * (math.prod(tensor.dim) * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(tensor.dim)


@pytest.fixture
def cudnn():
    Graph.made, Graph.refusing = [], False
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
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
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sum(graph.executed for graph in Graph.made) == 2 * 25  # none fell back


PLAIN = Window((3, 3), (2, 2), (1, 1), (1, 1), (8, 8), (4, 4))


def test_a_graph_is_built_once_for_a_shape(cudnn):
    ops = stand_in_ops(cudnn=cudnn)
    x, w, _ = operands(ops, PLAIN)
    with launched() as seen:
        for _ in range(3):
            ops.conv(x, w, PLAIN)
    assert not seen
    (graph,) = Graph.made
    assert graph.executed == 3
    assert graph.steps.index("create_execution_plans") < graph.steps.index("deselect_numeric_notes")
    assert graph.steps[-2:] == ["check_support", "build_plans"]


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
    gpu = stand_in_gpu()
    maps = Cudnn(cudnn, gpu)
    x, w, g = operands(stand_in_ops(), window)
    assert maps.forward(x, w, window, 1) is None and maps.adjoint(g, w, window, 1) is None
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
