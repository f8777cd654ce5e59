"""Operators whose output does not change with small changes of the input."""

from ..registry import stop

stop("Shape", "Size", why="a shape does not depend on the numbers")
stop("ArgMax", "ArgMin", "NonZero", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not",
     "And", "Or", "Xor", "IsNaN", "IsInf", "OneHot", "NonMaxSuppression", why="it is piecewise constant")  # fmt: skip
stop("Floor", "Ceil", "Round", "Sign", why="it is piecewise constant")
stop("ConstantOfShape", "Range", "EyeLike", why="it depends on shapes alone")
