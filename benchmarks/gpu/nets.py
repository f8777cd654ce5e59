"""Whole explanations of ImageNet nets with random weights: right, and against PyTorch and zennit.

Both sides go from an array in the host's memory to one there.  "Backward alone" is the way back over a
forward pass that is done, with its result in the host's memory too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

import onnxvis
from onnxvis.engine.device import DeviceExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.errors import MissingRuntimeError
from onnxvis.ops.device import KINDS, Gpu

from .correctness import Row, compared, joined, said

__all__ = ["Nets"]


class Nets:
    """The nets on one GPU; ``place``: where torch computes."""

    NAMES, BATCHES, SIDE, WARM = ("resnet50", "vgg16"), (1, 32), 224, 20
    GOALS = MappingProxyType({("resnet50", 32): 0.3})  # of zennit's relevance; else as fast

    def __init__(self, gpu: Gpu, clock: Callable[[Callable[[], object]], float], place: str = "cuda") -> None:
        self.gpu, self.clock, self.place = gpu, clock, place

    def rows(self) -> Iterator[Row]:
        from tests.peers.nets import build, export, torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        for name in self.NAMES:
            net = build(name)
            pictures = {count: _pictures(count, self.SIDE) for count in self.BATCHES}
            exported = export(net, torch.zeros(1, 3, self.SIDE, self.SIDE))
            model = _on_gpu(exported)
            net = net.to(self.place)
            yield from (_forward(name, model, exported, x) for x in pictures.values())
            yield from self._right(name, model, pictures[self.BATCHES[0]])
            for x in pictures.values():
                yield from self._gradients(name, model, net, x)
                yield from self._relevance(name, model, x)
            yield self._convolutions(name, model)
            yield from _forward_graphs(name, model)

    def compiled(self) -> Iterator[Row]:
        """Gradients of the smallest batch against nets that torch has compiled, which takes it a minute."""
        from tests.peers.nets import build, export, torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        x = _pictures(self.BATCHES[0], self.SIDE)
        for name in self.NAMES:
            net = build(name)
            model, what = _on_gpu(export(net, torch.zeros(1, 3, self.SIDE, self.SIDE))), f"{name} gradient"
            if model.device == "cpu+cuda":
                yield {"what": what, "passed": False, "why": "needs onnxruntime-gpu"}
                continue
            theirs = self._gradient(torch.compile(net.to(self.place)), x)
            yield self._contest(
                f"{what}, batch {len(x)}", partial(_explained, model, x), "torch.compile", theirs
            )

    def outside_kernels(self, goal: float = 0.1) -> Iterator[Row]:
        """The share of a warm call's time in which no kernel runs, all libraries' kernels counted.

        Of the whole, from host array to host array; ``between``: from the first kernel to the last.  All is
        timed before something is watched: what watches kernels stays in the process and slows it down.
        """
        from tests.peers.nets import build, export, torch

        calls = []
        for name in self.NAMES:
            model = _on_gpu(export(build(name), torch.zeros(1, 3, self.SIDE, self.SIDE)))
            calls.append(partial(_explained, model, _pictures(1, self.SIDE)))
        for call in self.WARM * calls:
            call()
        for name, call, whole in zip(self.NAMES, calls, [*map(self.clock, calls)], strict=True):
            row = {"what": f"{name} gradient, batch 1, outside kernels", "onnxvis ms": whole, "goal": goal}
            try:
                busy, span = _kernels(call)
            except Exception as error:
                yield {**row, "passed": False, "why": said(error)}
                continue
            share = 1 - busy / whole
            yield {**row, "share": share, "between": 1 - busy / span, "passed": share <= goal}

    # ---- right? ----------------------------------------------------------------------------------

    def _right(self, name: str, model: onnxvis.Model, x: Any) -> Iterator[Row]:
        """The way back over the same forward pass: two of these may decide differently at a kink."""
        for method in ("gradient", "lrp"):

            def compute(method: str = method) -> tuple[Any, Any]:
                executor, record, seeds = self._pass(model, method, x)
                theirs = HostExecutor(executor.plan).backward(record, seeds)
                lying = self._lying(record)
                for _ in range(DeviceExecutor.GRAPH_AFTER + 2):
                    ours = executor.backward(Record(lying.raw), seeds)
                return joined(ours), joined(theirs)

            row = compared(f"{name} {method} against the host", compute)
            executor = next(reversed(model.engine._executors.values()), None)
            yield {**row, "graph": getattr(executor, "uncaptured", "not built") or "captured"}

    def _pass(self, model: onnxvis.Model, method: str, x: Any) -> tuple[Any, Record, dict[str, Any]]:
        """The executor that explains x, its forward pass, and what it starts from."""
        model.explain(x, method, target=1)
        engine = model.engine
        executor: Any = next(reversed(engine._executors.values()))
        record = engine.run({engine.file_graph.inputs[0]: x}, (*executor.needs, *executor.plan.seeds))
        seeds = {name: np.zeros_like(record[name]) for name in executor.plan.seeds}
        for seed in seeds.values():
            seed[:, 1] = 1
        return executor, record, seeds

    def _lying(self, record: Record) -> Record:
        """The record with all its tensors on the GPU, wherever onnxruntime computed them."""
        with self.gpu.running():
            there = {name: _Lying(self.gpu.tensor(value)) for name, value in record.raw.items()}
        self.gpu.stream.synchronize()
        return Record(there)

    def _convolutions(self, name: str, model: onnxvis.Model) -> Row:
        """Whether cuDNN took them all, since those that it refuses are slow."""
        executor: Any = next(reversed(model.engine._executors.values()))
        cudnn = executor.ops.convolution.cudnn
        refused = ["all: nvidia-cudnn-frontend is not there"] if cudnn is None else [*cudnn.refused.values()]
        why = "; ".join(dict.fromkeys(refused))[:300]
        return {
            "what": f"{name} convolutions by cuDNN",
            "passed": not refused,
            **({"why": why} if why else {}),
        }

    # ---- fast? -----------------------------------------------------------------------------------

    def _gradients(self, name: str, model: onnxvis.Model, net: Any, x: Any) -> Iterator[Row]:
        what = f"{name} gradient, batch {len(x)}"
        yield self._backward_alone(what, model, net, x)
        if model.device == "cpu+cuda":
            yield {"what": what, "passed": False, "why": "needs onnxruntime-gpu"}
            return
        yield self._contest(what, partial(_explained, model, x), "torch eager", self._gradient(net, x))

    def _backward_alone(self, what: str, model: onnxvis.Model, net: Any, x: Any) -> Row:
        """What it holds of a forward pass goes with it: the next one leaves its tensors there."""
        executor, record, seeds = self._pass(model, "gradient", x)
        lying = self._lying(record)

        def back() -> object:
            return executor.backward(Record(lying.raw), seeds)

        return self._contest(f"{what}, backward alone", back, "torch eager", self._backward(net, x))

    def _relevance(self, name: str, model: onnxvis.Model, x: Any) -> Iterator[Row]:
        def whole() -> object:
            return model.explain(x, "lrp", target=1, composite="epsilon_plus", seed="one")

        what = f"{name} lrp epsilon_plus, batch {len(x)}"
        if model.device == "cpu+cuda":
            yield {"what": what, "passed": False, "why": "needs onnxruntime-gpu"}
        else:
            goal = self.GOALS.get((name, len(x)), 1.0)
            yield self._contest(what, whole, "zennit", self._zennit(name, x), goal)

    def _contest(
        self,
        what: str,
        ours: Callable[[], object],
        rival: str,
        theirs: Callable[[], object],
        goal: float = 1.0,
    ) -> Row:
        """One against the other; what cannot run is a row that says so."""
        try:
            mine, other = self.clock(ours), self.clock(theirs)
        except Exception as error:
            return {"what": what, "rival": rival, "passed": False, "why": said(error)}
        row = {"what": what, "onnxvis ms": mine, "rival": rival, "rival ms": other, "ratio": mine / other}
        return {**row, "goal": goal, "passed": mine <= goal * other}

    def _gradient(self, module: Any, x: Any) -> Callable[[], object]:
        from tests.peers.nets import torch

        def run() -> object:
            there = torch.from_numpy(x).to(self.place).requires_grad_()
            (g,) = torch.autograd.grad(module(there)[:, 1].sum(), there)
            return g.cpu().numpy()

        return run

    def _backward(self, module: Any, x: Any) -> Callable[[], object]:
        from tests.peers.nets import torch

        there = torch.from_numpy(x).to(self.place).requires_grad_()
        score = module(there)[:, 1].sum()
        return lambda: torch.autograd.grad(score, there, retain_graph=True)[0].cpu().numpy()

    def _zennit(self, name: str, x: Any) -> Callable[[], object]:
        attribute: list[Any] = []

        def run() -> object:
            from zennit import attribution, composites, torchvision

            from tests.peers.nets import build, torch

            if not attribute:  # the hooks stay in place for all calls
                kind = "ResNetCanonizer" if name.startswith("resnet") else "VGGCanonizer"
                composite = composites.EpsilonPlus(canonizers=[getattr(torchvision, kind)()])
                attribute.append(attribution.Gradient(build(name).to(self.place), composite))
                attribute[0].__enter__()
            seed = torch.nn.functional.one_hot(torch.full((len(x),), 1), 1000).float().to(self.place)
            there = torch.from_numpy(x).to(self.place).requires_grad_()
            return attribute[0](there, seed)[1].cpu().numpy()

        return run


def _forward(name: str, model: onnxvis.Model, exported: bytes, x: Any) -> Row:
    """The outputs, after inputs enough for a graph of onnxruntime's, against those of its CPU."""

    def outputs(net: onnxvis.Model, x: Any) -> Any:
        graph = net.engine.file_graph
        return joined(net.engine.run({graph.inputs[0]: x}, graph.outputs))

    def compute() -> tuple[Any, Any]:
        for shifted in (x + 1, x - 1, x * 2):
            outputs(model, shifted)
        return outputs(model, x), outputs(onnxvis.load(exported, device="cpu"), x)

    return compared(f"{name} forward against the CPU, batch {len(x)}", compute)


