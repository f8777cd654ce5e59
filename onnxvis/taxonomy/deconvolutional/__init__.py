"""Methods that walk back from the target through the layers of the net."""

from . import backpropagation, cam, relevance

__all__ = ["backpropagation", "cam", "relevance"]
