"""From a file, bytes or a ModelProto to a Graph, and to what the runtime is given.

The model is never rewritten: what runs is the file's structure (``ModelFile.stub``) and its weights.
Only local functions and branches that are already decided are inlined, and fused layers taken apart
first, since a runtime offers no tensor inside of them as output.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from onnxvis.errors import ModelError

from .branches import decide_branches, has_branches
from .definitions import Definition, define, keep_defined
from .ir import Graph, Node, Subgraph, Value
from .stored import Source, Weight, Weights
from .unfusing import is_fused, unfuse
from .weights import attach, detach, detach_file, find_external, is_detached

__all__ = ["ModelFile", "read_model"]


@dataclass(frozen=True)
class ModelFile:
    """A model as it was given: its structure, its large ``weights`` by name, its ``graph``.

    ``stub`` is the serialized model without the weights (see ``weights``), what runtime sessions are built
    from; ``folder`` holds external weights of types that NumPy lacks.  ``skeleton`` is for shape inference:
    weights are inputs of their types in it.  ``metadata``: the file's key-value pairs.
    """

    stub: bytes
    weights: Weights
    folder: Path | None
    path: Path | None
    graph: Graph
    skeleton: onnx.ModelProto
    metadata: Mapping[str, str]
    producer: str

    def model(self) -> onnx.ModelProto:
        """The whole model, weights in it."""
        return attach(self.stub, self.weights)


def read_model(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto, functions: Sequence[Definition] = ()
) -> ModelFile:
    """Read a model from a path, bytes or a ModelProto.

    ``functions`` define operators that the runtime does not know (see ``definitions``).  Raises ModelError
    where the model is missing, not ONNX, truncated, or lacks its external weights.
    """
    path = None
    if isinstance(source, onnx.ModelProto):
        proto, weights = _parse(lambda: detach(source.SerializeToString()), "the ModelProto")
    elif isinstance(source, bytes | bytearray | memoryview):
        proto, weights = _parse(lambda: detach(bytes(source)), "the given bytes")
    else:
        path = Path(source)
        _check_file(path)
        proto, weights = _parse(lambda: detach_file(Path(source)), str(path))
    what, folder = _described(source), path.resolve().parent if path else None
    _check_external(proto, folder, what)
    _find_externals(proto, folder, weights)
    if proto.functions:
        proto = _inline(proto, what)
    if has_branches(proto):
        proto = decide_branches(proto)
    if any(map(is_fused, proto.graph.node)):
        proto = unfuse(proto)
    graph = _build(proto, weights, folder)
    if functions:
        proto = define(proto, functions)
        graph = keep_defined(graph, _build(proto, weights, folder))
    used = {tensor.name for tensor in proto.graph.initializer}
    return ModelFile(
        stub=proto.SerializeToString(),
        weights={name: weight for name, weight in weights.items() if name in used},
        folder=folder,
        path=path,
        graph=graph,
        metadata={entry.key: entry.value for entry in proto.metadata_props},
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        skeleton=_strip(proto),
    )


def _described(source: Any) -> str:
    """How errors call what was given."""
    if isinstance(source, onnx.ModelProto):
        return "the ModelProto"
    return "the given bytes" if isinstance(source, bytes | bytearray | memoryview) else str(Path(source))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path} is a folder; give the .onnx file in it")
    if not path.exists():
        raise ModelError(f"there is no file {path}; give the path of an .onnx file, or zoo:NAME")


def _parse(detached: Callable[[], tuple[bytes, Weights]], what: str) -> tuple[onnx.ModelProto, Weights]:
    """Structure and weights; ModelError where there is no whole model."""
    try:
        stub, weights = detached()
        proto = onnx.load_model_from_string(stub)
    except OSError as error:
        raise ModelError(f"{what} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # also protobuf's own DecodeError, by whichever backend
        raise ModelError(
            f"{what} is not an ONNX model, or is cut off ({error}); export or download it again"
        ) from None
    if not proto.graph.output or not (proto.graph.node or proto.graph.initializer):
        raise ModelError(f"{what} holds no ONNX graph; export or download it again")
    return proto, weights


def _check_external(proto: onnx.ModelProto, folder: Path | None, what: str) -> None:
    """Every file of external weights is there and long enough."""
    problems: dict[str, str] = {}
    for tensor in proto.graph.initializer:
        if not uses_external_data(tensor) or is_detached(tensor):
            continue
        info = ExternalDataInfo(tensor)
        if folder is None:
            raise ModelError(
                f"{what} keeps weights in a separate file ({info.location}): "
                "give the path of the model instead"
            )
        file = folder / info.location
        if not file.is_file():
            problems.setdefault(info.location, "is missing")
        elif file.stat().st_size < (info.offset or 0) + (info.length or 0):
            problems.setdefault(info.location, "is cut off")
    if problems:
        listed = ", ".join(f"{name} {problem}" for name, problem in list(problems.items())[:5])
        raise ModelError(
            f"{what} keeps weights in other files, and of these {listed}; "
            f"put {'it' if len(problems) == 1 else 'them'} into {folder}"
        )


def _find_externals(proto: onnx.ModelProto, folder: Path | None, weights: Weights) -> None:
    """Add the weights that lie in other files; their tensors are marked as detached."""
    sources: dict[str, Source] = {}
    for tensor in proto.graph.initializer:
        if uses_external_data(tensor) and not is_detached(tensor) and folder is not None:
            location = ExternalDataInfo(tensor).location
            if location not in sources:
                sources[location] = Source(folder / location)
            place = find_external(tensor, sources[location])
            if place is not None:
                weights[tensor.name] = Weight(place)


def _inline(proto: onnx.ModelProto, what: str) -> onnx.ModelProto:
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(proto)
    except Exception as error:
        raise ModelError(f"the local functions of {what} cannot be inlined: {error}") from None


def _strip(proto: onnx.ModelProto, keep: int = 1024) -> onnx.ModelProto:
    """A copy in which large weights are graph inputs of the same type: quick to infer shapes with."""
    skeleton = onnx.ModelProto()
    skeleton.ir_version = max(proto.ir_version, 4)
    skeleton.opset_import.extend(proto.opset_import)
    graph = skeleton.graph
    graph.name = proto.graph.name or "graph"
    graph.node.extend(proto.graph.node)
    for node in graph.node:
        _drop_idle_padding(node)
    graph.output.extend(proto.graph.output)
    graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    weights = {tensor.name for tensor in proto.graph.initializer}
    graph.input.extend(entry for entry in proto.graph.input if entry.name not in weights)
    for tensor in proto.graph.initializer:
        if np.prod(tensor.dims, dtype=np.int64) <= keep and not uses_external_data(tensor):
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return skeleton


def _drop_idle_padding(node: onnx.NodeProto) -> None:
    """Take away the padding that auto_pad overrides: ONNX's shape inference would count it."""
    auto_pad = next((entry.s for entry in node.attribute if entry.name == "auto_pad"), b"NOTSET")
    idle = {b"VALID": ("pads",)}.get(auto_pad, ("pads", "output_padding") if b"SAME" in auto_pad else ())
    for i in reversed(range(len(node.attribute))):
        if node.attribute[i].name in idle:
            del node.attribute[i]


