"""What users get wrong: the same mistakes for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import build, normal
from onnx import helper

import onnxvis
from onnxvis import errors, zoo

SHAPES = zoo.find("shapes")
STAR = next(path for path in SHAPES.samples if path.stem == "star")


@dataclass(frozen=True)
class Mistake:
    """Arguments of the command line, the same in Python, and what both must say."""

    arguments: list[str]
    call: Callable[[], Any]
    error: type[errors.OnnxvisError]
    says: str


def prepare(folder: Path) -> None:
    """Files that something is wrong with."""
    whole = SHAPES.path.read_bytes()
    (folder / "truncated.onnx").write_bytes(whole[: len(whole) // 3])
    (folder / "text.onnx").write_text("not a model\n" * 40)
    (folder / "empty.onnx").touch()
    onnx.save(_exponential(), folder / "exp.onnx")
    weights = _exponential()
    onnx.save(
        weights, folder / "external.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (folder / "w.bin").unlink()
    (folder / "text.png").write_text("not a picture")
    (folder / "half.png").write_bytes(STAR.read_bytes()[:2000])
    np.save(folder / "small.npy", np.zeros((1, 3, 32, 32), np.float32))
    np.save(folder / "whole.npy", np.zeros((1, 3, 64, 64), np.int64))
    (folder / "labels.json").write_text("{")


def _exponential() -> onnx.ModelProto:
    """A net with Exp, which no relevance rule carries along."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Exp", ["c"], ["e"], name="exp"),
        helper.make_node("GlobalAveragePool", ["e"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["y"], name="flatten"),
    ]
    return build(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 4]}, {"w": normal(4, 3, 3, 3, scale=0.1)})


def _explain(*arguments: str) -> list[str]:
    return ["explain", "zoo:shapes", str(STAR), *arguments]


def _shapes(**arguments: Any) -> Callable[[], Any]:
    x = arguments.pop("x", str(STAR))
    return lambda: onnxvis.load("zoo:shapes").explain(x, **arguments)


def _array(name: str) -> Callable[[], Any]:
    return lambda: onnxvis.load("zoo:shapes").explain(np.load(name))


def _save(path: str) -> Callable[[], Any]:
    return lambda: onnxvis.load("zoo:shapes").explain(str(STAR)).save(path)


