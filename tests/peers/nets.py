"""The nets of the comparisons: the same random weights as a torch module and as an ONNX file.

Every net is drawn from a seed: weights that keep the variance from layer to layer (so that gradients
neither vanish nor explode), small biases, and BatchNorm statistics that are not the identity.

Both sides compute in float32, and rounding differs: where a ReLU's input or the two largest numbers of
a pooling window lie within rounding of a tie, the two sides may decide differently, and then they
differentiate two different functions.  ``Pair`` draws inputs until both take the same decision at
every kink (ReLU, Clip, HardSwish, HardSigmoid) and MaxPool: what is left is rounding in the backward pass.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import onnxvis
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass, make_plan

from .libraries import peer

torch = peer("torch")
torchvision = peer("torchvision")
fx = peer("torch.fx")
dispatch = peer("torch.utils._python_dispatch")
nn = torch.nn

torch.set_num_threads(1)

SIDES = {
    "alexnet": 224,
    "vgg11": 224,
    "googlenet": 96,
    "squeezenet1_1": 96,
    "resnet18": 96,
    "densenet121": 64,
    "mobilenet_v2": 96,
    "shufflenet_v2_x1_0": 96,
}
"""torchvision's nets, and the height and width of the input they are compared at.

AlexNet and VGG end in adaptive pooling, which ONNX can only express where the sizes divide.
"""


def over(*names: str) -> Any:
    """Run a test with the ``pair`` fixture for each of these nets."""
    return pytest.mark.parametrize("pair", names, indirect=True)


def relative_error(ours: np.ndarray, theirs: Any) -> float:
    """max|ours − theirs| / max|theirs|."""
    theirs = np.asarray(theirs.detach() if isinstance(theirs, torch.Tensor) else theirs)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0, "nothing to compare with"
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def cosine(ours: np.ndarray, theirs: Any) -> float:
    """Cosine of the angle between two maps."""
    a, b = (np.ravel(array).astype(np.float64) for array in (ours, theirs.detach().numpy()))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---- building ------------------------------------------------------------------------------------


def build(name: str, seed: int = 0, **options: Any) -> Any:
    """One of torchvision's nets with random weights, for inference."""
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    return randomized(getattr(torchvision.models, name)(weights=None, **options), seed)


def randomized(net: Any, seed: int = 0, gain: float = 1.0) -> Any:
    """The net with its weights drawn anew from a seed; BatchNorm's scales on average ``gain``."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.3, generator=draw)
                module.running_var.uniform_(0.5, 2, generator=draw)
                module.weight.uniform_(0.5 * gain, 1.5 * gain, generator=draw)
                module.bias.normal_(0, 0.2, generator=draw)
            elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=draw)
    return net.eval().requires_grad_(False)


def export(net: Any, x: Any, opset: int = 17, **options: Any) -> bytes:
    """The net as an ONNX file with a free batch size, by torch's tracing exporter."""
    free = {"input": {0: "batch"}, "output": {0: "batch"}}
    buffer = io.BytesIO()
    _export(
        net,
        x,
        buffer,
        dynamo=False,
        opset_version=opset,
        output_names=["output"],
        dynamic_axes=free,
        **options,
    )
    return buffer.getvalue()


