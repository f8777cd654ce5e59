import tracemalloc
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from onnxvis.errors import ImageError, UsageError
from onnxvis.images import Preprocess, overlay, place

GREY = Image.new("RGB", (60, 40), (100, 100, 100))


def blob(height, width, y, x, sigma):
    """A Gaussian whose peak lies at pixel coordinates (y, x), pixel centres being at half-integers."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


def centroid(heat):
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]] + 0.5
    return (heat * columns).sum() / heat.sum(), (heat * rows).sum() / heat.sum()


@pytest.mark.parametrize("photo_size", [(500, 375), (120, 300), (33, 47)])
@pytest.mark.parametrize(
    "settings",
    [
        Preprocess(size=(224, 224)),
        Preprocess(size=(224, 224), resize="shortest", resize_to=256),
        Preprocess(size=(224, 224), resize="longest"),
        Preprocess(size=(64, 96), resize="shortest"),
    ],
)
def test_heat_returns_to_the_spot_that_the_net_saw(photo_size, settings):
    """A bright dot is painted into the photo, found in the net's input, and placed back."""
    width, height = photo_size
    dot = np.rint(255 * blob(height, width, 0.55 * height, 0.4 * width, 0.05 * min(photo_size))).astype(
        np.uint8
    )
    prepared = settings.apply(np.repeat(dot[..., None], 3, axis=2))
    heat = prepared.array[0, 0]
    heat = np.where(heat > 0.46, heat, 0)  # above the letterbox's grey, 114/255
    placed = place(heat, prepared.box, prepared.photo.size)
    assert placed.shape == (height, width)
    assert centroid(placed) == pytest.approx((0.4 * width, 0.55 * height), abs=0.35)


def test_place_by_hand():
    heat = np.array([[1.0, 2.0], [3.0, 4.0]])
    placed = place(heat, (1, 0, 3, 2), (4, 2), outside=-1)
    assert placed.tolist() == [[-1, 1, 2, -1], [-1, 3, 4, -1]]
    padded = place(heat, (0, -1, 2, 1), (2, 1))  # only the lower half lies on the photo
    assert padded.tolist() == [[3, 4]]


def test_place_over_a_coarser_photo_averages():
    heat = np.zeros((64, 64))
    heat[::4] = 1  # stripes, which picking single samples would exaggerate or miss
    placed = place(heat, (0, 0, 8, 8), (8, 8))
    np.testing.assert_allclose(placed[1:-1], 0.25, atol=0.01)


def test_place_keeps_the_dtype_and_the_mass():
    heat = blob(50, 50, 20, 30, 5)
    assert place(heat.astype(np.float32), (0, 0, 100, 100), (100, 100)).dtype == np.float32
    assert place(heat, (0, 0, 100, 100), (100, 100)).sum() == pytest.approx(4 * heat.sum(), rel=1e-6)


def test_the_strongest_heat_hides_the_photo_by_alpha_and_none_leaves_it():
    heat = np.zeros((40, 60))
    heat[10:20, 10:20] = 1
    pixels = np.asarray(overlay(GREY, heat, alpha=0.5, colormap="viridis")).astype(int)
    assert pixels[30, 40].tolist() == [100, 100, 100]
    viridis_top = np.array([253, 231, 37])
    assert abs(pixels[15, 15] - (100 + viridis_top) / 2).max() <= 1


def test_both_signs_show_and_zero_is_clear():
    heat = np.zeros((4, 6))
    heat[0, 0], heat[3, 5] = 1, -0.5
    pixels = np.asarray(overlay(GREY, heat)).astype(int)
    assert pixels[1, 1, 0] > pixels[1, 1, 2] + 50  # red
    assert pixels[38, 58, 2] > pixels[38, 58, 0] + 20  # blue, weaker
    assert pixels[20, 30].tolist() == [100, 100, 100]


def test_what_the_net_did_not_see_is_paled():
    pixels = np.asarray(overlay(GREY, np.zeros((8, 8)), box=(10, 0, 50, 40)))
    assert (pixels[:, 10:50] == 100).all()
    assert (pixels[:, :10] == 193).all()  # 100 + 0.6 · 155
    assert (pixels[:, 50:] == 193).all()


def test_size_and_mode_are_the_photos(tmp_path):
    photo = tmp_path / "grey.png"
    Image.new("L", (31, 17), 9).save(photo)
    result = overlay(photo, np.eye(5))
    assert (result.size, result.mode) == ((31, 17), "RGB")


def test_errors():
    with pytest.raises(UsageError, match="alpha"):
        overlay(GREY, np.eye(3), alpha=1.5)
    with pytest.raises(UsageError, match="NaN"):
        overlay(GREY, np.full((3, 3), np.nan))
    with pytest.raises(ImageError):
        overlay("absent.png", np.eye(3))


# ---- large photos --------------------------------------------------------------------------------


@pytest.mark.parametrize("fade", [0.0, 0.7])
def test_band_by_band_is_the_same(fade, monkeypatch):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (37, 23, 3), dtype=np.uint8))
    heat, box = rng.standard_normal((7, 5)), (2.0, 3.0, 20.0, 30.0)
    whole = np.asarray(overlay(photo, heat, box=box, fade=fade), int)
    for pixels in (1, 23 * 5, 23 * 36):
        monkeypatch.setattr(import_module("onnxvis.images.overlay"), "_BAND", pixels)
        assert abs(np.asarray(overlay(photo, heat, box=box, fade=fade), int) - whole).max() <= 1


def test_a_large_photo_takes_few_bytes_a_pixel():
    """Not the sixty that several float pictures of its size would take."""
    photo = Image.new("RGB", (2000, 1500))
    tracemalloc.start()
    overlay(photo, np.random.default_rng(0).random((7, 7)), fade=0.5)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most <= 24 * 2000 * 1500
