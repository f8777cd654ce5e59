"""Convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rules.case import Case, normal


def cases() -> Iterator[Case]:
    yield from _convolutions()
    yield from _transposed()
    yield from _dense()
    yield from _fused()


def _convolutions() -> Iterator[Case]:
    def conv(
        form: str, size: Sequence[int], weight: Sequence[int], bias: bool = True, **attributes: Any
    ) -> Case:
        biases = [normal(weight[0])] if bias else []
        return Case("Conv", 11, [normal(*size), normal(*weight), *biases], attributes, form)

    yield conv("1-D", (2, 3, 9), (4, 3, 3))
    yield conv("1-D strided padded", (2, 2, 8), (2, 2, 3), strides=[2], pads=[1, 2])
    yield conv("2-D", (2, 3, 6, 5), (4, 3, 3, 2))
    yield conv("3-D", (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), strides=[1, 2, 1], pads=[0, 1, 1, 1, 1, 0])
    yield conv("no bias", (2, 3, 6, 5), (4, 3, 3, 3), bias=False, pads=[1, 1, 1, 1])
    yield conv("grouped", (2, 4, 5, 5), (6, 2, 3, 3), group=2)
    yield conv("grouped strided", (2, 4, 6, 6), (2, 2, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    yield conv("depthwise", (2, 3, 5, 5), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1])
    yield conv("depthwise twice", (2, 3, 5, 5), (6, 1, 3, 3), group=3, strides=[2, 2])
    yield conv("dilated", (1, 2, 8, 7), (3, 2, 3, 2), dilations=[2, 3])
    yield conv(
        "dilated strided", (1, 2, 9, 9), (3, 2, 3, 3), dilations=[2, 2], strides=[3, 2], pads=[2, 1, 2, 1]
    )
    yield conv("asymmetric pads", (2, 2, 5, 6), (3, 2, 3, 3), pads=[0, 2, 1, 0])
    yield conv("asymmetric pads strided", (2, 2, 5, 6), (3, 2, 3, 3), pads=[2, 0, 0, 1], strides=[2, 2])
    yield conv("pads wider than the kernel", (1, 2, 4, 4), (3, 2, 1, 2), pads=[1, 2, 2, 3])
    yield conv(
        "pads wider than the kernel strided", (1, 2, 4, 4), (3, 2, 2, 2), pads=[3, 0, 2, 4], strides=[2, 3]
    )
    yield conv("last inputs unseen", (2, 2, 8, 9), (3, 2, 3, 2), strides=[3, 3])
    yield conv("stride wider than the kernel", (1, 2, 8, 11), (3, 2, 1, 2), strides=[3, 4])
    yield conv("stride one input unseen", (1, 2, 6, 6), (3, 2, 2, 2), strides=[2, 5])
    yield conv("same upper", (1, 2, 6, 7), (3, 2, 3, 4), auto_pad="SAME_UPPER", strides=[2, 1])
    yield conv("same lower", (1, 2, 6, 7), (3, 2, 3, 4), auto_pad="SAME_LOWER", strides=[2, 1])
    yield conv("same upper odd total", (1, 2, 5, 5), (3, 2, 2, 2), auto_pad="SAME_UPPER")
    yield conv("same lower odd total", (1, 2, 5, 5), (3, 2, 2, 2), auto_pad="SAME_LOWER")
    yield conv("same needs no padding", (1, 2, 6, 6), (3, 2, 1, 2), auto_pad="SAME_UPPER", strides=[3, 3])
    yield conv("valid", (1, 2, 6, 6), (3, 2, 3, 3), auto_pad="VALID", strides=[2, 2])
    yield conv("kernel attribute", (1, 2, 6, 6), (3, 2, 3, 3), kernel_shape=[3, 3])
    yield conv("pointwise", (2, 3, 4, 4), (5, 3, 1, 1))
    yield conv("whole picture", (2, 3, 4, 4), (5, 3, 4, 4))
    yield conv("same shape", (2, 3, 4, 4), (3, 3, 3, 3), pads=[1, 1, 1, 1])
    yield Case("Conv", 1, [normal(1, 2, 5, 5), normal(3, 2, 3, 3)], {"pads": [1, 1, 1, 1]}, "opset 1")
    yield Case("Conv", 22, [normal(1, 2, 5, 5), normal(3, 2, 3, 3), normal(3)], {"pads": [1, 0, 0, 1]})


def _transposed() -> Iterator[Case]:
    def conv(
        form: str,
        size: Sequence[int],
        weight: Sequence[int],
        bias: bool = True,
        opset: int = 11,
        **attributes: Any,
    ) -> Case:
        biases = [normal(weight[1] * attributes.get("group", 1))] if bias else []
        return Case("ConvTranspose", opset, [normal(*size), normal(*weight), *biases], attributes, form)

    yield conv("1-D", (2, 3, 5), (3, 2, 3), strides=[2])
    yield conv("2-D", (2, 3, 4, 5), (3, 4, 3, 2))
    yield conv("3-D", (1, 2, 3, 2, 3), (2, 3, 2, 3, 2), strides=[1, 2, 1], pads=[0, 1, 1, 1, 0, 0])
    yield conv("no bias", (2, 3, 4, 5), (3, 4, 3, 3), bias=False, strides=[2, 2])
    yield conv("padded", (2, 3, 4, 5), (3, 4, 3, 3), pads=[1, 0, 2, 1])
    yield conv("same shape", (2, 3, 4, 5), (3, 3, 3, 3), pads=[1, 1, 1, 1])
    yield conv("strided padded", (2, 3, 4, 5), (3, 4, 3, 3), strides=[2, 3], pads=[1, 0, 0, 1])
    yield conv("crops more than the kernel", (1, 2, 6, 6), (2, 3, 1, 2), pads=[1, 2, 2, 1])
    yield conv("stride wider than the kernel", (1, 2, 3, 3), (2, 3, 1, 2), strides=[3, 3])
    yield conv(
        "output padding", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 3], output_padding=[1, 2], pads=[1, 1, 1, 1]
    )
    yield conv("output shape", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], output_shape=[8, 7])
    yield conv("larger output shape", (1, 2, 3, 3), (2, 3, 3, 3), strides=[3, 3], output_shape=[10, 11])
    yield conv(
        "output shape same upper",
        (1, 2, 4, 4),
        (2, 3, 3, 3),
        strides=[2, 2],
        output_shape=[8, 8],
        auto_pad="SAME_UPPER",
    )
    yield conv("same upper", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
    yield conv("same lower", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER")
    yield conv(
        "same upper output padding",
        (1, 2, 4, 4), (2, 3, 3, 4), strides=[2, 2], auto_pad="SAME_UPPER", output_padding=[1, 1],
    )  # fmt: skip
    yield conv("valid", (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], auto_pad="VALID")
    yield conv("grouped", (2, 4, 4, 4), (4, 3, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    yield conv("grouped stride 1", (2, 4, 4, 4), (4, 3, 3, 3), group=2)
    yield conv("depthwise", (2, 3, 4, 4), (3, 1, 2, 2), group=3, strides=[2, 2])
    yield conv("dilated", (1, 2, 4, 5), (2, 3, 3, 2), dilations=[2, 3])
    yield conv(
        "dilated strided", (1, 2, 4, 3), (2, 3, 3, 2), dilations=[2, 3], strides=[2, 3], pads=[1, 1, 2, 0]
    )
    yield conv("opset 1", (1, 2, 4, 4), (2, 3, 3, 3), opset=1, strides=[2, 2])


def _dense() -> Iterator[Case]:
    for a in (0, 1):
        for b in (0, 1):
            given = [normal(*((4, 3) if a else (3, 4))), normal(*((5, 4) if b else (4, 5))), normal(5)]
            yield Case("Gemm", 11, given, {"transA": a, "transB": b}, f"transA {a} transB {b}")
            attributes = {"transA": a, "transB": b, "alpha": -0.5, "beta": 1.75}
            yield Case("Gemm", 13, given, attributes, f"transA {a} transB {b} alpha beta")
    for bias in ((), (1,), (3, 1), (1, 5), (3, 5)):
        form = f"bias {'x'.join(map(str, bias)) or 'scalar'}"
        yield Case("Gemm", 9, [normal(3, 4), normal(4, 5), normal(*bias)], {"beta": 0.5}, form)
    yield Case("Gemm", 13, [normal(3, 4), normal(4, 5)], {"alpha": 2.0}, "no bias")
    yield Case("Gemm", 13, [normal(3, 4), normal(4, 4), normal(4)], form="same shape")
    for form, a, b in (
        ("2-D", (3, 4), (4, 5)),
        ("N-D by 2-D", (2, 3, 4), (4, 5)),
        ("2-D by N-D", (3, 4), (2, 4, 5)),
        ("N-D by N-D", (2, 3, 4), (2, 4, 5)),
        ("stretched", (2, 1, 3, 4), (6, 4, 5)),
        ("both stretched", (2, 1, 3, 4), (1, 3, 4, 2)),
        ("vector by vector", (4,), (4,)),
        ("vector by 2-D", (4,), (4, 5)),
        ("2-D by vector", (3, 4), (4,)),
        ("vector by N-D", (4,), (2, 4, 5)),
        ("N-D by vector", (2, 3, 4), (4,)),
        ("same shape", (2, 3, 4), (4, 4)),
    ):
        yield Case("MatMul", 9, [normal(*a), normal(*b)], form=form)


def _fused() -> Iterator[Case]:
    def product(form: str, a: Sequence[int], b: Sequence[int], **given: Any) -> Case:
        return Case("FusedMatMul", 1, [normal(*a), normal(*b)], given, form, domain="com.microsoft")

    yield product("plain", (2, 3, 4), (2, 4, 5))
    yield product("turned", (2, 4, 3), (5, 4), transA=1, transB=1, alpha=0.5)
    yield product("scaled vector", (4,), (2, 4, 3), alpha=-2.0)
    yield product("batch first", (3, 2, 4), (2, 5, 4), transBatchA=1, transB=1)
    every = {"transBatchA": 1, "transA": 1, "transBatchB": 1, "transB": 1}
    yield product("batches turned", (4, 2, 2, 3), (5, 2, 2, 4), **every)
    yield product("square", (2, 3, 3), (3, 3), transA=1, alpha=1.5)
    for n, form in ((3, ""), (4, "square")):
        turned, given = [normal(2, 4, n), normal(2, 4, 4)], {"transA": 1, "alpha": 0.25}
        yield Case("TransposeMatMul", 1, turned, given, form, domain="com.microsoft")
