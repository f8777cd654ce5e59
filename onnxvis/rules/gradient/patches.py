"""Pictures cut out, framed, and put together from overlapping patches."""

from __future__ import annotations

import numpy as np

from onnxvis.ops.primitives import Array
from onnxvis.ops.window import Window
from onnxvis.rules.registry import rule
from onnxvis.rules.step import Step


@rule("Col2Im", inputs=(0,))
def col2im(step: Step, g: Array) -> Array:
    """Adds patches up to a picture; back it cuts the picture into patches: a convolution with 0 and 1."""
    samples, channels, *picture = g.shape
    kernel = tuple(int(n) for n in np.ravel(step.known(2)))
    attributes = {name: value for name, value in step.node.attributes.items() if name != "auto_pad"}
    window = Window.of(attributes, kernel, picture, _places(attributes, kernel, picture))
    each = np.eye(window.count).reshape(window.count, 1, *kernel)
    patches = step.conv(step.reshape(g, (samples * channels, 1, *picture)), step.constant(each), window)
    return step.reshape(patches, step.shape())


def _places(attributes: dict[str, list[int]], kernel: tuple[int, ...], picture: list[int]) -> list[int]:
    """How many patches there are along each axis."""
    rank = len(kernel)
    strides, dilations = attributes.get("strides") or [1] * rank, attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * 2 * rank
    return [
        (n + pads[i] + pads[i + rank] - dilations[i] * (k - 1) - 1) // strides[i] + 1
        for i, (n, k) in enumerate(zip(picture, kernel, strict=True))
    ]


@rule("CenterCropPad", inputs=(0,))
def center_crop_pad(step: Step, g: Array) -> Array:
    """The middle of each axis; where the output is longer, a frame of 0 around it."""
    sizes = [*zip(step.shape(), step.output_shape(), strict=True)]
    framed = tuple(slice((max(m - n, 0)) // 2, (max(m - n, 0)) // 2 + min(n, m)) for n, m in sizes)
    kept = tuple(slice((max(n - m, 0)) // 2, (max(n - m, 0)) // 2 + min(n, m)) for n, m in sizes)
    return step.unslice(step.slice(g, framed), kept, step.shape())
