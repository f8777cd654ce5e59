"""The engine: one model file, its graphs for the shapes that came, and what was compiled for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from itertools import chain
from threading import RLock
from typing import Any, cast

import numpy as np

from onnxvis.cache import kept
from onnxvis.errors import ModelError, UnsupportedError, UsageError
from onnxvis.graph.canonical import canonicalize
from onnxvis.graph.ir import Graph, Quantized
from onnxvis.graph.load import ModelFile
from onnxvis.graph.shapes import infer, specialize, with_types
from onnxvis.ops.device import device_ops
from onnxvis.ops.host import HostOps
from onnxvis.ops.trace import NotTraceableError
from onnxvis.rules import registry
from onnxvis.rules.dequantization import dequantized

from .ahead import Ahead
from .batches import SAMPLES
from .compiled import CompiledExecutor
from .device import DeviceExecutor
from .forward import Forward, Record
from .host import HostExecutor
from .joint import OLDEST, JointExecutor, TracedStart
from .mixed import MixedExecutor
from .plan import Pass, Way, make_plan
from .runtime import Runtime
from .side_by_side import SideBySide
from .supply import bytes_copied

__all__ = ["Engine", "Executor"]

Executor = CompiledExecutor | DeviceExecutor | HostExecutor | MixedExecutor
Array = np.ndarray[Any, Any]
Seeds = Mapping[str, Array]


class Engine:
    """Runs forward and backward passes over a model file, and keeps what it has built.

    ``executor``: "compiled", "host", "device", or "auto" (on a GPU device, else compiled; the steps whose
    rule is plain Python on the host).  Several threads may use it: what they need is built once.
    """

    PLANS, GRAPHS = 16, 16  # how many are kept
    # Bytes of weights in joint sessions, each of which has those of the forward pass once more.
    JOINT = 128 << 20

    def __init__(self, file: ModelFile, runtime: Runtime, executor: str = "auto") -> None:
        if executor not in ("auto", "compiled", "host", "device"):
            raise UsageError(f"no executor {executor!r}; there are 'auto', 'compiled', 'host' and 'device'")
        self.file, self.executor = file, executor
        self.on_gpu = executor == "device" or (executor == "auto" and runtime.device == "cuda")
        if self.on_gpu:
            if runtime.asked == "cpu":
                raise UsageError("the executor 'device' is a GPU's; leave out device='cpu', or the executor")
            device_ops(np.float32, runtime.precision)  # fails early where there is no GPU
        self.file_graph = with_types(file.graph, infer(file))
        self.graph = canonicalize(self.file_graph)
        self._building = RLock()
        self._graphs: OrderedDict[Hashable, Graph] = OrderedDict()
        self._start(runtime)

    def _start(self, runtime: Runtime) -> None:
        """With no session yet."""
        self.runtime, self.forward = runtime, Forward(self.file, runtime)
        self.ahead = Ahead(self.forward)
        self.side_by_side = SideBySide(self)
        self._executors: OrderedDict[Hashable, Executor] = OrderedDict()
        self._joint: OrderedDict[Hashable, JointExecutor] = OrderedDict()
        self._apart: set[Hashable] = set()  # what cannot be one session
        self._compiled: dict[Hashable, Hashable] = {}  # for which number of samples something was first
        self._fixed: set[Hashable] = set()  # what cannot be for any number

    def on_one_thread(self) -> Engine:
        """The same with sessions of its own, each of one thread: for samples that run side by side."""
        other = copy(self)
        other._start(self.runtime.on_one_thread())
        return other

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda", or "cpu+cuda" (forward on the one, backward on the other)."""
        return "cpu+cuda" if self.on_gpu and self.runtime.device == "cpu" else self.runtime.device

    @property
    def free_batch(self) -> bool:
        """True where the first axis of every input may have any length."""
        shapes = [self.file_graph.value(name).shape for name in self.file_graph.inputs]
        return all(shape and not isinstance(shape[0], int) for shape in shapes)

    @cached_property
    def mixes_samples(self) -> bool:
        """True where a sample's answer depends on the others: activations are quantised by their range."""
        return any(node.op_type == "DynamicQuantizeLinear" for node in self.file_graph.nodes)

    def tensor(self, name: str) -> str:
        """The tensor of this name, or the first output of the file's node of this name."""
        return name if name in self.graph.quantized else self.file_graph.tensor(name)

    def _hidden(self, tensors: Iterable[str]) -> frozenset[str]:
        """Those of the file's tensors that the canonical graph merged away."""
        canonical, file = self.graph.producers, self.file_graph.producers
        return frozenset(name for name in tensors if name not in canonical and name in file)

    def specialized(self, feeds: Seeds, tensors: Iterable[str] = ()) -> Graph:
        """The canonical graph for inputs of these shapes, with these tensors of the file in it."""
        hidden = self._hidden(tensors)

        def build() -> Graph:
            shapes = {name: array.shape for name, array in feeds.items()}
            return specialize(
                self._holding(hidden), self.file, shapes, lambda names: self.forward.types(feeds, names)
            )

        with self._building:
            return kept(self._graphs, (hidden, _shapes(feeds)), self.GRAPHS, build)

    def _holding(self, hidden: frozenset[str]) -> Graph:
        """The canonical graph with these tensors of the file in it."""
        return canonicalize(self.file_graph, hidden) if hidden else self.graph

    def backward(self, feeds: Seeds, backward: Pass, seeds: Iterable[str], wrt: Iterable[str]) -> Executor:
        """An executor for a backward pass from ``seeds`` to ``wrt``, for inputs of these shapes.

        The first number of samples gets one of its own; from the second on, one serves all others.
        """
        seeds, wrt = tuple(seeds), tuple(wrt)
        task = (backward.key, seeds, wrt, registry.version)
        fixed = (_shapes(feeds), *task)
        known = self._executors.get(fixed)
        if known is not None:
            self._executors.move_to_end(fixed)
            return known
        every = (_open_shapes(feeds), *task)

        def build() -> Executor:
            return self._build(self.specialized(feeds, (*seeds, *wrt)), backward, seeds, wrt)

        if self._for_another(every, feeds) and every not in self._fixed:
            try:
                return kept(
                    self._executors,
                    every,
                    self.PLANS,
                    lambda: self._for_any_batch(feeds, backward, seeds, wrt),
                )
            except UnsupportedError:
                self._fixed.add(every)
        executor = kept(self._executors, fixed, self.PLANS, build)
        if self.free_batch and isinstance(executor, CompiledExecutor):
            self._compiled.setdefault(every, _shapes(feeds))
        return executor

    def _for_another(self, every: Hashable, feeds: Seeds) -> bool:
        """True where the same was compiled for another number of samples."""
        return self._compiled.get(every, _shapes(feeds)) != _shapes(feeds)

    def _joint_executor(
        self,
        feeds: Seeds,
        start: object,
        at: tuple[str, ...],
        ways: Sequence[Way],
        also: tuple[str, ...],
    ) -> JointExecutor | None:
        """What runs both passes as one session (as ``vjps`` has them); None where they stay two.

        So they do where the seeds cannot be traced, for the second number of samples (``backward`` has an
        executor for all of them then), and once sessions hold ``JOINT`` bytes.
        """
        which = getattr(start, "key", None) if self._joinable and len(ways) == 1 else None
        if which is None:
            return None
        ((backward, wrt, finish),) = ways
        task = (backward.key, at, wrt, registry.version)
        every = (_open_shapes(feeds), *task)
        key = (_shapes(feeds), *task, which, also, finish and finish.key)

        def build() -> JointExecutor:
            graph = self.specialized(feeds, (*at, *wrt))
            plan = make_plan(graph, backward, at, wrt)
            if not plan.traceable:
                raise NotTraceableError(f"{backward.label} uses a rule in plain Python")
            dtype = self._dtype(graph, at)
            return JointExecutor(plan, cast(TracedStart, start), also, self.forward, dtype, finish)

        if key not in self._joint:
            single = all(array.shape[:1] == (1,) for array in feeds.values())
            held = (len(self._joint) + 1) * bytes_copied(self.file.weights, single)
            if key in self._apart or self._for_another(every, feeds) or held > self.JOINT:
                return None
        try:
            found = kept(self._joint, key, self.PLANS, build)
        except (NotTraceableError, ModelError, UnsupportedError):
            self._apart.add(key)
            return None
        if self.free_batch:
            self._compiled.setdefault(every, _shapes(feeds))
        return found

    @cached_property
    def _joinable(self) -> bool:
        """Whether rules can be written behind the file's own nodes, to be run by onnxruntime on a CPU.

        Not in a file that is quantised or of half precision: where onnxruntime rounds there, and what it
        makes one operator, depends on who reads the tensors.
        """
        on_cpu = self.executor in ("auto", "compiled") and self.runtime.device == "cpu"
        half = any(value.dtype == np.float16 for value in self.file_graph.values.values())
        new = self.file.graph.opsets.get("", 0) >= OLDEST
        return on_cpu and new and not half and not self.graph.quantized

    def _for_any_batch(
        self, feeds: Seeds, backward: Pass, seeds: tuple[str, ...], wrt: tuple[str, ...]
    ) -> Executor:
        """UnsupportedError where shapes do not follow from the file: so many samples are not run to see."""

        def refuse(names: Iterable[str]) -> Any:
            raise UnsupportedError(f"the shape of {min(names)!r} is only known when the model runs")

        graph = self._holding(self._hidden((*seeds, *wrt)))
        plans = []
        for samples in SAMPLES:
            shapes = {name: (samples, *array.shape[1:]) for name, array in feeds.items()}
            plans.append(make_plan(specialize(graph, self.file, shapes, refuse), backward, seeds, wrt))
        small, large = plans
        return CompiledExecutor(small, self.runtime, self._dtype(small.graph, seeds), large)

    def _build(self, graph: Graph, backward: Pass, seeds: tuple[str, ...], wrt: tuple[str, ...]) -> Executor:
        plan = make_plan(graph, backward, seeds, wrt)
        dtype = self._dtype(graph, seeds)
        if self.executor == "host":
            return HostExecutor(plan, dtype)
        if self.executor == "auto" and not plan.traceable:
            return MixedExecutor(plan, self.runtime, dtype)
        if self.on_gpu:
            if not plan.traceable:
                raise UnsupportedError(
                    f"{backward.label} uses a rule in plain Python, which the executor 'device' cannot run; "
                    "use executor='auto'"
                )
            return DeviceExecutor(plan, device_ops(dtype, self.runtime.precision))
        try:
            return CompiledExecutor(plan, self.runtime, dtype)
        except NotTraceableError:
            if self.executor == "compiled":
                raise
            return MixedExecutor(plan, self.runtime, dtype)

    @staticmethod
    def _dtype(graph: Graph, seeds: tuple[str, ...]) -> np.dtype[Any]:
        """float64 for a float64 model, else float32."""
        double = np.dtype(np.float64)
        return double if any(graph.value(name).dtype == double for name in seeds) else np.dtype(np.float32)

    def run(self, feeds: Seeds, names: Iterable[str]) -> Record:
        """A forward pass that keeps ``names``.

        Real numbers that the file does not hold are computed from the whole ones that it does.
        """
        names = tuple(names)
        absent = self._absent(names)
        if not absent:
            return self.ahead.run(feeds, names)
        sources = (n for meaning in absent.values() for n in meaning.reads if not self.graph.is_constant(n))
        record = self.forward.run(feeds, (*(n for n in names if n not in absent), *sources))
        ops = HostOps(np.float32)

        def read(name: str) -> Array:
            content = self.graph.constant(name)
            return record[name] if content is None else content

        return Record(record.raw, {n: dequantized(meaning, ops, read) for n, meaning in absent.items()})

    def _absent(self, names: Iterable[str]) -> dict[str, Quantized]:
        """Those of the canonical graph's tensors that only follow from whole numbers in the file."""
        known, file = self.graph.quantized, self.file_graph.values
        if not known:
            return {}
        return {name: known[name] for name in names if name in known and name not in file}

    def vjp(
        self,
        feeds: Seeds,
        seed: Callable[[Seeds], Seeds] | Seeds,
        at: Iterable[str],
        wrt: Iterable[str],
        backward: Pass,
        also: Iterable[str] = (),
    ) -> tuple[Record, dict[str, Array]]:
        """One forward and one backward pass.

        ``seed``: arrays by tensor name, or a function of the record that makes them, for the tensors
        ``at``; ``also``: further tensors to keep.  Returns the record of these and what arrived at ``wrt``.
        """
        record, (arrived,) = self.vjps(feeds, seed, at, [Way(backward, tuple(wrt))], also)
        return record, arrived

    def vjps(
        self,
        feeds: Seeds,
        seed: Callable[[Seeds], Seeds] | Seeds,
        at: Iterable[str],
        ways: Sequence[Way],
        also: Iterable[str] = (),
        meanwhile: Callable[[Record, dict[str, Array]], object] = lambda record, arrived: None,
    ) -> tuple[Record, list[dict[str, Array]]]:
        """One forward pass, and all these ways back (else as ``vjp``).

        ``meanwhile`` may be called with the record and what arrives by a way, while a GPU still walks it: the
        numbers in that are still to come, and a finish too.
        """
        at, also = tuple(at), tuple(also)
        with self._building:
            joint = self._joint_executor(feeds, seed, at, ways, also)
            apart = () if joint else ways
            executors = [self.backward(feeds, way.backward, at, way.wrt) for way in apart]
        if joint is not None:
            record, arrived = joint.run(feeds, cast(TracedStart, seed))
            return record, [arrived]
        also = (*also, *[name for way in ways if way.finish for name in way.wrt])
        record = self.run(feeds, (*chain.from_iterable([each.needs for each in executors]), *at, *also))
        if callable(seed):  # on a GPU the record may be still to come: it is not waited for without need
            seed = seed(record.outlines(at) if getattr(seed, "fixed", False) else record)
        seen, parts = record.only((*at, *also)), [record.only(each.needs) for each in executors]
        del record  # an executor may let go of what it has used: nobody else is to hold it

        def walked(executor: Executor, part: Record) -> dict[str, Array]:
            if isinstance(executor, DeviceExecutor):
                return executor.backward(part, seed, partial(meanwhile, seen))
            return executor.backward(part, seed)

        found = map(walked, executors, parts)
        return seen, [_finished(way, arrived, seen) for way, arrived in zip(ways, found, strict=True)]


def _finished(way: Way, arrived: dict[str, Array], record: Record) -> dict[str, Array]:
    """What a way makes of what arrived."""
    if way.finish is None:
        return arrived
    made = {}
    for name, g in arrived.items():
        ops = HostOps(g.dtype)
        made[name] = np.asarray(way.finish.function(ops, ops.constant(record[name]), g))
    return made


def _open_shapes(feeds: Seeds) -> Hashable:
    """Shapes without the number of samples."""
    return tuple(sorted([(name, None, *array.shape[1:]) for name, array in feeds.items()]))


def _shapes(feeds: Seeds) -> Hashable:
    return tuple(sorted([(name, array.shape) for name, array in feeds.items()]))
