"""The trace executor: running a rule on ``Traced`` values writes an ONNX graph.

What is known while tracing is used at once: operations on constants are computed by the host
executor, zeros vanish, equal expressions are written once, and the sign of a value (a ReLU's output
is never negative) removes the halves of LRP rules that cannot contribute.
"""

from .pooling import Pooling
from .values import Emitted, NotTraceableError, Traced

__all__ = ["Emitted", "NotTraceableError", "TraceOps", "Traced"]


class TraceOps(Pooling):
    """The primitives as ONNX nodes: ``nodes`` and ``constants`` (by name) grow as rules run."""
