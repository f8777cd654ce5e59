"""Operators whose output does not change with small changes of the input."""

from onnxvis.rules.registry import stop

stop("Shape", "Size", why="a shape does not depend on the numbers")
stop("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", why="it is piecewise constant")
stop("Not", "And", "Or", "Xor", "IsNaN", "IsInf", "NonZero", why="it is piecewise constant")
stop("ArgMax", "ArgMin", "OneHot", "NonMaxSuppression", why="it is piecewise constant")
stop("Floor", "Ceil", "Round", "Sign", why="it is piecewise constant")
stop("ConstantOfShape", "Range", "EyeLike", why="it depends on shapes alone")
