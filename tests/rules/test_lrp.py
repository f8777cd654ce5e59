"""Every LRP rule against its formula on the operator's dense matrix, in float64."""

import models
import numpy as np
import pytest
from onnx import helper

import onnxvis
from onnxvis.engine.compiled import trace
from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass, make_plan
from onnxvis.errors import MissingRuleError, UsageError
from onnxvis.graph.ir import Graph, Node
from onnxvis.rules import linear, registry
from rules import dense, normalizing
from rules.cases import CASES, SETTINGS, named, named_pairs, pairs

IN_PROPORTION = {
    "Add", "Sum", "Sub", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum",
    "BatchNormalization", "ImageScaler", "Resize", "Upsample", "Mean", "CumSum", "DFT",
    "STFT", "Einsum", "Affine", "Scale", "Col2Im", "AffineGrid", "GridSample",
}  # fmt: skip
BY_SLOPE = {"LpPool", "GlobalLpPool", "RoiAlign"}
STANDARDIZED = {
    "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", "LayerNormalization",
    "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}  # fmt: skip
FOLLOWS = {
    "Mul", "Div", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Transpose",
    "Concat",
    "Split", "Slice", "Pad", "Expand", "MaxPool", "GlobalMaxPool", "Tile", "DepthToSpace", "SpaceToDepth",
    "Trilu", "Max", "Min", "ReduceMax", "ReduceMin", "Where", "Gather", "GatherElements", "GatherND",
    "CastLike", "TopK", "Compress", "ReverseSequence", "Scatter", "ScatterElements", "ScatterND",
    "CenterCropPad", "Crop", "MaxUnpool", "MaxRoiPool",
}  # fmt: skip
PASSES = {
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Softplus", "HardSigmoid", "HardSwish",
    "LRN", "Neg", "Selu", "Celu", "Mish", "Swish", "Gelu", "Softsign", "ThresholdedRelu", "Shrink",
    "BiasGelu", "FastGelu", "QuickGelu", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    "ScaledTanh", "ParametricSoftplus", "LpNormalization",
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


def chosen(operators, added=False):
    """Cases of these operators; those that write numbers belong to the sums where they add them up."""

    def belongs(case):
        if case.operator.startswith("Scatter") and case.attributes.get("reduction") == "add":
            return added
        return case.operator in operators

    return named_pairs([(case, method) for case, method in pairs(["lrp"]) if belongs(case)])


@pytest.mark.parametrize(**named_pairs(pairs([*registry.for_linear])))
def test_linear_operators(case, method):
    r = case.seed()
    agree(relevance(case, method, r), dense.RULES[method](dense.Affine.of(case), r.ravel()))


@pytest.mark.parametrize(**chosen(IN_PROPORTION, added=True))
def test_sums_and_averages_share_in_proportion(case, method):
    r = case.seed()
    agree(relevance(case, method, r), dense.epsilon(dense.Affine.of(case), r.ravel()))


SUMS = {  # nodes over x and z, and what x gets of R / stab(y)
    "twice": ([("Add", ["x", "x"])], lambda x, z: (2 * x, 2 * x)),
    "twice of three": ([("Sum", ["x", "z", "x"])], lambda x, z: (2 * x, 2 * x + z)),
    "the second": ([("Add", ["z", "x"])], lambda x, z: (x, x + z)),
    "the second of three": ([("Sum", ["c", "x", "z"])], lambda x, z: (x, x + z + 1)),
    "beside a constant": ([("Add", ["x", "c"])], lambda x, z: (x, x + 1)),
    "taken off": ([("Sub", ["z", "x"])], lambda x, z: (-x, z - x)),
    "difference": ([("Sub", ["x", "z"], "d"), ("Add", ["d", "x"])], lambda x, z: (2 * x, 2 * x - z)),
    "beside what is stretched": ([("Sum", ["x", "x", "row"])], lambda x, z: (2 * x, 2 * x + 1)),
}  # fmt: skip


@pytest.mark.parametrize("executor", ["host", "compiled"])
@pytest.mark.parametrize("form", SUMS)
def test_summands_that_appear_twice_or_are_not_asked_for(form, executor):
    given, formula = SUMS[form]
    nodes = [helper.make_node(op, names, [*output, "y"][:1]) for op, names, *output in given]
    constants = {"c": np.ones((2, 3, 4), np.float32), "row": np.ones(4, np.float32)}
    used = {name for node in nodes for name in node.input}
    x, z, r = (models.normal(2, 3, 4, seed=seed) for seed in range(3))
    inputs = {name: array for name, array in {"x": x, "z": z}.items() if name in used}
    weights = {name: array for name, array in constants.items() if name in used}
    model = models.build(nodes, {name: [2, 3, 4] for name in inputs}, ["y"], weights)
    found = onnxvis.load(model, threads=1, executor=executor).vjp(inputs, {"y": r}, "lrp", wrt=["x"])
    share, total = (part.astype(np.float64) for part in formula(x, z))
    np.testing.assert_allclose(found["x"], share * r / (total + np.copysign(1e-6, total)), rtol=2e-3)


@pytest.mark.parametrize(**chosen(BY_SLOPE))
def test_norms_and_regions_share_by_the_slope(case, method):
    """Rᵢ = Σⱼ xᵢ·∂yⱼ/∂xᵢ / stab(yⱼ) · Rⱼ, where Σᵢ xᵢ·∂yⱼ/∂xᵢ = yⱼ: the slope by differences."""
    r, x, y = case.seed(), case.array(0), case.computed[0]
    s = dense.quotient(r.ravel(), y.ravel())
    expected = np.zeros(x.size)
    for index in range(x.size):
        step = 1e-6 * (np.arange(x.size) == index).reshape(x.shape)
        up, down = (case.run([x + sign * step, *case.arrays[1:]])[0].ravel() for sign in (1, -1))
        expected[index] = x.flat[index] * ((up - down) / 2e-6) @ s
    ours = relevance(case, method, r)[0]
    assert abs(ours - expected).max() <= 1e-6 * abs(expected).max(initial=1e-30)


@pytest.mark.parametrize(**chosen(STANDARDIZED))
def test_normalizations_share_as_if_the_deviation_were_constant(case, method):
    r = case.seed()
    matrix = normalizing.frozen(case)
    s = dense.quotient(r.ravel(), case.computed[0].ravel())
    factor = (matrix.T @ s).reshape(case.array(0).shape)
    summands = (0, *normalizing.added(case))
    theirs = {i: (normalizing.folded(factor, case.array(i).shape) * case.array(i)).ravel() for i in summands}
    agree(relevance(case, method, r), {i: share for i, share in theirs.items() if i in case.relevant})


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
    ruled = {operator for _, operator, method in registry.rules if method == "lrp"}
    assert sorted([*IN_PROPORTION, *BY_SLOPE, *STANDARDIZED, *FOLLOWS, *PASSES]) == sorted(ruled)


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


def test_flat_and_wsquare_do_not_look_at_the_data():
    case = next(case for case in CASES if case.operator == "Conv")
    record, r = case.record(), case.seed()
    for method in ("flat", "wsquare"):
        plan = case.plan(method)
        ours = HostExecutor(plan, np.float64).backward(record, {"y": r})["x0"]
        other = HostExecutor(plan, np.float64).backward({**record, "x0": -record["x0"]}, {"y": r})["x0"]
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 1, 1), (3, 4, 4), (2, 3, 4, 4)])
def test_bounds_of_zbox_broadcast(shape):
    case = next(case for case in CASES if case.id == "Conv-11-pointwise")
    r, high = case.seed(), np.random.default_rng(0).uniform(2, 4, shape)
    full = np.broadcast_to(high.reshape(3, 1, 1) if shape == (3,) else high, (2, 3, 4, 4))
    agree(relevance(case, "zbox", r, high=high), relevance(case, "zbox", r, high=full.copy()))
    agree(relevance(case, "zbox", r, high={"x0": high}), relevance(case, "zbox", r, high=full.copy()))


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("zbox", {"low": None}, "zbox needs low= and high="),
        ("zbox", {"low": [1, 2]}, r"low has shape \(2,\), but the input of 'node' has \(2, 3, 6, 5\)"),
        ("gamma", {"gamma": "big"}, "gamma must be a number from 0, not 'big'"),
        ("alpha_beta", {"beta": 2}, "alpha_beta takes"),
        ("alpha_beta", {"alpha": True, "beta": 0}, "alpha_beta takes"),
    ],
)
def test_settings_are_checked(method, settings, message):
    case = next(case for case in CASES if case.id == "Conv-11-2-D")
    with pytest.raises(UsageError, match=message):
        relevance(case, method, case.seed(), **settings)