def _build(proto: onnx.ModelProto, weights: Weights, folder: Path | None) -> Graph:
    graph = proto.graph
    values: dict[str, Value] = {}
    for entry in (*graph.value_info, *graph.output, *graph.input):
        values[entry.name] = Value(entry.name, *type_of(entry))
    for tensor in graph.initializer:
        if is_detached(tensor):
            weight = weights[tensor.name]
            values[tensor.name] = Value(tensor.name, weight.dtype, weight.shape, weight)
        else:
            values[tensor.name] = _initializer(tensor, folder)
    for sparse in graph.sparse_initializer:
        values[sparse.values.name] = Value.of(sparse.values.name, _dense(sparse))
    constants = {name for name, value in values.items() if value.is_constant}
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    names = _unique_names(graph.node)
    nodes = tuple(_node(node, name, opsets) for node, name in zip(graph.node, names, strict=True))
    return Graph(
        name=graph.name,
        nodes=nodes,
        values=values,
        inputs=tuple(entry.name for entry in graph.input if entry.name not in constants),
        outputs=tuple(entry.name for entry in graph.output),
        opsets=opsets,
    )


def type_of(entry: onnx.ValueInfoProto) -> tuple[np.dtype[Any] | None, tuple[int | str | None, ...] | None]:
    """Dtype and shape that a ValueInfoProto states, None where it does not."""
    if not entry.type.HasField("tensor_type"):
        return None, None
    tensor = entry.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, tuple(_dimension(dim) for dim in tensor.shape.dim)


def _dimension(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None  # old exporters write 0 or -1 for "any"
    return str(dim.dim_param) or None


def _initializer(tensor: onnx.TensorProto, folder: Path | None) -> Value:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    content = partial(numpy_helper.to_array, tensor, base_dir=str(folder or ""))
    return Value(tensor.name, dtype, tuple(tensor.dims), content)


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray[Any, Any]:
    """A sparse initializer with its zeros; indices run over the flat tensor or over its axes."""
    numbers, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), numbers.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = numbers
    else:
        dense[tuple(indices.T)] = numbers
    return dense


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _unique_names(nodes: Any) -> Iterator[str]:
    """The file's node names, or "Conv_3" (the fourth Conv) where one is empty or repeated."""
    given = Counter(node.name for node in nodes)
    seen: Counter[str] = Counter()
    taken = set(given)
    for node in nodes:
        name = node.name
        if not name or given[name] > 1:
            name = f"{node.op_type}_{seen[node.op_type]}"
            while name in taken:
                name += "_"
            taken.add(name)
        seen[node.op_type] += 1
        yield name


def _node(node: onnx.NodeProto, name: str, opsets: Mapping[str, int]) -> Node:
    domain = _domain(node.domain)
    return Node(
        name=name,
        op_type=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={entry.name: _attribute(entry) for entry in node.attribute},
        domain=domain,
        opset=opsets.get(domain, 1),
        origin=(name,),
    )


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    match attribute.type:
        case onnx.AttributeProto.STRING:
            return value.decode("utf-8", "replace")
        case onnx.AttributeProto.STRINGS:
            return [entry.decode("utf-8", "replace") for entry in value]
        case onnx.AttributeProto.TENSOR:
            return numpy_helper.to_array(value)
        case onnx.AttributeProto.GRAPH:
            return Subgraph(_captured(value))
        case onnx.AttributeProto.FLOATS | onnx.AttributeProto.INTS:
            return list(value)
    return value


def _captured(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Names that a subgraph reads from the graph around it."""
    own = {entry.name for entry in graph.input} | {tensor.name for tensor in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    return tuple(
        dict.fromkeys(name for node in graph.node for name in node.input if name and name not in own)
    )
