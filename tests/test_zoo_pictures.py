"""The generated pictures: they repeat, their masks are right, and nothing but shape tells the class."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from onnxvis.resources import resource


def load_pictures() -> ModuleType:
    path = resource("model_zoo", "shapes", "pictures.py")
    spec = importlib.util.spec_from_file_location("zoo_pictures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


pictures = load_pictures()
COUNT = 400


@pytest.fixture(scope="module")
def generated():
    return pictures.generate(COUNT, seed=7)


def test_shapes_and_types(generated):
    images, labels, masks = generated
    assert images.shape == (COUNT, 64, 64, 3) and images.dtype == np.uint8
    assert labels.shape == (COUNT,) and labels.dtype == np.int64
    assert masks.shape == (COUNT, 64, 64) and masks.dtype == np.bool_


def test_same_seed_same_pictures_and_a_longer_run_begins_like_a_shorter_one(generated):
    again = pictures.generate(20, seed=7)
    for first, second in zip(generated, again, strict=True):
        np.testing.assert_array_equal(first[:20], second)


def test_other_seed_other_pictures(generated):
    images, _, masks = pictures.generate(20, seed=8)
    assert all((images[i] != generated[0][i]).any() for i in range(20))
    assert any((masks[i] != generated[2][i]).any() for i in range(20))


def test_draw_without_a_label_reaches_every_class():
    rng = np.random.default_rng(0)
    drawn = [pictures.draw(rng) for _ in range(100)]
    assert {picture.label for picture in drawn} == set(range(len(pictures.CLASSES)))
    assert {(picture.image.dtype, picture.mask.dtype) for picture in drawn} == {
        (np.dtype("u1"), np.dtype("?"))
    }


def test_classes_are_balanced(generated):
    assert np.ptp(np.bincount(generated[1], minlength=len(pictures.CLASSES))) == 0


def test_masks_are_one_piece_of_sensible_size(generated):
    for mask in generated[2]:
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
        assert 60 < mask.sum() < 900
        y, x = np.nonzero(mask)
        assert 12 <= max(np.ptp(y), np.ptp(x)) + 1 <= 31


def test_masks_have_no_holes(generated):
    for mask in generated[2]:
        np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)


def test_targets_are_not_cut_off_by_the_border(generated):
    border = np.ones((64, 64), bool)
    border[1:-1, 1:-1] = False
    # The contour of a target may just reach the border; a target cut off would fill much of it.
    assert (generated[2] & border).sum(axis=(1, 2)).max() <= 4


def test_shapes_never_touch():
    for seed in range(100):
        places = pictures._layout(np.random.default_rng(seed))
        assert len(places) >= 2
        for index, place in enumerate(places):
            others = places[:index]
            assert all(np.hypot(place.x - o.x, place.y - o.y) > place.radius + o.radius for o in others)


def test_the_target_is_where_the_mask_says():
    """Only the pixels of the mask change when the target alone is left out."""
    without = [np.zeros((3, 2))]  # an outline without area
    targets = pictures._TARGETS
    for label in range(len(targets)):
        shown = pictures.draw(np.random.default_rng(label), label)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pictures, "_TARGETS", (without,) * len(targets))
            hidden = pictures.draw(np.random.default_rng(label), label)
        changed = (shown.image != hidden.image).any(axis=2)
        centre = ndimage.center_of_mass(shown.mask)
        assert changed[shown.mask].mean() > 0.6
        # What is left of an outline without area: a dot in the middle of the target.
        y, x = np.nonzero(changed & ~shown.mask)
        assert not len(y) or np.hypot(y - centre[0], x - centre[1]).max() < 4


def test_every_class_has_its_own_outline():
    """Upright and of one size, no two targets cover the same pixels."""
    covered = [
        pictures._coverage([outline * 13 + 32 for outline in shape], rim=False)[0] > 0.5
        for shape in pictures._TARGETS
    ]
    for first, second in itertools.combinations(covered, 2):
        assert (first & second).sum() / (first | second).sum() < 0.8


def explained_variance(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fraction of the variance of each column that the label explains (correlation ratio η²)."""
    means = np.stack([values[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    return ((means[labels] - values.mean(axis=0)) ** 2).mean(axis=0) / values.var(axis=0)


def test_neither_colour_nor_place_tells_the_class(generated):
    images, labels, masks = generated
    target = np.stack([image[mask].mean(axis=0) for image, mask in zip(images, masks, strict=True)])
    rest = np.stack([image[~mask].mean(axis=0) for image, mask in zip(images, masks, strict=True)])
    spread = np.stack([image[~mask].std(axis=0) for image, mask in zip(images, masks, strict=True)])
    place = np.stack([ndimage.center_of_mass(mask) for mask in masks])
    # By chance alone, 10 classes explain 9/399 = 2.3 % of the variance.
    for values in (target, rest, spread, place):
        assert explained_variance(values, labels).max() < 0.08


def test_the_check_above_would_notice():
    labels = np.arange(COUNT) % 10
    noise = np.random.default_rng(0).normal(size=(COUNT, 1))
    assert explained_variance(noise + 0.1 * labels[:, None], labels).max() > 0.08
