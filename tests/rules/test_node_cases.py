"""Gradients on the operators' own node cases, those of the ONNX standard's backend test.

Against central differences of onnx.reference in float64, along random directions.  Numbers are moved a
little at random: the cases like round numbers, and with them ties.
"""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxvis.engine.host import HostExecutor
from onnxvis.errors import MissingRuleError
from onnxvis.graph.load import read_model
from onnxvis.rules import registry

from .case import Case

JITTER, STEP, TOLERANCE = 1e-2, 1e-6, 1e-6

# Cases that are refused, by what the error says.
REFUSED = {
    "it drops numbers at random": [
        "test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask",
        "test_training_dropout_mask", "test_training_dropout_zero_ratio",
        "test_training_dropout_zero_ratio_mask",
    ],
    "it depends on the whole batch": [
        "test_batchnorm_epsilon_training_mode", "test_batchnorm_example_training_mode",
    ],
    "it filters before it resizes": [
        "test_resize_downsample_scales_cubic_antialias", "test_resize_downsample_scales_linear_antialias",
        "test_resize_downsample_sizes_cubic_antialias", "test_resize_downsample_sizes_linear_antialias",
    ],
}  # fmt: skip
# Cases that cannot be checked like this, by the reason; a test holds them to it.
UNCHECKED = {
    "no numbers go in: a length of 0 is what exporters write for one that is not known": [
        "test_reduce_l1_empty_set", "test_reduce_l2_empty_set", "test_reduce_log_sum_empty_set",
        "test_reduce_log_sum_exp_empty_set", "test_reduce_max_empty_set", "test_reduce_min_empty_set",
        "test_reduce_prod_empty_set", "test_reduce_sum_empty_set",
        "test_reduce_sum_empty_set_non_reduced_axis_zero", "test_reduce_sum_square_empty_set",
        "test_reshape_allowzero_reordered", "test_split_zero_size_splits_opset13",
        "test_split_zero_size_splits_opset18",
    ],
    "its numbers are infinite, or no numbers": [
        "test_mod_float_edge_cases_fmod_0_float16", "test_mod_float_edge_cases_fmod_0_float32",
        "test_mod_float_edge_cases_fmod_0_float64",
    ],
    "it takes 0 to powers that are no whole numbers; moved below 0, that is no number": ["test_pow"],
}  # fmt: skip
SKIPPED = {name for names in (*REFUSED.values(), *UNCHECKED.values()) for name in names}


@functools.cache
def node_cases() -> dict[str, list[tuple[str, Case]]]:
    """Every case of one node with floating inputs, by operator."""
    found: dict[str, list[tuple[str, Case]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        for given in collect_testcases(None):
            model = given.model
            if model is not None and len(model.graph.node) == 1 and given.data_sets:
                case = case_of(given.name, model, given.data_sets[0][0])
                if case is not None:
                    found.setdefault(case.operator, []).append((given.name, case))
    return found


def case_of(name: str, model: onnx.ModelProto, inputs: list[Any]) -> Case | None:
    """The same as a Case, None where nothing floating goes in that a gradient rule propagates to, or out.

    What the rule does not propagate to is a constant (limits, scales, conditions).
    """
    (node,) = model.graph.node
    if node.domain or not all(isinstance(array, np.ndarray | np.generic) for array in inputs):
        return None
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    rule = registry.find(node.op_type, "gradient", opset=opset)
    result = model.graph.output[0].type.tensor_type.elem_type
    if rule is None or not floating(helper.tensor_dtype_to_np_dtype(result)):
        return None
    arrays = dict(zip((entry.name for entry in model.graph.input), map(np.asarray, inputs), strict=True))
    given: list[Any] = [arrays[x].copy() if x else None for x in node.input]
    graph = read_model(model).graph
    reached = rule.inputs(graph.nodes[0], graph) if rule.inputs else range(len(given))
    for i in reached:
        if i < len(given) and given[i] is not None and floating(given[i].dtype):
            given[i] = moved(given[i], f"{name}{i}")
    attributes = {entry.name: text(helper.get_attribute_value(entry)) for entry in node.attribute}
    case = Case(node.op_type, opset, given, attributes, name, len(node.output))
    return case if case.drawn else None


def floating(dtype: Any) -> bool:
    return np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16"


def text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def moved(array: np.ndarray[Any, Any], name: str) -> Callable[[np.random.Generator], np.ndarray[Any, Any]]:
    """A draw of the array, each number moved a little."""
    by = np.random.default_rng(zlib.crc32(name.encode())).uniform(-JITTER, JITTER, array.shape)
    return lambda rng: array.astype(np.float64) + by


def check(case: Case) -> None:
    """Raises AssertionError where the gradient is not the slope, along one direction an input."""
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        seed, plan = case.seed(), case.plan("gradient")
        found = HostExecutor(plan, np.float64).backward(case.record(), {"y": seed})
        for name, gradient in found.items():
            position = int(name[1:])
            direction = rng.normal(size=gradient.shape)
            ours, theirs = np.vdot(direction, gradient), slope(case, position, direction, seed)
            scale = max(np.linalg.norm(direction) * np.linalg.norm(gradient), abs(theirs), 1e-3)
            assert abs(ours - theirs) <= TOLERANCE * scale, f"input {position}: {ours!r}, not {theirs!r}"


def slope(case: Case, position: int, direction: np.ndarray[Any, Any], seed: np.ndarray[Any, Any]) -> float:
    """d/dt ⟨seed, f(x + t·direction)⟩ at t = 0, in float64."""

    def at(t: float) -> float:
        arrays = list(case.arrays)
        arrays[position] = arrays[position] + t * direction
        return float(np.vdot(seed, case.run(arrays)[0]))

    return (at(STEP) - at(-STEP)) / (2 * STEP)


@pytest.mark.parametrize("operator", [op for domain, op in registry.operators() if not domain])
def test_gradient_is_the_slope(operator):
    cases = node_cases().get(operator)
    if not cases:
        pytest.skip("no case of one node with floating numbers that the rule propagates to")
    failed = []
    for name, case in cases:
        if name in SKIPPED:
            continue
        try:
            check(case)
        except Exception as error:
            failed.append(f"{name}: {error!r}")
    assert not failed, "\n".join(failed)


@pytest.fixture(scope="module")
def by_name():
    return {name: case for cases in node_cases().values() for name, case in cases}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_cases(why, by_name):
    for name in REFUSED[why]:
        with pytest.raises(MissingRuleError, match=why):
            check(by_name[name])


@pytest.mark.parametrize("why", UNCHECKED)
def test_a_case_that_can_be_checked_has_no_place_in_the_list(why, by_name):
    for name in UNCHECKED[why]:
        with pytest.raises((AssertionError, KeyError)):
            check(by_name[name])


def test_there_are_cases(by_name):
    assert len(by_name) >= 500
