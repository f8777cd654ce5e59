"""The model as a user holds it: run it, look inside, explain, reconstruct."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import images
from .cases import Cases, concatenated
from .engine.engine import Engine
from .engine.plan import Pass
from .errors import InputError, TargetError, UnknownNameError, UsageError
from .explanation import Explanation, Reconstruction
from .graph.analysis import logits
from .graph.ir import Graph, TensorSpec
from .inputs import (
    Batch,
    batches,
    complete,
    default_preset,
    fixed_samples,
    is_picture,
    main_input,
    one_sample,
)
from .overlap import overlapped
from .pictures import Pictures
from .rules import Composite
from .stream import Stream
from .target import Names, Target, Wanted, normal, separable
from .taxonomy import INPUT_MODIFICATION, MethodInfo, find
from .taxonomy.deconvolutional.conservation import Conservation, joined
from .taxonomy.deconvolutional.relevance import report

if TYPE_CHECKING:
    from .deployment import Exported

__all__ = ["Model"]

Array = np.ndarray[Any, Any]


class Model:
    """A CNN in ONNX, opened with :func:`onnxvis.load`."""

    def __init__(
        self, engine: Engine, preprocess: images.Preprocess, preprocess_source: str, labels: Sequence[str]
    ) -> None:
        self.engine = engine
        self.preprocess, self.preprocess_source = preprocess, preprocess_source
        self.labels = labels
        self.device = engine.device
        self._cases = Cases(self)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"Model({self.graph.name!r}, {inputs} -> {outputs}, {len(self.graph.nodes)} layers)"

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def inputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of every input."""
        return [*self.engine.file_graph.input_specs]

    @property
    def outputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of every output."""
        return [*self.engine.file_graph.output_specs]

    @property
    def graph(self) -> Graph:
        """The layer graph; ``print(model.graph)`` is a table."""
        return self.engine.graph

    @property
    def _pictures(self) -> Pictures:
        return Pictures(self.engine.file_graph, self.preprocess)

    @property
    def default_preset(self) -> str:
        """Pictures as they are for a net that takes bytes, else scaled to 0..1."""
        return default_preset(self.inputs)

    # ---- run it ----------------------------------------------------------------------------------

    def run(self, x: Any) -> dict[str, Any]:
        """The model's outputs by name.

        ``x``: an array or {input name: array} as the net takes them, or pictures (a path, a PIL image,
        or a list of these), which go through ``preprocess``.
        """
        return self._in_parts(complete(x, self.inputs, self.preprocess), self.engine.forward.outputs)

    def activations(self, x: Any, names: Iterable[str]) -> dict[str, Array]:
        """What layers computed, by the names they were asked for (a layer: its first output)."""
        names = [names] if isinstance(names, str) else list(names)
        tensors = {name: self.engine.tensor(name) for name in names}
        batch = complete(x, self.inputs, self.preprocess)
        found = self._in_parts(batch, lambda feeds: dict(self.engine.run(feeds, tensors.values())))
        return {name: found[tensor] for name, tensor in tensors.items()}

    def _in_parts(self, batch: Batch, function: Any) -> dict[str, Any]:
        parts = [function(part.feeds) for _, part in batches(batch, self.inputs)]
        return {name: concatenated([part[name] for part in parts]) for name in parts[0]}

    # ---- explain it ------------------------------------------------------------------------------

    def explain(
        self,
        x: Any,
        method: str = "guided_backprop",
        target: Any = None,
        *,
        wrt: str | None = None,
        **settings: Any,
    ) -> Explanation:
        """Why the net answers x as it does.

        ``method``: any name in ``onnxvis.methods()``, with its settings.  ``target``: None (for each
        sample the strongest unit of the last layer before a softmax), a unit's index, a list with one a
        sample, or an ``onnxvis.Target``; further a class by name, {unit: weight}, {output: target} for the
        sum over several outputs, a seed array, or a function of the outputs {name: array} that returns a
        seed for each that counts; a list has one target a sample, of any kind.  ``wrt``: the input to
        explain, where there are several.  The samples of a batch run together, or on a CPU, where that is
        quicker, one by one: as many at a time as the model has threads, a thread each.

        Raises UsageError for a target, method or setting that does not exist, MissingRuleError where
        operators have no rule for the method.
        """
        info, name = find(method), self._input(wrt)
        checked = info.check(settings)
        batch = complete(x, self.inputs, self.preprocess)
        with self.engine.ahead.of(_call(method, name, checked, target), batch.feeds):
            wanted = normal(target, self.names)
            singly = self.engine.side_by_side.pays(batch.feeds, batch.samples) and _independent(info, wanted)
            return self._cases.explanation(info, name, checked, singly, batch, wanted)

    def explain_each(
        self,
        pictures: Iterable[Any],
        method: str = "guided_backprop",
        target: Any = None,
        *,
        wrt: str | None = None,
        batch_size: int | None = None,
        **settings: Any,
    ) -> Iterator[Explanation]:
        """An Explanation for each of many pictures, in order; a thread prepares the next meanwhile.

        ``pictures``: any iterable, of which few are read ahead, of what ``explain`` takes as one sample.
        ``target``: one for all, or a list with one a picture.  ``batch_size``: how many neighbours of the
        same prepared size run at the same time, where the model takes any number (one that takes a fixed
        number is given that).  None: on a CPU as many as there are threads, each on one of them, where that
        is quicker (see ``explain``); else one.  Larger batches pay on a GPU, and for nets of large dense
        layers.  Samples run one by one in any case for methods that make batches of their own (occlusion),
        for nets that quantise activations by the range of a batch, and for targets that are seeds, masks,
        indices or functions.  Other arguments: as for ``explain``.

        Wrong arguments raise at once; what a picture raises (ImageError where it cannot be read) comes in
        its turn, after the pictures before it.
        """
        if is_picture(pictures) and not isinstance(pictures, list | tuple):
            raise UsageError("explain_each takes many pictures, as a list or any iterable; explain takes one")
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise UsageError(f"batch_size is a positive whole number, or None, not {batch_size!r}")
        info, name, wanted = find(method), self._input(wrt), normal(target, self.names)
        checked = info.check(settings)

        def explain(singly: bool, batch: Batch, wanted: Wanted) -> Explanation:
            with self.engine.ahead.of(_call(method, name, checked, wanted), batch.feeds):
                return self._cases.explanation(info, name, checked, singly, batch, wanted)

        fixed, apart = fixed_samples(self.inputs), self.engine.side_by_side
        if not _independent(info, wanted) or self.engine.mixes_samples:
            batch_size = 1
        size = fixed or batch_size or apart.fitting
        prepare = partial(one_sample, specs=self.inputs, preprocess=self.preprocess)
        samples = overlapped(prepare, pictures, ahead=size + 1)
        return Stream(explain, partial(apart.pays, samples=size), wanted, size, fixed is not None)(samples)

    def conservation(
        self, x: Any, target: Any = None, *, wrt: str | None = None, **settings: Any
    ) -> Conservation:
        """Whether relevance is conserved: what each layer gets, passes on and absorbs, summed over x.

        ``x``, ``target``, ``wrt``: as for ``explain``; ``settings``: those of the method "lrp".  Runs on
        NumPy in double precision.  The report prints as a table, and has ``plot()``.
        """
        checked = find("lrp").check(settings)
        batch = complete(x, self.inputs, self.preprocess)
        name, wanted = self._input(wrt), normal(target, self.names)
        return joined(
            [
                report(self._cases.case(part, name, wanted, where, batch.samples), **checked)
                for where, part in batches(batch, self.inputs)
            ]
        )

    @cached_property
    def names(self) -> Names:
        """What targets may call the model's tensors and units."""
        file = self.engine.file_graph
        known = {*file.by_name, *file.producers, *file.inputs, *self.graph.quantized}
        try:
            scores = logits(self.graph)
        except TargetError:  # several outputs: no telling whose units the labels name
            return Names(self.engine.tensor, known, self.labels)
        answers = (name for name in self.graph.outputs if logits(self.graph, name) == scores)
        return Names(self.engine.tensor, known, self.labels, frozenset({scores, *answers}))

    def _input(self, name: str | None) -> str:
        if name is None:
            return self._main
        names = [spec.name for spec in self.inputs]
        if name not in names:
            raise UnknownNameError("input", name, names)
        return name

    @cached_property
    def _main(self) -> str:
        return main_input(self.inputs).name

    def vjp(
        self,
        x: Any,
        seeds: Mapping[str, Any],
        method: str | Composite = "gradient",
        wrt: Sequence[str] | None = None,
        **settings: Any,
    ) -> dict[str, Array]:
        """The raw backward pass: walk ``seeds`` {tensor or layer: array} back to the tensors ``wrt``.

        ``method``: a method of the rule registry ("gradient", "deconvnet", "zplus", …), or a composite: its
        name, a .toml file or a Composite; with their rules' ``settings``.  ``wrt`` default: all floating
        inputs.  Raises UnknownNameError for a method or setting that does not exist.
        """
        batch = complete(x, self.inputs, self.preprocess)
        backward = Pass.named(method, settings)
        started = {self.engine.tensor(name): np.asarray(seed) for name, seed in seeds.items()}
        if not started:
            raise UsageError("give at least one seed: {tensor or layer name: array of its shape}")
        wanted = [self.engine.tensor(name) for name in wrt] if wrt is not None else self._floating_inputs()
        graph = self.engine.specialized(batch.feeds, [*started, *wanted])
        for name, seed in started.items():
            if seed.shape != graph.shape(name):
                raise InputError(
                    f"the seed of {name!r} has shape {seed.shape}, the tensor {graph.shape(name)}"
                )
        _, arrived = self.engine.vjp(batch.feeds, started, started, wanted, backward)
        names = wrt if wrt is not None else wanted
        return {name: arrived[tensor] for name, tensor in zip(names, wanted, strict=True)}

    def _floating_inputs(self) -> list[str]:
        return [spec.name for spec in self.inputs if spec.dtype is None or spec.dtype.kind == "f"]

    # ---- ship it -----------------------------------------------------------------------------------

    def export(
        self,
        path: str | os.PathLike[str],
        method: str = "guided_backprop",
        target: Any = None,
        *,
        wrt: str | None = None,
        outputs: Sequence[str] = ("explanation", "heatmap"),
        target_input: bool = False,
        batch: int | None = None,
        size: tuple[int, int] | None = None,
        pictures: str | None = None,
        normalize: bool = False,
        external_data: bool | None = None,
        tolerance: float = 1e-5,
        force: bool = False,
        **settings: Any,
    ) -> Exported:
        """Write prediction and explanation as one ONNX model, for any ONNX runtime.

        The model has the file's own nodes and outputs, and after these ``outputs``: "explanation" and
        "heatmap" (what ``values`` and ``heatmap()`` of an Explanation are), "score" and "unit" (of the
        target, one a sample).  ``method``, ``target``, ``wrt``, ``settings``: as for ``explain``.

        ``target_input``: the unit is an input "target", int64, one a sample (−1: the strongest).
        ``batch``: a fixed number of samples; None: any, where the file takes any.  ``size``: (height,
        width) where the model leaves it open.  ``pictures``: "NHWC" or "NCHW", photos in uint8 RGB of any
        size as input "pictures", prepared as ``preprocess`` says.  ``normalize``: the heat map in 0..1 (where
        signs matter, 0.5 is nothing).  ``external_data``: weights in PATH.data (None: above 2 GB).
        ``force``: replace what is there.

        The written model is checked, run, and compared with the library; UnsupportedError where they
        differ by more than ``tolerance`` times the largest number, or where a method or the file's opset
        does not allow an export, OutputError where nothing can be written.
        """
        from . import deployment  # rarely used, and opening a model should be quick

        info = find(method)
        checked, name, wanted = info.check(settings), self._input(wrt), normal(target, self.names)
        blank = self._pictures.blank(size).feeds
        subject = deployment.Subject(
            engine=self.engine,
            info=info,
            settings=checked,
            target=wanted,
            input=name,
            blank=blank,
            bounds=self._pictures.bounds(blank[name], name),
            preprocess=self._pictures.settings(name) if name == self._main else None,
            labels=self._cases.labels(wanted),
            case=lambda part: self._cases.case(part, name, wanted),
            run=self.run,
            explain=lambda feeds, chosen: self.explain(feeds, method, chosen, wrt=name, **checked),
        )
        form = deployment.Form(
            outputs, target_input, batch, pictures, normalize, external_data, tolerance, force
        )
        return deployment.export(subject, path, form)

    # ---- find an input ---------------------------------------------------------------------------

    def reconstruct(
        self,
        method: str = "activation_maximization",
        *,
        target: Any = None,
        x: Any = None,
        size: tuple[int, int] | None = None,
        progress: bool | None = None,
        **settings: Any,
    ) -> Reconstruction:
        """Find an input: one that excites the target, or ("inversion") one that a layer sees like x.

        ``size``: (height, width) where the model leaves it open.  ``progress``: a bar on stderr (None: on
        a terminal only).  Further settings are the method's (``onnxvis.methods()``).
        """
        info = find(method, reconstruct=True)
        checked = info.check(settings)
        layer = checked.get("layer")
        if "layer" in checked and layer is not None:
            checked["layer"] = self.engine.tensor(layer)
        if method == "inversion" and x is None:
            raise UsageError("inversion needs x, the input whose code is inverted")
        wanted = normal(target, self.names)
        batch = complete(x, self.inputs, self.preprocess) if x is not None else self._pictures.blank(size)
        name = self._input(None)
        if x is not None and len(batches(batch, self.inputs)) > 1:
            raise InputError("this model takes a fixed number of samples; reconstruct one at a time")
        case = self._cases.case(batch, name, wanted)
        found = info.run(case, self._pictures.canvas(batch.feeds[name], name), progress, **checked)
        return Reconstruction(
            found.values,
            found.loss,
            method,
            wanted,
            {**info.settings, **checked},
            self._pictures.settings(name),
        )


def _independent(info: MethodInfo, wanted: Wanted) -> bool:
    """Whether samples are explained alike in batches and alone: the method makes no batches of its own, and
    the target does not look at the axis of the samples.
    """
    return info.category != INPUT_MODIFICATION and separable(wanted)


def _call(method: str, name: str, settings: Mapping[str, Any], target: Any) -> Hashable | None:
    """Equal for explanations that differ in their samples only; None where that cannot be told."""
    of = target.key if isinstance(target, Target) else target
    if callable(of) or (of is None and target is not None):  # a Target with an array, say
        return None
    call = (method, name, of, *settings.items())
    try:
        hash(call)
    except TypeError:  # there is a list among them
        return None
    return call
