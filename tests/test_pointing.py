"""On the shapes model's own pictures, heat maps point at the shape that tells the class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import onnxvis
from onnxvis.resources import resource

SHAPES = sorted(path.stem for path in resource("model_zoo", "shapes", "samples").glob("*.png"))
METHODS = {
    "guided_backprop": {},
    "lrp": {"composite": "epsilon_plus"},
    "gradcam": {},
    "occlusion": {},
}


@pytest.fixture(scope="module")
def model():
    return onnxvis.load("zoo:shapes", threads=1)


def samples():
    return [resource("model_zoo", "shapes", "samples", f"{shape}.png") for shape in SHAPES]


def masks():
    files = [resource("model_zoo", "shapes", "masks", f"{shape}.png") for shape in SHAPES]
    return [np.asarray(Image.open(file).convert("L")) > 0 for file in files]


def test_there_is_a_sample_and_a_small_mask_of_every_class(model):
    assert set(SHAPES) == set(model.labels)
    assert len(SHAPES) == 10
    assert all(0 < mask.mean() < 0.2 for mask in masks())


@pytest.mark.parametrize("method", METHODS)
def test_the_maximum_lies_on_the_shape(model, method):
    target = [model.labels.index(shape) for shape in SHAPES]
    explanation = model.explain(samples(), method, target, **METHODS[method])
    heat = explanation.heatmap()
    hits = [mask[np.unravel_index(h.argmax(), h.shape)] for h, mask in zip(heat, masks(), strict=True)]
    assert sum(hits) >= 9, [shape for shape, hit in zip(SHAPES, hits, strict=True) if not hit]
