"""Quantised operators written out compute what onnxruntime computes with them, up to rounding."""

import models
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxvis.graph.canonical import canonicalize
from onnxvis.graph.emit import to_model
from onnxvis.graph.load import read_model
from onnxvis.graph.shapes import infer, with_types

MICROSOFT = "com.microsoft"
RNG = np.random.default_rng(0)
BYTES = {np.uint8: (0, 256), np.int8: (-128, 128)}
FLOATS = {"QLinearConv", "QLinearMatMul"}  # operators of ONNX itself


def whole(*shape, dtype=np.uint8):
    return RNG.integers(*BYTES[dtype], shape).astype(dtype)


def number(value, dtype=np.float32):
    return np.asarray(value, dtype)


X = ("x", number(0.05), number(120, np.uint8))
SIGNED = ("x", number(0.05), number(-7, np.int8))
OUT = (number(0.1), number(90, np.uint8))
OTHER = (whole(1, 4, 6, 6), number(0.02), number(100, np.uint8))
# Weights of 7 bits: on some processors onnxruntime's products of bytes saturate (``models.bytes_saturate``).
W = (whole(6, 4, 3, 3, dtype=np.int8) // 2, number(0.01), number(0, np.int8))
PER_CHANNEL = (W[0], RNG.uniform(0.005, 0.02, 6).astype(np.float32), np.zeros(6, np.int8))
MATRIX = (
    whole(6, 5, dtype=np.int8) // 2,
    RNG.uniform(0.005, 0.02, 5).astype(np.float32),
    np.zeros(5, np.int8),
)
BIAS = RNG.integers(-2000, 2000, 6).astype(np.int32)
MAPS = (1, 4, 6, 6)

# operator: shape of x, inputs (arrays, or "x"), attributes
CASES = {
    "QLinearConv": (MAPS, [*X, *W, *OUT, BIAS], {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
    "QLinearConv per channel": (MAPS, [*X, *PER_CHANNEL, *OUT, BIAS], {}),
    "QLinearConv signed": (MAPS, [*SIGNED, *W, number(0.2), number(4, np.int8)], {"auto_pad": "SAME_UPPER"}),
    "QLinearConv grouped": (MAPS, [*X, whole(4, 2, 1, 1, dtype=np.int8), *W[1:], *OUT], {"group": 2}),
    "QLinearMatMul": ((2, 6), [*X, *MATRIX, *OUT], {}),
    "QLinearMatMul of two": ((2, 6), [*X, whole(6, 5), number(0.02), number(90, np.uint8), *OUT], {}),
    "QLinearAdd": (MAPS, [*X, *OTHER, *OUT], {}),
    "QLinearMul": (MAPS, [*X, *OTHER, *OUT], {}),
    "QLinearAdd stretched": (MAPS, [*X, whole(4, 1, 1), *OTHER[1:], *OUT], {}),
    "QLinearGlobalAveragePool": (MAPS, [*X, *OUT], {}),
    "QLinearAveragePool": (MAPS, [*X, *OUT], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]}),
    "QLinearLeakyRelu": (MAPS, [*X, *OUT], {"alpha": 0.2}),
    "QLinearSigmoid": (MAPS, [*X, number(1 / 256), number(0, np.uint8)], {}),
    "QLinearSoftmax": ((2, 9), [*X, number(1 / 256), number(0, np.uint8)], {"axis": 1, "opset": 13}),
    "QLinearConcat": (MAPS, [*OUT, *X, *OTHER], {"axis": 1}),
    "QLinearWhere": (MAPS, [RNG.random(MAPS) > 0.5, *X, *OTHER, *OUT], {}),
    "QGemm": ((2, 6), [*X, *MATRIX, BIAS[:5], *OUT], {}),
    "QGemm transposed, to floats": (
        (2, 6), [*X, MATRIX[0].T.copy(), *MATRIX[1:], BIAS[:5]], {"transB": 1, "alpha": 0.5}
    ),
    "ConvInteger": (MAPS, ["x", W[0], X[2]], {"pads": [1, 1, 1, 1]}),
    "MatMulInteger": ((2, 6), ["x", MATRIX[0], X[2], number(3, np.int8)], {}),
    "MatMulInteger of two": ((2, 6), ["x", whole(6, 5), X[2]], {}),
    "MatMulIntegerToFloat": (
        (2, 6), ["x", MATRIX[0], X[1], MATRIX[1], X[2], MATRIX[2], RNG.normal(size=5).astype(np.float32)], {}
    ),
    "DynamicQuantizeMatMul": ((2, 6), ["x", MATRIX[0], MATRIX[1], MATRIX[2]], {}),
}  # fmt: skip


def case(name):
    """The model and its input, of the dtype of the zero point beside it."""
    operator = name.split()[0]
    shape, given, attributes = CASES[name]
    named = ["x" if isinstance(entry, str) else f"i{i}" for i, entry in enumerate(given)]
    signed = any(entry is SIGNED[2] for entry in given)
    x = whole(*shape, dtype=np.int8 if signed else np.uint8)
    if operator == "DynamicQuantizeMatMul":
        x = RNG.normal(size=shape).astype(np.float32)
    domain = "" if operator in FLOATS or operator.endswith("Integer") else MICROSOFT
    node = helper.make_node(operator, named, ["y"], name="node", domain=domain, **attributes)
    constants = [numpy_helper.from_array(e, n) for e, n in zip(given, named, strict=True) if n != "x"]
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), shape)
    if operator.endswith("Integer"):
        kind = TensorProto.INT32
    elif operator in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat") or name.endswith("floats"):
        kind = TensorProto.FLOAT
    else:
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    out = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([node], "net", [info], [out], constants)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8), x


