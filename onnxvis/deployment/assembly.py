"""The file's graph and the nodes of an explanation in one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from onnxvis.errors import UnsupportedError
from onnxvis.graph.ir import TensorSpec
from onnxvis.graph.load import ModelFile

__all__ = ["IR_VERSION", "OPSET", "Port", "base", "describe", "inconvertible", "join", "names_in"]

OPSET, IR_VERSION = 18, 8  # the lowest that hold what a trace writes


class Port(NamedTuple):
    """An input or output of a model: a symbol or None stands for any length."""

    name: str
    dtype: Any
    shape: tuple[int | str | None, ...]

    @property
    def spec(self) -> TensorSpec:
        """As ``Model.inputs`` has it."""
        return TensorSpec(self.name, self.shape, np.dtype(self.dtype))

    @property
    def proto(self) -> onnx.ValueInfoProto:
        """As ONNX states it."""
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        return helper.make_tensor_value_info(self.name, dtype, self.shape)


def base(file: ModelFile) -> tuple[onnx.ModelProto, bool]:
    """A file's model with all its weights, and whether it had to be brought to a newer opset.

    Raises UnsupportedError where the file is older than ``OPSET`` and ONNX's converter cannot change that.
    """
    model = file.model()
    if file.folder is not None:
        load_external_data_for_model(model, str(file.folder))  # of types that NumPy lacks
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    converted = opset < OPSET
    if converted:
        _convert(model, file, opset)
    elif not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = max(model.ir_version, IR_VERSION)
    return model, converted


def _convert(model: onnx.ModelProto, file: ModelFile, opset: int) -> None:
    """Bring the nodes to ``OPSET``, in place; the weights do not pass through the converter."""
    from onnx import version_converter

    try:
        new = version_converter.convert_version(file.skeleton, OPSET)
    except Exception as error:  # RuntimeError with what the converter misses, ConvertError, checker errors
        plain = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
        unknown = sorted(op_type for op_type in plain if not onnx.defs.has(op_type))
        reason = f"ONNX no longer has {', '.join(unknown)}" if unknown else str(error).strip().split("\n")[0]
        raise inconvertible(opset, reason) from None
    own = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(t for t in new.graph.initializer if t.name not in own)
    for name in ("node", "value_info"):
        del getattr(model.graph, name)[:]
        getattr(model.graph, name).extend(getattr(new.graph, name))
    del model.opset_import[:]
    model.opset_import.extend(new.opset_import)


def inconvertible(opset: int, reason: str) -> UnsupportedError:
    """What is wrong with a file that is too old."""
    return UnsupportedError(
        f"the model is of opset {opset}, what explains it of {OPSET}, and ONNX's converter cannot bring it "
        f"there: {reason}; export the model anew from its framework, at opset {OPSET} or later"
    )


def join(
    model: onnx.ModelProto,
    nodes: tuple[Sequence[onnx.NodeProto], Sequence[onnx.NodeProto]],
    constants: Mapping[str, np.ndarray[Any, Any]],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
) -> None:
    """Add ``nodes`` (before and after the model's own) to a model, in place.

    ``inputs``: all that it then has (no weights, as IR 3 lists them: nothing can be computed from these when
    a model is loaded, since a caller may replace them); ``outputs``: those that follow its own.
    """
    graph, (before, after) = model.graph, nodes
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *own, *after])
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    del graph.input[:]
    graph.input.extend(port.proto for port in inputs)
    graph.output.extend(port.proto for port in outputs)


def describe(model: onnx.ModelProto, metadata: Mapping[str, str | None], description: str) -> None:
    """Set metadata (None: take it away) and append to the model's description, in place."""
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept = {key: value for key, value in {**kept, **metadata}.items() if value is not None}
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)
    model.doc_string = "\n\n".join(filter(None, (model.doc_string, description)))


def names_in(model: onnx.ModelProto) -> set[str]:
    """Every name of a tensor in the main graph."""
    graph = model.graph
    found = {entry.name for entry in (*graph.input, *graph.output, *graph.initializer)}
    found.update(name for node in graph.node for name in (*node.input, *node.output))
    return found
