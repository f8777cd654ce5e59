"""What each setting of a preprocessing may be: checked and brought to one form, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from onnxvis.errors import UsageError

__all__ = ["CHECKS", "checked"]


class Check(NamedTuple):
    """``canonical`` returns the value in its canonical form or raises; ``allowed`` says what it takes."""

    canonical: Callable[[Any], object]
    allowed: str


def checked(name: str, value: object) -> Any:
    """``value`` in the canonical form of the setting ``name`` (tuples for lists, floats for numbers).

    Raises :class:`~onnxvis.errors.UsageError` naming the setting, the value and what is allowed.
    """
    check = CHECKS[name]
    try:
        return check.canonical(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"preprocess setting {name!r} is {value!r}; allowed: {check.allowed}") from None


def _choice(*allowed: str) -> Check:
    def canonical(value: object) -> object:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError
        return value

    return Check(canonical, " or ".join(map(repr, allowed)))


def _positive_int(value: object) -> int:
    # bool is an int to Python, not to us; NumPy integers are welcome through __index__.
    if isinstance(value, bool) or not hasattr(value, "__index__") or (number := value.__index__()) < 1:
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool | str) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _positive_number(value: Any) -> float:
    if (number := _number(value)) <= 0:
        raise ValueError
    return number


def _items(value: object) -> Sequence[Any]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError
    return tuple(value)


def _pair_of_sides(value: object) -> tuple[int, int]:
    height, width = _items(value)
    return _positive_int(height), _positive_int(width)


def _interval(value: object) -> tuple[float, float]:
    low, high = map(_number, _items(value))
    if low >= high:
        raise ValueError
    return low, high


def _per_channel(number: Callable[[Any], float]) -> Callable[[object], object]:
    def canonical(value: object) -> object:
        numbers = tuple(map(number, _items(value)))
        if len(numbers) not in (1, 3):
            raise ValueError
        return numbers

    return canonical


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _or_none(canonical: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: None if value is None else canonical(value)


CHECKS: dict[str, Check] = {
    "size": Check(_or_none(_pair_of_sides), "[height, width] in pixels, or null for the model's own"),
    "resize": _choice("stretch", "shortest", "longest"),
    "resize_to": Check(_or_none(_positive_int), "a positive whole number of pixels, or null"),
    "color": _choice("RGB", "BGR", "L"),
    "range": Check(_interval, "[low, high], two numbers, low < high"),
    "mean": Check(_per_channel(_number), "a list of one number, or of one for each channel"),
    "std": Check(_per_channel(_positive_number), "a list of one positive number, or of one for each channel"),
    "layout": _choice("NCHW", "NHWC"),
    "dtype": _choice("float32", "float16", "float64", "uint8"),
    "interpolation": _choice("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
    "size_is_default": Check(_flag, "true or false"),
}
