from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from onnxvis.errors import InputError
from onnxvis.images import resize_map

RNG = np.random.default_rng(5)
SIZES = [((7, 7), (32, 20)), ((5, 9), (5, 9)), ((1, 1), (3, 4)), ((4, 1), (1, 6)), ((13, 8), (6, 3))]


def slowly(image, height, width, align_corners):
    """torch's documented definition, one output pixel at a time."""

    def source(index, new, old):
        if align_corners:
            return index * (old - 1) / (new - 1) if new > 1 else 0.0
        return min(max((index + 0.5) * old / new - 0.5, 0.0), old - 1.0)

    h, w = image.shape
    result = np.zeros((height, width))
    for i, j in product(range(height), range(width)):
        y, x = source(i, height, h), source(j, width, w)
        top, left = int(y), int(x)
        below, right = min(top + 1, h - 1), min(left + 1, w - 1)
        fy, fx = y - top, x - left
        upper = image[top, left] * (1 - fx) + image[top, right] * fx
        lower = image[below, left] * (1 - fx) + image[below, right] * fx
        result[i, j] = upper * (1 - fy) + lower * fy
    return result


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_against_the_definition(old, new, align_corners):
    maps = RNG.normal(size=(2, 3, *old))
    resized = resize_map(maps, new, align_corners)
    assert resized.shape == (2, 3, *new)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(resized[index], slowly(maps[index], *new, align_corners), atol=1e-14)


def test_against_scipy():
    image = RNG.normal(size=(9, 14))
    expected = ndimage.zoom(image, (3, 2), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resize_map(image, (27, 28)), expected, atol=1e-12)


def test_two_pixels_by_hand():
    row = np.array([[0.0, 4.0]])
    assert resize_map(row, (1, 4)).tolist() == [[0, 1, 3, 4]]
    np.testing.assert_allclose(resize_map(row, (1, 5), align_corners=True), [[0, 1, 2, 3, 4]])


def test_dtypes():
    for dtype, expected in (("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("i8", "f4"), ("?", "f4")):
        assert resize_map(np.ones((2, 2), dtype), (3, 3)).dtype == expected


@pytest.mark.parametrize(("shape", "size"), [((4,), (2, 2)), ((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_empty_sizes_are_refused(shape, size):
    with pytest.raises(InputError):
        resize_map(np.zeros(shape), size)
