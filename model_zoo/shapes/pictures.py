"""Pictures whose evidence is known: one shape decides the class, and its mask says where it lies.

Every picture is 64×64 RGB: a textured background, one *target* (a shape of ``CLASSES``) and two to
five *distractors* (shapes that are no class).  Targets and distractors draw their colours, textures,
rims and positions from the same distributions and never touch, so nothing but the target's outline
tells the class.  A heat map that explains a classifier of these pictures should
have its maximum inside the mask.

NumPy and Pillow only, and no import from the rest of the project: load it by its path if need be.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = ["CLASSES", "SIZE", "Picture", "draw", "generate"]

SIZE = 64
"""Height and width of a picture in pixels."""

TARGET_RADIUS = (9.0, 13.0)
"""Radius of the target's circumscribed circle in pixels (shortest, longest)."""

DISTRACTOR_RADIUS = (6.0, 12.0)
"""The same for distractors."""

TARGET_TILT = np.deg2rad(30)
"""How far a target is turned from upright at most, in radians; distractors are turned at will."""

_SUPERSAMPLING = 4
_GAP = 2.0  # pixels between the circumscribed circles of two shapes
_RIM = 1.5  # pixels

Floats = NDArray[np.float64]
Outlines = list[Floats]
"""A shape: its outline, then those of its holes, each float [points, 2] (x, y) in the unit circle."""


@dataclass(frozen=True)
class Picture:
    """``image`` uint8 [64, 64, 3] RGB, ``label`` index into CLASSES, ``mask`` bool [64, 64].

    The mask is the target with its contour: every pixel that it covers at least in part, the hole of
    a ring, and the pixels next to these, since an edge is told by the pixels on both its sides.
    """

    image: NDArray[np.uint8]
    label: int
    mask: NDArray[np.bool_]


def draw(rng: np.random.Generator, label: int | None = None) -> Picture:
    """One picture; ``label`` is an index into CLASSES, drawn at random where it is None."""
    if label is None:
        label = int(rng.integers(len(CLASSES)))
    background = _colour(rng, saturation=(0.0, 0.6), value=(0.15, 0.95))
    image = _background(rng, background)
    target, *distractors = _layout(rng)
    tilt = rng.uniform(-TARGET_TILT, TARGET_TILT)
    silhouette = _paint(image, _turned(_TARGETS[label], tilt), target, background, rng)
    for place in distractors:
        shape = _turned(_distractor(rng), rng.uniform(0, 2 * np.pi))
        _paint(image, shape, place, background, rng)
    image += rng.normal(0.0, rng.uniform(0.0, 0.025), image.shape)
    return Picture(np.rint(image.clip(0, 1) * 255).astype(np.uint8), label, _widened(silhouette > 0))


def generate(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """``count`` pictures: images uint8 [count, 64, 64, 3], labels int64 [count], masks bool [count, 64, 64].

    Picture i shows class i modulo the number of classes, and depends on ``seed`` and i alone: a
    longer run begins with the pictures of a shorter one.
    """
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    labels = np.arange(count) % len(CLASSES)
    masks = np.empty((count, SIZE, SIZE), np.bool_)
    for index in range(count):
        picture = draw(np.random.default_rng([seed, index]), int(labels[index]))
        images[index], masks[index] = picture.image, picture.mask
    return images, labels, masks


# Outlines --------------------------------------------------------------------------------------------


def _regular(corners: int) -> Floats:
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def _turned(shape: Outlines, angle: float) -> Outlines:
    """``shape`` turned clockwise by ``angle`` (radians)."""
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return [outline @ turn for outline in shape]


def _star() -> Outlines:
    return [_regular(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]]


def _cross() -> Outlines:
    arm, width = 0.95, 0.32
    quarter = np.array([(-width, -arm), (width, -arm), (width, -width)])
    turn = np.array([(0, 1), (-1, 0)])  # a quarter turn
    return [np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])]


def _heart() -> Outlines:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([16 * np.sin(t) ** 3, -(y + 2.5)], axis=1) / 16.5]


def _arrow() -> Outlines:
    half = [(0, -1), (0.8, -0.05), (0.3, -0.05), (0.3, 0.9)]
    return [np.array([*half, *((-x, y) for x, y in half[:0:-1])])]


def _drop() -> Outlines:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return [np.stack([0.95 * np.sin(t) * np.sin(t / 2) ** 1.5, -np.cos(t)], axis=1)]


