"""Shapes: what the file says, and what follows from the shapes of actual inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, shape_inference

from .folding import fold_constants
from .ir import Graph, Value
from .load import ModelFile, type_of
from .sequences import without_sequences

__all__ = ["Types", "infer", "specialize"]

Types = Mapping[str, tuple[np.dtype[Any] | None, tuple[int | str | None, ...] | None]]
Probe = Callable[[Iterable[str]], Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]]


def infer(file: ModelFile, inputs: Mapping[str, tuple[int, ...]] | None = None) -> Types:
    """Dtypes and shapes by ONNX's shape inference, for inputs of these shapes (None: as the file says)."""
    model = onnx.ModelProto()
    model.CopyFrom(file.skeleton)
    for entry in model.graph.input:
        if inputs and entry.name in inputs:
            elem_type = entry.type.tensor_type.elem_type
            entry.CopyFrom(helper.make_tensor_value_info(entry.name, elem_type, inputs[entry.name]))
    if inputs:
        # What the file states about other tensors may belong to other input shapes.
        for entry in model.graph.output:
            if entry.type.HasField("tensor_type"):
                entry.type.tensor_type.ClearField("shape")
    for node in model.graph.node:
        if node.op_type == "STFT" and not any(entry.name == "onesided" for entry in node.attribute):
            # The default, for which the inference of onnx 1.23 takes another than its own specification.
            node.attribute.append(helper.make_attribute("onesided", 1))
    try:
        model = shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # a malformed or unknown operator: the runtime is asked for the shapes instead
        return {}
    entries = (*model.graph.value_info, *model.graph.output, *model.graph.input)
    return {entry.name: type_of(entry) for entry in entries}


def with_types(graph: Graph, types: Types) -> Graph:
    """The graph whose values carry these dtypes and shapes (constants keep their own)."""
    values = dict(graph.values)
    names = {name for node in graph.nodes for name in node.outputs if name}
    for name in names.union(graph.inputs):
        dtype, shape = types.get(name, (None, None))
        if name in graph.quantized and name not in types:  # not in the file: shaped as what it is made of
            source = graph.quantized[name].source
            shape = types[source][1] if source in types else graph.value(source).shape
        old = graph.value(name)
        if not old.is_constant:
            values[name] = Value(name, dtype or old.dtype, shape if shape is not None else old.shape)
    return replace(graph, values=values)


def specialize(graph: Graph, file: ModelFile, inputs: Mapping[str, tuple[int, ...]], probe: Probe) -> Graph:
    """The graph for inputs of these shapes: all of them known, shape arithmetic folded, no sequences.

    ``probe`` runs the model and reports the types of tensors that ONNX's shape inference cannot
    tell (operators of other domains, shapes that depend on values).
    """
    blank = {name: (None, None) for node in graph.nodes for name in node.outputs if name}
    forgotten = replace(
        graph,
        values={
            name: Value(name, value.dtype) if name in blank and not value.is_constant else value
            for name, value in graph.values.items()
        },
    )
    graph = fold_constants(with_types(forgotten, infer(file, inputs)))
    unknown = [
        name for node in graph.nodes for name in node.outputs if name and not _complete(graph.value(name))
    ]
    unknown = [name for name in unknown if name in file.graph.producers]
    if unknown:
        graph = fold_constants(with_types(graph, probe(unknown)))
    return without_sequences(graph)


def _complete(value: Value) -> bool:
    known = value.shape is not None and all(isinstance(n, int) for n in value.shape)
    return known and value.dtype is not None
