import json

import numpy as np
import pytest
from PIL import Image

from onnxvis.errors import ImageError, InputError, OnnxvisError, UnknownNameError, UsageError
from onnxvis.images import PRESETS, Preprocess, preset

NOISE = np.random.default_rng(3).integers(0, 256, (6, 9, 3), np.uint8)


def bilinear(pixels, height, width):
    """Pillow's antialiased bilinear filter, from its definition: a triangle as wide as the scale."""

    def weights(new, old):
        scale = max(1.0, old / new)
        matrix = np.zeros((new, old))
        for i in range(new):
            centre = (i + 0.5) * old / new
            for k in range(old):
                matrix[i, k] = max(0.0, 1 - abs((k + 0.5 - centre) / scale))
            matrix[i] /= matrix[i].sum()
        return matrix

    rows, columns = weights(height, pixels.shape[0]), weights(width, pixels.shape[1])
    return np.einsum("yh,hwc,xw->yxc", rows, pixels.astype(float), columns)


def test_stretch_is_pillows_antialiased_bilinear():
    for size in ((3, 4), (12, 20), (6, 3)):
        array = Preprocess(size=size, range=(0, 255), layout="NHWC").apply(NOISE).array
        assert array.shape == (1, *size, 3)
        assert abs(array[0] - bilinear(NOISE, *size)).max() <= 1.01  # Pillow rounds to 8 bits twice


def test_imagenet_by_hand():
    photo = Image.new("RGB", (300, 300), (255, 0, 51))
    array = preset("imagenet").resolve(224, 224, 3, "NCHW").apply(photo).array
    assert (array.shape, array.dtype) == ((1, 3, 224, 224), np.float32)
    # (1 − .485)/.229, (0 − .456)/.224, (0.2 − .406)/.225
    np.testing.assert_allclose(array[0, :, 100, 100], [2.2489083, -2.0357144, -0.9155556], rtol=1e-6)


def test_caffe_by_hand_in_bgr():
    photo = Image.new("RGB", (10, 10), (200, 150, 100))
    array = preset("caffe").resolve(4, 4, 3).apply(photo).array
    np.testing.assert_array_equal(array[0, :, 0, 0], [100 - 104, 150 - 117, 200 - 123])


def test_tf_range_and_grey_luma():
    photo = Image.new("RGB", (4, 4), (255, 0, 0))
    np.testing.assert_array_equal(preset("tf").resolve(4, 4).apply(photo).array[0, :, 0, 0], [1, -1, -1])
    grey = preset("mnist").apply(photo).array
    assert grey.shape == (1, 1, 28, 28)
    np.testing.assert_allclose(grey, 76 / 255, rtol=1e-6)  # 0.299 · 255 = 76.2


def test_every_byte_arrives_exactly():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    raw = preset("raw").apply(ramp).array[0, 0]
    np.testing.assert_array_equal(raw, ramp)
    unit = preset("unit").apply(ramp).array[0, 0]
    np.testing.assert_array_equal(unit, ramp.astype(np.float32) / np.float32(255))


def test_cropped_pixels_are_the_middle_ones():
    settings = Preprocess(size=(2, 3), resize="shortest", resize_to=6, range=(0, 255), layout="NHWC")
    prepared = settings.apply(NOISE)
    np.testing.assert_array_equal(prepared.array[0], NOISE[2:4, 3:6])
    assert prepared.box == (3, 2, 6, 4)
    assert prepared.photo.size == (9, 6)


def test_letterbox_pads_with_grey_114():
    prepared = Preprocess(size=(9, 9), resize="longest", range=(0, 255), layout="NHWC").apply(NOISE)
    np.testing.assert_array_equal(prepared.array[0, 1:7], NOISE)
    assert (prepared.array[0, :1] == 114).all()
    assert (prepared.array[0, 7:] == 114).all()
    assert prepared.box == (0, -1, 9, 8)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR", "L"])
def test_invert_undoes_apply(dtype, layout, color):
    mean = (100.0,) if color == "L" else (104.0, 117.0, 123.0)
    scaled = {"mean": mean, "std": (2.0,)} if dtype != "uint8" else {}
    settings = Preprocess(range=(0, 255), color=color, layout=layout, dtype=dtype, **scaled)
    prepared = settings.apply(NOISE)
    assert prepared.array.dtype == dtype
    assert prepared.array.flags["C_CONTIGUOUS"]
    expected = np.asarray(Image.fromarray(NOISE).convert("L").convert("RGB")) if color == "L" else NOISE
    for array in (prepared.array, prepared.array[0]):
        np.testing.assert_array_equal(settings.invert(array), expected)


def test_invert_clips_and_refuses_nan_and_other_shapes():
    settings = Preprocess()
    extremes = np.array([-5.0, 0.5, 7.0]).reshape(1, 3, 1, 1)
    assert settings.invert(extremes).tolist() == [[[0, 128, 255]]]
    with pytest.raises(InputError, match="1 NaN"):
        settings.invert(np.array([np.nan, 0, 0]).reshape(3, 1, 1))
    for shape in ((2, 3, 4, 4), (1, 4, 4, 3), (4, 4)):
        with pytest.raises(InputError, match="NCHW"):
            settings.invert(np.zeros(shape))


