"""From a photo to the array that a net takes, and back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxvis.errors import InputError, UnknownNameError, UsageError
from onnxvis.images.geometry import Box, fit
from onnxvis.images.reading import Picture, read_image
from onnxvis.images.validation import checked

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Prepared", "Preprocess"]

_PADDING = {"shortest": 0, "longest": 114}  # torchvision's CenterCrop; the letterbox of the YOLO family


class Prepared(NamedTuple):
    """A photo made ready for a net.

    ``array``: [1, C, H, W] or [1, H, W, C], as the net takes it.  ``photo``: the picture as it was given
    (PIL, RGB, full size).  ``box``: (left, top, right, bottom), the part of the photo that the net sees,
    in the photo's pixel coordinates (floats; beyond the photo where the net sees padding).
    """

    array: NDArray[Any]
    photo: Image.Image
    box: Box


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes a net's input: resize and crop, colour, range, mean and standard deviation.

    A channel value v (0..255) becomes ``(low + v/255·(high − low) − mean) / std``.

    ``size``: (height, width) of the net's input; None: the model's, or else the photo's own.
    ``resize``: ``"stretch"`` to size; ``"shortest"``: the short side to ``resize_to`` (None: just
    covering size), then a centre crop; ``"longest"``: all of the photo, padded with grey 114.
    ``color``: channel order as fed; ``"L"`` is one grey channel (ITU-R 601 luma).
    ``range``: (low, high), to which 0..255 is mapped linearly.
    ``mean``, ``std``: in units of ``range``, in the order of the channels as fed, one number or one each.
    ``interpolation``: Pillow's filter of that name, with its antialiasing.
    ``size_is_default``: a model of another fixed size may overrule ``size`` (true of presets only; not
    part of the JSON form).

    Raises :class:`~onnxvis.errors.UsageError` naming the setting that does not fit and what is allowed.
    """

    size: tuple[int, int] | None = None
    resize: str = "stretch"
    resize_to: int | None = None
    color: str = "RGB"
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    dtype: str = "float32"
    interpolation: str = "bilinear"
    size_is_default: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, checked(field.name, getattr(self, field.name)))
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise UsageError(
                    f"preprocess setting {name!r} has {len(getattr(self, name))} numbers, but color "
                    f"{self.color!r} makes {self.channels} channel(s); give 1 or {self.channels}"
                )
        if self.resize_to is not None and self.resize != "shortest":
            raise UsageError(
                f"preprocess setting 'resize_to' goes with resize 'shortest', not {self.resize!r}"
            )

    @property
    def channels(self) -> int:
        """How many channels the net is fed: 1 or 3."""
        return 1 if self.color == "L" else 3

    def resolve(
        self,
        height: int | None = None,
        width: int | None = None,
        channels: int | None = None,
        layout: str | None = None,
        dtype: str | None = None,
    ) -> Preprocess:
        """The same settings with what the model's input fixes filled in (None: the model leaves it open).

        Where the model fixes only one side, the other takes ``size``'s or else the same length.  A preset's
        size gives way to the model's, and ``resize_to`` is scaled alike.  A net with one channel gets grey.
        Raises :class:`~onnxvis.errors.UsageError` where the settings contradict the model.
        """
        size = self._resolved_size(height, width)
        resize_to = self.resize_to
        if resize_to is not None and self.size is not None and size is not None:
            resize_to = round(resize_to * min(size) / min(self.size))
        return replace(
            self,
            size=size,
            resize_to=resize_to,
            color=self._resolved_color(channels),
            layout=layout or self.layout,
            dtype=dtype or self.dtype,
            size_is_default=False,
        )

    def _resolved_size(self, height: int | None, width: int | None) -> tuple[int, int] | None:
        if self.size is None:
            first, second = height or width, width or height
            return None if first is None or second is None else (first, second)
        fixed = (height or self.size[0], width or self.size[1])
        if fixed != self.size and not self.size_is_default:
            raise UsageError(
                f"preprocess setting 'size' is {list(self.size)}, but the model's input is "
                f"{height or 'any'} high and {width or 'any'} wide; leave 'size' out or give {list(fixed)}"
            )
        return fixed

    def _resolved_color(self, channels: int | None) -> str:
        if channels in (None, self.channels):
            return self.color
        if channels == 1 and len(self.mean) == len(self.std) == 1:
            return "L"
        remedy = "give 'mean' and 'std' one number each" if channels == 1 else "choose another preprocess"
        raise UsageError(
            f"the model's input has {channels} channel(s), but the preprocess makes {self.channels} "
            f"(color {self.color!r}); {remedy}"
        )

    def apply(self, image: Picture) -> Prepared:
        """The photo as the net takes it; ``image``: whatever :func:`onnxvis.images.read_image` reads."""
        photo = read_image(image)
        window = None if self.size is None else (self.size[1], self.size[0])
        placed = fit(photo.size, window, self.resize, self.resize_to)
        picture = photo.convert("L") if self.color == "L" else photo
        seen = placed.apply(picture, self.interpolation, _PADDING.get(self.resize, 0))
        return Prepared(self._encode(np.asarray(seen)), photo, placed.box)

    def invert(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """An array in the net's input units back as a picture, uint8 [H, W, 3] RGB, clipped to 0..255.

        ``array``: one sample in this layout, with or without the leading 1.  What resizing and cropping
        did stays done.  Raises :class:`~onnxvis.errors.InputError` for other shapes and for NaN.
        """
        pixels = self._one_sample(array)
        if bad := int(np.count_nonzero(np.isnan(pixels))):
            raise InputError(f"cannot show an array with {bad} NaN among its {pixels.size} values")
        low, high = self.range
        values = (pixels * self.std + self.mean - low) * (255 / (high - low))
        values = values[..., ::-1] if self.color == "BGR" else values
        picture = np.rint(values.clip(0, 255)).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and highest input that a picture can have, per channel as fed: two arrays [C]."""
        edges = (np.asarray(self.range)[:, None] - self.mean) / self.std
        low, high = np.broadcast_to(edges, (2, self.channels)).copy()
        return low, high

    def _encode(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 [H, W] or [H, W, 3] RGB to the net's units, layout and dtype, with a leading 1."""
        values = pixels.reshape(*pixels.shape[:2], self.channels).astype(np.float64)
        values = values[..., ::-1] if self.color == "BGR" else values
        low, high = self.range
        values = (low + values * (high - low) / 255 - self.mean) / self.std
        if self.dtype == "uint8":
            values = np.rint(values).clip(0, 255)
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None], dtype=self.dtype)

    def _one_sample(self, array: NDArray[Any]) -> NDArray[np.float64]:
        """The array as float64 [H, W, C]."""
        sample = array[0] if array.ndim == 4 and len(array) == 1 else array
        axis = 0 if self.layout == "NCHW" else -1
        if sample.ndim != 3 or sample.shape[axis] != self.channels:
            raise InputError(
                f"an array of shape {list(array.shape)} is not one {self.layout} sample "
                f"with {self.channels} channel(s)"
            )
        return np.moveaxis(sample, axis, -1).astype(np.float64)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON takes them: all keys, tuples as lists.  Undone by :meth:`from_json`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["size_is_default"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Preprocess:
        """The settings of a JSON object; missing keys take the defaults.

        Raises :class:`~onnxvis.errors.UsageError` for an unknown key or a value that is not allowed.
        """
        if not isinstance(settings, Mapping):
            raise UsageError(f"a preprocess is an object of settings, not {type(settings).__name__}")
        known = [field.name for field in fields(cls) if field.name != "size_is_default"]
        for key in settings:
            if key not in known:
                raise UnknownNameError("preprocess setting", key, known)
        return cls(**settings)

    @classmethod
    def from_file(cls, path: str | Path) -> Preprocess:
        """The settings in a ``.json`` or ``.toml`` file.

        Raises :class:`~onnxvis.errors.UsageError` naming the file where it cannot be read or understood.
        """
        path = Path(path)
        parsers = {".json": json.loads, ".toml": tomllib.loads}
        if path.suffix.lower() not in parsers:
            raise UsageError(f"preprocess file {str(path)!r} must end in .json or .toml")
        try:
            return cls.from_json(parsers[path.suffix.lower()](path.read_text(encoding="utf-8-sig")))
        except OSError as error:
            raise UsageError(f"cannot read preprocess file {str(path)!r}: {error.strerror}") from None
        except UsageError as error:
            raise UsageError(f"preprocess file {str(path)!r}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"preprocess file {str(path)!r} is not valid {path.suffix[1:]}: {error}"
            ) from None
