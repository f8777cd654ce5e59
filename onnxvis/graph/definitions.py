"""Definitions that a user gives for operators which the runtime does not know.

The runtime gets the nodes inlined; the graph keeps them, so that rules speak of the operator as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import onnx
from onnx.inliner import inline_local_functions

from onnxvis.errors import ModelError, UsageError

from .folding import fold_constants
from .ir import Graph, Value

__all__ = ["Definition", "define", "keep_defined"]

Definition: TypeAlias = str | onnx.FunctionProto


def define(proto: onnx.ModelProto, functions: Sequence[Definition]) -> onnx.ModelProto:
    """The model with every node that one of the functions defines replaced by the function's nodes.

    Raises UsageError for a text that is no function, ModelError where a function does not fit the model.
    """
    given = [_parsed(function) for function in functions]
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    model.ir_version = max(8, model.ir_version)  # the first with functions
    model.functions.extend(given)
    imported = {entry.domain for entry in model.opset_import}
    missing = {function.domain for function in given} - imported
    model.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(missing))
    try:
        inlined = inline_local_functions(model)
    except Exception as error:
        raise ModelError(f"the functions given cannot be inlined: {error}") from None
    names = {(function.domain, function.name) for function in given}
    left = next((n for n in inlined.graph.node if (n.domain, n.op_type) in names), None)
    if left is not None:
        versions = {entry.domain: entry.version for entry in proto.opset_import}
        raise ModelError(
            f"the function given for {left.domain}::{left.op_type} could not be inlined: write it for the "
            f"opset that the model imports ({versions.get('', '?')} of ONNX)"
        )
    return inlined


def _parsed(function: Definition) -> onnx.FunctionProto:
    if isinstance(function, onnx.FunctionProto):
        return function
    try:
        return onnx.parser.parse_function(function)
    except Exception as error:
        raise UsageError(
            f"a function is an onnx.FunctionProto or its text, which cannot be read: {error}"
        ) from None


def keep_defined(graph: Graph, inlined: Graph) -> Graph:
    """The graph with its own nodes, and as constants what follows from constants in the inlined one."""
    folded = fold_constants(inlined)
    computed = [name for node in graph.nodes for name in node.outputs]
    constants = {name: array for name in computed if (array := folded.constant(name)) is not None}
    nodes = (node for node in graph.nodes if not constants.keys() >= set(filter(None, node.outputs)))
    return graph.with_nodes(nodes, [Value.of(name, array) for name, array in constants.items()])
