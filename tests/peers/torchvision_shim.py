"""Import torchvision beside a torch of another build.

A torchvision built for CUDA has compiled operators that a CPU-only torch cannot load, and its import
fails at the first of them.  The nets need none of these: it is enough that the operators are declared.
"""

from __future__ import annotations

import sys
from types import ModuleType

_DETECTION = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[object] = []  # a torch Library takes its declarations back when it is collected


def import_torchvision() -> ModuleType:
    """The torchvision module, with its detection operators declared where they cannot be loaded."""
    try:
        import torchvision
    except RuntimeError as error:  # "operator torchvision::nms does not exist"
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare(["nms", "qnms"])
        import torchvision
    return torchvision


def _declare(names: list[str]) -> None:
    from torch.library import Library

    library = Library("torchvision", "FRAGMENT")
    for name in names:
        library.define(name + _DETECTION)
    _declared.append(library)
