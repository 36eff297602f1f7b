"""A deserialised engine, which creates execution contexts and reports why it cannot."""

import logging
from collections import deque
from contextlib import ExitStack
from typing import Any

from lkdn_deploy.backends.trt.device import FAULT, SMALLER
from lkdn_deploy.backends.trt.engine_cache import KERNELS
from lkdn_deploy.backends.trt.logger import attached_logger
from lkdn_deploy.backends.trt.record import EngineRecord, Tensor
from lkdn_deploy.backends.trt.runtimes import RUNTIMES
from lkdn_deploy.core.errors import DeviceError, InputError, OutOfDeviceMemory

log = logging.getLogger(__name__)

_TYPES = {"float32": "FLOAT", "float16": "HALF", "uint8": "UINT8"}
"""TensorRT's names of the types in a record."""
_REBUILD = "build it again for this machine: lkdn-export --trt"


class UnusableEngineError(InputError):
    """The engine is damaged, or was built for another GPU, system or version, and must be built again."""


class Engine:
    """An engine whose execution contexts get their memory from the caller.

    TensorRT for RTX compiles kernels for the GPU at hand when contexts are created; they are kept in ``KERNELS``.

    Args:
        data: the serialised engine.
        record: facts about it.
        module: ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        UnusableEngineError: if the runtime refuses it, with the runtime's reason, or it does not match the record.
        DeviceError: if the runtime itself does not start.
    """

    def __init__(self, data: bytes, record: EngineRecord, module: Any) -> None:
        self._module = module
        self._errors: deque[str] = deque(maxlen=4)
        """The runtime's last errors."""
        self._compiles = RUNTIMES[record.spec.runtime].runtime_cache
        self._digest = record.engine_sha256
        self._config: Any = None
        self._kernels: Any = None
        self._loaded = b""
        with ExitStack() as attached:
            logger = attached.enter_context(attached_logger(module, self._listen))
            self._open(data, record, logger)
            self._attached = attached.pop_all()

    def _open(self, data: bytes, record: EngineRecord, logger: Any) -> None:
        module, runtime = self._module, record.spec.runtime
        try:
            self._runtime: Any = module.Runtime(logger)
        except (RuntimeError, TypeError) as error:  # the latter is how the bindings report a null pointer
            msg = f"the runtime of {runtime} does not start: {error}"
            raise self.failure(msg) from error
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            msg = f"{runtime} {module.__version__} cannot load this engine: {self._reason()}"
            raise UnusableEngineError(msg, _REBUILD)
        self._check(record)
        if self._compiles:
            self._configure(record)

    def _check(self, record: EngineRecord) -> None:
        """Refuse an engine that does not match its record, by which buffers are allocated."""
        modes = self._module.TensorIOMode
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        found = {(name, self._engine.get_tensor_mode(name), self._engine.get_tensor_dtype(name)) for name in names}
        expected = {self._typed(record.input, modes.INPUT), self._typed(record.output, modes.OUTPUT)}
        if found != expected:
            msg = f"the engine's tensors are {_listed(found)}, but its side-car says {_listed(expected)}"
            raise UnusableEngineError(msg, _REBUILD)

    def _typed(self, tensor: Tensor, mode: Any) -> tuple[str, Any, Any]:
        return tensor.name, mode, getattr(self._module.DataType, _TYPES[tensor.dtype])

    def _configure(self, record: EngineRecord) -> None:
        self._config = self._engine.create_runtime_config()
        if record.spec.sizes.fixed_size is not None:
            # By default kernels for a size are compiled beside the first runs, which use slower ones. An engine of one
            # size is to run at full speed from the first run on, and only then can its work be captured.
            strategies = self._module.DynamicShapesKernelSpecializationStrategy
            self._config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        self._config.set_execution_context_allocation_strategy(self._by_the_caller)
        self._kernels = self._config.create_runtime_cache()
        self._loaded = KERNELS.read(self._digest) or b""
        if self._loaded and not self._kernels.deserialize(self._loaded):
            log.info("the cached kernels are for another GPU, driver or version, and are compiled again")
            self._loaded = b""
        if not self._config.set_runtime_cache(self._kernels):
            log.warning("the runtime accepts no cache: kernels are compiled again each time")

    @property
    def _by_the_caller(self) -> Any:
        # By default a context takes the memory that the profile's largest window needs, whatever it is used for.
        return self._module.ExecutionContextAllocationStrategy.USER_MANAGED

    @property
    def workspace(self) -> int:
        """Bytes that a context needs for the profile's largest window."""
        return int(self._engine.device_memory_size_v2)

    def create_context(self) -> Any:
        """Return a new ``IExecutionContext`` without memory.

        Raises:
            DeviceError: if none can be created.
        """
        how = self._by_the_caller if self._config is None else self._config
        context = self._engine.create_execution_context(how)
        if context is None:
            msg = "TensorRT cannot create an execution context"
            raise self.failure(msg)
        return context

    def capturable(self, context: Any, stream: int) -> bool:
        """Return whether the work of a context that has run can be captured into a graph."""
        # Where kernels are compiled when they are first needed, only the context knows whether all of them are.
        return not self._compiles or bool(context.is_stream_capturable(stream))

    def failure(self, message: str) -> DeviceError:
        """Return an error with what TensorRT has logged since the last one."""
        reason = self._reason()
        plain = reason.lower().replace(" ", "").replace("_", "")
        if "outofmemory" in plain or "memoryallocation" in plain:
            return OutOfDeviceMemory(f"{message}: {reason}", SMALLER)
        return DeviceError(f"{message}: {reason}", FAULT)

    def close(self) -> None:
        """Keep compiled kernels, and release the engine, whose contexts must be gone."""
        try:
            blob = None if self._kernels is None else self._kernels.serialize()
            kernels = b"" if blob is None else bytes(memoryview(blob))
            if kernels and kernels != self._loaded:
                KERNELS.keep(self._digest, kernels)
        finally:
            self._kernels = self._config = self._engine = self._runtime = None
            self._attached.close()

    def _listen(self, severity: str, text: str) -> None:
        if severity in ("error", "internal_error"):
            self._errors.append(text.strip())
        log.debug("TensorRT: %s: %s", severity, text)

    def _reason(self) -> str:
        text = "; ".join(self._errors) or "it gives no reason"
        self._errors.clear()
        return text


def _listed(tensors: set[tuple[str, Any, Any]]) -> str:
    return ", ".join(sorted(f"{name} ({mode}, {dtype})" for name, mode, dtype in tensors))
