"""Normalizations."""

from __future__ import annotations

from collections.abc import Iterator

from rules.case import Case, apart, normal, positive


def cases() -> Iterator[Case]:
    yield from _by_the_numbers_of_training()
    yield from _by_their_own()
    yield from _of_onnxruntime()
    for size in (1, 2, 3, 4, 5):
        attributes = {"size": size, "alpha": 0.25, "beta": 0.625, "bias": 1.5}
        yield Case("LRN", 13, [normal(2, 6, 2, 3)], attributes, f"size {size}")
    yield Case("LRN", 1, [normal(1, 2, 3, 2)], {"size": 5, "alpha": 0.25}, "size above the channels")


def _by_the_numbers_of_training() -> Iterator[Case]:
    for opset in (7, 9, 14, 15):
        given = [normal(2, 3, 4, 2), normal(3), normal(3), normal(3), positive(3)]
        yield Case("BatchNormalization", opset, given, {"epsilon": 2**-7})
    yield Case(
        "BatchNormalization", 15, [normal(2, 3), normal(3), normal(3), normal(3), positive(3)], form="2-D"
    )
    yield Case(
        "BatchNormalization", 15, [normal(2, 3, 4), normal(3), normal(3), normal(3), positive(3)], form="1-D"
    )


def _by_their_own() -> Iterator[Case]:
    for opset in (6, 22):
        given = [normal(2, 3, 4, 2), normal(3), normal(3)]
        yield Case("InstanceNormalization", opset, given, {"epsilon": 2**-4})
    yield Case("InstanceNormalization", 6, [normal(2, 3, 5), normal(3), normal(3)], form="1-D")
    yield Case("InstanceNormalization", 6, [normal(1, 2, 2, 3, 2), normal(2), normal(2)], form="3-D")
    for opset, parameters in ((18, 2), (21, 4)):
        given = [normal(2, 4, 3, 2), normal(parameters), normal(parameters)]
        yield Case("GroupNormalization", opset, given, {"num_groups": 2, "epsilon": 2**-4})
        yield Case("GroupNormalization", opset, [normal(2, 4, 5), *given[1:]], {"num_groups": 2}, "1-D")
    yield Case(
        "GroupNormalization", 21, [normal(1, 4, 3, 2), normal(4), normal(4)], {"num_groups": 1}, "one group"
    )
    yield Case("LayerNormalization", 17, [normal(2, 3, 4), normal(4), normal(4)])
    yield Case("LayerNormalization", 17, [normal(2, 3, 4), normal(4)], {"epsilon": 2**-4}, "no bias")
    given = [normal(2, 3, 4), normal(3, 4), normal(3, 4)]
    yield Case("LayerNormalization", 17, given, {"axis": 1}, "two axes")
    yield Case(
        "LayerNormalization", 17, [normal(2, 3, 4), normal(4), normal(3, 4)], {"axis": -2}, "broadcast scale"
    )
    yield Case("LayerNormalization", 17, [normal(2, 4), normal(4)], {}, "all outputs", 3)
    yield Case("RMSNormalization", 23, [normal(2, 3, 4), normal(4)], {"epsilon": 2**-4})
    yield Case("RMSNormalization", 23, [normal(2, 3, 4), normal(3, 4)], {"axis": 1}, "two axes")
    for opset in (1, 13, 22):
        yield Case("LpNormalization", opset, [normal(2, 3, 4)])
    yield Case("LpNormalization", 1, [apart(2, 3, 4)], {"p": 1, "axis": 1}, "absolute")
    for opset in (9, 13):
        yield Case("MeanVarianceNormalization", opset, [normal(2, 3, 4, 2)])
    yield Case("MeanVarianceNormalization", 13, [normal(2, 3, 4)], {"axes": [-1, 1]}, "two axes")
    for across in (0, 1):
        for divided in (0, 1):
            attributes = {"across_channels": across, "normalize_variance": divided}
            form = f"{'all' if across else 'each'} {'divided' if divided else 'centred'}"
            yield Case("MeanVarianceNormalization", 8, [normal(2, 3, 4, 2)], attributes, form)


def _of_onnxruntime() -> Iterator[Case]:
    """What it fuses when it optimizes a model; SimplifiedLayerNormalization it puts into ONNX's domain."""
    yield Case("SimplifiedLayerNormalization", 1, [normal(2, 3, 4), normal(4)], {"epsilon": 2**-4})
    yield Case("SimplifiedLayerNormalization", 17, [normal(2, 3, 4), normal(4)], {"axis": -1}, "", 2)

    def skip(operator: str, form: str, parameters: int, outputs: int = 1, **attributes: float) -> Case:
        given = [normal(2, 3, 4), normal(2, 3, 4), *[normal(4)] * parameters]
        return Case(operator, 1, given, attributes, form, outputs, "com.microsoft")

    for parameters, form in ((1, "scale"), (2, "beta"), (3, "bias")):
        yield skip("SkipLayerNormalization", form, parameters, epsilon=2**-4)
    for parameters, form in ((1, "scale"), (2, "bias")):
        yield skip("SkipSimplifiedLayerNormalization", form, parameters, epsilon=2**-4)
    yield skip("SkipLayerNormalization", "all outputs", 2, 4)
    given = [normal(2, 3, 4), normal(2, 3, 4), normal(4), None, normal(4)]
    yield Case("SkipLayerNormalization", 1, given, {}, "bias without beta", 1, "com.microsoft")
    given = [normal(2, 3, 4), normal(1, 3, 4), normal(4)]
    yield Case("SkipLayerNormalization", 1, given, {}, "one skip for all samples", 1, "com.microsoft")