MISTAKES = {
    "a model that is not there": Mistake(
        ["info", "none.onnx"], lambda: onnxvis.load("none.onnx"), errors.ModelError, "no file none.onnx"
    ),
    "a truncated model": Mistake(
        ["explain", "truncated.onnx", str(STAR)],
        lambda: onnxvis.load("truncated.onnx"),
        errors.ModelError,
        "cut off",
    ),
    "not ONNX": Mistake(
        ["info", "text.onnx"], lambda: onnxvis.load("text.onnx"), errors.ModelError, "not an ONNX model"
    ),
    "an empty model": Mistake(
        ["info", "empty.onnx"], lambda: onnxvis.load("empty.onnx"), errors.ModelError, "no ONNX graph"
    ),
    "a folder as model": Mistake(["info", "."], lambda: onnxvis.load("."), errors.ModelError, "is a folder"),
    "missing external data": Mistake(
        ["info", "external.onnx"],
        lambda: onnxvis.load("external.onnx"),
        errors.ModelError,
        "w.bin is missing",
    ),
    "an unknown model of the zoo": Mistake(
        ["zoo", "get", "shape"], lambda: zoo.get("shape"), errors.UnknownNameError, "did you mean 'shapes'"
    ),
    "a wrong shape": Mistake(
        ["explain", "zoo:shapes", "small.npy"], _array("small.npy"), errors.InputError, "1×3×32×32"
    ),
    "a wrong dtype": Mistake(
        ["explain", "zoo:shapes", "whole.npy"], _array("whole.npy"), errors.InputError, "int64"
    ),
    "an unknown target": Mistake(
        _explain("-t", "10"), _shapes(target=10), errors.TargetError, "has no unit 10: it has 10, from 0 to 9"
    ),
    "an unknown position": Mistake(
        _explain("-l", "conv6", "--position", "99,0"),
        _shapes(target=onnxvis.Target("conv6", position=(99, 0))),
        errors.TargetError,
        "has no position (99, 0)",
    ),
    "a unit of an unknown output": Mistake(
        _explain("-t", "logit:3"),
        _shapes(target="logit:3"),
        errors.UnknownNameError,
        "no layer or tensor 'logit'",
    ),
    "an index that does not fit": Mistake(
        _explain("-t", "conv6[:,0,99,0]"),
        _shapes(target=onnxvis.Target("conv6", index=np.s_[:, 0, 99, 0])),
        errors.TargetError,
        "the index does not fit",
    ),
    "no index": Mistake(
        _explain("-t", "conv6[:,y]"),
        _shapes(target="conv6[:,y]"),
        errors.TargetError,
        "not an index expression",
    ),
    "an index and a position": Mistake(
        _explain("-t", "conv6[:,0]", "--position", "max"),
        lambda: onnxvis.Target("conv6", index=0, position="max"),
        errors.TargetError,
        "either unit or position or index",
    ),
    "a position with too many indices": Mistake(
        _explain("-l", "conv6", "-t", "0", "--position", "1,2,3"),
        _shapes(target=onnxvis.Target("conv6", 0, (1, 2, 3))),
        errors.TargetError,
        "a boolean mask of shape",
    ),
    "an unknown layer": Mistake(
        _explain("-l", "convv6"),
        _shapes(target=onnxvis.Target("convv6")),
        errors.UnknownNameError,
        "no layer or tensor 'convv6'; did you mean 'conv6'",
    ),
    "an unknown layer of a CAM": Mistake(
        _explain("-m", "gradcam", "-l", "convv6"),
        _shapes(method="gradcam", layer="convv6"),
        errors.UnknownNameError,
        "no layer or tensor 'convv6'",
    ),
    "an unknown method": Mistake(
        _explain("-m", "guidedbackprop"),
        _shapes(method="guidedbackprop"),
        errors.UnknownNameError,
        "did you mean 'guided_backprop'",
    ),
    "an unknown setting": Mistake(
        _explain("-m", "occlusion", "-s", "sice=3"),
        _shapes(method="occlusion", sice=3),
        errors.UnknownNameError,
        "did you mean 'size'",
    ),
    "text where a number belongs": Mistake(
        _explain("-m", "occlusion", "-s", "batch=many"),
        _shapes(method="occlusion", batch="many"),
        errors.UsageError,
        "batch of occlusion is a whole number, not 'many'",
    ),
    "an operator without a rule": Mistake(
        ["explain", "exp.onnx", str(STAR), "-m", "lrp", "--preprocess", "unit"],
        lambda: onnxvis.load("exp.onnx").explain(str(STAR), "lrp"),
        errors.MissingRuleError,
        "rule for Exp of opset 17",
    ),
    "a picture that is not there": Mistake(
        ["explain", "zoo:shapes", "none.png"], _shapes(x="none.png"), errors.ImageError, "no such file"
    ),
    "a picture that is none": Mistake(
        ["explain", "zoo:shapes", str(STAR), "text.png"],
        _shapes(x=[str(STAR), "text.png"]),
        errors.ImageError,
        "not a picture",
    ),
    "a damaged picture": Mistake(
        ["explain", "zoo:shapes", str(STAR), "half.png", "-o", "out"],
        _shapes(x="half.png"),
        errors.ImageError,
        "damaged or truncated",
    ),
    "an unknown preset": Mistake(
        _explain("--preprocess", "imagnet"),
        lambda: onnxvis.load("zoo:shapes", preprocess="imagnet"),
        errors.UnknownNameError,
        "did you mean 'imagenet'",
    ),
    "a folder that is not there": Mistake(
        _explain("-o", "no/why.png"), _save("no/why.png"), errors.OutputError, "create it first"
    ),
    "an unknown format": Mistake(
        _explain("-o", "why.gif"), _save("why.gif"), errors.OutputError, "'.gif' is not known"
    ),
    "a file where a folder should be": Mistake(
        _explain("-o", "text.png/why.png"),
        _save("text.png/why.png"),
        errors.OutputError,
        "cannot write picture",
    ),
    "a device that is not there": Mistake(
        _explain("--device", "tpu"),
        lambda: onnxvis.load("zoo:shapes", device="tpu"),
        errors.UsageError,
        "no device 'tpu'",
    ),
    "an inversion of nothing": Mistake(
        ["reconstruct", "zoo:shapes", "-m", "inversion"],
        lambda: onnxvis.load("zoo:shapes").reconstruct("inversion"),
        errors.UsageError,
        "inversion needs",
    ),
}
