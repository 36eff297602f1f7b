"""A runtime module shaped like ``tensorrt_rtx`` whose engines are ONNX files, run by ONNX Runtime.

A test checks that the real module has the same names.
"""

import ctypes
import dataclasses
import enum
import hashlib
import weakref
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from artefacts_fake import SPEC
from device_fake import ALIGNMENT, FakeDevice, MisuseError

from lkdn_deploy.backends.trt.engine_spec import Profile
from lkdn_deploy.backends.trt.record import EngineRecord, Tensor
from lkdn_deploy.core.artifact import ArtifactMetadata

WORKSPACE = 40  # bytes a pixel
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
PROFILE = Profile((8, 8), (64, 64), (512, 512))


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    UINT8 = "uint8"


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89"])


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    INFO = 3


class ILogger:
    INTERNAL_ERROR, ERROR, INFO = Severity

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


def record_of(
    artefact: Path, *, profile: Profile = PROFILE, jit: bool = True, batch: int = 1, **changes: Any
) -> EngineRecord:
    """Return the record of an engine whose bytes are the artefact's."""
    session = ort.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    tensors = [Tensor(value.name, DTYPES[value.type]) for value in (*session.get_inputs(), *session.get_outputs())]
    runtime = "tensorrt-rtx" if jit else "tensorrt"
    record = EngineRecord(
        spec=dataclasses.replace(SPEC, runtime=runtime, targets=("sm86",), profile=profile, batch=batch),
        metadata=ArtifactMetadata.from_props(session.get_modelmeta().custom_metadata_map),
        input=tensors[0],
        output=tensors[1],
        engine_sha256=hashlib.sha256(artefact.read_bytes()).hexdigest(),
        audit=None,
    )
    return dataclasses.replace(record, **changes)


