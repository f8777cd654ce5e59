import pytest

from onnxvis.errors import ImageError
from onnxvis.images.geometry import fit


@pytest.mark.parametrize(
    ("photo", "short", "crop", "scaled", "corner"),
    # Worked out by hand from torchvision's definitions: Resize: int(size · long / short);
    # CenterCrop: int(round((length − crop) / 2)), Python's round taking halves to even;
    # padding (crop − length) // 2 at the left and top where the crop is larger.
    [
        ((500, 375), 256, (224, 224), (341, 256), (58, 16)),  # 341.33; (341−224)/2 = 58.5 → 58
        ((375, 500), 256, (224, 224), (256, 341), (16, 58)),
        ((500, 333), 256, (224, 224), (384, 256), (80, 16)),  # 384.38
        ((335, 500), 256, (224, 224), (256, 382), (16, 79)),  # 382.09
        ((403, 301), 257, (224, 224), (344, 257), (60, 16)),  # 344.09; 16.5 → 16
        ((100, 100), 227, (224, 224), (227, 227), (2, 2)),  # 1.5 → 2
        ((20, 10), 10, (15, 15), (20, 10), (2, -2)),  # 2.5 → 2; 5 // 2 = 2
        ((10, 20), 10, (13, 30), (10, 20), (-1, -5)),
    ],
)
def test_short_side_and_centre_crop_round_as_torchvision(photo, short, crop, scaled, corner):
    placed = fit(photo, crop, "shortest", short)
    assert (placed.scaled, placed.window, placed.offset) == (scaled, crop, corner)


@pytest.mark.parametrize(
    ("photo", "window", "scaled"),
    [
        ((500, 375), (224, 224), (298, 224)),
        ((375, 500), (224, 224), (224, 298)),
        ((100, 100), (60, 30), (60, 60)),
        ((400, 100), (60, 30), (120, 30)),
    ],
)
def test_without_a_short_side_the_photo_just_covers_the_window(photo, window, scaled):
    assert fit(photo, window, "shortest", None).scaled == scaled


@pytest.mark.parametrize(
    ("photo", "scaled", "corner"),
    [
        ((500, 375), (224, 168), (0, -28)),
        ((100, 224), (100, 224), (-62, 0)),
        ((500, 333), (224, 149), (0, -37)),  # 149.18; (224−149) // 2 = 37
        ((1000, 1), (224, 1), (0, -111)),
    ],
)
def test_letterbox(photo, scaled, corner):
    placed = fit(photo, (224, 224), "longest", None)
    assert (placed.scaled, placed.offset) == (scaled, corner)


def test_box_is_the_window_in_photo_pixels():
    assert fit((500, 375), (224, 100), "stretch", None).box == (0, 0, 500, 375)
    assert fit((400, 200), (100, 100), "shortest", None).box == (100, 0, 300, 200)
    assert fit((400, 200), (100, 100), "longest", None).box == (0, -100, 400, 300)
    left, top, right, bottom = fit((512, 512), (224, 224), "shortest", 256).box
    assert (left, top, right, bottom) == (32, 32, 480, 480)


def test_without_a_window_the_photo_keeps_its_size():
    for resize in ("stretch", "shortest", "longest"):
        placed = fit((30, 20), None, resize, None)
        assert (placed.scaled, placed.window, placed.offset) == ((30, 20), (30, 20), (0, 0))
    assert fit((30, 20), None, "shortest", 10).window == (15, 10)


def test_a_photo_too_elongated_to_resize_is_refused():
    with pytest.raises(ImageError, match="100000x1"):
        fit((100_000, 1), (224, 224), "shortest", 256)