def canonical(model):
    file = read_model(model)
    return canonicalize(with_types(file.graph, infer(file)))


def kinds(graph):
    return [node.op_type for node in graph.nodes]


@pytest.mark.parametrize("name", CASES)
def test_the_plain_form_computes_the_same(name):
    model, x = case(name)
    plain = canonical(model)
    assert not any(node.domain or node.op_type == name.split()[0] for node in plain.nodes)
    expected = models.run_plain(model, {"x": x})[0]
    for node in plain.nodes:  # the specification has no QuantizeLinear to int32
        if node.op_type == "QuantizeLinear" and expected.dtype == np.int32:
            plain = plain.with_nodes([n for n in plain.nodes if n is not node])
            ours = models.run_plain(to_model(plain, [node.inputs[0]]), {"x": x})[0]
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
            return
    ours = models.run_plain(to_model(plain), {"x": x})[0]
    assert ours.dtype == expected.dtype
    # DynamicQuantizeMatMul rounds its data, of which the file holds no trace
    tolerance = 1 if expected.dtype.kind in "iu" else 2e-2 if name.startswith("Dynamic") else 1e-5
    assert abs(ours.astype(float) - expected.astype(float)).max() <= tolerance


def dynamic(weight_scale=True, bias=True):
    """DynamicQuantizeLinear, ConvInteger, Cast, Mul, Add, as onnxruntime's quantisation writes them."""
    make = helper.make_node
    scale = "scales" if weight_scale else "xs"
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        make("ConvInteger", ["xq", "w", "xz", "wz"], ["yi"], name="conv", pads=[1, 1, 1, 1]),
        make("Mul", ["xs", "ws"], ["scales"]),
        make("Cast", ["yi"], ["yf"], to=TensorProto.FLOAT),
        make("Mul", ["yf", scale], ["scaled"]),
        make("Add", ["scaled", "b"], ["y"]),
    ]
    weights = {
        "w": W[0], "wz": number(2, np.int8), "ws": RNG.uniform(0.005, 0.02, (6, 1, 1)).astype(np.float32),
        "b": RNG.normal(size=(1, 6, 1, 1)).astype(np.float32),
    }  # fmt: skip
    if not bias:
        nodes = nodes[:-1]
    return models.build(nodes, {"x": MAPS}, ["y" if bias else "scaled"], weights)


@pytest.mark.parametrize("weight_scale", [True, False])
def test_a_dynamically_quantised_layer_is_one_layer_with_its_bias(weight_scale):
    model = dynamic(weight_scale)
    plain = canonical(model)
    assert "ConvInteger" not in kinds(plain)
    layer = next(node for node in plain.nodes if node.op_type == "Conv")
    assert layer.outputs == ("y",)
    assert len(layer.inputs) == 3
    assert "conv" in layer.origin
    assert plain.producers[layer.inputs[0]].op_type == "DequantizeLinear"
    x = RNG.normal(size=MAPS).astype(np.float32)
    ours, theirs = (models.run_plain(m, {"x": x})[0] for m in (to_model(plain), model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_someone_wants_to_see_stays():
    file = read_model(dynamic())
    graph = canonicalize(with_types(file.graph, infer(file)), keep=["yf"])
    assert "yf" in graph.producers


def test_a_range_that_starts_at_0_is_a_rectifier():
    def plain(zero):
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("GlobalAveragePool", ["d"], ["g"]),
            helper.make_node("QuantizeLinear", ["g", "s", "z"], ["gq"]),
            helper.make_node("DequantizeLinear", ["gq", "s", "z"], ["y"]),
        ]
        weights = {"w": models.normal(6, 4, 3, 3), "s": number(0.1), "z": zero}
        return canonical(models.build(nodes, {"x": MAPS}, ["y"], weights))

    # Not before the second one: what is averaged is not negative already.
    assert kinds(plain(number(0, np.uint8))).count("Relu") == 1
    assert kinds(plain(number(-128, np.int8))).count("Relu") == 1
    assert "Relu" not in kinds(plain(number(100, np.uint8)))
    assert "Relu" not in kinds(plain(number(0, np.int8)))


def test_whole_numbers_are_pooled_as_real_ones():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MaxPool", ["t"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    plain = canonical(models.build(nodes, {"x": MAPS}, ["y"], {"s": X[1], "z": X[2]}))
    pool = next(node for node in plain.nodes if node.op_type == "MaxPool")
    assert plain.producers[pool.inputs[0]].op_type == "DequantizeLinear"
    assert plain.quantized[pool.inputs[0]].source == "t"
    assert plain.quantized[pool.outputs[0]].source == "p"


def test_unknown_scales_leave_an_operator_as_it_is():
    nodes = [
        helper.make_node("Abs", ["s"], ["xs"]),
        helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "z", "w", "ws", "wz", "ys", "z", "b"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "z"], ["y"]),
    ]
    weights = {"z": X[2], "w": W[0], "ws": W[1], "wz": W[2], "ys": OUT[0], "b": BIAS}
    plain = canonical(models.build(nodes, {"x": MAPS, "s": []}, ["y"], weights))
    assert "QLinearConv" in kinds(plain)


def test_graphs_without_quantisation_are_left_alone():
    graph = canonical(models.small_cnn())
    assert not graph.quantized
