"""Operators that a derivative exists for and that onnxvis does not walk through, with the reason."""

from onnxvis.rules.registry import refuse

refuse("RNN", "LSTM", "GRU", why="it is recurrent: onnxvis explains feed-forward nets")
refuse(
    "Attention", "LinearAttention", "RotaryEmbedding", "TensorScatter", "CausalConvWithState",
    why="it belongs to language models, which attend to, or keep a state from, what came before",
)  # fmt: skip
refuse(
    "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss",
    why="it is a training loss; take the net's output before it as the target",
)  # fmt: skip
refuse(
    "DeformConv", why="its kernel reads at places that the model computes, and no rule follows it there yet"
)
refuse(
    "If", "Loop", "Scan", "SequenceMap", why="it runs a subgraph of its own, which onnxvis does not look into"
)
refuse("Optional", "OptionalGetElement", why="it passes on what may be there or not")
LAYOUT = (
    "it belongs to one kind of processor: the file was saved by onnxruntime with all optimizations on; "
    "take the original model, or save it with the level ORT_ENABLE_EXTENDED"
)
refuse(
    "Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Upsample", "ReorderInput",
    "ReorderOutput", domain="com.microsoft.nchwc", why=LAYOUT,
)  # fmt: skip
refuse(
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Resize",
    domain="com.ms.internal.nhwc", why=LAYOUT,
)  # fmt: skip
refuse("NhwcConv", "NhwcFusedConv", "NhwcMaxPool", domain="com.microsoft", why=LAYOUT)
refuse("Unique", why="the shape of what it keeps depends on the picture")
