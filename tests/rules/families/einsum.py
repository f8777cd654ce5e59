"""Einsum: products and sums over named axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rules.case import Case, normal

FIXED = np.linspace(-1, 1, 12).reshape(4, 3)
EQUATIONS: dict[str, tuple[Any, ...]] = {
    "ij->ji": (normal(2, 3),),
    "ij->": (normal(2, 3),),
    "ij->i": (normal(2, 3),),
    "ba": (normal(2, 3),),
    "i j -> j": (normal(2, 3),),
    "ii->i": (normal(3, 3),),
    "ii": (normal(3, 3),),
    "ijik->kji": (normal(2, 3, 2, 4),),
    "iji->j": (normal(2, 3, 2),),
    "iii->i": (normal(3, 3, 3),),
    "...ij->...ji": (normal(2, 2, 3, 4),),
    "i...->...": (normal(2, 3, 4),),
    "i...j": (normal(2, 3, 4, 2),),
    "ij,jk->ik": (normal(2, 4), normal(4, 3)),
    "bij,jk->bik": (normal(2, 3, 4), FIXED),
    "kj,bkc->bjc": (FIXED, normal(2, 4, 2)),
    "bhqd,bhkd->bhqk": (normal(2, 2, 3, 4), normal(2, 2, 5, 4)),
    "i,j->ij": (normal(3), normal(4)),
    "i,i": (normal(3), normal(3)),
    "ij,kl->jl": (normal(2, 3), normal(4, 2)),
    "ii,ij->j": (normal(3, 3), normal(3, 4)),
    "bij,b->bij": (normal(2, 3, 4), normal(2)),
    "...ij,...jk->...ik": (normal(2, 1, 3, 4), normal(1, 5, 4, 2)),
    "...,...": (normal(2, 3), normal(1, 3)),
    "b...j,j...k->b...k": (normal(2, 3, 4), normal(4, 3, 2)),
    "ij,ij->ij": (normal(2, 3), normal(1, 3)),
    ",i->i": (normal(), normal(3)),
    "ij,jk,kl->il": (normal(2, 3), normal(3, 4), normal(4, 2)),
    "ij,ik,il->jkl": (normal(2, 3), normal(2, 2), normal(2, 4)),
    "i,j,k->": (normal(2), normal(3), normal(4)),
    "abc,cd,...->b...d": (normal(2, 3, 4), normal(4, 2), normal(2)),
}


def cases() -> Iterator[Case]:
    for equation, operands in EQUATIONS.items():
        yield Case("Einsum", 12, operands, {"equation": equation}, equation)
