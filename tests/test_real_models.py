"""Real models and photos: right classes, explanations that run or say what is missing, true slopes."""

import numpy as np
import pytest
from models import SHARED, exact_bytes, shared

import onnxvis
from onnxvis.errors import ModelError, UnsupportedError
from onnxvis.images import read_image

# Quantised models with the float ones that they were made of, whose Clips say what they cut off.
TWINS = {
    "mobilenetv2_12_qdq": "mobilenetv2_fp32",
    "edgeopt_mobilenetv2_int8": "mobilenetv2_fp32",
    "onnxzoo_shufflenet_v2_12_int8": "shufflenetv2_fp32",
}
IMAGENET = {"squeezenet_fp32": "caffe", "mobilenetv2_fp32": "imagenet", "shufflenetv2_fp32": "imagenet"}
IMAGENET |= dict.fromkeys(TWINS, "imagenet")
# At least this many of the 26 ImageNet photos; the models are right on 49, 57 and 54 of 61.
RIGHT = {
    "squeezenet_fp32": 22, "mobilenetv2_fp32": 24, "shufflenetv2_fp32": 22, "mobilenetv2_12_qdq": 24,
    "edgeopt_mobilenetv2_int8": 24, "onnxzoo_shufflenet_v2_12_int8": 22,
}  # fmt: skip
METHODS = (
    "gradient", "input_x_gradient", "deconvnet", "guided_backprop", "lrp", "excitation_backprop", "gradcam",
    "gradcam++", "layercam", "occlusion",
)  # fmt: skip
PHOTO = "imnet_n02056570_king_penguin.JPEG"

# Models that every method above must run on: classifiers, float16, opset 7, channels last, regression,
# detectors, segmentation, super-resolution, branches on shapes and sequences.
RUN = [
    "blazeface_dynamo_functions", "handcursor_hand_landmark", "lite_pfld_106", "mlperf_tiny_ic_alibaba",
    "mlperf_tiny_kws_alibaba", "mnist_8_cntk", "mobilenetv2_fp32", "node_editor_deeplab_v3_nhwc",
    "onnxjs_teams_matting", "onnxzoo_super_resolution", "paddle_picodet_s_320", "shufflenetv2_fp32",
    "squeezenet_fp32", "stateful_squeezenet_cifar10_keras2onnx", "stm_mobilenetv2_035_128",
    "ultraface_rfb_320", "winml_cifar10_pytorch", "winml_mnist_winmltools_fp32", "winml_squeezenet_fp16",
    "yolox_nano", "zkml_lenet", *TWINS,
]  # fmt: skip
# Models that onnxruntime itself does not run, and what it says.
REFUSED = {
    "customvision_cheesecake": "cannot run this model",  # a BatchNormalization lacks its scale
    "qonnx_espcn_quant": "Quant",  # an operator of its own: docs/extending.md makes it work
}
# What to explain of models whose outputs are of equal rank: a score, a coordinate.
TARGETS = {
    "blazeface_dynamo_functions": {"cat": 100},
    "handcursor_hand_landmark": {"Identity": 5},
    "paddle_picodet_s_320": {"transpose_10.tmp_0": 3},
}
# A net that paints pictures of 720×720: InstanceNormalization, Crop and Affine of the first releases.
PAINTER = "winml_candy_coreml"


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
    if name in TWINS:
        exact_bytes()
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
    settings = {"size": 56, "stride": 42} if method == "occlusion" else {}
    e = model.explain(shared("images", PHOTO), method, **settings)
    assert np.isfinite(e.values).all()
    heat = np.maximum(e.heatmap()[0], 0)
    assert heat.shape == (224, 224)
    if method != "deconvnet":
        assert heat[:, 40:160].sum() / heat.sum() > 120 / 224 + 0.05


def test_every_model_is_in_a_list():
    files = {path.stem for path in shared("models").glob("*.onnx")}
    assert files == {*RUN, *REFUSED, PAINTER}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnxruntime_refuses_is_refused(name):
    model = load(name)
    with pytest.raises(ModelError, match=REFUSED[name]):
        model.explain(noise(model), "gradient")


@pytest.mark.parametrize("name", RUN)
def test_cam_runs_or_says_what_it_lacks(name):
    model = load(name)
    try:
        e = model.explain(noise(model), "cam", TARGETS.get(name))
    except UnsupportedError as error:
        assert "global average pooling" in str(error) and "use 'gradcam'" in str(error)
    else:
        assert np.isfinite(e.values).all()


@pytest.mark.parametrize("name", RUN)
def test_every_method_runs(name):
    model = load(name)
    x = noise(model)
    extent = sorted(next(iter(x.values())).shape)[-2]
    for method in METHODS:
        # a third of the input at a time, or it would take longer than all the others
        settings = {"size": -(-extent // 3), "stride": -(-extent // 3)} if method == "occlusion" else {}
        e = model.explain(x, method, TARGETS.get(name), **settings)
        assert e.values.dtype == np.float32, method
        assert np.isfinite(e.values).all(), method
        assert np.isfinite(e.score).all(), method
        if not method.startswith(("gradcam", "layercam")):
            assert e.values.shape == next(iter(x.values())).shape


@pytest.mark.parametrize("method", ["guided_backprop", "lrp"])
def test_methods_run_on_a_style_transfer_net(method):
    model = load(PAINTER)
    e = model.explain(noise(model), method)
    assert np.isfinite(e.values).all()
    assert e.values.any()


FLOAT = [name for name in RUN if "fp16" not in name and name not in TWINS]


@pytest.mark.parametrize("name", [*FLOAT, PAINTER])
def test_gradients_are_slopes(name):
    """⟨gradient, v⟩ against central differences through onnxruntime, along a direction of all pixels.

    A direction on which no rectifier flips is hard to find in a deep net, so the step is small and the
    comparison is with the size of the gradient.
    """
    model = load(name)
    x = noise(model)
    main = next(iter(x))
    e = model.explain(x, "gradient", TARGETS.get(name))
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


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("method", "least"), [("gradcam", 0.99), ("cam", 0.99), ("lrp", 0.95)])
def test_quantised_heat_maps_are_those_of_the_float_net(name, method, least):
    exact_bytes()
    photo = shared("images", PHOTO)
    ours, theirs = (
        load(each, preprocess="imagenet").explain(photo, method, target=145).heatmap().ravel()
        for each in (name, TWINS[name])
    )
    assert np.corrcoef(ours, theirs)[0, 1] > least


@pytest.mark.parametrize("name", TWINS)
def test_what_is_kept_does_not_change_a_quantised_answer(name):
    """Asking for the real numbers between whole ones would: by 2 in a logit of the QDQ net."""
    model = load(name, preprocess="imagenet")
    photo = shared("images", PHOTO)
    plain = model.run(photo)["output"]
    for method in ("gradient", "lrp", "gradcam"):
        assert model.explain(photo, method, target=145).score[0] == plain[0, 145], method
