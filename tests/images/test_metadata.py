import json

import pytest

from onnxvis.errors import UsageError
from onnxvis.images import (
    LABELS_KEY,
    PREPROCESS_KEY,
    Preprocess,
    from_metadata,
    labels_file,
    labels_from_metadata,
    preset,
    side_file,
)


def test_own_key_comes_first():
    settings = preset("imagenet").resolve(224, 224)
    props = {PREPROCESS_KEY: json.dumps(settings.to_json()), "Image.BitmapPixelFormat": "Gray8"}
    assert from_metadata(props) == settings


@pytest.mark.parametrize(
    ("pixel_format", "color"),
    [("Bgr8", "BGR"), ("Rgb8", "RGB"), ("Gray8", "L"), ("Gray16", "L"), ("BGRA8", "BGR")],
)
@pytest.mark.parametrize(
    ("pixel_range", "low_high"),
    [
        ("NominalRange_0_255", (0, 255)),
        ("Normalized_0_1", (0, 1)),
        ("normalized_1_1", (-1, 1)),
        ("NominalRange_16_235", (16, 235)),
    ],
)
def test_windows_ml_metadata(pixel_format, color, pixel_range, low_high):
    settings = from_metadata(
        {"Image.BitmapPixelFormat": pixel_format, "image.nominalpixelrange": pixel_range}
    )
    assert settings == Preprocess(resize="shortest", color=color, range=low_high)


def test_half_of_it_takes_defaults_and_none_of_it_is_none():
    assert from_metadata({"Image.NominalPixelRange": "Normalized_0_1"}).color == "BGR"
    assert from_metadata({"Image.BitmapPixelFormat": "Rgb8"}).range == (0, 255)
    assert from_metadata({"Image.ColorSpaceGamma": "SRGB", "author": "x"}) is None


@pytest.mark.parametrize(
    "props",
    [
        {PREPROCESS_KEY: "{"},
        {PREPROCESS_KEY: "3"},
        {PREPROCESS_KEY: '{"color": "X"}'},
        {"Image.BitmapPixelFormat": "Yuv"},
        {"Image.NominalPixelRange": "0..1"},
    ],
)
def test_senseless_metadata_are_refused_by_key(props):
    with pytest.raises(UsageError, match=next(iter(props)).replace(".", r"\.")):
        from_metadata(props)


def test_labels_key():
    assert labels_from_metadata({LABELS_KEY: '["cat", "dog"]'}) == ["cat", "dog"]
    assert labels_from_metadata({}) is None
    for text in ("cat, dog", "[1, 2]", "[]"):
        with pytest.raises(UsageError, match=LABELS_KEY.replace(".", r"\.")):
            labels_from_metadata({LABELS_KEY: text})


def test_files_beside_the_model(tmp_path):
    model = tmp_path / "net.v2.onnx"
    assert side_file(model) is None
    assert labels_file(str(model)) is None
    for finder, endings in (
        (side_file, ("preprocess.toml", "preprocess.json")),
        (labels_file, ("labels.json", "labels.txt")),
    ):
        for ending in endings:  # the one written last is preferred
            path = tmp_path / f"net.v2.{ending}"
            path.touch()
            assert finder(model) == path