def _crescent() -> Outlines:
    # The unit disc less a smaller one, shifted to the right; the two circles meet at ±tip.
    shift, radius = 0.6, 0.72
    tip = np.arccos((1 + shift**2 - radius**2) / (2 * shift))
    outer = np.linspace(tip, 2 * np.pi - tip, 48)
    side = np.arctan2(np.sin(tip), np.cos(tip) - shift)
    inner = np.linspace(2 * np.pi - side, side, 32)
    arcs = [(np.cos(outer), np.sin(outer)), (shift + radius * np.cos(inner), radius * np.sin(inner))]
    return [np.concatenate([np.stack(arc, axis=1) for arc in arcs])]


def _ring() -> Outlines:
    return [_regular(48), 0.5 * _regular(48)]


_TARGET_SHAPES: dict[str, Outlines] = {
    "circle": [_regular(48)],
    "square": _turned([_regular(4)], np.pi / 4),
    "triangle": [_regular(3)],
    "star": _star(),
    "cross": _cross(),
    "heart": _heart(),
    "arrow": _arrow(),
    "drop": _drop(),
    "crescent": _crescent(),
    "ring": _ring(),
}

CLASSES = tuple(_TARGET_SHAPES)
"""Names of the classes; a label is an index into it."""

_TARGETS = tuple(_TARGET_SHAPES.values())


def _peanut(rng: np.random.Generator) -> Outlines:
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waist = rng.uniform(0.35, 0.5)
    radius = (1 + waist * np.cos(2 * angle)) / (1 + waist)
    return [np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)]


def _slant(rng: np.random.Generator) -> Outlines:
    height, shift = rng.uniform(0.2, 0.3), rng.uniform(0.3, 0.5)
    half = [(-0.95, -height), (0.95 - shift, -height)]
    return [np.array([*half, *((-x, -y) for x, y in half)])]


def _bar(rng: np.random.Generator) -> Outlines:
    width = rng.uniform(0.2, 0.35)
    return [np.array([(-0.93, -width), (0.93, -width), (0.93, width), (-0.93, width)])]


def _ellipse(rng: np.random.Generator) -> Outlines:
    return [_regular(48) * (1.0, rng.uniform(0.3, 0.5))]


def _elbow(rng: np.random.Generator) -> Outlines:
    width = rng.uniform(0.45, 0.6) - 0.7
    return [np.array([(-0.7, -0.7), (width, -0.7), (width, -width), (0.7, -width), (0.7, 0.7), (-0.7, 0.7)])]


def _step(rng: np.random.Generator) -> Outlines:
    inner = rng.uniform(0.15, 0.3)
    half = [(-0.9, -0.45), (inner, -0.45), (inner, 0.0), (0.9, 0.0)]
    return [np.array([*half, *((-x, -y) for x, y in half)])]


_DISTRACTORS: tuple[Callable[[np.random.Generator], Outlines], ...] = (
    _peanut,
    _slant,
    _bar,
    _ellipse,
    _elbow,
    _step,
)


def _distractor(rng: np.random.Generator) -> Outlines:
    return _DISTRACTORS[rng.integers(len(_DISTRACTORS))](rng)


# Where the shapes lie --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A circle in the picture: centre (x, y) and radius in pixels."""

    x: float
    y: float
    radius: float

    def clear_of(self, other: _Place) -> bool:
        return np.hypot(self.x - other.x, self.y - other.y) > self.radius + other.radius + _GAP


def _layout(rng: np.random.Generator) -> list[_Place]:
    """Places that do not touch: the target's first, then those of up to five distractors."""
    places = [_place(rng, TARGET_RADIUS)]
    wanted = 1 + int(rng.integers(2, 6))
    for _ in range(60):
        candidate = _place(rng, DISTRACTOR_RADIUS)
        if all(candidate.clear_of(place) for place in places):
            places.append(candidate)
        if len(places) == wanted:
            break
    return places


def _place(rng: np.random.Generator, radii: tuple[float, float]) -> _Place:
    radius = rng.uniform(*radii)
    x, y = rng.uniform(radius + 2, SIZE - radius - 2, 2)
    return _Place(x, y, radius)


# Paint -----------------------------------------------------------------------------------------------


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Floats:
    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value)))


