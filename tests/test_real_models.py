"""Real models and photos: right classes, explanations that run or say what is missing, true slopes."""

import numpy as np
import pytest
from models import SHARED, shared

import onnxvis
from onnxvis.errors import OnnxvisError
from onnxvis.images import read_image

IMAGENET = {"squeezenet_fp32": "caffe", "mobilenetv2_fp32": "imagenet", "shufflenetv2_fp32": "imagenet"}
# At least this many of the 26 ImageNet photos; the models are right on 49, 57 and 54 of 61.
RIGHT = {"squeezenet_fp32": 22, "mobilenetv2_fp32": 24, "shufflenetv2_fp32": 22}
METHODS = ("gradient", "input_x_gradient", "deconvnet", "guided_backprop", "lrp", "gradcam", "occlusion")
PHOTO = "imnet_n02056570_king_penguin.JPEG"

# Models that every method above must run on: classifiers, float16, opset 7, channels last, regression.
RUN = [
    "handcursor_hand_landmark", "lite_pfld_106", "mlperf_tiny_ic_alibaba", "mlperf_tiny_kws_alibaba",
    "mnist_8_cntk", "node_editor_deeplab_v3_nhwc", "onnxjs_teams_matting", "squeezenet_fp32",
    "stateful_squeezenet_cifar10_keras2onnx", "stm_mobilenetv2_035_128", "ultraface_rfb_320",
    "winml_cifar10_pytorch", "winml_mnist_winmltools_fp32", "winml_squeezenet_fp16", "yolox_nano",
    "zkml_lenet",
]  # fmt: skip
# Models that hold operators without a rule: which one the error names.
MISSING = {
    "mobilenetv2_12_qdq": "DequantizeLinear",
    "onnxzoo_shufflenet_v2_12_int8": "DequantizeLinear",
    "edgeopt_mobilenetv2_int8": "MatMulInteger",
    "winml_candy_coreml": "InstanceNormalization",
    "blazeface_dynamo_functions": "If",
}


def load(name, **options):
    return onnxvis.load(shared("models", f"{name}.onnx"), threads=1, **options)


def noise(model):
    """Uniform noise in every input's shape; open dimensions are 1 sample of 64 pixels."""
    rng = np.random.default_rng(0)
    shapes = (
        (spec, [n if isinstance(n, int) else 64 if i > 1 else 1 for i, n in enumerate(spec.shape)])
        for spec in model.inputs
    )
    return {spec.name: rng.random(shape).astype(spec.dtype) for spec, shape in shapes}


@pytest.mark.parametrize("name", IMAGENET)
def test_photos_get_their_classes(name):
    model = load(name, preprocess=IMAGENET[name])
    wordnet = [
        line.split()[0] for line in shared("images", "imagenet_synset_wnid.txt").read_text().splitlines()
    ]
    photos = sorted((SHARED / "images").glob("imnet_*.JPEG"))
    answers = (next(iter(model.run(photo).values())).reshape(-1).argmax() for photo in photos)
    right = sum(
        wordnet[answer] == photo.name.split("_")[1] for answer, photo in zip(answers, photos, strict=True)
    )
    assert right >= RIGHT[name]


@pytest.mark.parametrize("name", IMAGENET)
@pytest.mark.parametrize("method", [*METHODS, "cam"])
def test_all_methods_look_at_the_penguin(name, method):
    """Heat lies on the bird, which fills the middle of the photo, and not on the rocks beside it.

    DeconvNet says little where nothing but strides and depthwise convolutions remember places.
    """
    model = load(name, preprocess=IMAGENET[name])
    settings = {"size": 48, "stride": 24} if method == "occlusion" else {}
    e = model.explain(shared("images", PHOTO), method, **settings)
    assert np.isfinite(e.values).all()
    heat = np.maximum(e.heatmap()[0], 0)
    assert heat.shape == (224, 224)
    if method != "deconvnet":
        assert heat[:, 40:160].sum() / heat.sum() > 120 / 224 + 0.05


@pytest.mark.parametrize("name", RUN)
def test_every_method_runs(name):
    model = load(name)
    x = noise(model)
    for method in METHODS:
        e = model.explain(x, method)
        assert e.values.dtype == np.float32, method
        assert np.isfinite(e.values).all(), method
        assert np.isfinite(e.score).all(), method
        if method not in ("cam", "gradcam"):
            assert e.values.shape == next(iter(x.values())).shape


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_named(name):
    model = load(name)
    with pytest.raises(OnnxvisError, match=MISSING[name]) as caught:
        model.explain(noise(model), "gradient")
    assert "\n" not in str(caught.value)
    assert "onnxvis.rule(" in str(caught.value) or "subgraph" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in RUN if "fp16" not in name])
def test_gradients_are_slopes(name):
    """⟨gradient, v⟩ against central differences through onnxruntime, along a direction of all pixels.

    A direction on which no rectifier flips is hard to find in a deep net, so the step is small and the
    comparison is with the size of the gradient.
    """
    model = load(name)
    x = noise(model)
    main = next(iter(x))
    e = model.explain(x, "gradient")
    rng = np.random.default_rng(1)
    direction = np.sign(e.values) + rng.standard_normal(e.values.shape).astype(np.float32)
    step = 1e-4
    up, down = (
        model.explain({**x, main: x[main] + s * step * direction}, "gradient", target=e.target)
        for s in (1, -1)
    )
    measured = (up.score.astype(np.float64) - down.score) / (2 * step)
    expected = (e.values * direction).reshape(len(e.values), -1).sum(axis=1)
    np.testing.assert_allclose(measured, expected, rtol=0.1)


def test_cifar_pictures_through_a_channels_last_net():
    data = np.load(shared("images", "cifar10_from_vnnlib.npz"))
    model = load("stateful_squeezenet_cifar10_keras2onnx", preprocess="unit")
    assert model.preprocess.layout == "NHWC"
    pictures = [read_image(picture) for picture in data["x"]]
    answers = model.run(pictures)["loss"].argmax(axis=1)
    assert (answers == data["y"]).sum() >= 50
    e = model.explain(pictures[:2], "lrp")
    assert e.values.shape == (2, 32, 32, 3)
    assert e.heatmap().shape == (2, 32, 32)


def test_half_precision_agrees_with_single():
    photo = shared("images", PHOTO)
    half, single = (
        load(name, preprocess="caffe").explain(photo, "gradcam", target=145)
        for name in ("winml_squeezenet_fp16", "squeezenet_fp32")
    )
    assert np.corrcoef(half.values.ravel(), single.values.ravel())[0, 1] > 0.99
