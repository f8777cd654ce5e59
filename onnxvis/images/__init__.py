"""Pictures in and out: read, preprocess, colour, lay over photos, arrange in grids, save.

Arrays of pixels are [H, W, 3], uint8, RGB.  Sizes are (height, width), except where Pillow's own order
(width, height) is named.  Boxes are (left, top, right, bottom) in pixels.  Pillow and cmap are loaded
when they are first needed.
"""

from onnxvis.images.colour import colourize, saliency_picture, scale
from onnxvis.images.geometry import Box
from onnxvis.images.grid import labelled_grid
from onnxvis.images.labels import read_labels
from onnxvis.images.metadata import (
    LABELS_KEY,
    PREPROCESS_KEY,
    from_metadata,
    labels_file,
    labels_from_metadata,
    side_file,
)
from onnxvis.images.overlay import overlay, place
from onnxvis.images.preprocess import Prepared, Preprocess
from onnxvis.images.presets import PRESETS, Preset, preset
from onnxvis.images.reading import Picture, pictures_in, read_image
from onnxvis.images.resize import resize_map
from onnxvis.images.saving import save_image

__all__ = [
    "LABELS_KEY",
    "PREPROCESS_KEY",
    "PRESETS",
    "Box",
    "Picture",
    "Prepared",
    "Preprocess",
    "Preset",
    "colourize",
    "from_metadata",
    "labelled_grid",
    "labels_file",
    "labels_from_metadata",
    "overlay",
    "pictures_in",
    "place",
    "preset",
    "read_image",
    "read_labels",
    "resize_map",
    "saliency_picture",
    "save_image",
    "scale",
    "side_file",
]
