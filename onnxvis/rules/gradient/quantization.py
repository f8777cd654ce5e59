"""Quantisation: the straight-through estimator (Bengio et al. 2013).

Rounding is taken for what it approximates, the identity, also at the ends of the range: they come from a
calibration on a few samples, and the strongest scores, which are what one asks about, often sit there.  Where
the lower end stands for a rectifier, the canonical graph has it as a Relu (see ``graph.quantized``).

A derivative by a whole number is in units of that number: DequantizeLinear multiplies by its scale,
QuantizeLinear divides by it.  Scales that the model computes are taken as they are.  Relevance has no unit:
it passes.
"""

from __future__ import annotations

from onnxvis.ops.primitives import Array
from onnxvis.rules.dequantization import along
from onnxvis.rules.registry import rule, stop
from onnxvis.rules.step import Step


@rule("DequantizeLinear", needs="x1", inputs=(0,))
def dequantize(step: Step, g: Array) -> Array:
    return g * _scale(step)


@rule("QuantizeLinear", needs="x1", inputs=(0,))
def quantize(step: Step, g: Array) -> Array:
    return g / _scale(step)


def _scale(step: Step) -> Array:
    axis, block_size = step.attribute("axis", 1), step.attribute("block_size", 0)
    return along(step, step.input(1), step.shape(), axis, block_size)


@rule("DynamicQuantizeLinear", needs="y1", inputs=(0,))
def quantize_dynamically(step: Step, g: Array, *_: Array) -> Array:
    return g / step.tensor(step.node.outputs[1])


for _output in (1, 2):
    stop("DynamicQuantizeLinear", output=_output, why="the scale that fits the data is taken as it is")


@rule("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", method="lrp", inputs=(0,))
def passed(step: Step, r: Array, *_: Array) -> Array:
    return r
