"""Train the digits model on scikit-learn's handwritten digits and write everything in this folder.

Run from the repository's root: ``python -m model_zoo.digits.train`` (extra ``train``).  On one core of
a 2-core virtual machine it took 20 seconds and printed ::

    epoch 25/25: loss 0.0055, 13 s
    held-out accuracy: 0.9950
    digits.onnx: 194 kB

The 1797 pictures (8×8, grey levels 0..16; Alpaydin and Kaynak, UCI Machine Learning Repository, 1998)
are enlarged to 24×24, bilinear, in the middle of 32×32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from model_zoo import training

SEED = 1
SIZE = 32
MARGIN = 4  # pixels around the digit
HELD_OUT = 400
EPOCHS = 25
BATCH = 50
SHIFT = 2  # pixels

CLASSES = tuple(str(digit) for digit in range(10))
MEAN = (0.2,)
STD = (0.35,)
SUMMARY = (
    "Small CNN that reads a handwritten digit in a 32x32 grey picture (white on black), trained on the "
    "pictures of scikit-learn's load_digits."
)
HERE = Path(__file__).resolve().parent


def build() -> nn.Module:
    """Three 5×5 and 3×3 convolutions with pooling between, then two dense layers; about 48 000 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, len(CLASSES)),
    )


def enlarge(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey levels 0..16 [8, 8] as uint8 [32, 32]."""
    levels = Image.fromarray(np.rint(picture * 255 / 16).astype(np.uint8))
    digit = levels.resize((SIZE - 2 * MARGIN,) * 2, Image.Resampling.BILINEAR)
    return np.pad(np.asarray(digit), MARGIN)


def normalize(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [N, 32, 32] as the model's input: float32 [N, 1, 32, 32]."""
    return ((torch.from_numpy(images).float() / 255 - MEAN[0]) / STD[0])[:, None]


def batches(
    images: NDArray[np.uint8], labels: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of batches, each shifted by up to two pixels and with some noise."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        padded = np.pad(images[chosen], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
        y, x = rng.integers(0, 2 * SHIFT + 1, 2)
        inputs = normalize(padded[:, y : y + SIZE, x : x + SIZE])
        inputs += torch.from_numpy(rng.normal(0, 0.1, inputs.shape)).float()
        yield inputs, torch.from_numpy(labels[chosen])


def write_samples(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """The first held-out picture of each digit, named after it."""
    for digit, name in enumerate(CLASSES):
        training.write_png(HERE / "samples" / f"{name}.png", images[labels == digit][0])


def main() -> None:
    training.seed_everything(SEED)
    digits = load_digits()
    images = np.stack([enlarge(picture) for picture in digits.images])
    train_images, held_out, train_labels, truth = train_test_split(
        images, digits.target, test_size=HELD_OUT, random_state=SEED, stratify=digits.target
    )
    model = build()
    rng = np.random.default_rng(SEED)
    training.fit(
        model,
        lambda inputs, labels: nn.functional.cross_entropy(model(inputs), labels),
        lambda: batches(train_images, train_labels, rng),
        epochs=EPOCHS,
        steps=len(train_images) // BATCH,
        rate=5e-3,
    )
    inputs = normalize(held_out)
    print(f"held-out accuracy: {training.accuracy(model, inputs, truth):.4f}")
    preprocess = training.preprocessing((SIZE, SIZE), "L", MEAN, STD)
    training.export(model, HERE / "digits.onnx", inputs[:8], CLASSES, preprocess, SUMMARY)
    write_samples(held_out, truth)


if __name__ == "__main__":
    main()
