"""Every LRP rule against its formula on the operator's dense matrix, in float64."""

import numpy as np
import pytest

from onnxvis.engine.host import HostExecutor
from onnxvis.rules import registry
from rules import dense
from rules.cases import CASES, named, named_pairs, pairs

IN_PROPORTION = {
    "Add", "Sum", "Sub", "Mul", "Div", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum",
    "BatchNormalization", "ImageScaler",
}  # fmt: skip
FOLLOWS = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Transpose", "Concat",
    "Split", "Slice", "Pad", "Expand", "MaxPool", "GlobalMaxPool",
}  # fmt: skip
PASSES = {
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Softplus", "HardSigmoid", "HardSwish",
    "LRN", "Neg",
}  # fmt: skip


def relevance(case, method, r, **settings):
    """What arrives at each input, as flat vectors by position."""
    plan = case.plan(method, **settings)
    found = HostExecutor(plan, np.float64).backward(case.record(), {"y": r})
    return {int(name[1:]): array.ravel() for name, array in found.items()}


def agree(ours, theirs):
    assert ours.keys() == theirs.keys()
    for position, share in ours.items():
        scale = abs(theirs[position]).max(initial=1e-30)
        assert abs(share - theirs[position]).max(initial=0) <= 1e-10 * scale


def chosen(operators):
    return named_pairs([(case, method) for case, method in pairs(["lrp"]) if case.operator in operators])


@pytest.mark.parametrize(**named_pairs(pairs([*registry.for_linear])))
def test_linear_operators(case, method):
    r = case.seed()
    agree(relevance(case, method, r), getattr(dense, method)(dense.Affine.of(case), r.ravel()))


@pytest.mark.parametrize(**chosen(IN_PROPORTION))
def test_sums_and_averages_share_in_proportion(case, method):
    r = case.seed()
    agree(relevance(case, method, r), dense.epsilon(dense.Affine.of(case), r.ravel()))


@pytest.mark.parametrize(**chosen(FOLLOWS))
def test_relevance_follows_the_data(case, method):
    """Rᵢ = Σⱼ Rⱼ where output j holds input i."""
    r, x = case.seed(), case.array(case.relevant[0])
    moved = list(case.arrays)
    ours = relevance(case, method, r)
    for position, share in ours.items():
        x = case.array(position)
        for index in range(x.size):
            moved[position] = x + 1e-3 * (np.arange(x.size) == index).reshape(x.shape)
            holds = case.run(moved)[0] != case.computed[0]
            np.testing.assert_allclose(share[index], r[holds].sum(), rtol=1e-10, atol=1e-12)
        moved[position] = x


@pytest.mark.parametrize(**chosen(PASSES))
def test_activations_pass_relevance_on(case, method):
    r = case.seed()
    agree(relevance(case, method, r), {0: r.ravel()})


def test_every_operator_with_an_lrp_rule_is_in_one_set():
    ruled = [operator for _, operator, method in registry.rules if method == "lrp"]
    assert sorted([*IN_PROPORTION, *FOLLOWS, *PASSES]) == sorted(ruled)


@pytest.mark.parametrize("method", ["epsilon", "zplus", "lrp"])
def test_epsilon_is_a_setting(method):
    operator = "Conv" if method != "lrp" else "AveragePool"
    case = next(case for case in CASES if case.operator == operator)
    r = case.seed()
    half, usual = relevance(case, method, r, epsilon=0.5)[0], relevance(case, method, r)[0]
    assert abs(half - usual).max() > 1e-3


@pytest.mark.parametrize(**named([case for case in CASES if case.operator == "Conv" and len(case.given) < 3]))
def test_epsilon_conserves_relevance_without_a_bias(case):
    y = case.computed[0]
    np.testing.assert_allclose(relevance(case, "epsilon", y)[0].sum(), y.sum(), rtol=1e-4)
