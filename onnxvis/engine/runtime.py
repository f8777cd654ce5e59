"""onnxruntime: found, or missed with a clear word; sessions that do not get in each other's way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxvis.errors import MissingRuntimeError, ModelError, UnsupportedError, UsageError

__all__ = ["Runtime", "import_onnxruntime"]

INSTALL = (
    "pip install 'onnxvis[cpu]'  (or 'onnxvis[cuda12]', 'onnxvis[cuda13]' for an NVIDIA GPU; choose one)"
)


def import_onnxruntime() -> Any:
    """The onnxruntime module; MissingRuntimeError with the command to run where there is none."""
    try:
        import onnxruntime
    except ImportError as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({error})"
        raise MissingRuntimeError(
            f"onnxruntime {why}, and onnxvis runs models with it; run: {INSTALL}"
        ) from None
    return onnxruntime


class Runtime:
    """Builds and runs sessions on one device with a number of threads (None: one a core)."""

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"no device {device!r}; there are 'auto', 'cpu' and 'cuda'")
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise UsageError(f"threads must be a positive whole number or None, not {threads!r}")
        self.module = import_onnxruntime()
        if device == "cuda":
            raise UnsupportedError(
                "device 'cuda' was asked for, but the CUDA engine is not part of this version; "
                "use device='cpu'"
            )
        self.device, self.threads = "cpu", threads
        self.providers = ["CPUExecutionProvider"]

    def session(
        self,
        data: bytes,
        folder: Path | None = None,
        weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> Any:
        """An InferenceSession of a serialized model.

        ``folder`` holds its external weights; ``weights`` are those that it is given from memory.
        """
        options = self._options()
        if folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(folder)
            )
        if weights:
            options.add_external_initializers([*weights], [self.value(array) for array in weights.values()])
        try:
            return self.module.InferenceSession(data, options, providers=self.providers)
        except Exception as error:  # onnxruntime raises classes of its own, one a status code
            raise ModelError(
                f"onnxruntime {self.module.__version__} cannot run this model: {first_line(error)}"
            ) from None

    def run(self, session: Any, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Run with OrtValues in and out."""
        try:
            return list(session.run_with_ort_values(list(outputs), dict(feeds)))
        except Exception as error:
            raise ModelError(f"onnxruntime could not run the model: {first_line(error)}") from None

    def value(self, array: np.ndarray[Any, Any]) -> Any:
        """An OrtValue that holds the array."""
        return self.module.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))

    def _options(self) -> Any:
        options = self.module.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self.threads or 0
        # Forward and backward run in turn. A pool whose threads spin after the one would hold the cores
        # that the other needs (measured on two cores, a SqueezeNet gradient: 62 ms instead of 27). One
        # pool for both is onnxruntime's global one, and once that exists, every other session of the
        # process that did not ask for it fails: not for a library to decide.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def first_line(error: Exception) -> str:
    """onnxruntime's message without its status code, source positions and further lines."""
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"\S+\.(?:cc|h):\d+ \S+(?: \S+\))? ", "", text).strip()
