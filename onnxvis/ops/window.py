"""Geometry of sliding windows, shared by convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Window"]


@dataclass(frozen=True)
class Window:
    """A window that slides over D spatial axes; every field is a tuple of D integers.

    Position ``o`` of the output sees the input at ``o·strides + k·dilations − before`` for every
    ``k`` in ``range(kernel)``; what falls outside the input is padding.  Both sizes are part of the
    geometry, so the padding at the far end (``after``) follows, whatever ``auto_pad`` or
    ``ceil_mode`` an exporter wrote, and an adjoint knows the size that it has to come back to.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    size_in: tuple[int, ...]
    size_out: tuple[int, ...]

    @classmethod
    def of(
        cls,
        attributes: Mapping[str, Any],
        kernel: Sequence[int],
        size_in: Sequence[int],
        size_out: Sequence[int],
    ) -> Window:
        """The window that a Conv or pooling node's attributes describe, for known spatial sizes."""
        rank = len(kernel)
        strides = tuple(attributes.get("strides") or (1,) * rank)
        dilations = tuple(attributes.get("dilations") or (1,) * rank)
        pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
        auto_pad = attributes.get("auto_pad", "NOTSET")
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = (
                max(0, (o - 1) * s + (k - 1) * d + 1 - i)
                for i, o, k, s, d in zip(size_in, size_out, kernel, strides, dilations, strict=True)
            )
            before = tuple(t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total)
        else:
            before = pads[:rank] if auto_pad != "VALID" else (0,) * rank
        return cls(tuple(kernel), strides, dilations, before, tuple(size_in), tuple(size_out))

    @property
    def after(self) -> tuple[int, ...]:
        """Padding at the far end; negative where the last input positions are not seen at all."""
        return tuple(
            (o - 1) * s + (k - 1) * d + 1 - i - b
            for i, o, k, s, d, b in zip(
                self.size_in,
                self.size_out,
                self.kernel,
                self.strides,
                self.dilations,
                self.before,
                strict=True,
            )
        )

    @property
    def count(self) -> int:
        """Number of positions in the window."""
        return math.prod(self.kernel)

    @property
    def blind(self) -> bool:
        """True where no window reaches the input: all end in the padding in front."""
        return any(n + a <= 0 for n, a in zip(self.size_in, self.after, strict=True))

    @property
    def plain(self) -> bool:
        """True where windows tile the input: no overlap, no dilation, no padding."""
        tiled = self.strides == self.kernel and not any(self.before) and max(self.after) <= 0
        return tiled and all(d == 1 or k == 1 for d, k in zip(self.dilations, self.kernel, strict=True))