def _forward_graphs(name: str, model: onnxvis.Model) -> Iterator[Row]:
    """Whether the forward pass became CUDA graphs, where it is on the GPU, and why operators stayed apart."""
    bindings = [session.bindings for session in model.engine.forward._sessions.values() if session.bindings]
    if bindings:
        refused = [why for each in bindings for why in each.refused.values()]
        why = {"why": refused, "apart": [why for each in bindings for why in each.apart.values()]}
        graphs = sum(len(each._graphs) for each in bindings)
        row = {"what": f"{name} forward graphs: {graphs}", "passed": bool(graphs) and not refused}
        yield {**row, **{key: "; ".join(said)[:300] for key, said in why.items() if said}}


class _Lying:
    """What an executor asks of an OrtValue, of an array that lies on the GPU."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def is_tensor(self) -> bool:
        return True

    def data_type(self) -> str:
        return KINDS[self.array.dtype]

    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def device_name(self) -> str:
        return "cuda"

    def data_ptr(self) -> int:
        return int(self.array.data.ptr)


def _on_gpu(model: Any) -> onnxvis.Model:
    """Both passes on the GPU; the way back alone where onnxruntime has no CUDA."""
    try:
        return onnxvis.load(model, device="cuda")
    except MissingRuntimeError:
        return onnxvis.load(model, executor="device")


def _explained(model: onnxvis.Model, x: Any) -> object:
    return model.explain(x, "gradient", target=1)


def _pictures(count: int, side: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def _kernels(call: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds in which some kernel runs, and those from the first's start to the last's end."""
    from tests.peers.nets import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
    spans = sorted(
        (event.time_range.start, event.time_range.end)  # microseconds
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not event.name.startswith(("Memcpy", "Memset"))
    )
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1000, (until - spans[0][0]) / 1000
