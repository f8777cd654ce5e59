import numpy as np
import pytest

from .stand_in import DeviceArray


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