@pytest.mark.parametrize(
    ("operator", "opset", "form", "message"),
    [
        ("Conv", 11, "2-D", "its output has another shape"),
        ("Add", 7, "", "each of its operands would get all of the relevance"),
        ("Div", 14, "constant first", "it divides by something that the model computes"),
    ],
)
def test_pass_is_refused_where_relevance_cannot_go_back_as_it_came(operator, opset, form, message):
    case = next(c for c in CASES if (c.operator, c.opset, c.form) == (operator, opset, form))
    with pytest.raises(MissingRuleError, match=message):
        case.plan("pass")


def test_rules_that_look_at_weights_refuse_operators_without():
    @linear("Doubled", domain="com.acme")
    class Doubled:
        def forward(self, step, x, w):
            return 2.0 * x

        adjoint = forward

    node = Node("twice", "Doubled", ("x",), ("y",), domain="com.acme")
    for method in ("alpha_beta", "gamma", "zbox", "wsquare", "flat"):
        refuses = registry.find("Doubled", method, "com.acme").refuses
        assert refuses(node, Graph("g", (node,), {}, ("x",), ("y",))) == (
            "it has no weights; use epsilon, norm or zplus"
        )
    assert registry.find("Doubled", "zplus", "com.acme").refuses(node, Graph("g", (), {}, (), ())) is None


@pytest.fixture(autouse=True)
def scoped():
    with registry.scoped():
        yield


@pytest.mark.parametrize(
    ("method", "convolutions"),
    [("epsilon", 1), ("zplus", 2), ("alpha_beta", 4), ("gamma", 3), ("zbox", 3), ("wsquare", 1), ("flat", 1)],
)
def test_compiled_after_a_relu_there_are_no_dead_halves(method, convolutions):
    """What x >= 0 cannot contribute to is not computed, nor what depends on weights alone."""
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w", "b"], ["y"])]
    weights = {"w": models.normal(4, 3, 3, 3), "b": models.normal(4)}
    net = onnxvis.load(models.build(nodes, {"x": [2, 3, 8, 8]}, ["y"], weights), threads=1)
    graph = net.engine.specialized({"x": models.normal(2, 3, 8, 8)})
    plan = make_plan(graph, Pass(method, SETTINGS.get(method, {})), ["y"], ["x"])
    traced, *_ = trace(plan)
    assert sum(node.op_type in ("Conv", "ConvTranspose") for node in traced.graph.node) == convolutions
