"""``onnxvis.load``: a model file opened, and how its pictures are prepared and its classes are called."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from . import images, zoo
from .engine.engine import Engine
from .engine.runtime import Runtime
from .graph.analysis import channel_axes, spatial_axes
from .graph.ir import Graph
from .graph.load import ModelFile, read_model
from .inputs import default_preset, main_input
from .model import Model

__all__ = ["load"]

PreprocessLike = str | os.PathLike[str] | Mapping[str, Any] | images.Preprocess | None


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    device: str = "auto",
    preprocess: PreprocessLike = None,
    threads: int | None = None,
    executor: str = "auto",
    labels: Sequence[str] | None = None,
    precision: str = "float32",
    functions: Sequence[str | onnx.FunctionProto] = (),
    custom_ops: Sequence[str | os.PathLike[str]] = (),
) -> Model:
    """Open a CNN saved as ONNX.

    ``source``: a path, ``"zoo:NAME"``, bytes, or an onnx.ModelProto.  ``device``: "cpu", "cuda", or "auto",
    the GPU where onnxruntime and CuPy both find one.  ``preprocess``: a preset's name, a Preprocess or its
    settings, a .json or .toml file; None: what the model's metadata or side file says, else 0..1 (0..255
    for a net that takes bytes).  ``threads``: for onnxruntime (None: one a core).  ``executor`` of backward
    passes: "auto", "compiled" or "host" (both on a CPU, unless device="cuda"), or "device" (a GPU, also
    where onnxruntime has only the CPU).  ``precision`` of convolutions and matrix products on a GPU:
    "float32", "tf32" or "float16".  ``labels``: names of the classes.  ``functions``: definitions of
    operators that onnxruntime does not know, each an onnx.FunctionProto or its text; ``custom_ops``:
    libraries of such operators, as onnxruntime loads them.

    Raises ModelError where the model cannot be read or run, MissingRuntimeError without onnxruntime.
    """
    if isinstance(source, str) and source.startswith(zoo.PREFIX):
        entry = zoo.find(source.removeprefix(zoo.PREFIX))
        preprocess = entry.preprocess if preprocess is None else preprocess
        labels = entry.labels if labels is None and isinstance(entry.labels, tuple) else labels
        source = zoo.get(entry.name, progress=True)
    if device == "auto" and executor in ("compiled", "host"):
        device = "cpu"
    runtime = Runtime(device, threads, precision, custom_ops)
    engine = Engine(read_model(source, functions), runtime, executor)
    found, origin = _preprocess(preprocess, engine)
    return Model(engine, found, origin, tuple(labels if labels is not None else _labels(engine.file)))


def _preprocess(given: PreprocessLike, engine: Engine) -> tuple[images.Preprocess, str]:
    """The settings, completed by what the model's input fixes, and where they come from."""
    graph, origin = engine.file_graph, "given"
    if isinstance(given, images.Preprocess):
        found = given
    elif isinstance(given, Mapping):
        found = images.Preprocess.from_json(given)
    elif given is not None:
        named = isinstance(given, str) and not given.endswith((".json", ".toml"))
        found = images.preset(str(given)) if named else images.Preprocess.from_file(os.fspath(given))
    else:
        found, origin = _own_preprocess(engine.file, graph)
    return _resolved(found, graph), origin


def _own_preprocess(file: ModelFile, graph: Graph) -> tuple[images.Preprocess, str]:
    """What the file beside the model says, else its metadata, else a default."""
    beside = images.side_file(file.path) if file.path else None
    if beside:
        return images.Preprocess.from_file(beside), str(beside)
    own = images.from_metadata(file.metadata)
    return (own, "metadata") if own else (images.preset(default_preset(graph.input_specs)), "default")


def _resolved(preprocess: images.Preprocess, graph: Graph) -> images.Preprocess:
    """What the model's input fixes filled in, where that is a picture."""
    if not graph.inputs:
        return preprocess
    spec = main_input(graph.input_specs)
    if spec.shape is None or len(spec.shape) != 4:
        return preprocess
    axis = channel_axes(graph)[spec.name]
    height, width = (spec.shape[i] for i in spatial_axes(4, axis))
    channels = spec.shape[axis]
    if isinstance(channels, int) and channels not in (1, 3):
        return preprocess
    return preprocess.resolve(
        _known(height),
        _known(width),
        _known(channels),
        layout="NHWC" if axis == 3 else "NCHW",
        dtype=str(spec.dtype) if spec.dtype is not None else None,
    )


def _known(dimension: int | str | None) -> int | None:
    return dimension if isinstance(dimension, int) else None


def _labels(file: ModelFile) -> Sequence[str]:
    """Names of the classes from the file beside the model, else from its metadata."""
    beside = images.labels_file(file.path) if file.path else None
    return images.read_labels(beside) if beside else images.labels_from_metadata(file.metadata) or ()