def test_bounds_are_what_black_and_white_become():
    for name in PRESETS:
        settings = preset(name).resolve(8, 8)
        black, white = (settings.apply(np.full((8, 8), value, np.uint8)).array for value in (0, 255))
        low, high = settings.bounds()
        assert low.shape == high.shape == (settings.channels,)
        np.testing.assert_allclose(black[0, :, 0, 0], low, rtol=1e-6)
        np.testing.assert_allclose(white[0, :, 0, 0], high, rtol=1e-6)


def test_resolve_takes_what_the_model_fixes():
    settings = Preprocess().resolve(32, 48, 3, "NHWC", "float16")
    assert (settings.size, settings.layout, settings.dtype) == ((32, 48), "NHWC", "float16")
    assert Preprocess().resolve(32, None).size == (32, 32)
    assert Preprocess().resolve(None, None).size is None
    assert Preprocess(size=(20, 30)).resolve(None, 30).size == (20, 30)
    assert Preprocess().resolve(channels=1).color == "L"


def test_without_any_size_the_photo_keeps_its_own():
    assert preset("unit").resolve().apply(NOISE).array.shape == (1, 3, 6, 9)


def test_a_presets_size_gives_way_to_the_models():
    assert preset("imagenet").resolve(None, None, 3).size == (224, 224)
    settings = preset("imagenet").resolve(299, 299, 3)
    assert (settings.size, settings.resize_to) == ((299, 299), 342)  # 256/224 · 299 = 341.7
    with pytest.raises(UsageError, match=r"224, 224.*299"):
        Preprocess(size=(224, 224)).resolve(299, 299)
    with pytest.raises(UsageError, match="299"):
        settings.resolve(224, 224)  # resolved: no longer a default


@pytest.mark.parametrize(("name", "channels"), [("imagenet", 1), ("mnist", 3), ("unit", 4)])
def test_channels_that_do_not_fit_are_an_error(name, channels):
    with pytest.raises(UsageError, match=f"{channels} channel"):
        preset(name).resolve(channels=channels)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", [224]),
        ("size", [0, 4]),
        ("size", [2.5, 3]),
        ("size", 224),
        ("size", "ab"),
        ("resize", "fit"),
        ("resize", None),
        ("resize_to", -1),
        ("resize_to", True),
        ("color", "rgb"),
        ("range", [1, 0]),
        ("range", [0]),
        ("range", ["0", "1"]),
        ("range", [0, float("inf")]),
        ("mean", 0.5),
        ("mean", []),
        ("mean", [1, 2]),
        ("mean", ["a"]),
        ("mean", [float("nan")]),
        ("std", [0]),
        ("std", [1, 1, -1]),
        ("layout", "CHW"),
        ("dtype", "int8"),
        ("interpolation", "linear"),
    ],
)
def test_wrong_values_are_refused_by_name(key, value):
    with pytest.raises(UsageError, match=f"'{key}'.*allowed") as caught:
        Preprocess.from_json({key: value})
    assert "\n" not in str(caught.value)


def test_settings_that_contradict_each_other():
    with pytest.raises(UsageError, match="'mean' has 3"):
        Preprocess(color="L", mean=(1, 2, 3))
    with pytest.raises(UsageError, match="resize_to"):
        Preprocess(resize="stretch", resize_to=256)


def test_unknown_keys_are_refused():
    with pytest.raises(UnknownNameError, match=r"resise.*did you mean 'resize'"):
        Preprocess.from_json({"resise": "stretch"})
    with pytest.raises(UnknownNameError, match="size_is_default"):
        Preprocess.from_json({"size_is_default": True})
    with pytest.raises(UsageError, match="list"):
        Preprocess.from_json([1])


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    settings = preset(name).resolve(40, 40)
    data = json.loads(json.dumps(settings.to_json()))
    assert list(data) == [
        "size", "resize", "resize_to", "color", "range", "mean", "std", "layout", "dtype", "interpolation",
    ]  # fmt: skip
    assert Preprocess.from_json(data) == settings
    assert Preprocess.from_json({}) == Preprocess()


def test_files(tmp_path):
    expected = Preprocess(size=(32, 32), color="BGR", range=(0, 255))
    as_json, as_toml = tmp_path / "a.json", tmp_path / "a.toml"
    as_json.write_text(json.dumps(expected.to_json()))
    as_toml.write_text('size = [32, 32]\ncolor = "BGR"\nrange = [0, 255]\n')
    assert Preprocess.from_file(as_json) == Preprocess.from_file(str(as_toml)) == expected


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("broken.json", "{", "not valid json"),
        ("broken.toml", "= 1", "not valid toml"),
        ("wrong.json", '{"color": "CMYK"}', "'color'"),
        ("list.json", "[]", "object"),
        ("deep.json", "[" * 100_000, "deep.json"),
        ("settings.yaml", "", "must end in .json or .toml"),
    ],
)
def test_files_that_do_not_do(name, text, word, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=word) as caught:
        Preprocess.from_file(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        Preprocess.from_file(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match=r"binary\.json"):
        Preprocess.from_file(tmp_path / "binary.json")


def test_unreadable_pictures_stay_image_errors(tmp_path):
    with pytest.raises(ImageError):
        Preprocess().apply(tmp_path / "absent.png")
    assert issubclass(ImageError, OnnxvisError)
