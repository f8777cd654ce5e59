"""What a user calls: a model's file, and an explanation of its answers, as one ONNX model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxvis.engine.batches import SAMPLES, Nodes, for_any_batch, for_one_batch, fresh_prefix
from onnxvis.engine.engine import Engine
from onnxvis.errors import UsageError
from onnxvis.inputs import Batch
from onnxvis.target import Target, UnitAim, Wanted

from . import assembly, heatmaps, verification, writing
from .assembly import Port
from .draft import Draft, batch_shapes
from .metadata import about
from .pictures import prepare
from .recipes import recipe
from .request import OUTPUTS, Exported, Form, Subject, check_form

__all__ = ["export"]

Array = np.ndarray[Any, Any]


def export(subject: Subject, path: str | os.PathLike[str], form: Form) -> Exported:
    """Write a model that answers with the file's outputs and an explanation (see ``Model.export``)."""
    check_form(subject, form)
    place = writing.check_destination(path, form.force)
    recipe(subject.info.name)  # refuses before any work is done
    model, converted = assembly.base(subject.engine.file)
    plan = _Layout.of(subject, form, assembly.names_in(model))
    outputs = _explained(model, subject, form, plan)
    difference: dict[str, float] = {}

    def try_out(written: Path) -> None:
        trials = _trials(subject, form, plan)
        found = verification.try_out(written, subject.engine.runtime, trials, form.tolerance)
        difference.update(found)

    # A buffer above the limit cannot even say how large it is.
    bytes_held = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    external = bytes_held > writing.LIMIT if form.external_data is None else form.external_data
    files = writing.write(model, place, external, try_out, lambda: _refused_already(subject.engine))
    graph = subject.engine.file_graph
    return Exported(
        path=place,
        files=tuple(files),
        inputs=tuple(port.spec for port in plan.inputs),
        outputs=(*(graph.value(name).spec for name in graph.outputs), *(port.spec for port in outputs)),
        size=sum(file.stat().st_size for file in files),
        original_size=_size(subject.engine),
        difference=difference,
        converted=converted,
    )


def _explained(model: onnx.ModelProto, subject: Subject, form: Form, plan: _Layout) -> list[Port]:
    """Add the explanation to a model, in place; the outputs that it has then besides its own."""
    drafts = [_draft(subject, form, plan, count) for count in plan.counts]
    nodes, shapes = _nodes(drafts, plan, subject.input)
    _check_tensors(nodes, model, subject)
    before: list[onnx.NodeProto] = []
    if form.pictures and subject.preprocess is not None:
        before = prepare(
            subject.preprocess, plan.names["pictures"], subject.input, form.pictures, plan.prefix
        )
    traced = drafts[0].outputs
    outputs = [
        Port(name, traced[name].dtype, shapes[name]) for name in map(plan.names.get, form.outputs) if name
    ]
    assembly.join(model, (before, nodes.nodes), nodes.constants, plan.inputs, outputs)
    assembly.describe(model, *about(subject, form, plan.names))
    return outputs


