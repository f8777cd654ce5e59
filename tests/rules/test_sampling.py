"""Grids and regions that the model computes: the host executor takes over, and says what PyTorch says."""

import numpy as np
import pytest
from engine.branching import engine
from models import build, normal
from onnx import helper

from onnxvis.engine.host import HostExecutor
from onnxvis.engine.plan import Pass
from onnxvis.ops.trace import NotTraceableError

node = helper.make_node
X = normal(2, 2, 6, 5)


def gradient(model, feeds, seed, executor="auto", method="gradient"):
    _, found = engine(model, executor).vjp(feeds, {"y": seed}, ["y"], [*feeds], Pass(method))
    return found


def transformer():
    """A spatial transformer: picture and transformation to the moved picture."""
    nodes = [
        node("AffineGrid", ["theta", "size"], ["grid"]),
        node("GridSample", ["x", "grid"], ["y"], mode="linear", padding_mode="border"),
    ]
    inputs = {"x": [2, 2, 6, 5], "theta": [2, 2, 3]}
    return build(nodes, inputs, ["y"], {"size": np.array([2, 2, 4, 3])}, opset=20)


THETA = np.array([[[0.8, 0.1, 0.05], [-0.2, 0.7, 0.1]], [[1.1, 0.0, -0.3], [0.3, 0.9, 0.2]]], np.float32)


def test_a_spatial_transformer_is_what_pytorch_says():
    torch = pytest.importorskip("torch")
    seed = normal(2, 2, 4, 3, seed=1)
    found = gradient(transformer(), {"x": X, "theta": THETA}, seed)
    x, theta = (torch.tensor(array, requires_grad=True) for array in (X, THETA))
    grid = torch.nn.functional.affine_grid(theta, (2, 2, 4, 3), align_corners=False)
    y = torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    y.backward(torch.tensor(seed))
    np.testing.assert_allclose(found["x"], x.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["theta"], theta.grad.numpy(), rtol=1e-4, atol=1e-4)


def test_the_compiled_executor_says_that_it_cannot():
    with pytest.raises(NotTraceableError):
        gradient(transformer(), {"x": X, "theta": THETA}, normal(2, 2, 4, 3), "compiled")


def test_relevance_goes_to_the_picture_and_not_to_the_grid():
    seed = normal(2, 2, 4, 3, seed=1)
    model = transformer()
    _, found = engine(model, "auto").vjp({"x": X, "theta": THETA}, {"y": seed}, ["y"], ["x"], Pass("lrp"))
    np.testing.assert_allclose(found["x"].sum(), seed.sum(), rtol=1e-3)


@pytest.mark.parametrize(
    ("operator", "opset", "attributes"),
    [
        ("RoiAlign", 16, {"output_height": 2, "output_width": 2}),
        ("MaxRoiPool", 16, {"pooled_shape": [2, 2]}),
    ],
)
def test_regions_that_the_model_computes(operator, opset, attributes):
    """The same as with the regions as constants."""
    regions = np.array([[0.5, 1.0, 3.5, 4.5], [1.0, 0.0, 4.0, 5.0]], np.float32)
    rows = np.array([[1], [0]])
    if operator == "MaxRoiPool":
        regions = np.concatenate([rows, regions], axis=1).astype(np.float32)
    more = ["rows"] if operator == "RoiAlign" else []
    constants = {"rows": rows[:, 0]} if more else {}
    pool = [node(operator, ["x", "regions", *more], ["y"], **attributes)]
    fixed = build(pool, {"x": [2, 2, 6, 5]}, ["y"], {"regions": regions, **constants}, opset)
    computed = [node("Add", ["given", "zero"], ["regions"]), *pool]
    shapes = {"x": [2, 2, 6, 5], "given": list(regions.shape)}
    free = build(computed, shapes, ["y"], {"zero": np.zeros(1, np.float32), **constants}, opset)
    seed = normal(2, 2, 2, 2, seed=3)
    expected = gradient(fixed, {"x": X}, seed, "compiled")["x"]
    found = gradient(free, {"x": X, "given": regions}, seed)
    np.testing.assert_allclose(found["x"], expected, rtol=1e-5, atol=1e-6)
    assert not found["given"].any()


def test_a_constant_grid_is_compiled():
    grid = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 3, 3, 2)).astype(np.float32)
    model = build([node("GridSample", ["x", "grid"], ["y"])], {"x": [2, 2, 6, 5]}, ["y"], {"grid": grid}, 16)
    made = engine(model, "auto").backward({"x": X}, Pass("gradient"), ["y"], ["x"])
    assert not isinstance(made, HostExecutor)
