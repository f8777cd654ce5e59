"""onnxruntime: found, or missed with a clear word; sessions that do not get in each other's way."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from copy import copy
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from onnxvis.errors import MissingRuntimeError, ModelError, OnnxvisError, UsageError
from onnxvis.ops.device import PRECISIONS, find_gpu

from .bindings import Bindings
from .bound import Fed
from .fused import fuse

__all__ = ["Runtime", "Session", "import_onnxruntime"]

INSTALL = (
    "pip install 'onnxvis[cpu]'  (or 'onnxvis[cuda12]', 'onnxvis[cuda13]' for an NVIDIA GPU; choose one)"
)
GPU_INSTALL = "pip install 'onnxvis[cuda12]' (or 'onnxvis[cuda13]')"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FULL = "Failed to allocate memory"  # in what onnxruntime says of a GPU


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


class Session:
    """An onnxruntime.InferenceSession, whose attributes these are too, with what it needs.

    ``weights``: OrtValues that it may read where they lie, and that so must live as long as it does; ``fed``:
    inputs that are the same in every run; ``bindings``: on a GPU, where it leaves its outputs.
    """

    def __init__(self, inner: Any, weights: Mapping[str, Any], bindings: Bindings | None) -> None:
        self.inner, self.weights, self.bindings = inner, weights, bindings
        self.fed: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Runtime:
    """Builds and runs sessions on one device with a number of threads (None: one a core).

    ``device``: "cpu", "cuda", or "auto": the GPU where onnxruntime and CuPy both compute on one.
    ``precision``: of float32 convolutions and products on a GPU, see ``ops.device.PRECISIONS``.
    ``custom_ops``: libraries with operators that onnxruntime does not have.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        precision: str = "float32",
        custom_ops: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"no device {device!r}; there are 'auto', 'cpu' and 'cuda'")
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise UsageError(f"threads must be a positive whole number or None, not {threads!r}")
        if precision not in PRECISIONS:
            raise UsageError(f"no precision {precision!r}; there are {', '.join(map(repr, PRECISIONS))}")
        self.module = import_onnxruntime()
        self.asked, self.device = device, "cpu"
        self._turn: AbstractContextManager[Any] = nullcontext()
        self.threads, self.precision = threads, precision
        self.providers: list[Any] = [CPU]
        self.custom_ops = [Path(library) for library in custom_ops]
        self._check_libraries()
        if device == "cuda":
            self._check_available()
        if device == "cuda" or (device == "auto" and _computes_on_gpu(self.module)):
            _preload(self.module)
            self.device = "cuda"
            self.gpu = find_gpu()
            self._turn = self.gpu.lock  # its stream is the one that others capture
            self.providers = [(CUDA, self._cuda_options()), CPU]

    def on_one_thread(self) -> Runtime:
        """The same, whose sessions have one thread."""
        other = copy(self)
        other.threads = 1
        return other

    def _check_libraries(self) -> None:
        for library in self.custom_ops:
            if not library.is_file():
                raise UsageError(f"there is no library of operators {library}; give the path of the file")
            try:
                self.module.SessionOptions().register_custom_ops_library(str(library))
            except Exception as error:
                raise UsageError(
                    f"{library} is not a library of operators that onnxruntime {self.module.__version__} "
                    f"can load: {first_line(error)}"
                ) from None

    def _check_available(self) -> None:
        available = self.module.get_available_providers()
        if CUDA not in available:
            raise MissingRuntimeError(
                f"device 'cuda' was asked for, but this onnxruntime ({self.module.__version__}) has only "
                f"{', '.join(available)}; run: pip uninstall onnxruntime, then {GPU_INSTALL}; or use "
                "executor='device' alone, which walks back on the GPU what the CPU computed"
            )

    def _cuda_options(self) -> dict[str, str]:
        """One stream with CuPy, memory as it is needed, and TF32 only where it was asked for.

        Convolutions by cuDNN's first heuristics: VGG-16 at 32 samples takes 11 % less on an H200 than by
        onnxruntime's own choice, other nets the same.  Not with ``fuse_conv_bias``: in 1.30 every run but a
        session's first then gives other numbers.
        """
        return {
            "device_id": str(self.gpu.index),
            "user_compute_stream": str(self.gpu.stream.ptr),
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": str(int(self.precision == "tf32")),
            "cudnn_conv_algo_search": "HEURISTIC",
        }

    def session(
        self,
        data: bytes,
        folder: Path | None = None,
        weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> Session:
        """A session of a serialized model.

        ``folder`` holds its external weights; ``weights`` are those that it is given from memory.
        """
        values = {name: self.value(array) for name, array in (weights or {}).items()}
        session = self._built(data, folder, values, self.providers)
        if self.device == "cpu":
            return Session(session, values, None)
        if CUDA not in session.get_providers():
            raise MissingRuntimeError(
                "device 'cuda' was asked for, but onnxruntime fell back to "
                f"{', '.join(session.get_providers())}: its CUDA provider could not be loaded, as where CUDA "
                f"or cuDNN is of another version; run: {GPU_INSTALL}, or use device='cpu'"
            )

        def for_a_graph(data: bytes = data, **more: str) -> Any:
            providers = [(CUDA, {**self._cuda_options(), "enable_cuda_graph": "1", **more}), CPU]
            return self._built(data, folder, values, providers)

        def for_a_graph_fused() -> Any:
            model = onnx.load_model_from_string(data)
            if not fuse(model):
                return None
            return for_a_graph(model.SerializeToString(), cudnn_conv_algo_search="EXHAUSTIVE")

        again = (for_a_graph, for_a_graph_fused)
        return Session(session, values, Bindings(self.module, session, self.gpu, again))

    def _built(
        self, data: bytes, folder: Path | None, values: Mapping[str, Any], providers: Sequence[Any]
    ) -> Any:
        """An InferenceSession."""
        options = self._options()
        if folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(folder)
            )
        if values:
            options.add_external_initializers([*values], [*values.values()])
        try:
            with self._turn:
                return self.module.InferenceSession(data, options, providers=providers)
        except Exception as error:  # onnxruntime raises classes of its own, one a status code
            raise ModelError(
                f"onnxruntime {self.module.__version__} cannot run this model: {first_line(error)}"
            ) from None

    def run(self, session: Session, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Run with OrtValues in and out; on a GPU, tensors stay there."""
        return self.ran(session, outputs, feeds)[0]

    def ran(
        self, session: Session, outputs: Sequence[str], feeds: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The same, and the inputs that now lie on a GPU as well."""
        feeds = {**feeds, **session.fed}
        try:
            with self._turn:
                return self._run_bound(session, outputs, feeds)
        except Exception as error:
            if self.device == "cuda" and FULL in str(error):
                shapes = (tuple(value.shape()) for value in feeds.values())
                raise out_of_memory("forward", shapes, first_line(error)) from None
            if self.device == "cuda" and "requires cuDNN" in str(error):
                raise MissingRuntimeError(
                    f"onnxruntime finds no cuDNN: {first_line(error)}; run: {GPU_INSTALL}"
                ) from None
            raise ModelError(f"onnxruntime could not run the model: {first_line(error)}") from None

    def _run_bound(
        self, session: Session, outputs: Sequence[str], feeds: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """With I/O binding: on a GPU tensors stay there, on a CPU they are handed over in less time than by
        ``run_with_ort_values``.
        """
        if session.bindings is not None:
            try:
                return session.bindings.run(outputs, feeds)
            except Exception as error:
                if FULL not in str(error):
                    raise
                self.gpu.pool.free_all_blocks()  # CuPy may keep for later what is missing now
                return session.bindings.run(outputs, feeds)
        binding = session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        return list(binding.get_outputs()), {}

    def value(self, array: np.ndarray[Any, Any]) -> Any:
        """An OrtValue that holds the array."""
        return self.module.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))

    def fed(self, array: np.ndarray[Any, Any]) -> Any:
        """The array as a run takes it: on a GPU only some runs want an OrtValue."""
        return self.value(array) if self.device == "cpu" else Fed(self.module, np.asarray(array, order="C"))

    def _options(self) -> Any:
        options = self.module.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self.threads or 0
        # A block for all of a run's tensors at once is larger than what they take in turn, and no faster
        # (measured on a ResNet-50 gradient: 70 MB more, the same time).
        options.enable_mem_pattern = False
        for library in self.custom_ops:
            options.register_custom_ops_library(str(library))
        # Forward and backward run in turn. A pool whose threads spin after the one would hold the cores
        # that the other needs (measured on two cores, a SqueezeNet gradient: 62 ms instead of 27). One
        # pool for both is onnxruntime's global one, and once that exists, every other session of the
        # process that did not ask for it fails: not for a library to decide.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


