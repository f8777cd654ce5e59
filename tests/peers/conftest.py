"""What the comparisons share: nets that are built, exported and opened once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

# Warnings are errors in this project; these are the peers' own, most of them raised in our name.
THIRD_PARTY = (
    "ignore:Setting (forward, )?backward:UserWarning",
    "ignore:::torch",
    "ignore:::captum",
    "ignore:::zennit",
    "ignore:::pytorch_grad_cam",
    "ignore:::timm",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for line in THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(scope="session")
def pair(request):
    """A net as torch module and as ONNX, by its name: parametrize indirectly with ``nets.over(...)``.

    pytest runs the tests of one net one after the other, and lets go of it before the next.
    """
    from .nets import Pair

    return Pair.of(request.param)


@pytest.fixture(scope="session")
def exported(request):
    """A known architecture as torch module and as ONNX: parametrize with ``architectures.over``."""
    from .architectures import exported

    return exported(*request.param)