def runtime_module(device: FakeDevice, profile: Profile = PROFILE, *, jit: bool = True) -> Any:
    """``tensorrt_rtx``, or with ``jit=False`` ``tensorrt``, on a fake device."""

    class RuntimeCache:
        def __init__(self) -> None:
            self._content = b""

        def deserialize(self, blob: bytes) -> bool:
            if not blob.startswith(b"kernels"):
                return False
            self._content = blob
            return True

        def serialize(self) -> bytes | None:
            return None if device.call("serialize") else self._content or b"kernels: one"

    class RuntimeConfig:
        def __init__(self) -> None:
            self._strategy: Any = ExecutionContextAllocationStrategy.STATIC
            self._cache = lambda: None
            self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

        def create_runtime_cache(self) -> RuntimeCache:
            return RuntimeCache()

        def set_runtime_cache(self, cache: RuntimeCache) -> bool:
            self._cache = weakref.ref(cache)  # as the real one: whoever made it keeps it
            return not device.call("set_runtime_cache")

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            self._strategy = strategy

    class ExecutionContext:
        def __init__(self, session: ort.InferenceSession, scale: int, config: Any) -> None:
            self._session, self._scale, self._config = session, scale, config
            self._shape: tuple[int, ...] = ()
            self._addresses: dict[str, int] = {}
            self._memory = (0, 0)
            self._runs, self._fresh = 0, True
            device.contexts += 1
            device.order.append(("+", "context", id(self)))
            weakref.finalize(self, gone, id(self))

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            low, high = profile.minimum, profile.maximum
            fits = all(a <= b <= c for a, b, c in zip(low, shape[2:], high, strict=True))
            if device.call("set_input_shape") or name != self._session.get_inputs()[0].name or not fits:
                return False
            self._shape, self._addresses, self._memory, self._fresh = tuple(shape), {}, (0, 0), True
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name == self._session.get_inputs()[0].name:
                return self._shape
            count, channels, height, width = self._shape
            return count, channels, self._scale * height, self._scale * width

        def update_device_memory_size_for_shapes(self) -> int:
            if device.call("update_device_memory_size_for_shapes"):
                logger().log(ILogger.ERROR, "Error Code 3: API Usage Error (injected)")
                return 0
            return self._needed()

        def set_device_memory(self, memory: int, size: int) -> None:
            self._check_aligned(memory)
            if size < self._needed():
                msg = "less device memory than the context needs"
                raise MisuseError(msg)
            self._memory = memory, size

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if device.call("set_tensor_address"):
                return False
            self._check_aligned(memory)
            self._addresses[name] = memory
            return True

        @staticmethod
        def _check_aligned(memory: int) -> None:
            if memory % ALIGNMENT:
                msg = "device memory that is not aligned"
                raise MisuseError(msg)

        def _needed(self) -> int:
            return WORKSPACE * self._shape[2] * self._shape[3]

        def execute_async_v3(self, stream_handle: int) -> bool:
            if jit and self._config._cache() is None:
                msg = "the runtime cache is gone"
                raise MisuseError(msg)
            input_, output = self._session.get_inputs()[0], self._session.get_outputs()[0]
            memory, size = self._memory
            if stream_handle == 0 or {input_.name, output.name} != set(self._addresses):
                return False
            device.at(memory, self._needed())
            if device.capturing(stream_handle) and (self._fresh or (jit and not self._all_compiled())):
                msg = "a run is captured that still has to make something ready"
                raise MisuseError(msg)
            if device.call("execute_async_v3"):
                logger().log(ILogger.ERROR, "Error Code 1: Cuda Runtime (injected)")
                return False
            shapes = self._shape, self.get_tensor_shape(output.name)
            source, target = self._addresses[input_.name], self._addresses[output.name]
            types = [np.dtype(DTYPES[value.type]) for value in (input_, output)]

            def do() -> None:
                device.at(memory, size)[:] = 0x5C  # what kernels leave behind
                sizes = [int(np.prod(shape)) * kind.itemsize for shape, kind in zip(shapes, types, strict=True)]
                device.at(source, sizes[0])
                # By address, as a kernel does.
                values = np.ctypeslib.as_array((ctypes.c_uint8 * sizes[0]).from_address(source))
                (result,) = self._session.run(None, {input_.name: values.view(types[0]).reshape(shapes[0])})
                device.at(target, sizes[1])[:] = np.ascontiguousarray(result).view(np.uint8).reshape(-1)

            device.put("execute", stream_handle, do, frozenset((source, target, memory)))
            self._runs, self._fresh = self._runs + 1, False
            return True

        if jit:

            def is_stream_capturable(self, stream: int) -> bool:
                return self._all_compiled()

            def _all_compiled(self) -> bool:
                # Kernels for sizes of a range are compiled beside the first runs.
                eager = DynamicShapesKernelSpecializationStrategy.EAGER
                strategy = self._config.dynamic_shapes_kernel_specialization_strategy
                return self._runs >= (1 if strategy is eager else 2) and module.capturable

    def gone(number: int) -> None:
        device.contexts -= 1
        device.order.append(("-", "context", number))

    class CudaEngine:
        def __init__(self, session: ort.InferenceSession) -> None:
            self._session = session
            props = session.get_modelmeta().custom_metadata_map
            self._scale = ArtifactMetadata.from_props(props).scale
            self._tensors = {value.name: value for value in (*session.get_inputs(), *session.get_outputs())}

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        @property
        def device_memory_size_v2(self) -> int:
            return WORKSPACE * profile.maximum[0] * profile.maximum[1]

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            is_input = name == self._session.get_inputs()[0].name
            return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> DataType:
            return DataType(DTYPES[self._tensors[name].type])

        def create_execution_context(self, strategy: Any) -> ExecutionContext | None:
            allocation = strategy._strategy if isinstance(strategy, RuntimeConfig) else strategy
            if allocation is not ExecutionContextAllocationStrategy.USER_MANAGED:
                msg = "a context that takes memory by itself"
                raise MisuseError(msg)
            if device.call("create_execution_context"):
                logger().log(ILogger.ERROR, module.complaint)
                return None
            return ExecutionContext(self._session, self._scale, strategy)

        if jit:

            def create_runtime_config(self) -> RuntimeConfig:
                return RuntimeConfig()

    loggers: list[Any] = []

    def logger() -> Any:
        return loggers[-1]

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            loggers.append(logger)
            if device.call("Runtime"):
                msg = "pybind11::init(): factory function returned nullptr"
                raise TypeError(msg)

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None:
            logger().log(ILogger.INFO, "Loaded engine size: 0 MiB")
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 4
            options.enable_mem_pattern = False
            if not device.call("deserialize_cuda_engine"):
                try:
                    onnx.load_from_string(serialized_engine)
                    return CudaEngine(ort.InferenceSession(serialized_engine, options, ["CPUExecutionProvider"]))
                except Exception as error:  # protobuf's and ONNX Runtime's
                    logger().log(ILogger.ERROR, f"Serialization assertion failed: {error}")
                    return None
            logger().log(ILogger.ERROR, "Error Code 1: Serialization (injected)")
            return None

    module = ModuleType("tensorrt_rtx" if jit else "tensorrt")
    module.__spec__ = ModuleSpec(module.__name__, None)
    vars(module).update(
        __version__="1.7",
        capturable=True,
        complaint="Error Code 1: Cuda Runtime (injected)",
        ComputeCapability=ComputeCapability,
        DataType=DataType,
        TensorIOMode=TensorIOMode,
        DynamicShapesKernelSpecializationStrategy=DynamicShapesKernelSpecializationStrategy,
        ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy,
        ILogger=ILogger,
        Runtime=Runtime,
        ICudaEngine=CudaEngine,
        IExecutionContext=ExecutionContext,
        IRuntimeConfig=RuntimeConfig,
        IRuntimeCache=RuntimeCache,
    )
    return module
