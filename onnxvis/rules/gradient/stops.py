"""Operators whose output does not change with small changes of the input."""

from onnxvis.rules.registry import stop

CONSTANT = "it is piecewise constant"
stop("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", why=CONSTANT)
stop("Not", "And", "Or", "Xor", "IsNaN", "IsInf", "NonZero", "OptionalHasElement", why=CONSTANT)
stop("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitCast", why=CONSTANT)
stop("ArgMax", "ArgMin", "OneHot", "Hardmax", "NonMaxSuppression", why=CONSTANT)
stop("Floor", "Ceil", "Round", "Sign", why=CONSTANT)
stop("TopK", "MaxPool", output=1, why="places do not change with small changes")
stop("Dropout", output=1, why="the mask does not depend on the numbers")

SHAPE = "it depends on shapes alone"
stop("Shape", "Size", why="a shape does not depend on the numbers")
stop("ConstantOfShape", "Range", "EyeLike", why=SHAPE)
stop("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", why=SHAPE)
stop("RandomNormalLike", "RandomUniformLike", why="it takes nothing but the shape, and draws numbers")
stop("Bernoulli", "Multinomial", why="it draws whole numbers at random")

TEXT = "it works on text, or on an encoded file"
stop("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", why=TEXT)
stop("ImageDecoder", why=TEXT)