def _contrasting(rng: np.random.Generator, background: Floats, distance: float = 0.55) -> Floats:
    """A vivid colour at least ``distance`` away from ``background`` (Euclidean, RGB 0..1)."""
    while True:
        colour = _colour(rng, saturation=(0.3, 1.0), value=(0.1, 1.0))
        if np.linalg.norm(colour - background) > distance:
            return colour


def _background(rng: np.random.Generator, colour: Floats) -> Floats:
    """A faint texture around ``colour``: float [64, 64, 3] in 0..1."""
    tint = _colour(rng, saturation=(0.0, 1.0), value=(0.0, 1.0))
    strength = rng.uniform(0.05, 0.2)
    return colour + strength * (_texture(rng)[:, :, None] - 0.5) * (tint - colour) * 2


def _paint(
    image: Floats, shape: Outlines, place: _Place, background: Floats, rng: np.random.Generator
) -> Floats:
    """Paint ``shape`` into ``image`` in place and return its silhouette, float [64, 64] in 0..1."""
    outlines = [outline * place.radius + (place.x, place.y) for outline in shape]
    colours = [_contrasting(rng, background) for _ in range(2)]
    texture = _texture(rng)[:, :, None]
    fill = colours[0] * (1 - texture) + colours[1] * texture
    rim = _contrasting(rng, background) if rng.uniform() < 0.5 else None
    coverage, edge = _coverage(outlines, rim is not None)
    if rim is not None:
        fill = fill * (1 - edge[:, :, None]) + rim * edge[:, :, None]
    image += coverage[:, :, None] * (fill - image)
    return _coverage(outlines[:1], False)[0]


def _coverage(outlines: Sequence[Floats], rim: bool) -> tuple[Floats, Floats]:
    """How much of each pixel a shape covers, and how much of that is its rim: two floats [64, 64]."""
    shape = Image.new("L", (SIZE * _SUPERSAMPLING,) * 2)
    edge = shape.copy()
    for outline, ink in zip(outlines, (255, 0), strict=False):
        points = [(x, y) for x, y in outline * _SUPERSAMPLING]
        ImageDraw.Draw(shape).polygon(points, fill=ink)
        if rim:
            width = round(2 * _RIM * _SUPERSAMPLING)  # half of it falls outside and is not painted
            ImageDraw.Draw(edge).line([*points, points[0]], fill=255, width=width, joint="curve")
    return tuple(np.asarray(layer.reduce(_SUPERSAMPLING), np.float64) / 255 for layer in (shape, edge))


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` and the four neighbours of each of its pixels; it must not reach the border."""
    return np.logical_or.reduce([mask, *(np.roll(mask, step, axis) for step in (-1, 1) for axis in (0, 1))])


# Textures: float [64, 64] in 0..1 ------------------------------------------------------------------------


def _texture(rng: np.random.Generator) -> Floats:
    return _TEXTURES[rng.integers(len(_TEXTURES))](rng)


def _waves(rng: np.random.Generator, angle: float, period: float) -> Floats:
    """A wave in -1..1 that runs along ``angle`` (radians) with ``period`` (pixels) and a random phase."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 2 * np.pi))


def _solid(rng: np.random.Generator) -> Floats:
    return np.full((SIZE, SIZE), rng.uniform())


def _stripes(rng: np.random.Generator) -> Floats:
    return (0.5 + 2 * _waves(rng, rng.uniform(0, np.pi), rng.uniform(4, 9))).clip(0, 1)


def _gradient(rng: np.random.Generator) -> Floats:
    return 0.5 + 0.5 * _waves(rng, rng.uniform(0, np.pi), rng.uniform(40, 120))


def _checks(rng: np.random.Generator) -> Floats:
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 11)
    product = _waves(rng, angle, period) * _waves(rng, angle + np.pi / 2, period)
    return (0.5 + 3 * product).clip(0, 1)


def _dots(rng: np.random.Generator) -> Floats:
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 9)
    total = _waves(rng, angle, period) + _waves(rng, angle + np.pi / 2, period)
    return (2 * (total - 0.8)).clip(0, 1)


def _clouds(rng: np.random.Generator) -> Floats:
    cells = int(rng.integers(4, 14))
    coarse = Image.fromarray(rng.uniform(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64).clip(0, 1)


_TEXTURES: tuple[Callable[[np.random.Generator], Floats], ...] = (
    _solid,
    _stripes,
    _gradient,
    _checks,
    _dots,
    _clouds,
)
