"""Gradients against central differences of onnx.reference, in float64."""

import numpy as np
import onnx
import pytest

from onnxvis.engine.compiled import CompiledExecutor
from onnxvis.engine.forward import Record
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass, make_plan
from onnxvis.engine.runtime import Runtime
from onnxvis.errors import MissingRuleError, TargetError
from rules.cases import CASES, Case, named, normal, positive

STEP, TOLERANCE = 1e-5, 1e-6
RUNTIME = Runtime("cpu", threads=1)


def gradients(case, seed):
    """Vector-Jacobian products by position."""
    plan = case.plan("gradient")
    found = HostExecutor(plan, np.float64).backward(case.record(), {"y": seed})
    return {int(name[1:]): array for name, array in found.items()}


def difference(case, position, direction, seed):
    """d/dt ⟨seed, f(x + t·direction)⟩ at t = 0."""

    def at(t):
        arrays = list(case.arrays)
        arrays[position] = arrays[position] + t * direction
        return np.vdot(seed, case.run(arrays)[0])

    return (at(STEP) - at(-STEP)) / (2 * STEP)


@pytest.mark.parametrize(**named(CASES))
def test_gradient_is_the_slope_in_random_directions(case):
    rng = np.random.default_rng(0)
    seed = case.seed()
    found = gradients(case, seed)
    assert set(found) == set(case.drawn)
    for position, gradient in found.items():
        assert gradient.dtype == np.float64
        assert gradient.shape == case.array(position).shape
        for _ in range(3):
            direction = rng.normal(size=gradient.shape)
            ours, theirs = np.vdot(direction, gradient), difference(case, position, direction, seed)
            scale = np.linalg.norm(direction) * np.linalg.norm(gradient)
            assert abs(ours - theirs) <= TOLERANCE * max(scale, abs(theirs)), (
                f"input {position}: the rule says {ours!r}, the difference {theirs!r}"
            )


# ---- ties ----------------------------------------------------------------------------------------

EQUAL = np.array([[-1, -1, -3, -2], [-1, -1, -2, -2], [-4, -4, -4, -4], [-4, -4, -4, -4]], float)
FIRST = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], float)
# With a row and a column of padding in front: windows end at the odd rows and columns.
FIRST_PADDED = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], float)
TIES = {
    "tiles": (EQUAL, {}, FIRST),
    "padded": (EQUAL, {"pads": [1, 1, 1, 1]}, FIRST_PADDED),
    "zeros": (np.zeros((4, 4)), {}, np.array([[1, 0, 1, 0], [0, 0, 0, 0]] * 2, float)),
    "one maximum for all": (
        np.pad([[5.0, 5.0]], ((1, 2), (1, 1))),
        {"strides": [1, 1], "kernel_shape": [3, 3]},
        4,
    ),
}


def winners(case, executor):
    """How often each input wins, by the host or compiled executor."""
    plan = case.plan("gradient", np.float32)
    record = case.record(np.float32)
    seeds = {"y": np.ones(case.computed[0].shape, np.float32)}
    if executor == "host":
        return HostExecutor(plan).backward(record, seeds)["x0"]
    raw = Record({name: RUNTIME.value(array) for name, array in record.items()})
    return CompiledExecutor(plan, RUNTIME).backward(raw, seeds)["x0"]


@pytest.mark.parametrize("executor", ["host", "compiled"])
@pytest.mark.parametrize("name", TIES)
def test_of_equal_maxima_the_first_gets_everything(name, executor):
    x, attributes, expected = TIES[name]
    if isinstance(expected, int):
        expected = np.where(np.arange(16).reshape(4, 4) == 5, expected, 0.0)
    every = {"kernel_shape": [2, 2], "strides": [2, 2], **attributes}
    case = Case("MaxPool", 12, [lambda rng: np.stack([x, x - 7])[None]], every)
    np.testing.assert_array_equal(winners(case, executor), np.stack([expected, expected])[None])


@pytest.mark.parametrize("executor", ["host", "compiled"])
def test_of_equal_maxima_of_a_channel_the_first_gets_everything(executor):
    case = Case("GlobalMaxPool", 1, [lambda rng: EQUAL[None, None]])
    expected = np.zeros((1, 1, 4, 4))
    expected[0, 0, 0, 0] = 1
    np.testing.assert_array_equal(winners(case, executor), expected)


@pytest.mark.parametrize("operator", ["Relu", "Clip", "HardSigmoid", "Abs"])
def test_at_a_kink_the_gradient_is_0(operator):
    attributes = {"min": 0.0, "max": 6.0} if operator == "Clip" else {}
    kinks = {"Clip": [0.0, 6.0], "HardSigmoid": [-2.5, 2.5]}.get(operator, [0.0])
    case = Case(operator, 6, [lambda rng: np.array(kinks)], attributes)
    np.testing.assert_array_equal(gradients(case, np.ones(len(kinks)))[0], np.zeros(len(kinks)))


# ---- what has no gradient ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "given", "attributes", "why"),
    [
        ("Dropout", [normal(2, 3), np.array(0.5), np.array(True)], {}, "training mode"),
        ("BatchNormalization", [normal(2, 3), *[positive(3)] * 4], {"training_mode": 1}, "training mode"),
    ],
)
@pytest.mark.parametrize("method", ["gradient", "lrp"])
def test_training_mode_is_refused(operator, given, attributes, why, method):
    outputs = 3 if operator == "BatchNormalization" else 1
    with pytest.raises(MissingRuleError, match=why):
        Case(operator, 15, given, attributes, outputs=outputs).plan(method)


@pytest.mark.parametrize("method", ["gradient", "lrp"])
@pytest.mark.parametrize(
    ("operator", "opset", "given", "attributes", "why"),
    [
        ("DFT", 20, [normal(2, 5, 2), np.array(7)], {"onesided": 1, "inverse": 1}, "7 numbers of 5 bins"),
        (
            "STFT",
            17,
            [normal(1, 9, 1), lambda rng: np.array(2), np.hanning(4)],
            {},
            "computes its frame step",
        ),
        ("Compress", 11, [normal(3), lambda rng: np.array([True, False])], {}, "depends on the picture"),
        ("Unique", 11, [normal(3)], {}, "no '.*' rule for Unique: the shape of what it keeps depends"),
    ],
)
def test_forms_that_are_refused(operator, opset, given, attributes, why, method):
    case = Case(operator, opset, given, attributes)
    with pytest.raises(MissingRuleError, match=why):
        make_plan(case.graph(case.drawn), Pass(method), ["y"], ["x0"])


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("TopK", 11, [normal(5), np.array([2])], outputs=2), r"TopK \(node\): places do not change"),
        (Case("MaxPool", 12, [normal(1, 1, 4)], {"kernel_shape": [2]}, outputs=2), "places do not change"),
        (Case("Dropout", 10, [normal(3)], outputs=2), "the mask does not depend"),
        (Case("Hardmax", 13, [normal(3)]), "it is piecewise constant"),
    ],
)
def test_places_and_masks_end_the_way_back(case, why):
    with pytest.raises(TargetError, match=f"does not depend.*{why}"):
        make_plan(case.graph([0]), Pass("gradient"), [case.results[-1]], ["x0"])


def test_a_cast_to_whole_numbers_ends_the_way_back():
    case = Case("Cast", 13, [normal(3)], {"to": onnx.TensorProto.INT64})
    with pytest.raises(TargetError, match="does not depend"):
        make_plan(case.graph([0]), Pass("gradient"), ["y"], ["x0"])