# ---- the shape of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Names, inputs and numbers of samples of the model to be.

    ``counts``: for how many samples the explanation is traced: one number, or two where any is allowed.
    ``names``: what our inputs and outputs are called, where the file does not have such a name already.
    """

    prefix: str
    names: Mapping[str, str]
    counts: tuple[int, ...]
    symbol: int | str
    inputs: tuple[Port, ...]

    @classmethod
    def of(cls, subject: Subject, form: Form, taken: set[str]) -> _Layout:
        prefix = fresh_prefix(taken)
        names = {name: _free(name, taken) for name in (*OUTPUTS, "target", "pictures")}
        free = subject.engine.free_batch
        fixed = max((array.shape[0] for array in subject.blank.values() if array.ndim), default=1)
        if not free and form.batch not in (None, fixed):
            raise UsageError(f"the model takes {fixed} sample(s) at a time: leave out batch={form.batch}")
        if free and form.batch is None and _one_a_sample(subject.target):
            raise UsageError(
                "one target for each sample needs a fixed number of them: give batch, or target_input"
            )
        any_number = free and form.batch is None
        counts = SAMPLES if any_number else (form.batch or fixed,)
        symbol = _symbol(subject) if any_number else counts[0]
        inputs = [_port(subject, form, name, symbol, names) for name in subject.blank]
        if form.target_input:
            inputs.append(Port(names["target"], np.int64, (symbol,)))
        return cls(prefix, names, counts, symbol, tuple(inputs))


def _one_a_sample(target: Wanted) -> bool:
    """True for a target that says by itself how many samples there are."""
    return isinstance(target, list) or (isinstance(target, Target) and isinstance(target.unit, list))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _symbol(subject: Subject) -> str:
    """What the file calls the number of samples."""
    shape = subject.engine.file_graph.value(subject.input).shape
    return shape[0] if shape and isinstance(shape[0], str) else "N"


def _port(subject: Subject, form: Form, name: str, symbol: int | str, names: Mapping[str, str]) -> Port:
    """An input of the file as the exported model has it."""
    if form.pictures and name == subject.input:
        sides = ("height", "width", 3) if form.pictures == "NHWC" else (3, "height", "width")
        return Port(names["pictures"], np.uint8, (symbol, *sides))
    blank = subject.blank[name]
    free = subject.engine.free_batch
    return Port(
        name, blank.dtype, (symbol if free else blank.shape[0], *blank.shape[1:]) if blank.ndim else ()
    )


# ---- the nodes -----------------------------------------------------------------------------------


def _feeds(subject: Subject, count: int, seed: int = 0) -> dict[str, Array]:
    """Seeded inputs for so many samples."""
    feeds = {}
    for name, blank in subject.blank.items():
        shape = (count, *blank.shape[1:]) if subject.engine.free_batch else blank.shape
        bounds = subject.bounds if name == subject.input else None
        feeds[name] = verification.samples(shape, blank.dtype, bounds, seed)
    return feeds


def _draft(subject: Subject, form: Form, plan: _Layout, count: int) -> Draft:
    case = subject.case(Batch(_feeds(subject, count)))
    draft = Draft(case, plan.names["target"] if form.target_input else None)
    values = recipe(subject.info.name)(draft, **subject.settings)
    for name in form.outputs:
        if name == "explanation":
            found = values
        elif name == "heatmap":
            found = heatmaps.heatmap(draft.ops, values, subject.info.shows, draft.shape, case.channel_axis)
            if form.normalize:
                found = heatmaps.normalized(draft.ops, found, subject.info.shows in ("sum", "mean"))
        else:
            found = draft.seeds.score if name == "score" else draft.seeds.units
        draft.give(plan.names[name], found)
    return draft


def _nodes(
    drafts: Sequence[Draft], plan: _Layout, source: str
) -> tuple[Nodes, dict[str, tuple[int | str, ...]]]:
    """The explanation's nodes and the shapes of its outputs."""
    small, *others = drafts
    if not others:
        return for_one_batch(small, plan.prefix), {n: v.shape for n, v in small.outputs.items()}
    shapes = {
        name: tuple(plan.symbol if n is None else n for n in shape)
        for name, shape in batch_shapes(small, others[0]).items()
    }
    return for_any_batch(small, others[0], plan.prefix, source), shapes


def _check_tensors(nodes: Nodes, model: onnx.ModelProto, subject: Subject) -> None:
    """The tensors that the explanation reads are there, under the names that they have in the file."""
    file = subject.engine.file.graph
    read = {name for node in nodes.nodes for name in node.input}
    lost = read.intersection(file.producers) - assembly.names_in(model)
    if lost:
        opset = file.opsets.get("", 1)
        raise assembly.inconvertible(opset, f"it computes {min(lost)!r} no more")


def _refused_already(engine: Engine) -> bool:
    """True where ONNX's checker refuses the file itself: then it cannot judge what was added."""
    try:
        onnx.checker.check_model(engine.file.model(), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError):
        return True
    return False


def _size(engine: Engine) -> int:
    """Bytes of the file's structure and of its weights."""
    return len(engine.file.stub) + sum(weight.nbytes for weight in engine.file.weights.values())


