"""Weights apart from structure: nothing is lost, nothing is copied that need not be."""

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16
from models import SHARED, build, normal, run_plain, small_cnn
from onnx import TensorProto, helper, numpy_helper

import onnxvis
from onnxvis.errors import ModelError
from onnxvis.graph.load import read_model
from onnxvis.graph.weights import LARGE, attach, detach, detach_file, is_detached


def holding(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [*tensors],
    )
    return helper.make_model(graph)


def numbers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bool", "int8", "int64", "uint8", "uint16", "int32"]
)
def test_large_tensors_are_taken_out_and_come_back(dtype):
    array = (np.arange(3 * 5000).reshape(3, 5000) % 7).astype(dtype)
    small = np.arange(3).astype(dtype)
    model = holding(numpy_helper.from_array(array, "w"), numpy_helper.from_array(small, "s"))
    stub, weights = detach(model.SerializeToString())
    assert len(stub) < 1000
    assert [*weights] == ["w"]
    assert weights["w"].dtype == array.dtype
    np.testing.assert_array_equal(weights["w"].numbers, array)
    assert attach(stub, weights) == model


def test_numbers_in_typed_fields():
    """As old exporters write them: not raw, but as packed floats."""
    array = normal(5, 400)
    model = holding(
        helper.make_tensor("w", TensorProto.FLOAT, array.shape, array.ravel()),
        helper.make_tensor("d", TensorProto.DOUBLE, array.shape, array.ravel().astype(float)),
        helper.make_tensor("i", TensorProto.INT64, (3000,), range(3000)),
    )
    stub, weights = detach(model.SerializeToString())
    assert sorted(weights) == ["d", "w"]  # whole numbers are of variable length: they stay
    for name, found in numbers(attach(stub, weights)).items():
        np.testing.assert_array_equal(found, numbers(model)[name])


def test_types_that_numpy_lacks_stay():
    model = holding(numpy_helper.from_array(np.ones(5000, bfloat16), "w"))
    assert detach(model.SerializeToString()) == (model.SerializeToString(), {})


@pytest.mark.parametrize("path", sorted((SHARED / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_real_files_come_back_whole(path):
    stub, weights = detach_file(path)
    again, whole = attach(stub, weights), onnx.load(path)
    assert numbers(again).keys() == numbers(whole).keys()
    for name, array in numbers(whole).items():
        np.testing.assert_array_equal(numbers(again)[name], array)
    for model in (again, whole):
        del model.graph.initializer[:]
    assert again == whole
    from_memory = detach(path.read_bytes())
    assert from_memory[0] == stub
    assert all((weight.numbers == from_memory[1][name].numbers).all() for name, weight in weights.items())


@pytest.mark.parametrize("keep", [0.2, 0.9, 0.999])
def test_a_file_that_is_cut_off(tmp_path, keep):
    data = build_large().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ModelError, match="cut off"):
        read_model(path)


def build_large() -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    return build([node], {"x": [1, 16, 9, 9]}, ["y"], {"w": normal(32, 16, 3, 3)})


def test_the_runtime_is_given_the_arrays():
    model = build_large()
    file = read_model(model)
    (tensor,) = onnx.load_model_from_string(file.stub).graph.initializer
    assert is_detached(tensor)
    assert file.weights["w"].nbytes > LARGE
    assert file.graph.constant("w") is file.weights["w"].numbers
    x = {"x": normal(1, 16, 9, 9)}
    np.testing.assert_allclose(
        onnxvis.load(model, threads=1).run(x)["y"], run_plain(model, x)[0], atol=1e-4, rtol=0
    )


def test_external_weights_are_read_once(tmp_path):
    expected = normal(32, 16, 3, 3)
    path = tmp_path / "net.onnx"
    onnx.save(build_large(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    file = read_model(path)
    np.testing.assert_array_equal(file.weights["w"].numbers, expected)
    model = onnxvis.load(path, threads=1)
    (tmp_path / "net.data").unlink()
    assert model.run({"x": normal(1, 16, 9, 9)})["y"].shape == (1, 32, 7, 7)


def test_a_model_without_large_weights_is_its_own_stub():
    data = small_cnn().SerializeToString()
    stub, weights = detach(data)
    assert numbers(attach(stub, weights)).keys() == numbers(onnx.load_model_from_string(data)).keys()
