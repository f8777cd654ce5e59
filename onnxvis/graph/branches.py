"""Branches that are decided when the file is read: an If whose condition does not depend on the data.

Exporters write an If where a function asks for the rank or a dimension of a tensor.  A runtime offers no
tensor inside of a branch as output, so the branch that will be taken replaces the If.  An If that depends
on the data, or on a dimension that the file leaves open, stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.external_data_helper import uses_external_data

from .folding import RANDOM, run_node

__all__ = ["decide_branches", "has_branches"]

SMALL = 1024  # numbers that a constant may hold and still be looked at: shapes, axes, conditions
Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]


def has_branches(proto: onnx.ModelProto) -> bool:
    """Whether there is an If in the main graph."""
    return any(node.op_type == "If" and not node.domain for node in proto.graph.node)


def decide_branches(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the branch in place of every If that is already decided."""
    decided = onnx.ModelProto()
    decided.CopyFrom(proto)
    graph = decided.graph
    known = _Known(proto)
    names = _Names(graph)
    todo = [*proto.graph.node][::-1]
    del graph.node[:]
    while todo:
        node = todo.pop()
        condition = known.constants.get(node.input[0]) if node.op_type == "If" and not node.domain else None
        if condition is None:
            known.learn(node)
            graph.node.append(node)
            continue
        branch = names.inlined(node, "then_branch" if condition.all() else "else_branch")
        for tensor in branch.initializer:
            known.learn_initializer(tensor)
            graph.initializer.append(tensor)
        todo += [*branch.node][::-1]
    return decided


# ---- what is known before anything runs ----------------------------------------------------------


class _Known:
    """Types of tensors, and the content of small ones, as far as they follow from the file."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.opsets = [*proto.opset_import]
        self.opset = next((o.version for o in self.opsets if o.domain in ("", "ai.onnx")), 1)
        self.types: dict[str, onnx.TypeProto] = {entry.name: entry.type for entry in proto.graph.input}
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}  # what a Shape gives, as far as it is known
        for tensor in proto.graph.initializer:
            self.learn_initializer(tensor)

    def learn_initializer(self, tensor: onnx.TensorProto) -> None:
        """Its type, and its numbers where they are few."""
        self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if np.prod(tensor.dims, dtype=np.int64) <= SMALL and not uses_external_data(tensor):
            self.constants[tensor.name] = numpy_helper.to_array(tensor)

    def learn(self, node: onnx.NodeProto) -> None:
        """What follows for the outputs of a node."""
        if node.domain not in ("", "ai.onnx"):
            return
        results = self._results(node)
        if results is not None:
            for name, array in zip(node.output, results, strict=True):
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                self.types[name] = helper.make_tensor_type_proto(kind, array.shape)
                if array.size <= SMALL:
                    self.constants[name] = array
            return
        self._infer(node)

    def _results(self, node: onnx.NodeProto) -> Sequence[Array] | None:
        if node.op_type in ("Shape", "Size", "Gather"):
            partly = self._of_shape(node)
            if partly is not None:
                return partly
        if node.op_type in RANDOM or not all(name in self.constants for name in node.input if name):
            return None
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            return None
        return run_node(node, self.opset, {name: self.constants[name] for name in node.input if name})

    def _of_shape(self, node: onnx.NodeProto) -> Sequence[Array] | None:
        """The result of Shape, Size, or a Gather from a shape, where that much of it is known."""
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "Gather":
            shape, picked = self.shapes.get(node.input[0]), self.constants.get(node.input[1])
            if shape is None or picked is None:
                return None
            dims = [shape[i] if -len(shape) <= i < len(shape) else None for i in picked.ravel()]
            found = None if None in dims else np.array(dims, np.int64).reshape(picked.shape)
        else:
            shape = self.shape(node.input[0])
            if shape is None:
                return None
            part = shape[attributes.get("start", 0) : attributes.get("end")]
            if node.op_type == "Shape":
                self.shapes[node.output[0]] = part
            found = None if None in part else np.array(part, np.int64)
            if node.op_type == "Size" and found is not None:
                found = np.array(found.prod(), np.int64)
        return None if found is None else [found]

    def shape(self, name: str) -> Shape | None:
        """Dimensions of a tensor, None for those that are open."""
        tensor = self.types[name].tensor_type if name in self.types else None
        if tensor is None or not tensor.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)

    def _infer(self, node: onnx.NodeProto) -> None:
        """Types by ONNX's inference for this node alone; what it cannot tell stays unknown."""
        read = [name for name in node.input if name]
        if not all(name in self.types for name in read) or node.op_type == "If":
            return
        constants = {n: numpy_helper.from_array(self.constants[n], n) for n in read if n in self.constants}
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            types = {name: self.types[name] for name in read}
            found = shape_inference.infer_node_outputs(schema, node, types, constants, None, self.opsets)
        except Exception:  # no such operator, or a node that inference refuses: the runtime will tell
            return
        self.types.update(found)


# ---- putting a branch in place of its If ---------------------------------------------------------


class _Names:
    """Tensor names of the main graph, so that what a branch brings along gets new ones."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self.taken.update(entry.name for entry in (*graph.input, *graph.output, *graph.initializer))

    def inlined(self, node: onnx.NodeProto, which: str) -> onnx.GraphProto:
        """A branch of an If, whose last tensors are those of the If."""
        branch = onnx.GraphProto()
        branch.CopyFrom(next(entry.g for entry in node.attribute if entry.name == which))
        made = [name for entry in branch.node for name in entry.output if name]
        new: dict[str, str] = {}
        copied: list[tuple[str, str]] = []
        for inner, outer in zip((entry.name for entry in branch.output), node.output, strict=True):
            if inner in made and inner not in new:
                new[inner] = outer
            elif outer:
                copied.append((inner, outer))
        for name in (*made, *(tensor.name for tensor in branch.initializer)):
            if name not in new:
                new[name] = self._free(name)
        _rename(branch, new)
        branch.node.extend(
            helper.make_node("Identity", [new.get(inner, inner)], [outer]) for inner, outer in copied
        )
        return branch

    def _free(self, name: str) -> str:
        names: Iterator[str] = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1)))
        free = next(candidate for candidate in names if candidate not in self.taken)
        self.taken.add(free)
        return free


def _rename(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    """Call the tensors by their new names, in graphs inside of the graph too."""
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for entry in graph.output:
        entry.name = new.get(entry.name, entry.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, new)
