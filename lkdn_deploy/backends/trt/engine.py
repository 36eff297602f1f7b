"""A serialised engine on its runtime: what makes execution contexts, and says why it does not."""

import logging
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkdn_deploy.backends.trt.device import FAULT, SMALLER
from lkdn_deploy.backends.trt.logger import attached_logger
from lkdn_deploy.backends.trt.record import SideCar, Tensor
from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.errors import DeviceError, InputError, OutOfDeviceMemory
from lkdn_deploy.core.files import publish

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Type:
    """Of a tensor."""

    name: str
    """TensorRT's."""
    io: Io


TYPES = {"float32": Type("FLOAT", "fp32"), "float16": Type("HALF", "fp16"), "uint8": Type("UINT8", "uint8")}
"""By their names in a side-car."""
_REBUILD = "build it again for this machine: lkdn-export --trt"


class UnusableEngineError(InputError):
    """The engine was made for another GPU, system or version, or is damaged: build it again."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the kind of runtime decides."""

    jit: bool = False
    """It compiles kernels for the GPU when contexts are made, as TensorRT for RTX does, and can keep them."""
    jit_cache: Path | None = None
    """The file that keeps them; what was made for another GPU, version or driver in it is not used."""
    graphs: bool = True
    """Windows of a size that comes again run as a CUDA graph, where device and engine can."""


class Engine:
    """An engine that makes execution contexts, which take their memory from whoever made them.

    Args:
        data: the serialised engine.
        sidecar: what is known of it.
        module: ``tensorrt`` or ``tensorrt_rtx``.
        settings: see ``RunSettings``.

    Raises:
        UnusableEngineError: if the runtime refuses it, with its words, or if it is not what the side-car says.
        DeviceError: if the runtime itself does not start.
    """

    def __init__(self, data: bytes, sidecar: SideCar, module: Any, settings: RunSettings) -> None:
        self._module = module
        self._settings = settings
        self._complaints = _Complaints()
        self._config: Any = None
        self._cache: Any = None
        self._loaded = b""
        with ExitStack() as hearing:
            logger = hearing.enter_context(attached_logger(module, self._complaints.hear))
            self._open(data, sidecar, logger)
            self._hearing = hearing.pop_all()

    def _open(self, data: bytes, sidecar: SideCar, logger: Any) -> None:
        module = self._module
        try:
            self._runtime: Any = module.Runtime(logger)
        except (RuntimeError, TypeError) as error:  # the latter is how the bindings say that nothing was made
            msg = f"the runtime of {sidecar.runtime} does not start: {error}"
            raise self.failure(msg) from error
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            msg = f"{sidecar.runtime} {module.__version__} cannot load this engine: {self._complaints.said()}"
            raise UnusableEngineError(msg, _REBUILD)
        self._check(sidecar)
        if self._settings.jit:
            self._configure()

    def _check(self, sidecar: SideCar) -> None:
        """Refuse an engine that is not the side-car's: buffers are made by what that says."""
        modes = self._module.TensorIOMode
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        found = {(name, self._engine.get_tensor_mode(name), self._engine.get_tensor_dtype(name)) for name in names}
        expected = {self._typed(sidecar.input, modes.INPUT), self._typed(sidecar.output, modes.OUTPUT)}
        if found != expected:
            msg = f"the engine's tensors are {_listed(found)}, the file beside it says {_listed(expected)}"
            raise UnusableEngineError(msg, _REBUILD)

    def _typed(self, tensor: Tensor, mode: Any) -> tuple[str, Any, Any]:
        return tensor.name, mode, getattr(self._module.DataType, TYPES[tensor.dtype].name)

    def _configure(self) -> None:
        self._config = self._engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(self._by_the_caller)
        self._cache = self._config.create_runtime_cache()
        path = self._settings.jit_cache
        if path is not None and path.exists():
            try:
                self._loaded = path.read_bytes()
            except OSError as error:
                log.warning("%s cannot be read: %s", path, error.strerror)
            if self._loaded and not self._cache.deserialize(self._loaded):
                log.info("%s is of another GPU, driver or version: kernels are compiled anew", path)
                self._loaded = b""
        if not self._config.set_runtime_cache(self._cache):
            log.warning("the runtime takes no cache: kernels are compiled anew each time")

    @property
    def _by_the_caller(self) -> Any:
        # By default a context takes what the largest window of the profile needs, whichever comes.
        return self._module.ExecutionContextAllocationStrategy.USER_MANAGED

    @property
    def workspace(self) -> int:
        """Bytes that a context needs for the largest window of the profile."""
        return int(self._engine.device_memory_size_v2)

    def context(self) -> Any:
        """A new ``IExecutionContext`` without memory.

        Raises:
            DeviceError: if none can be made.
        """
        how = self._by_the_caller if self._config is None else self._config
        context = self._engine.create_execution_context(how)
        if context is None:
            msg = "TensorRT makes no execution context"
            raise self.failure(msg)
        return context

    def capturable(self, context: Any, stream: int) -> bool:
        """Whether the context's work can be captured, now that it has run."""
        # Where kernels are compiled when they are first needed, only the context knows whether that is over.
        return self._settings.graphs and (not self._settings.jit or bool(context.is_stream_capturable(stream)))

    def failure(self, message: str) -> DeviceError:
        """An error with what TensorRT has logged since the last one."""
        said = self._complaints.said()
        plain = said.lower().replace(" ", "")
        if "outofmemory" in plain or "memoryallocation" in plain:
            return OutOfDeviceMemory(f"{message}: {said}", SMALLER)
        return DeviceError(f"{message}: {said}", FAULT)

    def close(self) -> None:
        """Keep what was compiled, and let go of the engine; its contexts are gone before."""
        try:
            self._save()
        finally:
            self._cache = self._config = self._engine = self._runtime = None
            self._hearing.close()

    def _save(self) -> None:
        path = self._settings.jit_cache
        if self._cache is None or path is None:
            return
        blob = self._cache.serialize()
        data = b"" if blob is None else bytes(memoryview(blob))
        if not data or data == self._loaded:
            return
        try:
            with publish(path) as part:
                part.write_bytes(data)
        except InputError as error:
            log.warning("what was compiled for this GPU is not kept: %s", error)


def _listed(tensors: set[tuple[str, Any, Any]]) -> str:
    return ", ".join(sorted(f"{name} ({mode}, {dtype})" for name, mode, dtype in tensors))


class _Complaints:
    """The last errors of a runtime; the rest of what it says goes to our log."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=4)

    def hear(self, severity: str, text: str) -> None:
        if severity in ("error", "internal_error"):
            self._errors.append(text.strip())
        log.debug("TensorRT: %s: %s", severity, text)

    def said(self) -> str:
        """The errors since this was last asked."""
        text = "; ".join(self._errors) or "it does not say why"
        self._errors.clear()
        return text
