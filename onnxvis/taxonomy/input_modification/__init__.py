"""Methods that change the input and watch the target: the net stays a black box."""

from . import occlusion, scorecam

__all__ = ["occlusion", "scorecam"]
