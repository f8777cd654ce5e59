"""The GPU engine on the GPU that is at hand: is it right, and how fast?  ``python -m benchmarks.gpu``."""

import sys
from pathlib import Path

# The tests' cases name each other as pytest lets them: from there.
sys.path.append(str(Path(__file__).parents[2] / "tests"))
