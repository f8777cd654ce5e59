import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxvis.errors import ImageError
from onnxvis.images import read_image


@pytest.fixture
def ramp():
    """Smooth, asymmetric colours: no flip, turn or swapped channel goes unseen, and JPEG hardly errs."""
    y, x = np.mgrid[:24, :40]
    return np.stack([6 * x, 10 * y, 120 + 2 * x - 3 * y], axis=-1).astype(np.uint8)


def pixels(source):
    image = read_image(source)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "ppm", "webp", "jpg"])
def test_formats_give_the_pixels_that_were_saved(suffix, ramp, tmp_path):
    path = tmp_path / f"ramp.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    quality = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(ramp).save(path, **lossless, **quality)
    tolerance = {"jpg": 4, "gif": 40}.get(suffix, 0)
    assert abs(pixels(path) - ramp).max() <= tolerance
    assert (pixels(str(path)) == pixels(path)).all()


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_exif_orientation_is_applied(orientation, stored, ramp, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored(ramp))).save(path, exif=exif)
    assert (pixels(path) == ramp).all()


def test_illegible_exif_does_not_hide_the_picture(ramp, tmp_path):
    path = tmp_path / "bad_exif.png"
    Image.fromarray(ramp).save(path, exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\x01\x12")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own complaint about the EXIF data
        assert (pixels(path) == ramp).all()


def test_grey_becomes_equal_channels(ramp, tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(ramp[..., 0]).save(path)
    assert (pixels(path) == ramp[..., :1]).all()


def test_one_bit_is_black_and_white(tmp_path):
    path = tmp_path / "bits.png"
    Image.fromarray(np.array([[False, True]])).save(path)
    assert pixels(path).tolist() == [[[0] * 3, [255] * 3]]


def test_transparency_is_laid_over_white(tmp_path):
    layer = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)  # 51 = 255 / 5
    expected = [[200, 100, 0], [255, 255, 255], [244, 224, 204]]
    path = tmp_path / "layer.png"
    Image.fromarray(layer).save(path)
    for source in (path, layer):
        assert abs(pixels(source)[0] - expected).max() <= 1


def test_palette_with_and_without_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "holed.png", transparency=1)
    assert pixels(tmp_path / "plain.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels(tmp_path / "holed.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32768, 65278, 65535]], np.uint16)
    expected = [0, 1, 128, 254, 255]  # value / 257
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    wide = Image.fromarray(values.astype(np.int32))
    assert wide.mode == "I"
    for source in (path, values, wide, Image.open(path)):
        assert pixels(source)[0, :, 0].tolist() == expected


def test_cmyk_jpeg(tmp_path):
    path = tmp_path / "ink.jpg"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, quality=100)
    assert abs(pixels(path) - [0, 255, 255]).max() <= 3


def test_arrays(ramp):
    grey = ramp[..., 0]
    assert (pixels(ramp) == ramp).all()
    assert (pixels(grey) == grey[..., None]).all()
    assert (pixels(grey[..., None]) == grey[..., None]).all()
    for dtype in (np.float32, np.float64):
        assert (pixels((ramp / 255).astype(dtype)) == ramp).all()
    assert pixels(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]


def test_a_read_picture_is_read_to_itself(ramp):
    assert (pixels(read_image(ramp)) == ramp).all()


def refusal(source):
    with pytest.raises(ImageError) as caught:
        read_image(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_empty_foreign_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("This is no picture." * 20)
    assert "absent.png" in refusal(tmp_path / "absent.png")
    assert "no such file" in refusal(tmp_path / "absent.png")
    assert "empty" in refusal(tmp_path / "empty.png")
    assert "not a picture" in refusal(tmp_path / "text.png")
    assert "folder" in refusal(tmp_path)
    assert "null" in refusal("a\0b.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_truncated(suffix, tmp_path):
    path = tmp_path / f"half.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert f"half.{suffix}" in refusal(path)
    assert "truncated" in refusal(path)


def test_a_program_for_a_printer_is_not_run(tmp_path):
    path = tmp_path / "page.eps"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert "not a picture" in refusal(path)


def test_decompression_bomb(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    assert "bomb.png" in refusal(path)
    assert "smaller" in refusal(path)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (np.zeros((0, 8), np.uint8), "shape"),
        (np.zeros((8, 8), np.int64), "int64"),
        (np.full((8, 8), 255.0), "0..1"),
        (np.full((8, 8), np.nan), "nan"),
        (np.full((8, 8), -0.1), "-0.1"),
    ],
)
def test_arrays_that_are_no_pictures(array, word):
    assert word in refusal(array)


def test_other_types_and_sizes():
    assert "int" in refusal(3)
    assert "0x5" in refusal(Image.new("RGB", (0, 5)))
    assert "-7" in refusal(Image.fromarray(np.array([[-7]], np.int32)))


def test_paths_are_named_in_full(tmp_path: Path):
    assert str(tmp_path / "absent.png") in refusal(tmp_path / "absent.png")