@cache
def _computes_on_gpu(module: Any) -> bool:
    """Whether onnxruntime and CuPy both find a GPU, and what they need to compute on it."""
    if CUDA not in module.get_available_providers():
        return False
    try:
        find_gpu()
    except MissingRuntimeError:
        return False
    _preload(module)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "one", [value], [ValueInfoProto(name="y")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = module.SessionOptions()
    options.log_severity_level = 4
    session = module.InferenceSession(model.SerializeToString(), options, providers=[CUDA, CPU])
    return CUDA in session.get_providers()


def _preload(module: Any) -> None:
    """CUDA's libraries and cuDNN from pip's packages, where onnxruntime does not look by itself."""
    preload = getattr(module, "preload_dlls", None)
    if preload is not None:
        with redirect_stdout(StringIO()):  # it prints what it does not find, which may be elsewhere
            preload()


def out_of_memory(which: str, shapes: Iterable[tuple[int, ...]], why: object) -> OnnxvisError:
    """What to say where a GPU is too small for the ``which`` pass over inputs of these shapes."""
    samples = next((shape[0] for shape in shapes if shape), 1)
    what = f"{samples} samples" if samples > 1 else "one sample"
    advice = f"try batches of {samples // 2}" if samples > 1 else "use device='cpu' or a smaller input"
    return OnnxvisError(f"the GPU has too little memory for the {which} pass of {what} ({why}); {advice}")


def first_line(error: Exception) -> str:
    """onnxruntime's message without its status code, source positions and further lines."""
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"\S+\.(?:cc|h):\d+ \S+(?: \S+\))? ", "", text).strip()
