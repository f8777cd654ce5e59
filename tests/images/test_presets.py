import pytest

from onnxvis.errors import UnknownNameError
from onnxvis.images import PRESETS, preset


def test_the_presets_are_those_that_are_documented():
    assert list(PRESETS) == ["imagenet", "caffe", "tf", "unit", "raw", "mnist", "cifar10"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_described_in_one_line(name):
    description = PRESETS[name].description
    assert description
    assert len(description) <= 100
    assert "\n" not in description


def test_unknown_preset():
    with pytest.raises(UnknownNameError, match=r"preprocess preset 'imagnet'.*'imagenet'"):
        preset("imagnet")
