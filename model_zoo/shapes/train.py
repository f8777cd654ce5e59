"""Train the shapes model on generated pictures and write everything in this folder.

Run from the repository's root: ``python -m model_zoo.shapes.train`` (extra ``train``).  On one core of
a 2-core virtual machine it took 10 minutes and printed ::

    20000 pictures: 81 s
    epoch 1/8: loss 6.5101, 64 s
    epoch 8/8: loss 0.4309, 511 s
    held-out accuracy: 1.0000
    shapes.onnx: 301 kB
    samples right: 1.00

Pointing game with that model, over 200 pictures of seed 3000 and for the predicted class's logit: the
fraction of heat maps whose maximum lies in the mask is 0.96 for the gradient, 0.945 for gradient × input,
1.00 for guided backprop, LRP (z⁺ in convolutions, ε in Gemm) and Grad-CAM at the last ReLU, and 0.935
for occlusion (8×8 boxes of 0, stride 4).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_zoo import training
from model_zoo.shapes import pictures

SEED = 1
HELD_OUT_SEED = 1000
SAMPLE_SEED = 2000

PICTURES = 20_000
HELD_OUT = 2_000
EPOCHS = 8
BATCH = 50
CELL = 4  # pixels along the edge of a cell of the last feature map
FEATURES = 64  # channels of that map
SPARSITY = 3.0  # weight of the features that are active beside the target

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
SUMMARY = (
    "Small CNN that tells the one target shape in a 64x64 RGB picture of several shapes, trained on "
    "generated pictures (model_zoo/shapes/pictures.py)."
)
NOTHING = len(pictures.CLASSES)  # what a cell holds where no target lies
HERE = Path(__file__).resolve().parent


def build() -> nn.Sequential:
    """Six convolutions, the last at 16×16 with a receptive field of 30 pixels; about 75 000 weights.

    Everything up to the third module from the end computes the last feature map.
    """
    model = nn.Sequential(
        *_convolution(3, 16),
        nn.MaxPool2d(2),
        *_convolution(16, 32),
        *_convolution(32, 32),
        nn.MaxPool2d(2),
        *_convolution(32, FEATURES),
        *_convolution(FEATURES, FEATURES),
        *_convolution(FEATURES, FEATURES, kernel=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(FEATURES, len(pictures.CLASSES)),
    )
    with torch.no_grad():
        model[-1].weight *= 8  # features are active in a tenth of the map only: make up for the average
    return model


def _convolution(inputs: int, outputs: int, kernel: int = 3) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def normalize(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [N, 64, 64, 3] as the model's input: float32 [N, 3, 64, 64]."""
    scaled = (torch.from_numpy(images).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return scaled.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


class EvidenceLoss(nn.Module):
    """What the model is trained with: to tell the target, and to see it where it is.

    The sum of three terms.  (1) Binary cross-entropy of each class on its own: no class can win by
    the others' absence.  (2) Cross-entropy of a 1×1 convolution that tells from the last feature map
    what lies in each cell: a class, or nothing; it is thrown away after training.  (3) The mean of
    that map's activations where nothing lies, so that neither background nor distractors leave a
    trace that an explanation would have to cancel.
    """

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.model = model
        self.guide = nn.Conv2d(FEATURES, NOTHING + 1, 1)
        self.register_buffer("weights", torch.tensor([1.0] * NOTHING + [0.1]))

    def forward(self, inputs: Tensor, evidence: Tensor, cells: Tensor) -> Tensor:
        """Inputs [B, 3, 64, 64], evidence [B, classes] in 0..1, cells [B, 16, 16] class or NOTHING."""
        features = self.model[:-3](inputs)
        logits = self.model[-3:](features)
        told = nn.functional.binary_cross_entropy_with_logits(logits, evidence, reduction="sum")
        placed = nn.functional.cross_entropy(self.guide(features), cells, weight=self.weights)
        beside = (features * (cells == NOTHING)[:, None]).mean()
        return told / len(inputs) + placed + SPARSITY * beside


def batches(
    images: NDArray[np.uint8], labels: NDArray[np.int64], masks: NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch of augmented batches: inputs, evidence and cells as EvidenceLoss takes them.

    Pictures are mirrored, their channels swapped, and half of them partly covered by a box; the
    evidence for the target's class is the square of the fraction of it that is still seen.
    """
    for chosen in np.split(rng.permutation(len(images)), len(images) // BATCH):
        image, mask = images[chosen][..., rng.permutation(3)], masks[chosen]
        if rng.uniform() < 0.5:
            image, mask = image[:, :, ::-1], mask[:, :, ::-1].copy()
        inputs = normalize(np.ascontiguousarray(image))
        whole = mask.sum(axis=(1, 2))
        for index in np.flatnonzero(rng.uniform(size=BATCH) < 0.5):
            cover(inputs[index], mask[index], rng)
        inputs += torch.from_numpy(rng.normal(0, rng.uniform(0, 0.15), inputs.shape)).float()
        seen = torch.from_numpy((mask.sum(axis=(1, 2)) / whole) ** 2).float()
        label = torch.from_numpy(labels[chosen])
        evidence = nn.functional.one_hot(label, NOTHING) * seen[:, None]
        yield inputs, evidence, cells_of(mask, label)


def cells_of(mask: NDArray[np.bool_], label: Tensor) -> Tensor:
    """The label in each cell that the mask [B, 64, 64] fills by more than half, else NOTHING."""
    filled = nn.functional.avg_pool2d(torch.from_numpy(mask).float(), CELL) > 0.5
    return torch.where(filled, label[:, None, None], NOTHING)


def cover(image: Tensor, mask: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Cover a box of ``image`` [3, 64, 64], and take it out of ``mask`` [64, 64], both in place.

    Half of the boxes are centred on the target, the others lie anywhere; half of them are small.
    They are grey (0 after normalization), or of one random colour.
    """
    height, width = rng.integers(6, 11, 2) if rng.uniform() < 0.5 else rng.integers(6, 25, 2)
    on_target = rng.uniform() < 0.5 and mask.any()
    y, x = rng.choice(np.argwhere(mask)) if on_target else rng.integers(0, pictures.SIZE, 2)
    box = (slice(max(y - height // 2, 0), y + height // 2), slice(max(x - width // 2, 0), x + width // 2))
    fill = rng.uniform(-2, 2, 3) * (rng.uniform() < 0.5)
    image[:, *box] = torch.from_numpy(fill).float()[:, None, None]
    mask[box] = False


def write_samples(model: nn.Module) -> None:
    """One picture and mask per class, named after the class, from a seed that training never saw."""
    images, labels, masks = pictures.generate(len(pictures.CLASSES), SAMPLE_SEED)
    print(f"samples right: {training.accuracy(model, normalize(images), labels):.2f}")
    for image, label, mask in zip(images, labels, masks, strict=True):
        name = f"{pictures.CLASSES[label]}.png"
        training.write_png(HERE / "samples" / name, image)
        training.write_png(HERE / "masks" / name, mask.astype(np.uint8) * 255)


def main() -> None:
    training.seed_everything(SEED)
    start = time.monotonic()
    images, labels, masks = pictures.generate(PICTURES, SEED)
    print(f"{PICTURES} pictures: {time.monotonic() - start:.0f} s", flush=True)
    model = build().to(memory_format=torch.channels_last)
    rng = np.random.default_rng(SEED)
    loss = EvidenceLoss(model)
    training.fit(
        loss,
        loss,
        lambda: batches(images, labels, masks, rng),
        epochs=EPOCHS,
        steps=PICTURES // BATCH,
        rate=6e-3,
    )
    held_out, truth, _ = pictures.generate(HELD_OUT, HELD_OUT_SEED)
    inputs = normalize(held_out)
    print(f"held-out accuracy: {training.accuracy(model, inputs, truth):.4f}")
    preprocess = training.preprocessing((pictures.SIZE, pictures.SIZE), "RGB", MEAN, STD)
    training.export(model, HERE / "shapes.onnx", inputs[:8], pictures.CLASSES, preprocess, SUMMARY)
    write_samples(model)


if __name__ == "__main__":
    main()
