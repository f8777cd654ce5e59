"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rules.case import Case, normal


def cases() -> Iterator[Case]:
    for parts in (1, 2):
        for inverse in (0, 1):
            form = f"{('real', 'complex')[parts - 1]}{' inverse' * inverse}"
            given = {"inverse": inverse}
            yield Case("DFT", 17, [normal(2, 5, parts)], given, form)
            yield Case(
                "DFT", 17, [normal(2, 4, 6, parts), np.array(8)], {**given, "axis": 2}, f"{form} longer"
            )
            yield Case(
                "DFT", 20, [normal(2, 6, 3, parts), np.array(4), np.array(1)], given, f"{form} shorter"
            )
            yield Case("DFT", 20, [normal(4, 2, 3, parts), None, np.array(0)], given, f"{form} axis 0")
    for n in (5, 6):
        yield Case("DFT", 17, [normal(2, n, 1)], {"onesided": 1}, f"onesided {n}")
        yield Case("DFT", 20, [normal(2, n, 1), np.array(n + 2)], {"onesided": 1}, f"onesided {n} longer")
        given = {"onesided": 1, "inverse": 1}
        yield Case("DFT", 20, [normal(2, n, 2)], given, f"onesided inverse {n}")
        yield Case("DFT", 20, [normal(2, n, 2), np.array(2 * n - 1)], given, f"onesided inverse {n} odd")
    yield from _frames()


def _frames() -> Iterator[Case]:
    step, length, window = np.array(3), np.array(6), np.hanning(6)
    for onesided in (0, 1):
        given = {"onesided": onesided}
        form = f"onesided {onesided}"
        yield Case("STFT", 17, [normal(2, 16, 1), step, window], given, f"{form} window")
        yield Case("STFT", 17, [normal(2, 16, 1), step, window, length], given, f"{form} window and length")
        yield Case("STFT", 17, [normal(1, 13, 1), np.array(2), None, np.array(5)], given, f"{form} length")
    yield Case("STFT", 17, [normal(2, 16, 1), step, window], form="onesided by default")
    yield Case("STFT", 17, [normal(2, 16, 2), step, window], {"onesided": 0}, "complex")
