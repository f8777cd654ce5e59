import numpy as np
import pytest

from onnxvis.errors import InputError, UnknownNameError, UsageError
from onnxvis.images import colourize, saliency_picture, scale

RAMP = np.linspace(0, 1, 257)[None]


def luma(colours):
    return colours.astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("name", ["viridis", "magma", "inferno", "viridis_r"])
def test_colours_are_those_of_matplotlib(name):
    matplotlib = pytest.importorskip("matplotlib")
    expected = matplotlib.colormaps[name](RAMP[0])[:, :3] * 255
    assert abs(colourize(RAMP, name, percentile=100)[0] - expected).max() <= 5  # a step of 256 colours


def test_an_unsigned_map_grows_brighter():
    colours = colourize(RAMP)
    assert (colours.shape, colours.dtype) == ((1, 257, 3), np.uint8)
    assert (np.diff(luma(colours)[0]) > -1).all()
    assert luma(colours)[0, 0] < 10
    assert luma(colours)[0, -1] > 200


def test_a_signed_map_is_pale_at_zero_blue_below_and_red_above():
    negative, zero, positive = colourize(np.array([[-2.0, 0.0, 2.0]]))[0].astype(int)
    assert negative[2] - negative[0] > 100
    assert positive[0] - positive[2] > 100
    assert zero.min() > 220


def test_the_signed_range_is_symmetric_about_zero():
    np.testing.assert_allclose(scale(np.array([[-1.0, 0.0, 4.0]]), True, 100), [[-0.25, 0, 1]])
    lopsided = colourize(np.array([[-1.0, 0.0, 4.0]]), percentile=100)
    even = colourize(np.array([[-1.0, 0.0, 4.0, -4.0]]), percentile=100)
    np.testing.assert_array_equal(lopsided, even[:, :3])


def test_the_sign_is_found_but_rounding_is_no_sign():
    unsigned = np.array([[0.0, 0.5, 1.0]])
    np.testing.assert_array_equal(colourize(unsigned - 1e-9), colourize(unsigned, signed=False))
    np.testing.assert_array_equal(colourize(unsigned - 0.1), colourize(unsigned - 0.1, signed=True))
    assert (colourize(unsigned, signed=True) != colourize(unsigned)).any()


def test_outliers_do_not_darken_the_rest():
    heat = np.linspace(0, 1, 1000).reshape(20, 50)
    heat[3, 3] = 1e6
    assert scale(heat, False)[-1, -1] == 1  # 99.5th percentile of 1000 values: the five largest are clipped
    assert scale(heat, False)[10, 0] == pytest.approx(heat[10, 0] / np.percentile(heat, 99.5))
    assert scale(heat, False, percentile=100)[-1, -1] == pytest.approx(1e-6)


def test_a_single_hot_pixel_is_shown():
    heat = np.zeros((28, 28))
    heat[5, 6] = 3
    for signed in (False, True):
        np.testing.assert_array_equal(scale(heat, signed), heat / 3)


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-320, 3e38])
@pytest.mark.parametrize("signed", [None, False, True])
def test_constant_maps_are_one_colour(value, signed):
    colours = colourize(np.full((4, 5), value, np.float64), signed=signed)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 1


def test_a_blank_signed_map_is_the_middle_colour():
    blank = colourize(np.zeros((1, 1)), signed=True)
    np.testing.assert_array_equal(blank, colourize(np.array([[-1.0, 0, 1]]))[:, 1:2])
    assert colourize(np.zeros((1, 1)), "bwr", signed=True).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "?"])
def test_dtypes(dtype):
    heat = np.array([[0, 1]], dtype)
    np.testing.assert_array_equal(colourize(heat), colourize(heat.astype(float)))


def test_values_that_cannot_be_shown():
    heat = np.array([[0, np.nan, np.inf, -np.inf]])
    for function in (colourize, lambda heat: scale(heat, True)):
        with pytest.raises(UsageError, match="3 NaN or infinite among its 4"):
            function(heat)
    for shape in ((3,), (0, 4), (1, 4, 4)):
        with pytest.raises(InputError):
            colourize(np.zeros(shape))
    with pytest.raises(UsageError, match="percentile"):
        colourize(RAMP, percentile=0)


def test_unknown_colour_map():
    with pytest.raises(UnknownNameError, match=r"colormap 'virids'; did you mean 'viridis'"):
        colourize(RAMP, "virids")


def test_saliency_picture_is_symmetric_about_grey():
    values = np.zeros((3, 1, 3))
    values[0, 0] = [2, -2, 0]
    values[2, 0] = [1, 0, 0]
    picture = saliency_picture(values, percentile=100)
    assert picture.tolist() == [[[255, 128, 191], [0, 128, 128], [128, 128, 128]]]
    np.testing.assert_array_equal(saliency_picture(values, "BGR", 100), picture[..., ::-1])


def test_saliency_picture_of_one_channel_is_grey():
    picture = saliency_picture(np.array([[[1.0, -1.0]]]), percentile=100)
    assert picture.tolist() == [[[255] * 3, [0] * 3]]
    for shape in ((2, 4, 4), (4, 4)):
        with pytest.raises(InputError):
            saliency_picture(np.zeros(shape))
