"""Pictures from wherever they come (files, Pillow, arrays), all brought to upright 8-bit RGB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from onnxvis.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Picture", "pictures_in", "read_image"]

Picture: TypeAlias = Union[str, "os.PathLike[str]", "Image.Image", NDArray[Any]]
"""What :func:`read_image` takes: a path, a ``PIL.Image.Image``, or an ndarray of pixels."""

# Named one by one so that Pillow never starts an outside program on a file (it does for EPS).
_FORMATS = (
    "PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA",
)  # fmt: skip
_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".mpo", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".jp2", ".avif", ".ico", ".tga",
)  # fmt: skip


def pictures_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of a folder that are pictures by their suffix, sorted by name; ImageError for none."""
    folder = Path(folder)
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file()]
    except OSError as error:
        raise _unreadable(folder, error.strerror or str(error), "check the folder") from None
    if not found:
        raise ImageError(f"there are no pictures in the folder {str(folder)!r}; name one that has some")
    return sorted(found)


def read_image(source: Picture) -> Image.Image:
    """The picture as a PIL image of mode RGB, upright, 8 bits a channel.

    ``source``: a path (PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000, AVIF, ICO or TGA), a PIL image,
    or an ndarray of shape H×W, H×W×1, H×W×3 or H×W×4 (RGB order, alpha last) and dtype uint8 (0..255),
    uint16 (0..65535), bool, or floating point (0..1).

    EXIF orientation is applied; transparency is composited over white; grey becomes R = G = B; 16-bit
    grey is scaled to 8 bits (mode ``I`` counts as 16-bit); palettes and CMYK are converted; of an
    animation the first frame is taken; colour profiles are ignored, as training pipelines do.

    Raises :class:`~onnxvis.errors.ImageError` naming the file, the reason and the remedy.
    """
    from PIL import Image

    if isinstance(source, Image.Image):
        return _to_rgb(source, "picture")
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source), "array")
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source))
    raise ImageError(
        f"cannot read a picture from a {type(source).__name__}: give a path, a PIL image or a NumPy array"
    )


def _read_file(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    try:
        with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            return _to_rgb(image, str(path))
    except FileNotFoundError:
        raise _unreadable(path, "no such file", "check the path") from None
    except IsADirectoryError:
        raise _unreadable(path, "it is a folder", "name a picture inside it") from None
    except PermissionError:
        raise _unreadable(path, "permission denied", "check the file's permissions") from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else "it is not a picture in a format that is known here"
        raise _unreadable(path, reason, "convert it to PNG or JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _unreadable(path, str(error), "make it smaller first") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error), "check the path") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise _unreadable(name, f"its size is {image.width}x{image.height}", "give one with pixels")
    try:
        image.load()
        return _flatten(_upright(image))
    except ImageError:
        raise
    except Exception as error:  # damaged bytes lead Pillow's decoders into errors of every type
        raise _unreadable(name, f"damaged or truncated ({error})", "save it anew") from error


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as stored where the EXIF data are illegible."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data raise errors of every type, and the pixels are still good
        return image


def _flatten(image: Image.Image) -> Image.Image:
    """Any mode as RGB."""
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_array(_as_uint16(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        return _from_array(np.asarray(image)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _as_uint16(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise _unreadable(
            "picture", f"its grey values run from {low} to {high}", "scale them to 16 bits (0..65535)"
        )
    return pixels.astype(np.uint16)


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    """A uint8, uint16, bool or floating point array as a PIL image of mode L, RGB or RGBA."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] in (3, 4)):
        hint = "transpose it to HxWx3" if pixels.ndim == 3 and pixels.shape[0] in (1, 3) else "reshape it"
        raise _unreadable("array", f"its shape is {pixels.shape}, not HxW or HxWx1, 3 or 4", hint)
    if pixels.size == 0:
        raise _unreadable("array", f"its shape is {pixels.shape}", "give one with pixels")
    return Image.fromarray(np.ascontiguousarray(_as_uint8(pixels)))


def _as_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 · 255
    if not np.issubdtype(pixels.dtype, np.floating):
        raise _unreadable(
            "array", f"its dtype is {pixels.dtype}", "cast it to uint8 (0..255) or float (0..1)"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise _unreadable(
            "array", f"its values run from {low:g} to {high:g}", "scale floats to 0..1 or cast to uint8"
        )
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _unreadable(name: object, reason: str, remedy: str) -> ImageError:
    what = name if name in ("picture", "array") else f"picture {str(name)!r}"
    return ImageError(f"cannot read {what}: {reason}; {remedy}")
