"""Methods that find an input: one that excites a unit, or one that a layer sees like a given one."""

from . import activation_maximization, inversion

__all__ = ["activation_maximization", "inversion"]
