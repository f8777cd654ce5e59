import numpy as np
import pytest

from .stand_in import DeviceArray, stand_in_ops


@pytest.fixture(autouse=True)
def no_implicit_copies(monkeypatch):
    """NumPy takes no array of the device, as it takes none of CuPy's; an ndarray's subclass it would take."""
    for name in ("asarray", "array", "ascontiguousarray"):
        monkeypatch.setattr(np, name, _strict(getattr(np, name)))


def _strict(function):
    def convert(given, *arguments, **options):
        if isinstance(given, DeviceArray):
            raise TypeError("Implicit conversion to a NumPy array is not allowed")
        return function(given, *arguments, **options)

    return convert


@pytest.fixture
def with_gpu(monkeypatch):
    """An engine that finds a GPU, the stand-in."""
    found = {}

    def device_ops(dtype, precision):
        key = (np.dtype(dtype), precision)
        return found.setdefault(key, stand_in_ops(dtype, precision))

    monkeypatch.setattr("onnxvis.engine.engine.device_ops", device_ops)
    return found