# ---- the comparison ------------------------------------------------------------------------------


def _trials(subject: Subject, form: Form, plan: _Layout) -> list[verification.Trial]:
    counts = (1, 3) if len(plan.counts) > 1 else plan.counts
    return [_trial(subject, form, plan, count) for count in counts]


def _trial(subject: Subject, form: Form, plan: _Layout, count: int) -> verification.Trial:
    """One batch as the exported model takes it, and what the library makes of it."""
    feeds, given = _decided(subject, form, plan, count)
    target = subject.target
    if form.target_input:
        units = [5 * i % _units(subject, feeds) for i in range(count)]
        target = replace(_unit_target(target), unit=units)
        given[plan.names["target"]] = np.array(units, np.int64)
    found = subject.explain(feeds, target)
    explained = {"explanation": found.values, "score": found.score}
    if "unit" in form.outputs:
        explained["unit"] = np.array(_unit_target(found.target).unit, np.int64)
    if "heatmap" in form.outputs:
        heat = found.heatmap()
        signed = subject.info.shows in ("sum", "mean")
        explained["heatmap"] = verification.normalized(heat, signed) if form.normalize else heat
    wanted = {plan.names[name]: explained[name] for name in form.outputs if name in explained}
    return verification.Trial(given, subject.run(feeds), wanted)


def _decided(
    subject: Subject, form: Form, plan: _Layout, count: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs for the library and for the exported model, by their names there.

    Of several the ones for which it is clearest which unit is the strongest: rounding is not to decide.
    """
    tried = []
    for seed in range(4):
        feeds, given = _inputs(subject, form, plan, count, seed)
        margin = _margin(subject, feeds)
        if margin > 1e-3:
            return feeds, given
        tried.append((margin, feeds, given))
    return max(tried, key=lambda entry: entry[0])[1:]


def _inputs(
    subject: Subject, form: Form, plan: _Layout, count: int, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    feeds = _feeds(subject, count, seed)
    if form.pictures is None or subject.preprocess is None:
        return feeds, dict(feeds)
    photos = verification.samples((count, *_photo_size(subject), 3), np.dtype(np.uint8), None, seed)
    feeds[subject.input] = np.concatenate([subject.preprocess.apply(photo).array for photo in photos])
    given = {name: array for name, array in feeds.items() if name != subject.input}
    given[plan.names["pictures"]] = photos if form.pictures == "NHWC" else photos.transpose(0, 3, 1, 2)
    return feeds, given


def _margin(subject: Subject, feeds: Mapping[str, Array]) -> float:
    """How far the strongest unit is ahead of the second, of the largest value; 1 where none is chosen."""
    aim = subject.case(Batch(feeds)).aim
    if not isinstance(aim, UnitAim) or aim.units is not None:
        return 1.0
    y = aim.units_second(subject.engine.run(feeds, aim.reads)[aim.layer])
    totals = np.sort(y.reshape(*y.shape[:2], -1).sum(axis=2), axis=1)
    ahead = totals[:, -1] - totals[:, -2] if totals.shape[1] > 1 else np.ones(1)
    return float(ahead.min() / max(np.abs(totals).max(), 1e-30))


def _units(subject: Subject, feeds: Mapping[str, Array]) -> int:
    """How many units the target has to choose from."""
    aim = subject.case(Batch(feeds)).aim
    if not isinstance(aim, UnitAim):
        raise UsageError("target_input chooses among units: the target is to be one, without index or seed")
    return int(
        aim.units_second(np.empty(subject.engine.specialized(feeds, [aim.layer]).shape(aim.layer))).shape[1]
    )


def _unit_target(target: Wanted) -> Target:
    assert isinstance(target, Target)  # what has units is one
    return target


def _photo_size(subject: Subject) -> tuple[int, int]:
    """A size that preparation leaves as it is: how exactly photos are resized is another matter."""
    assert subject.preprocess is not None
    height, width = subject.blank[subject.input].shape[2 - (subject.preprocess.layout == "NHWC") :][:2]
    side = subject.preprocess.resize_to
    return (side, side) if side is not None else (height, width)
