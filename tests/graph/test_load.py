"""Reading: every way a model can be given, and every way that can go wrong."""

import numpy as np
import onnx
import pytest
from models import build, normal, run_plain, shared, small_cnn
from onnx import TensorProto, helper, numpy_helper

from onnxvis.errors import ModelError, UnknownNameError
from onnxvis.graph.ir import Subgraph
from onnxvis.graph.load import read_model

node = helper.make_node


def external(tmp_path, name="net.onnx"):
    """A model whose weights lie in a file beside it."""
    path = tmp_path / name
    onnx.save_model(small_cnn(), path, save_as_external_data=True, location="net.weights", size_threshold=0)
    return path


def test_path_bytes_and_proto_give_the_same_graph(tmp_path):
    model = small_cnn()
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    tables = {str(read_model(source).graph) for source in (path, str(path), path.read_bytes(), model)}
    assert len(tables) == 1


def test_external_weights_are_read(tmp_path):
    graph = read_model(external(tmp_path)).graph
    np.testing.assert_array_equal(graph.constant("w1"), normal(6, 3, 3, 3, scale=0.4))


def test_missing_external_weights(tmp_path):
    path = external(tmp_path)
    (tmp_path / "net.weights").unlink()
    with pytest.raises(ModelError, match=r"net\.weights is missing; put it into"):
        read_model(path)


def test_external_weights_that_are_cut_off(tmp_path):
    path = external(tmp_path)
    weights = tmp_path / "net.weights"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cut off"):
        read_model(path)


def test_external_weights_need_a_path(tmp_path):
    with pytest.raises(ModelError, match="give the path"):
        read_model(external(tmp_path).read_bytes())


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(1000)])
def test_what_is_not_onnx(content):
    with pytest.raises(ModelError, match=r"not an ONNX model|no ONNX graph"):
        read_model(content)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, share):
    data = small_cnn().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        read_model(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelError, match="there is no file"):
        read_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_model(tmp_path)


def test_initializers_among_the_inputs_are_not_inputs():
    model = small_cnn()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert read_model(model).graph.inputs == ("x",)


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_are_constants(flat):
    dense = np.zeros((4, 3), np.float32)
    dense[1, 2], dense[3, 0] = 5, -7
    where = np.flatnonzero(dense) if flat else np.argwhere(dense)
    model = build([node("MatMul", ["x", "w"], ["y"])], {"x": [2, 4]}, ["y"])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(dense[dense != 0], "w"),
            numpy_helper.from_array(where.astype(np.int64)),
            dense.shape,
        )
    )
    graph = read_model(model).graph
    np.testing.assert_array_equal(graph.constant("w"), dense)
    assert graph.inputs == ("x",)


def test_empty_and_repeated_node_names_become_unique():
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["y"], name="same"),
    ]
    graph = read_model(build(nodes, {"x": [1, 2]}, ["y"])).graph
    assert [entry.name for entry in graph.nodes] == ["Relu_0", "Relu_1", "Relu_2"]
    assert graph.tensor("Relu_1") == "b"


def test_a_layer_that_does_not_exist_names_those_near_it():
    graph = read_model(small_cnn()).graph
    with pytest.raises(UnknownNameError, match="did you mean 'conv1'"):
        graph.tensor("conv11")


def test_local_functions_are_inlined_and_their_tensors_can_be_seen():
    body = helper.make_function(
        "mine", "Twice", ["a"], ["b"],
        [node("Relu", ["a"], ["inner"], name="inside"), node("Add", ["inner", "inner"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = build(
        [node("Twice", ["x"], ["y"], domain="mine")],
        {"x": [1, 3]},
        ["y"],
        opset_imports=[helper.make_opsetid("mine", 1)],
    )
    model.functions.append(body)
    file = read_model(model)
    assert [entry.op_type for entry in file.graph.nodes] == ["Relu", "Add"]
    np.testing.assert_array_equal(
        run_plain(file.model(), {"x": np.array([[-1, 2, 3]], np.float32)})[0], [[0, 4, 6]]
    )


def test_subgraphs_are_recognised_with_what_they_capture():
    branch = helper.make_graph(
        [node("Relu", ["x"], ["t"])],
        "branch",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [1, 2])],
    )
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
        node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    *_, entry = read_model(build(nodes, {"x": [1, 2]}, ["y"])).graph.nodes
    assert entry.attributes["then_branch"] == Subgraph(("x",))
    assert "x" in entry.reads


def test_symbolic_and_unknown_dimensions():
    graph = read_model(build([node("Relu", ["x"], ["y"])], {"x": ["batch", None, 0, 7]}, ["y"])).graph
    assert graph.value("x").shape == ("batch", None, None, 7)
    assert "batch×?×?×7" in str(graph)


def test_weights_are_unpacked_only_when_they_are_looked_at(monkeypatch):
    from onnx import numpy_helper

    def refuse(*_, **__):
        raise AssertionError("unpacked too early")

    file = read_model(small_cnn())
    monkeypatch.setattr(numpy_helper, "to_array", refuse)
    assert file.graph.is_constant("w1")
    assert file.graph.value("w1").shape == (6, 3, 3, 3)


def test_the_bytes_that_run_are_the_bytes_of_the_file():
    path = shared("models", "squeezenet_fp32.onnx")
    assert read_model(path).model() == onnx.load(path)
