"""Tests import ``models`` (small models to test with) from this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
