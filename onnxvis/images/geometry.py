"""Where a photo's pixels come to lie in the picture that the net sees: resize, then crop or pad.

The arithmetic is torchvision's (``Resize`` and ``CenterCrop`` on PIL images), to the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxvis.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Box", "Fit", "fit"]

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixel coordinates of the photo, whose top left corner is (0, 0)."""

_MOST_PIXELS = 1 << 28  # of a resized picture, before its crop


@dataclass(frozen=True)
class Fit:
    """A photo resized to ``scaled``, of which the net sees ``window`` with its corner at ``offset``.

    All are (width, height) or (x, y) in whole pixels.  A negative offset means padding.
    """

    photo: tuple[int, int]
    scaled: tuple[int, int]
    window: tuple[int, int]
    offset: tuple[int, int]

    @property
    def box(self) -> Box:
        """The window in the photo's own pixel coordinates; beyond the photo where the net sees padding."""
        across, down = (a / b for a, b in zip(self.photo, self.scaled, strict=True))
        (left, top), (width, height) = self.offset, self.window
        return (left * across, top * down, (left + width) * across, (top + height) * down)

    def apply(self, image: Image.Image, interpolation: str, padding: int) -> Image.Image:
        """``image`` (of size ``photo``) resized and cut to the window; ``padding`` is a grey value."""
        from PIL import Image

        scaled = image.resize(self.scaled, Image.Resampling[interpolation.upper()])
        if self.offset == (0, 0) and self.window == self.scaled:
            return scaled
        canvas = Image.new(image.mode, self.window, (padding,) * len(image.getbands()))
        canvas.paste(scaled, (-self.offset[0], -self.offset[1]))
        return canvas


def fit(photo: tuple[int, int], window: tuple[int, int] | None, resize: str, resize_to: int | None) -> Fit:
    """How a photo of size ``photo`` is brought into ``window`` (both (width, height); None: no window).

    ``stretch``: resized to the window, whatever its proportions.  ``shortest``: the short side becomes
    ``resize_to``, or else the photo just covers the window; then cropped about the centre.
    ``longest``: the whole photo fits into the window, centred, with padding on two sides.

    Raises :class:`~onnxvis.errors.ImageError` for a photo so elongated that resizing it would not end.
    """
    scaled = _scaled(photo, window, resize, resize_to)
    if scaled[0] * scaled[1] > _MOST_PIXELS:
        raise ImageError(
            f"a picture of {photo[0]}x{photo[1]} pixels would be resized to {scaled[0]}x{scaled[1]}: "
            "crop it first, or use resize 'stretch' or 'longest'"
        )
    window = window or scaled
    offset = (_margin(scaled[0], window[0]), _margin(scaled[1], window[1]))
    return Fit(photo, scaled, window, offset)


def _scaled(
    photo: tuple[int, int], window: tuple[int, int] | None, resize: str, resize_to: int | None
) -> tuple[int, int]:
    if resize == "shortest" and resize_to is not None:
        return _cover(photo, (resize_to, resize_to))
    if window is None:
        return photo
    if resize == "stretch":
        return window
    return _cover(photo, window) if resize == "shortest" else _contain(photo, window)


def _cover(photo: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """The smallest size with the photo's proportions that covers the window; the free side rounds down."""
    (w, h), (W, H) = photo, window
    return (W, W * h // w) if W * h >= H * w else (H * w // h, H)


def _contain(photo: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """The largest size with the photo's proportions inside the window; the free side rounds to nearest."""
    (w, h), (W, H) = photo, window
    return (W, max(1, round(W * h / w))) if W * h <= H * w else (max(1, round(H * w / h)), H)


def _margin(length: int, window: int) -> int:
    """Where a window begins that is centred on ``length`` pixels; torchvision rounds halves to even."""
    return round((length - window) / 2) if length >= window else -((window - length) // 2)
