"""The command line: ``onnxvis info | explain | reconstruct | export | methods | rules | zoo | demo``.

Results go to stdout, progress and remarks to stderr.  Nothing heavy is imported before a command runs.
"""

from . import demo, explain, export, look, zoo
from .program import main

__all__ = ["demo", "explain", "export", "look", "main", "zoo"]
