"""Relevance at operators that are no layers with weights: sums, averages, activations, movement."""

from __future__ import annotations

from onnxvis.graph.ir import Graph, Node
from onnxvis.ops.primitives import Array
from onnxvis.rules.gradient.arithmetic import refuse_axis
from onnxvis.rules.gradient.movement import MOVEMENT
from onnxvis.rules.gradient.normalization import not_affine
from onnxvis.rules.gradient.resampling import antialiased
from onnxvis.rules.gradient.spectral import unlike_a_matrix, varying_frames
from onnxvis.rules.registry import computed, registry, rule
from onnxvis.rules.step import Step

__all__ = ["ACTIVATIONS", "in_proportion"]


def _through_gradient(step: Step, g: Array) -> tuple[Array | None, ...]:
    """What the node's gradient rule makes of g, one entry an input."""
    found = registry.find(step.node.op_type, "gradient", step.node.domain, step.node.opset)
    assert found is not None
    result = found.body(step, g)
    return result if isinstance(result, tuple) else (result,)


def _of_several(node: Node, graph: Graph) -> str | None:
    if len(computed(node, graph)) == 1:
        return None
    return "it multiplies tensors that the model computes: LRP knows only constant weights"


@rule("Sub", "Mean", method="lrp", needs="xs y", inputs=computed, refuses=refuse_axis)
@rule("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", method="lrp", needs="x y", inputs=(0,))
@rule("Resize", "Upsample", method="lrp", needs="x y", inputs=(0,), refuses=antialiased)
@rule("ImageScaler", "Affine", "Scale", "CumSum", method="lrp", needs="x y", inputs=(0,))
@rule("Col2Im", "AffineGrid", "LpPool", "GlobalLpPool", method="lrp", needs="x y", inputs=(0,))
@rule("GridSample", "RoiAlign", method="lrp", needs="xs y", inputs=(0,))
@rule("GridSample", method="lrp", needs="xs y", domain="com.microsoft", inputs=(0,))
@rule("DFT", method="lrp", needs="x y", inputs=(0,), refuses=unlike_a_matrix)
@rule("STFT", method="lrp", needs="x y x2", inputs=(0,), refuses=varying_frames)
@rule("Einsum", method="lrp", needs="xs y", inputs=computed, refuses=_of_several)
@rule("BatchNormalization", method="lrp", needs="x y", inputs=(0,), refuses=not_affine)
def in_proportion(step: Step, r: Array) -> tuple[Array | None, ...]:
    """xᵢ · ∂y/∂xᵢ · R / stab(y): sums and averages, and what is affine without being a layer."""
    s = step.quotient(r, step.y, step.settings["epsilon"])
    shares = _through_gradient(step, s)
    return tuple(
        None if g is None else step.sum_of_products((step.input(i), g)) for i, g in enumerate(shares)
    )


@rule("Add", "Sum", method="lrp", needs="xs y", inputs=computed, refuses=refuse_axis)
def summed(step: Step, r: Array) -> tuple[Array | None, ...]:
    """xᵢ · R / stab(y), where no summand is broadcast."""
    count = len(step.node.inputs)
    wanted = [i for i in range(count) if step.wants(i)]
    if any(step.shape(i) != step.output_shape() for i in wanted):
        shares: tuple[Array | None, ...] = in_proportion(step, r)
        return shares
    y, xs = step.y, [step.input(i) for i in wanted]
    found = dict(zip(wanted, step.proportions(r, y, xs, step.settings["epsilon"]), strict=True))
    return tuple(found.get(i) for i in range(count))


ACTIVATIONS = (
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Softplus", "HardSigmoid", "HardSwish",
    "LRN", "Neg", "Selu", "Celu", "Mish", "Swish", "Gelu", "Softsign", "ThresholdedRelu", "Shrink",
    "ScaledTanh", "ParametricSoftplus", "LpNormalization",
)  # fmt: skip


@rule("Gelu", "BiasGelu", "FastGelu", "QuickGelu", method="lrp", domain="com.microsoft", inputs=(0,))
@rule(*ACTIVATIONS, method="lrp", inputs=(0,))
def passed(step: Step, r: Array) -> Array:
    """Activations pass relevance on."""
    return r


CHOICES = (
    "MaxPool", "GlobalMaxPool", "Max", "Min", "ReduceMax", "ReduceMin", "Where", "Gather", "GatherElements",
    "GatherND", "TopK", "Compress", "ReverseSequence",
    "CenterCropPad", "Crop", "MaxUnpool", "MaxRoiPool",
)  # fmt: skip

for _op_type in (*MOVEMENT, *CHOICES):
    # Relevance follows the data; at a maximum, to the winner.
    _gradient = registry.rules["", _op_type, "gradient"][0]
    rule(
        _op_type,
        method="lrp",
        needs=" ".join(_gradient.needs),
        inputs=_gradient.inputs,
        refuses=_gradient.refuses,
    )(_gradient.body)


def _multiplied(node: Node, graph: Graph) -> str | None:
    return "it multiplies at places of the data" if node.attributes.get("reduction") == "mul" else None


@rule(
    "Scatter", "ScatterElements", "ScatterND", method="lrp", needs="xs y", inputs=(0, 2), refuses=_multiplied
)
def scattered(step: Step, r: Array) -> tuple[Array | None, ...]:
    """Relevance follows what was written, or was left; what is added up shares it in proportion."""
    added = step.attribute("reduction", "none") == "add"
    shares: tuple[Array | None, ...] = in_proportion(step, r) if added else _through_gradient(step, r)
    return shares
