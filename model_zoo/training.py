"""What the training scripts of the zoo share: the loop, the export to ONNX and the sample pictures."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

__all__ = ["accuracy", "export", "fit", "preprocessing", "seed_everything", "write_png"]

OPSET = 17
PRODUCER = "onnxvis model zoo"
VERSION = "1"
LICENCE = "BSD-3-Clause"

Batches = Iterable[tuple[Tensor, ...]]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and run torch on one thread, so that a run can be repeated."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def fit(
    trained: nn.Module,
    loss: Callable[..., Tensor],
    epoch_batches: Callable[[], Batches],
    epochs: int,
    steps: int,
    rate: float,
) -> None:
    """Train ``trained`` in place with AdamW and a one-cycle schedule; leaves it in evaluation mode.

    ``epoch_batches()`` gives the ``steps`` batches of one epoch, ``loss(*batch)`` what to minimize;
    ``rate`` is the highest learning rate.
    """
    optimizer = torch.optim.AdamW(trained.parameters(), rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    start = time.monotonic()
    trained.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in epoch_batches():
            optimizer.zero_grad()
            value = loss(*batch)
            value.backward()
            optimizer.step()
            schedule.step()
            total += float(value.detach())
        seconds = time.monotonic() - start
        print(f"epoch {epoch}/{epochs}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    trained.eval()


def accuracy(model: nn.Module, inputs: Tensor, labels: NDArray[np.int64]) -> float:
    """Fraction of ``inputs`` whose highest output is that of their label."""
    with torch.no_grad():
        answers = torch.cat([model(batch).argmax(dim=1) for batch in inputs.split(200)])
    return float((answers.numpy() == labels).mean())


def preprocessing(
    size: Sequence[int], color: str, mean: Sequence[float], std: Sequence[float]
) -> dict[str, object]:
    """What ``onnxvis.preprocess`` says in the model's metadata, for pictures scaled to 0..1, NCHW."""
    return {
        "size": list(size),
        "resize": "stretch",
        "resize_to": None,
        "color": color,
        "range": [0, 1],
        "mean": list(mean),
        "std": list(std),
        "layout": "NCHW",
    }


def export(
    model: nn.Module,
    path: Path,
    example: Tensor,
    classes: Sequence[str],
    preprocess: dict[str, object],
    summary: str,
) -> None:
    """Write ``model`` as ONNX (input "image", output "logits", dynamic batch) with its metadata.

    ``example``: float32 [batch, channels, height, width], also used to compare onnxruntime's answer
    with torch's (within 1e-4).
    """
    torch.onnx.export(
        model,
        (example[:1],),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    _annotate(path, classes, preprocess, summary)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    answer = session.run(["logits"], {"image": example.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(answer, model(example).numpy(), rtol=1e-4, atol=1e-4)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def _annotate(path: Path, classes: Sequence[str], preprocess: dict[str, object], summary: str) -> None:
    proto = onnx.load(path)
    _rename(proto.graph)
    proto.producer_name, proto.producer_version = PRODUCER, VERSION
    proto.doc_string = f"{summary} Licence: {LICENCE}."
    onnx.helper.set_model_props(
        proto,
        {
            "onnxvis.preprocess": json.dumps(preprocess),
            "onnxvis.labels": json.dumps(list(classes)),
            "licence": LICENCE,
        },
    )
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _rename(graph: onnx.GraphProto) -> None:
    """Call nodes and their outputs conv1, relu1 … in their order, and weights conv1.weight, conv1.bias."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    weights = {initializer.name for initializer in graph.initializer}
    counts: Counter[str] = Counter()
    for node in graph.node:
        counts[node.op_type] += 1
        node.name = f"{node.op_type.lower()}{counts[node.op_type]}"
        parts = iter(("weight", "bias"))
        for name in node.input:
            if name in weights:
                names[name] = f"{node.name}.{next(parts)}"
        names.setdefault(node.output[0], node.name)
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for initializer in graph.initializer:
        initializer.name = names[initializer.name]


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 [height, width] or [height, width, 3] as PNG; the folder is made where it lacks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, optimize=True)