def export_newly(net: Any, x: Any, opset: int | None = None) -> bytes:
    """The same by the exporter that goes through torch.export (opset None: the one it prefers)."""
    peer("onnxscript")
    program = _export(
        net,
        x,
        dynamo=True,
        opset_version=opset,
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    data: bytes = program.model_proto.SerializeToString()
    return data


def _export(net: Any, x: Any, *to: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one exporter is deprecated, the other uses what is
        return torch.onnx.export(net, (x,), *to, input_names=["input"], **options)


def separated(net: Any) -> Any:
    """The same net with a module of its own for every ReLU, not in place: what hooks on modules need."""
    traced = fx.symbolic_trace(net)
    modules = dict(traced.named_modules())
    count = 0
    for node in traced.graph.nodes:
        by_module = node.op == "call_module" and isinstance(modules[node.target], nn.ReLU)
        by_function = node.op == "call_function" and node.target in (torch.relu, nn.functional.relu)
        if by_module or by_function:
            traced.add_submodule(f"rectifier_{count}", nn.ReLU())
            node.op, node.target, node.args, node.kwargs = (
                "call_module", f"rectifier_{count}", node.args[:1], {},
            )  # fmt: skip
            count += 1
    traced.recompile()
    return traced


# ---- decisions -----------------------------------------------------------------------------------

aten = torch.ops.aten


HARD = (
    aten.hardswish.default, aten.hardswish_.default, aten.hardsigmoid.default, aten.hardsigmoid_.default,
)  # fmt: skip
"""Straight lines with kinks at -3 and 3."""
KINKS = {"Relu": (0, np.inf), "Clip": (0, 6), "HardSigmoid": (0, 1), "HardSwish": (-3, 3)}
"""Between which numbers each has its slope: of its output, HardSwish of its input."""


class Decisions(dispatch.TorchDispatchMode):
    """Records, while a torch net runs, what its rectifiers let through and its max-pools chose."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []
        self.pools: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kept = args[0].clone() if function in HARD else None  # it may be changed in place
        result = function(*args, **(kwargs or {}))
        if function in (aten.relu.default, aten.relu_.default):
            self.taken.append(result > 0)
        elif function in (aten.hardtanh.default, aten.hardtanh_.default):
            self.taken.append((result > args[1]) & (result < args[2]))
        elif function in HARD:
            self.taken.append(kept.abs() < 3)
        elif function is aten.max_pool2d_with_indices.default:
            self.taken.append(result[1])
            self.pools.append(args[1:])
        return result


def agree(net: Any, model: onnxvis.Model, x: Any) -> bool:
    """Whether torch and onnxruntime decide alike at every kink of the net, and at every MaxPool."""
    with torch.no_grad(), Decisions() as theirs:
        net(x)
    nodes = [node for node in model.graph.nodes if node.op_type in (*KINKS, "MaxPool")]
    by_input = ("MaxPool", "HardSwish")
    names = [node.inputs[0] if node.op_type in by_input else node.outputs[0] for node in nodes]
    found = model.activations(x.numpy(), names)
    pools = iter(theirs.pools)
    for node, name, decision in zip(nodes, names, theirs.taken, strict=True):
        ours = torch.from_numpy(found[name])
        if node.op_type == "MaxPool":
            same = aten.max_pool2d_with_indices(ours, *next(pools))[1] == decision
        else:
            low, high = KINKS[node.op_type]
            same = ((ours > low) & (ours < high)) == decision
        if not same.all():
            return False
    return True


# ---- pairs ---------------------------------------------------------------------------------------


@dataclass
class Pair:
    """A torch net, the same as ONNX, and an input at which both decide alike."""

    name: str
    net: Any
    shape: tuple[int, ...]
    opset: int = 17
    exporter: Callable[[Any, Any, int], bytes] = export
    _models: dict[str, onnxvis.Model] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str) -> Pair:
        """One of torchvision's nets."""
        return cls(name, build(name), (3, SIDES[name], SIDES[name]))

    @cached_property
    def data(self) -> bytes:
        """The ONNX file."""
        return self.exporter(self.net, torch.zeros(2, *self.shape), self.opset)

    def model(self, executor: str = "compiled") -> onnxvis.Model:
        """The ONNX file, opened."""
        if executor not in self._models:
            self._models[executor] = onnxvis.load(self.data, executor=executor, threads=1)
        return self._models[executor]

    @cached_property
    def x(self) -> Any:
        """One sample."""
        return self.samples(1)

    def samples(self, count: int) -> Any:
        """The first samples at which torch and onnxruntime decide alike, one by one and together."""
        found: list[Any] = []
        for seed in range(100):
            x = torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(seed))
            if agree(self.net, self.model(), x):
                found.append(x)
            if len(found) == count:
                together = torch.cat(found)
                if agree(self.net, self.model(), together):
                    return together
                del found[0]  # libraries round otherwise in batches
        raise AssertionError(f"no {count} inputs of {self.name} on which both sides agree")

    @cached_property
    def unit(self) -> int:
        """The class that the net gives x."""
        with torch.no_grad():
            return int(self.net(self.x).argmax())

    def one_hot(self) -> Any:
        """1 at the unit."""
        return nn.functional.one_hot(torch.tensor([self.unit]), len(self.net(self.x)[0])).float()


def in_double(net: Any, x: Any, backward: Pass, seed: np.ndarray) -> np.ndarray:
    """Our host executor's answer for a net in double precision: the rules themselves, hardly any rounding.

    onnxruntime has no double convolution on a CPU, so ONNX' reference implementation runs forward.
    """
    data = export(net, x)
    graph = onnxvis.load(data, threads=1).engine.specialized({"input": x.numpy()})
    plan = make_plan(graph, backward, ["output"], ["input"])
    record = ReferenceEvaluator(data).run(None, {"input": x.numpy()}, intermediate=True)
    return HostExecutor(plan, np.float64).backward(record, {"output": seed})["input"]


def doubles(*shape: int) -> Any:
    """A sample in double precision."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def autograd(function: Callable[[Any], Any], x: Any, unit: int | Sequence[int]) -> Any:
    """The gradient of a unit (one a sample) of what a function computes, by torch."""
    x = x.detach().clone().requires_grad_()
    y = function(x)
    units = torch.as_tensor(unit).expand(len(x))
    y[torch.arange(len(x)), units].sum().backward()
    return x.grad
