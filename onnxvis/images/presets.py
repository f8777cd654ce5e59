"""Preprocessings that whole families of nets share, by name."""

from __future__ import annotations

from typing import NamedTuple

from onnxvis.errors import UnknownNameError
from onnxvis.images.preprocess import Preprocess

__all__ = ["PRESETS", "Preset", "preset"]


class Preset(NamedTuple):
    """A preprocess and one line on which nets take it."""

    description: str
    preprocess: Preprocess


PRESETS: dict[str, Preset] = {
    "imagenet": Preset(
        "RGB 0..1, ImageNet mean and std, short side 256, crop 224: torchvision, timm, most of PyTorch",
        Preprocess(
            size=(224, 224),
            resize="shortest",
            resize_to=256,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            size_is_default=True,
        ),
    ),
    "caffe": Preset(
        "BGR 0..255 less the mean (104, 117, 123), short side 256, crop 224: Caffe and its converts",
        Preprocess(
            size=(224, 224),
            resize="shortest",
            resize_to=256,
            color="BGR",
            range=(0, 255),
            mean=(104, 117, 123),
            size_is_default=True,
        ),
    ),
    "tf": Preset(
        "RGB -1..1, stretched: TensorFlow's MobileNet, Inception and EfficientNet-Lite",
        Preprocess(size=(224, 224), range=(-1, 1), size_is_default=True),
    ),
    "unit": Preset("RGB 0..1, stretched, nothing more", Preprocess(range=(0, 1))),
    "raw": Preset("RGB 0..255, stretched, nothing more", Preprocess(range=(0, 255))),
    "mnist": Preset(
        "grey 0..1, stretched to 28x28: digits, white on black",
        Preprocess(size=(28, 28), color="L", size_is_default=True),
    ),
    "cifar10": Preset(
        "RGB 0..1, CIFAR-10 mean and std, stretched to 32x32",
        Preprocess(
            size=(32, 32),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
            size_is_default=True,
        ),
    ),
}


def preset(name: str) -> Preprocess:
    """The preprocess of that name; a model of another fixed size overrules its size.

    Raises :class:`~onnxvis.errors.UnknownNameError` listing the names that there are.
    """
    if name not in PRESETS:
        raise UnknownNameError("preprocess preset", name, PRESETS, "A .json or .toml file works as well.")
    return PRESETS[name].preprocess
