import numpy as np
import onnx
import onnxruntime
import pytest

from onnxvis.engine import engine
from onnxvis.engine.runtime import _computes_on_gpu

from .provider import Session
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


@pytest.fixture
def cuda(monkeypatch, with_gpu):
    """onnxruntime as it looks where its CUDA provider is; gives what sessions were asked for."""
    asked = {"sessions": [], "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    real = onnxruntime.InferenceSession

    def session(data, options, providers):
        graphs = any("enable_cuda_graph" in provider[1] for provider in providers if len(provider) == 2)
        if graphs and asked.get("refusing"):
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        if not graphs:
            asked["asked"] = providers
        made = asked.get("class", Session)(real(data, options), asked["providers"], graphs)
        made.kinds = {node.op_type for node in onnx.load_model_from_string(data).graph.node}
        asked["sessions"].append(made)
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    gpu = engine.device_ops(np.float32, "float32").gpu
    monkeypatch.setattr("onnxvis.engine.runtime.find_gpu", lambda: gpu)
    monkeypatch.setattr("onnxvis.engine.runtime._computes_on_gpu", _computes_on_gpu.__wrapped__)
    return asked
