"""What a user asks for, in the three classes of Grün et al.'s taxonomy.

``input_modification`` changes the input and watches the target; ``deconvolutional`` walks back from
the target; ``input_reconstruction`` finds an input that does something to it.
"""

from . import deconvolutional, input_modification, input_reconstruction
from .registry import INPUT_MODIFICATION, Case, MethodInfo, Outcome, find, methods

__all__ = [
    "INPUT_MODIFICATION",
    "Case",
    "MethodInfo",
    "Outcome",
    "deconvolutional",
    "find",
    "input_modification",
    "input_reconstruction",
    "methods",
]
