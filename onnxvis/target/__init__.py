"""What is to be explained: from what a user writes to a seed for the way back.

``forms``: Target, and the other forms that stand for one (an index, a name, a dict, a list with one a
sample, a function); ``text``: the form for the command line; ``aims``: a target found in a graph, which
makes the seed and the score from the values of a forward pass (``traced``: as part of an ONNX graph;
``start``: either way); ``finding``: how it is found.
"""

from .aims import Aim, UnitAim, inner
from .finding import find_aim
from .forms import (
    Names,
    Target,
    Wanted,
    describe,
    normal,
    number_of_targets,
    selected,
    separable,
    settled,
    tensors_of,
)
from .start import Start
from .text import unit_index
from .traced import TracedAim

__all__ = [
    "Aim", "Names", "Start", "Target", "TracedAim", "UnitAim", "Wanted", "describe", "find_aim", "inner",
    "normal", "number_of_targets", "selected", "separable", "settled", "tensors_of", "unit_index",
]  # fmt: skip
