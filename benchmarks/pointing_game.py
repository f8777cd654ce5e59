"""Where the methods point: is the maximum of the heat map inside the shape that tells the class?

500 generated pictures (``model_zoo/shapes/pictures.py``, with a seed that neither the training nor the
samples used), the shapes model of the zoo, target: the true class.  Beside the methods: the picture's
centre, a pixel drawn at random, and the mean share of the picture that the mask covers, which is what
chance gets.  Accuracy is over all pictures, also those that the model gets wrong.

Run from the repository's root: ``python -m benchmarks.pointing_game [--pictures N]``
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import onnxvis
from model_zoo.shapes import pictures

from .reporting import circumstances, table, write

SEED = 20_000
BATCH = 50
METHODS: dict[str, dict[str, Any]] = {
    "gradient": {},
    "input_x_gradient": {},
    "deconvnet": {},
    "guided_backprop": {},
    "lrp, epsilon": {"composite": "epsilon"},
    "lrp, epsilon_plus": {"composite": "epsilon_plus"},
    "cam": {},
    "gradcam": {},
    "occlusion": {},
    "occlusion, filled with the mean": {"fill": "mean"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=500)
    count = parser.parse_args(arguments).pictures
    drawn, labels, masks = pictures.generate(count, SEED)
    model = onnxvis.load("zoo:shapes", threads=1)
    images = [Image.fromarray(image) for image in drawn]
    answers = next(iter(model.run(images).values())).argmax(axis=1)
    results = [_points(model, images, labels, masks, name, **settings) for name, settings in METHODS.items()]
    results += _baselines(masks)
    summary = {
        "pictures": count,
        "seed": SEED,
        "model_accuracy": float((answers == labels).mean()),
        "mean_mask_area": float(masks.mean()),
        "methods": results,
    }
    title = f"Pointing game on {count} pictures of the shapes zoo"
    where = circumstances("onnxvis", "onnxruntime", "numpy")
    write("pointing_game", title, where, _text(summary), summary)


def _points(
    model: onnxvis.Model,
    images: list[Image.Image],
    labels: np.ndarray,
    masks: np.ndarray,
    name: str,
    **settings: Any,
) -> dict[str, Any]:
    """How often a method's maximum lies inside the mask."""
    start = time.perf_counter()
    hits = []
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        explained = model.explain(
            images[part], name.partition(",")[0], target=labels[part].tolist(), **settings
        )
        hits += [_hit(heat, mask) for heat, mask in zip(explained.heatmap(), masks[part], strict=True)]
    return {"name": name, "accuracy": float(np.mean(hits)), "seconds": time.perf_counter() - start}


def _hit(heat: np.ndarray, mask: np.ndarray) -> bool:
    return bool(mask[np.unravel_index(heat.argmax(), heat.shape)])


def _baselines(masks: np.ndarray) -> list[dict[str, Any]]:
    """The centre (its four pixels, on average), and a pixel at random."""
    height, width = masks.shape[1:]
    centre = masks[:, height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1]
    draw = np.random.default_rng(SEED)
    at = draw.integers(height, size=len(masks)), draw.integers(width, size=len(masks))
    return [
        {"name": "the centre", "accuracy": float(centre.mean())},
        {"name": "a random pixel", "accuracy": float(masks[np.arange(len(masks)), *at].mean())},
    ]


def _text(summary: dict[str, Any]) -> str:
    count = summary["pictures"]
    rows = [
        [r["name"], f"{r['accuracy']:.3f} ± {math.sqrt(r['accuracy'] * (1 - r['accuracy']) / count):.3f}",
         f"{r['seconds'] / count * 1000:.1f}" if "seconds" in r else "–"]
        for r in summary["methods"]
    ]  # fmt: skip
    return (
        table(["method", "maximum inside the mask", "ms a picture"], rows)
        + f"\n\nThe masks cover {summary['mean_mask_area']:.3f} of the pictures on average; the model names "
        f"{summary['model_accuracy']:.3f} of the shapes rightly. ± is the standard error."
    )


if __name__ == "__main__":
    main()
